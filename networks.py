"""The network of IGR: f: R^3 -> R, eight affine layers with softplus and a skip into layer 4."""

from __future__ import annotations

import kernels

import nnabla as nn
import nnabla.functions as F
import numpy as np

LAYERS, SKIP = 8, kernels.SKIP


class MLP:
    """f(x) = fc7(phi(... phi(fc0(x)))), where fc4 sees skip_scale [x, h] (Gropp et al., sec. 4).

    dims: width of the hidden layers. activation: "softplus" with beta, or "leaky_relu" (the
    published nnabla-examples models). The parameters are `fc0/affine/W` (in, out),
    `fc0/affine/b` (out,), ..., in `parameters`. kernel: compute with kernels.py (CPU, softplus)
    and not with a graph of nnabla's own functions.
    """

    def __init__(self, dims=512, activation="softplus", beta=100.0, skip_scale=2**-0.5,
                 radius=0.5, seed=0, kernel=False, arrays=None):
        """arrays: parameters by name; default: geometric_init with `radius` and `seed`. Raises
        ValueError where an array is missing or has the wrong shape."""
        self.architecture = {"dims": dims, "activation": activation, "beta": beta,
                             "skip_scale": skip_scale}
        self.kernel, self.parameters = kernel, {}
        if arrays is None:
            arrays = geometric_init(dims, radius, np.random.default_rng(seed))
        for layer, (fan_in, fan_out) in enumerate(layer_shapes(dims)):
            for name, shape in (("W", (fan_in, fan_out)), ("b", (fan_out,))):
                name = f"fc{layer}/affine/{name}"
                have = arrays[name].shape if name in arrays else "nothing"
                if have != shape:
                    raise ValueError(f"{name}: shape {shape} is needed, there is {have}")
                self.parameters[name] = nn.Variable(shape, need_grad=True)
                self.parameters[name].d = arrays[name]

    def value(self, x: nn.Variable) -> nn.Variable:
        """f(x), (N, 1), of x (N, 3)."""
        if self.kernel:
            return self._kernel(x, 0)[0]
        h = x
        for layer in range(LAYERS):
            if layer == SKIP:
                h = self.architecture["skip_scale"] * F.concatenate(x, h, axis=1)
            W, b = (self.parameters[f"fc{layer}/affine/{name}"] for name in "Wb")
            h = F.affine(h, W, b)
            if layer < LAYERS - 1:
                h = self._activation(h)
        return h

    def value_and_gradient(self, x: nn.Variable):
        """(f(x), (N, 1); grad f(x), (N, 3)) of x (N, 3); both can be differentiated again."""
        if self.kernel:
            return self._kernel(x, x.shape[0])
        x.need_grad = True
        f = self.value(x)
        return f, nn.grad([f], [x])[0]

    def value_and_gradients(self, x: nn.Variable, y: nn.Variable):
        """(f(x), (B, 1); grad f(y), (N, 3)): what a loss needs of x on the surface and y off it.

        The kernel takes both in one go: one pass over the weights, one product for each of their
        gradients."""
        if self.kernel:
            f, gradient = self._kernel(F.concatenate(x, y, axis=0), y.shape[0])
            return f[: x.shape[0]], gradient
        return self.value(x), self.value_and_gradient(y)[1]

    def evaluate(self, points: np.ndarray, batch_size: int = 16384) -> np.ndarray:
        """f (N,) float32 of points (N, 3), numpy in and out, batch_size points at a time."""
        points = np.asarray(points, np.float32)
        if self.kernel:
            arrays = [variable.d for variable in self.parameters.values()]
            activation = self.architecture["activation"]
            return kernels.evaluate(points, arrays, activation, *self._constants)
        values = np.empty(len(points), np.float32)
        for start in range(0, len(points), batch_size):
            batch = nn.NdArray.from_numpy_array(points[start : start + batch_size])
            with nn.no_grad(), nn.auto_forward():
                f = self.value(nn.Variable.from_numpy_array(batch.data))
            values[start : start + batch_size] = f.d[:, 0]
        return values

    def _kernel(self, x, m):
        return kernels.value_and_gradient(x, m, list(self.parameters.values()), *self._constants)

    @property
    def _constants(self):
        return self.architecture["beta"], self.architecture["skip_scale"]

    def _activation(self, z: nn.Variable) -> nn.Variable:
        if self.architecture["activation"] == "leaky_relu":
            return F.leaky_relu(z)
        return F.softplus(z, beta=self.architecture["beta"])


def layer_shapes(dims: int) -> list:
    """(in, out) of the eight layers; layer 3 leaves room for x, which joins it at the skip."""
    out = [dims] * LAYERS
    out[SKIP - 1], out[-1] = dims - 3, 1
    return list(zip([3, *[dims] * (LAYERS - 1)], out))


def geometric_init(dims: int, radius: float, rng: np.random.Generator) -> dict:
    """Parameters with which f is about |x| - radius (Atzmon & Lipman, SAL, theorem 1):

    hidden W ~ N(0, 2 / out), the last W ~ N(sqrt(pi / in), 1e-10), its bias -radius. The skip's
    1 / sqrt(2) keeps the norm of [x, h], so the theorem holds across it.
    """
    arrays = {}
    for layer, (fan_in, fan_out) in enumerate(layer_shapes(dims)):
        mean, deviation, bias = 0.0, np.sqrt(2 / fan_out), 0.0
        if layer == LAYERS - 1:
            mean, deviation, bias = np.sqrt(np.pi / fan_in), 1e-5, -radius
        arrays[f"fc{layer}/affine/W"] = rng.normal(mean, deviation, (fan_in, fan_out))
        arrays[f"fc{layer}/affine/b"] = np.full(fan_out, bias)
    return {name: array.astype(np.float32) for name, array in arrays.items()}
