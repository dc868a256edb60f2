// A stand-in for NVIDIA's driver, runtime, cuBLAS and cuRAND, with which nnabla's CUDA
// extension runs where there is no GPU: device memory is the host's, a kernel is a loop with the
// same arguments, known by its name. It is for tests of what the extension is
// asked to do (values, and how often it launches, allocates and copies); it says nothing about
// speed, rounding or races.
//
// test_standin.py links it once under the name of each library, with what is missing here as
// functions that abort. Environment: STANDIN_MEMORY, the device's bytes; NVIDIA_TF32_OVERRIDE, read
// when the library is loaded: cuBLAS may do it later.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace {

using std::string;

// ---------------------------------------------------------------------------------------- counts

std::map<string, long> counts;

int counted(const string &what) {
  counts[what]++;
  return 0;
}

// An error that is returned may be dropped: nnabla launches kernels without a look at it.
[[noreturn]] void give_up(const char *what, const string &name) {
  fprintf(stderr, "standin.cpp %s %s\n", what, name.c_str());
  abort();
}

// --------------------------------------------------------------------------------------- kernels

struct Int2 { int x, y; };
struct Int3 { int x, y, z; };
struct Dim3 { unsigned x, y, z; };

struct Arguments {
  void **at;
  unsigned blocks;
  template <class T> T &get(int i) const { return *static_cast<T *>(at[i]); }
  int integer(int i) const { return get<int>(i); }
  float number(int i) const { return get<float>(i); }
  float *floats(int i) const { return get<float *>(i); }
};

using Kernel = std::function<void(Arguments)>;

void put(float &slot, bool accumulate, float value) { slot = accumulate ? slot + value : value; }

// dst[i] (+)= src[j(i)], or with `scatter` dst[j(i)] (+)= src[i], for i < the first argument
template <class Index>
void moved(const Arguments &a, const float *src, float *dst, bool scatter, bool accumulate,
           Index j) {
  for (int i = 0; i < a.integer(0); i++)
    put(dst[scatter ? j(i) : i], accumulate, src[scatter ? i : j(i)]);
}

struct Broadcast { // nbla::transform_binary_cuda::Dim3KernelParams
  long x0[3], x1[3], y[3], shape[3];
};

struct Axis { int x_stride, y_stride, y_shape, before, after; }; // nbla::AxisParam

struct Unary {
  std::function<float(float x, float a)> f;
  std::function<float(float x, float y, float a)> derivative;
};

const std::map<string, Unary> unaries = {
    {"Abs", {[](float x, float) { return std::fabs(x); },
             [](float x, float, float) { return x < 0 ? -1.f : 1.f; }}},
    {"AddScalar", {[](float x, float a) { return x + a; },
                   [](float, float, float) { return 1.f; }}},
    {"MulScalar", {[](float x, float a) { return x * a; },
                   [](float, float, float a) { return a; }}},
    {"MinimumScalar", {[](float x, float a) { return std::fmin(x, a); },
                       [](float x, float, float a) { return x < a ? 1.f : 0.f; }}},
    {"PowScalar", {[](float x, float a) { return std::pow(x, a); },
                   [](float x, float, float a) { return a * std::pow(x, a - 1); }}},
    {"Sigmoid", {[](float x, float) { return 1 / (1 + std::exp(-x)); },
                 [](float, float y, float) { return y * (1 - y); }}},
    {"SoftPlus", {[](float x, float a) {
                    return std::fmax(x, 0.f) + std::log(1 + std::exp(-a * std::fabs(x))) / a;
                  },
                  [](float x, float, float a) { return 1 / (1 + std::exp(-a * x)); }}},
};

struct Binary {
  std::function<float(float, float)> f, by_x0, by_x1;
};

const std::map<string, Binary> binaries = {
    {"Mul2", {[](float p, float q) { return p * q; }, [](float, float q) { return q; },
              [](float p, float) { return p; }}},
    {"Sub2", {[](float p, float q) { return p - q; }, [](float, float) { return 1.f; },
              [](float, float) { return -1.f; }}},
    {"Div2", {[](float p, float q) { return p / q; }, [](float, float q) { return 1 / q; },
              [](float p, float q) { return -p / (q * q); }}},
};

// the operator in a kernel's name: "...<float, nbla::MulScalarUnaryOpCuda>..." -> "MulScalar"
string operator_of(const string &name, const char *suffix) {
  size_t end = name.find(suffix), start = name.rfind("::", end) + 2;
  return end == string::npos ? "" : name.substr(start, end - start);
}

Kernel unary(const string &name, bool gradient, bool accumulate) {
  const Unary op = unaries.at(operator_of(name, "UnaryOpCuda"));
  if (!gradient)
    return [op](Arguments a) { // (size, x, y, op)
      const float *x = a.floats(1), parameter = a.get<double>(3);
      for (int i = 0; i < a.integer(0); i++) a.floats(2)[i] = op.f(x[i], parameter);
    };
  return [op, accumulate](Arguments a) { // (size, dy, x, y, dx, inplace, op)
    const float *dy = a.floats(1), *x = a.floats(2), *y = a.floats(3);
    const float parameter = a.get<double>(6);
    for (int i = 0; i < a.integer(0); i++)
      put(a.floats(4)[i], accumulate, dy[i] * op.derivative(x[i], y[i], parameter));
  };
}

Kernel binary(const string &name, const std::function<bool(const char *)> &has) {
  const Binary op = binaries.at(operator_of(name, "BinaryOpCuda"));
  if (has("kernel_forward_dim3_not_broadcasted_both_terms<"))
    return [op](Arguments a) { // (size, op, x0, x1, y, strides)
      for (long i = 0; i < a.get<long>(0); i++)
        a.floats(4)[i] = op.f(a.floats(2)[i], a.floats(3)[i]);
    };
  if (has("kernel_forward_dim3<"))
    return [op](Arguments a) { // (op, x0, x1, y, strides)
      const Broadcast &b = a.get<Broadcast>(4);
      auto at = [](const long *s, long i, long j, long k) {
        return i * s[0] + j * s[1] + k * s[2];
      };
      for (long i = 0; i < b.shape[0]; i++)
        for (long j = 0; j < b.shape[1]; j++)
          for (long k = 0; k < b.shape[2]; k++)
            a.floats(3)[at(b.y, i, j, k)] =
                op.f(a.floats(1)[at(b.x0, i, j, k)], a.floats(2)[at(b.x1, i, j, k)]);
    };
  if (has("kernel_backward_dim3_not_broadcasted_both_terms<")) {
    const auto derivative = has("Term)0>") ? op.by_x0 : op.by_x1;
    return [derivative](Arguments a) { // (size, op, dy, x0, x1, y, dx, inplace, strides)
      for (long i = 0; i < a.get<long>(0); i++)
        a.floats(6)[i] += a.floats(2)[i] * derivative(a.floats(3)[i], a.floats(4)[i]);
    };
  }
  return nullptr;
}

Kernel kernel_of(const string &name) {
  const std::function<bool(const char *)> has = [&](const char *part) {
    return name.find(part) != string::npos;
  };
  const bool accumulate = has(", true>("), forward = has("_forward<");
  if (has("kernel_transform_unary<") || has("kernel_transform_unary_grad<"))
    return unary(name, has("_grad<"), accumulate);
  if (has("transform_binary_cuda")) return binary(name, has);
  if (has("kernel_null(")) return [](Arguments) {};
  if (has("my_cudaMemset_kernel("))
    return [](Arguments a) { memset(a.get<void *>(1), a.get<uint8_t>(2), a.get<size_t>(0)); };
  if (has("kernel_fill<float>"))
    return [](Arguments a) {
      for (int i = 0; i < a.integer(0); i++) a.floats(1)[i] = a.number(2);
    };
  if (has("kernel_copy<float, float>") || has("kernel_add2_backward<float") ||
      has("kernel_reshape_backward<float"))
    return [accumulate](Arguments a) {
      moved(a, a.floats(2), a.floats(1), false, accumulate, [](int i) { return i; });
    };
  if (has("kernel_copy<int, float>"))
    return [](Arguments a) {
      for (int i = 0; i < a.integer(0); i++) a.get<int *>(1)[i] = int(a.floats(2)[i]);
    };
  if (has("kernel_add2_forward<float>"))
    return [](Arguments a) {
      for (int i = 0; i < a.integer(0); i++) a.floats(1)[i] = a.floats(2)[i] + a.floats(3)[i];
    };
  if (has("kernel_reduce_mean_backward<float") || has("kernel_reduce_sum_backward<float")) {
    const bool mean = has("mean");
    return [=](Arguments a) {
      for (int i = 0; i < a.integer(0); i++)
        put(a.floats(1)[i], accumulate, a.floats(2)[0] * (mean ? a.number(3) : 1));
    };
  }
  if (has("kernel_gather_forward<float>")) // (size, y, x, index, ...) of rows, axis 0
    return [](Arguments a) {
      const Int2 x = a.get<Int2>(4), y = a.get<Int2>(6);
      const int index_stride = a.integer(5), leading = a.integer(7), *index = a.get<int *>(3);
      moved(a, a.floats(2), a.floats(1), false, false, [&](int i) {
        const int outer = i / y.x, at = index[outer / leading * index_stride + i % y.x / y.y];
        return outer * x.x + at * x.y + i % y.x % y.y;
      });
    };
  if (has("kernel_concatenate_")) // (size, whole, inner, offset, from, to)
    return [=](Arguments a) {
      const int whole = a.integer(1), inner = a.integer(2), offset = a.integer(3);
      moved(a, a.floats(4), a.floats(5), forward, accumulate,
            [&](int i) { return i / inner * whole + offset + i % inner; });
    };
  if (has("forward_stack_kernel<float>")) // (size, inputs, outer, inner, this one, x, y)
    return [](Arguments a) {
      const int inputs = a.integer(1), inner = a.integer(3), which = a.integer(4);
      moved(a, a.floats(5), a.floats(6), true, false,
            [&](int i) { return (i / inner * inputs + which) * inner + i % inner; });
    };
  if (has("kernel_slice_2d_")) // (size, from, to, x stride, y stride, start, step)
    return [=](Arguments a) {
      const int xs = a.integer(3), ys = a.integer(4);
      const Int2 start = a.get<Int2>(5), step = a.get<Int2>(6);
      moved(a, a.floats(1), a.floats(2), !forward, accumulate, [&](int i) {
        return (start.x + i / ys * step.x) * xs + start.y + i % ys * step.y;
      });
    };
  if (has("kernel_slice_3d_"))
    return [=](Arguments a) {
      const Int2 xs = a.get<Int2>(3), ys = a.get<Int2>(4);
      const Int3 start = a.get<Int3>(5), step = a.get<Int3>(6);
      moved(a, a.floats(1), a.floats(2), !forward, accumulate, [&](int i) {
        const int rest = i % ys.x;
        return (start.x + i / ys.x * step.x) * xs.x + (start.y + rest / ys.y * step.y) * xs.y +
               start.z + rest % ys.y * step.z;
      });
    };
  if (has("pad_forward<float")) // (size, x, y, ndim, axes, value)
    return [](Arguments a) {
      const Axis *axes = a.get<Axis *>(4);
      for (int i = 0; i < a.integer(0); i++) {
        int rest = i, x = 0;
        bool outside = false;
        for (int k = 0; k < a.integer(3); k++) {
          const int along = rest / axes[k].y_stride;
          rest %= axes[k].y_stride;
          outside |= along < axes[k].before || along >= axes[k].y_shape - axes[k].after;
          x += (along - axes[k].before) * axes[k].x_stride;
        }
        a.floats(2)[i] = outside ? a.number(5) : a.floats(1)[x];
      }
    };
  if (has("kernel_rand_post_process<float>")) // (size, values in (0, 1], low, high)
    return [](Arguments a) {
      const float low = a.number(2), high = a.number(3);
      for (int i = 0; i < a.integer(0); i++)
        a.floats(1)[i] = (1 - a.floats(1)[i]) * (high - low) + low;
    };
  // No kernel_reduce_xy and no kernel_reduce_per_block: Hopper GPUs refuse them, see
  // igr/field/reductions.py.
  if (has("kernel_adam_update<float>")) // (size, parameter, m, v, gradient, rate, b1, b2, eps)
    return [](Arguments a) {
      const float b1 = a.number(6), b2 = a.number(7), *g = a.floats(4);
      float *p = a.floats(1), *m = a.floats(2), *v = a.floats(3);
      for (int i = 0; i < a.integer(0); i++) {
        m[i] = b1 * m[i] + (1 - b1) * g[i];
        v[i] = b2 * v[i] + (1 - b2) * g[i] * g[i];
        p[i] -= a.number(5) * m[i] / (std::sqrt(v[i]) + a.number(8));
      }
    };
  if (has("kernel_update<float>")) // Sgd: (size, parameter, gradient, rate)
    return [](Arguments a) {
      for (int i = 0; i < a.integer(0); i++) a.floats(1)[i] -= a.number(3) * a.floats(2)[i];
    };
  return nullptr;
}

std::map<const void *, string> names; // of the kernels, by the host's stubs
std::map<const void *, Kernel> kernels;

// --------------------------------------------------------------------------------------- cuBLAS

const bool tf32 = getenv("NVIDIA_TF32_OVERRIDE") && !strcmp(getenv("NVIDIA_TF32_OVERRIDE"), "1");

// rounded to 10 bits behind the point
float rounded(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  bits = (bits + 0x1000) & ~0x1fffu;
  memcpy(&x, &bits, 4);
  return x;
}

// C (m, n) = alpha A (m, k) B (k, n) + beta C, column by column in memory
void product(int transposed_a, int transposed_b, int m, int n, int k, float alpha, const float *A,
             int lda, const float *B, int ldb, float beta, float *C, int ldc) {
  std::vector<float> left(size_t(m) * k);
  for (int i = 0; i < m; i++)
    for (int l = 0; l < k; l++) {
      const float x = transposed_a ? A[size_t(i) * lda + l] : A[size_t(l) * lda + i];
      left[size_t(l) * m + i] = tf32 ? rounded(x) : x;
    }
  std::vector<float> column(m), right(k);
  for (int j = 0; j < n; j++) {
    for (int l = 0; l < k; l++) {
      const float x = transposed_b ? B[size_t(l) * ldb + j] : B[size_t(j) * ldb + l];
      right[l] = tf32 ? rounded(x) : x;
    }
    std::fill(column.begin(), column.end(), 0.f);
    for (int l = 0; l < k; l++)
      for (int i = 0; i < m; i++) column[i] += left[size_t(l) * m + i] * right[l];
    for (int i = 0; i < m; i++) {
      float &c = C[size_t(j) * ldc + i];
      c = alpha * column[i] + (beta ? beta * c : 0);
    }
  }
}

// ------------------------------------------------------------------------------- device and memory

size_t used = 0;
std::map<void *, size_t> blocks;

size_t memory() {
  const char *bytes = getenv("STANDIN_MEMORY");
  return bytes ? strtoull(bytes, nullptr, 10) : size_t(16) << 30;
}

} // namespace

extern "C" {

// ---- for test_standin.py; each library has counts of its own
void standin_reset() { counts.clear(); }
long standin_count(const char *what) { return counts[what]; }

// ---- driver: for cuda.py and the extension's start
int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int *version) { return *version = 12090, 0; }
int cuDeviceGetCount(int *count) { return *count = 2, 0; }

// ---- runtime: kernels
void **__cudaRegisterFatBinary(void *) {
  static void *handle;
  return &handle;
}
void __cudaRegisterFunction(void **, const char *stub, char *, const char *name, int, void *,
                            void *, void *, void *, int *) {
  int status;
  char *readable = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  names[stub] = readable ? readable : name;
  free(readable);
}
struct { Dim3 grid, block; size_t shared; void *stream; } call;
unsigned __cudaPushCallConfiguration(Dim3 grid, Dim3 block, size_t shared, void *stream) {
  call = {grid, block, shared, stream};
  return 0;
}
int __cudaPopCallConfiguration(Dim3 *grid, Dim3 *block, size_t *shared, void **stream) {
  *grid = call.grid, *block = call.block, *shared = call.shared, *stream = call.stream;
  return 0;
}
int cudaLaunchKernel(const void *stub, Dim3 grid, Dim3 block, void **arguments, size_t, void *) {
  if (!grid.x || !grid.y || !grid.z || grid.y > 65535 || grid.z > 65535 || block.z > 64 ||
      block.x * block.y * block.z > 1024)
    give_up("cannot launch so many threads of", names[stub]);
  auto found = kernels.find(stub);
  if (found == kernels.end()) found = kernels.emplace(stub, kernel_of(names[stub])).first;
  if (!found->second) give_up("does not know", names[stub]);
  found->second({arguments, grid.x});
  return counted("launch");
}
void __cudaRegisterFatBinaryEnd(void **) {}
void __cudaUnregisterFatBinary(void **) {}
void __cudaRegisterVar(void **, char *, char *, const char *, int, size_t, int, int) {}
int cudaGetLastError() { return 0; } // what fails here ends the process
const char *cudaGetErrorName(int) { return "error"; }
const char *cudaGetErrorString(int) { return "an error of the stand-in"; }

// ---- runtime: memory
int cudaMalloc(void **pointer, size_t bytes) {
  counted("allocate");
  if (used + bytes > memory()) return 2; // cudaErrorMemoryAllocation
  *pointer = aligned_alloc(256, (bytes + 255) / 256 * 256);
  memset(*pointer, 0x7f, bytes); // what nobody wrote is no number that a test could like: 3.4e38
  used += blocks[*pointer] = bytes;
  return 0;
}
int cudaFree(void *pointer) {
  counted("free"); // which waits for all that runs
  used -= blocks[pointer];
  blocks.erase(pointer);
  free(pointer);
  return 0;
}
const char *const directions[] = {"host", "to the device", "to the host", "on the device", "any"};
int cudaMemcpy(void *to, const void *from, size_t bytes, int direction) {
  memmove(to, from, bytes);
  return counted(string("copy ") + directions[direction]);
}
int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int direction, void *) {
  return cudaMemcpy(to, from, bytes, direction);
}
// ---- runtime: device, streams; what waits for them aborts
int cudaSetDevice(int) { return 0; }
int cudaGetDeviceProperties_v2(void *, int) { return 0; }
int cudaGetDevice(int *device) { return *device = 0, 0; }
int cudaStreamCreate(void **stream) { return *stream = malloc(1), 0; }
int cudaStreamCreateWithFlags(void **stream, unsigned) { return *stream = malloc(1), 0; }
int cudaStreamDestroy(void *stream) { return free(stream), 0; }

// ---- cuBLAS
int cublasCreate_v2(void **) { return 0; }
int cublasDestroy_v2(void *) { return 0; }
int cublasSgemmEx(void *, int ta, int tb, int m, int n, int k, const float *alpha, const float *A,
                  int, int lda, const float *B, int, int ldb, const float *beta, float *C, int,
                  int ldc) {
  product(ta, tb, m, n, k, *alpha, A, lda, B, ldb, *beta, C, ldc);
  return counted("launch");
}
int cublasSgemmStridedBatched(void *, int ta, int tb, int m, int n, int k, const float *alpha,
                              const float *A, int lda, long long sa, const float *B, int ldb,
                              long long sb, const float *beta, float *C, int ldc, long long sc,
                              int batch) {
  for (int i = 0; i < batch; i++)
    product(ta, tb, m, n, k, *alpha, A + i * sa, lda, B + i * sb, ldb, *beta, C + i * sc, ldc);
  return counted("launch");
}
int cublasSgemv_v2(void *, int transposed, int m, int n, const float *alpha, const float *A,
                   int lda, const float *x, int incx, const float *beta, float *y, int incy) {
  // as a product of transposes, so that x and y may have strides: y^T = x^T A'^T
  product(0, !transposed, 1, transposed ? n : m, transposed ? m : n, *alpha, x, incx, A, lda, *beta,
          y, incy);
  return counted("launch");
}

// ---- cuRAND
int curandCreateGenerator(void **generator, int) {
  return *generator = new std::mt19937_64, 0;
}
int curandDestroyGenerator(void *generator) {
  return delete static_cast<std::mt19937_64 *>(generator), 0;
}
int curandSetPseudoRandomGeneratorSeed(std::mt19937_64 *generator, unsigned long long seed) {
  return generator->seed(seed), 0;
}
int curandGenerateUniform(std::mt19937_64 *generator, float *values, size_t n) { // in (0, 1]
  for (size_t i = 0; i < n; i++) values[i] = float(((*generator)() >> 40) + 1) * 0x1p-24f;
  return counted("launch");
}
int curandGenerateNormal(std::mt19937_64 *generator, float *values, size_t n, float mean,
                         float deviation) {
  if (n % 2) return 105; // CURAND_STATUS_LENGTH_NOT_MULTIPLE
  std::normal_distribution<float> normal(mean, deviation);
  for (size_t i = 0; i < n; i++) values[i] = normal(*generator);
  return counted("launch");
}
}
