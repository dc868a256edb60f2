"""The network of IGR, f: R^3 -> R: eight affine layers with softplus and a skip into layer 4.

Its input is x, or with K frequencies the encoding gamma(x) of IDR (Yariv et al. 2020): x beside
o_k sin(2^k x) and o_k cos(2^k x), k < K, at the first layer and again at the skip. o_k has BARF's
window (Lin et al. 2021), through which the frequencies open one after the other: field/encoding.py.

Three computations of the same function, each where it is fastest; MLP chooses among them once:

    PlainForward     f by nnabla's functions             inference on a GPU; in the next one
    GradientChain    f and grad f by nnabla's functions  training on a GPU; leaky ReLU everywhere
    CompiledKernel   f and grad f by compiled passes     training and inference on the CPU
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from helper import UserError
from igr.field import checkpoints, inference, passes, training_kernel
from igr.field.encoding import Window
from igr.geometry.frames import Frame

import nnabla as nn
import nnabla.functions as F
import numpy as np

LAYERS = 8
SKIP = passes.SKIP  # the layer whose input is [x, h]
APART = 8192  # points without a gradient, from which on GradientChain has them apart


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Which function the parameters belong to. Checkpoints store it; the defaults are the paper's.
    """

    dims: int = 512  # width of the hidden layers
    activation: str = "softplus"  # or "leaky_relu", with slope 0.1
    beta: float = 100.0  # of softplus
    skip_scale: float = 2**-0.5
    frequencies: int = 0  # K
    opened: float = 0.0  # how many of them the window shows, the last one in part


class MLP:
    """f(x) = fc7(phi(... phi(fc0(x)))), where fc4 sees skip_scale [x, h] (Gropp et al. 2020), and
    gamma(x) stands for x where there are frequencies.

    The parameters are `fc0/affine/W` (in, out), `fc0/affine/b` (out,), ..., in `parameters`.
    """

    def __init__(self, architecture: Architecture, kernel: bool = False,
                 arrays: dict | None = None, seed: int = 0, radius: float = 0.5):
        """kernel: compute with compiled passes, for the CPU. arrays: parameters by name; default:
        geometric_init with `radius` and `seed`.

        Raises ValueError where an array is missing or has the wrong shape.
        """
        self.kernel = kernel
        self.architecture = architecture
        if arrays is None:
            arrays = geometric_init(architecture.dims, radius, np.random.default_rng(seed),
                                    architecture.frequencies)
        self.parameters = make_parameters(architecture.dims, architecture.frequencies, arrays)
        self.window = Window(architecture.frequencies)
        self.window.open(architecture.opened)
        shared = self.parameters, architecture, self.window
        plain = PlainForward(*shared)
        compiled = CompiledKernel(*shared)
        # the kernel's gradient knows softplus only
        fused = kernel and architecture.activation == "softplus"
        self._inference = compiled if kernel else plain
        self._value = compiled if fused else plain
        self._gradient = compiled if fused else GradientChain(*shared)

    def open_frequencies(self, opened: float) -> None:
        """Let the window show the first `opened` frequencies, the last one of them in part."""
        self.architecture = dataclasses.replace(self.architecture, opened=float(opened))
        self.window.open(opened)

    def value(self, x: nn.Variable) -> nn.Variable:
        """f(x), (N, 1), of x (N, 3)."""
        return self._value.value(x)

    def value_and_gradient(self, x: nn.Variable, m: int):
        """(f(x), (N, 1); grad f, (m, 3), at the last m points) of x (N, 3).

        A loss in both can be differentiated with respect to the parameters.
        """
        return self._gradient.value_and_gradient(x, m)

    def evaluate(self, points: np.ndarray, rows: int = 1024) -> np.ndarray:
        """f (N,) float32 of points (N, 3), numpy in and out; nnabla's graph takes `rows` points at
        a time. A point has the same value bit for bit in whatever company it comes."""
        return self._inference.evaluate(np.asarray(points, np.float32), rows)

    def evaluate_with_gradient(self, points: np.ndarray, rows: int = 2048):
        """f (N,) and grad f (N, 3), float32, of points (N, 3), numpy in and out; `rows` points at
        a time."""
        points = np.asarray(points, np.float32)
        values = np.empty(len(points), np.float32)
        gradients = np.empty(points.shape, np.float32)
        x = None
        for start in range(0, len(points), rows):
            batch = points[start : start + rows]
            if x is None or x.shape[0] != len(batch):  # one graph for all but the last batch
                x = nn.Variable(batch.shape)
                f, gradient = self.value_and_gradient(x, len(batch))
            x.d = batch
            nn.forward_all([f, gradient])
            values[start : start + rows] = f.d[:, 0]
            gradients[start : start + rows] = gradient.d
        return values, gradients


# ------------------------------------------------------------------------- the three computations


class PlainForward:
    """Compute f by nnabla's functions, layer after layer as in the formula.

    Serves where f is needed without its gradient and the kernel does not compute it: inference on
    a GPU and with --context cpu-graph, and many training points there.
    """

    def __init__(self, parameters: dict, architecture: Architecture, window: Window):
        self.parameters = parameters
        self.architecture = architecture
        self.window = window
        self.graphs = {}  # rows of a batch -> (x, f)

    def value(self, x: nn.Variable) -> nn.Variable:
        """f(x), (N, 1), of x (N, 3)."""
        gamma = self.window.encode(x)
        h = gamma
        for layer in range(LAYERS):
            W = self.parameters[f"fc{layer}/affine/W"]
            b = self.parameters[f"fc{layer}/affine/b"]
            if layer == SKIP:
                h = F.concatenate(gamma, h, axis=1)
                W = self.architecture.skip_scale * W
            h = F.affine(h, W, b)
            if layer < LAYERS - 1:
                h = self._activation(h)
        return h

    def evaluate(self, points: np.ndarray, rows: int) -> np.ndarray:
        """f (N,) of points (N, 3), both float32, `rows` points at a time.

        The last batch is filled up to `rows`: a product of another shape may round differently,
        and extraction relies on a point having the same value in every batch.
        """
        if rows not in self.graphs:
            x = nn.Variable((rows, 3))
            self.graphs[rows] = (x, self.value(x))
        x, f = self.graphs[rows]
        values = np.empty(len(points), np.float32)
        for start in range(0, len(points), rows):
            batch = points[start : start + rows]
            batch = np.concatenate([batch, np.zeros((rows - len(batch), 3), np.float32)])
            x.data = nn.NdArray.from_numpy_array(batch)  # x.d = batch would fetch the old one first
            f.forward(clear_buffer=True)
            values[start : start + rows] = f.d[: len(points) - start, 0]
        return values

    def _activation(self, z: nn.Variable) -> nn.Variable:
        if self.architecture.activation == "leaky_relu":
            return F.leaky_relu(z)
        return F.softplus(z, beta=self.architecture.beta)


class GradientChain:
    """Compute f and grad f as one chain of nnabla functions, which backward() differentiates.

    Serves where a gradient is needed and the kernel does not compute it: training on a GPU and with
    --context cpu-graph, and wherever the activation is leaky ReLU. It is the passes "value" and
    "gradient" of field/passes.py in functions that all run on the device. (nn.grad would do, but it
    differentiates an affine function by Python functions.)

    Everything between the layers is beta times what it is in igr/field/passes.py: so the slope of
    softplus is a plain sigmoid (and that of leaky ReLU is what it was). There is a leading axis of
    length 1 for F.batch_matmul, which multiplies by a transposed W without transposing it.

    All points go through the layers together, and the last m are sliced out of each: fewer
    functions. Many points at which no gradient is wanted go through PlainForward instead: no
    slices, and no zeroing of what their derivatives are added to.
    """

    def __init__(self, parameters: dict, architecture: Architecture, window: Window):
        self.parameters = parameters
        self.architecture = architecture
        self.window = window
        self.plain = PlainForward(parameters, architecture, window)

    def value_and_gradient(self, x: nn.Variable, m: int):
        """(f (N, 1); grad f (m, 3) at the last m points) of x (N, 3)."""
        without = x.shape[0] - m
        if without < APART:
            return self._together(x, m)
        f, gradient = self._together(x[without:], m)
        return F.concatenate(self.plain.value(x[:without]), f, axis=0), gradient

    def _together(self, x: nn.Variable, m: int):
        """value_and_gradient() of points that go through each layer together."""
        n = x.shape[0]
        beta = self.architecture.beta
        W, W1, b = self._weights()
        gamma = self.window.encode(x)
        gamma = beta * F.reshape(gamma, (1, *gamma.shape))
        h = gamma
        slopes = []
        for layer in range(LAYERS - 1):
            if layer == SKIP:
                h = F.concatenate(gamma, h, axis=2)
            z = F.affine(h, W[layer], beta * b[layer], base_axis=2)
            h, slope = self._activation_and_slope(z, m)
            slopes.append(slope)
        f = F.affine(h, W[-1], beta * b[-1], base_axis=2) / beta
        gradient = self._gradient(W1, slopes, m)
        gradient = F.reshape(gradient, (m, gamma.shape[2]))
        last = x if m == n else x[n - m :]
        return F.reshape(f, (n, 1)), self.window.contract(gradient, last)

    def _weights(self):
        """Lists of W (in, out), the same as (1, in, out), and b (out,); the skip's W is scaled."""
        W = [self.parameters[f"fc{layer}/affine/W"] for layer in range(LAYERS)]
        b = [self.parameters[f"fc{layer}/affine/b"] for layer in range(LAYERS)]
        W1 = [w.reshape((1, *w.shape), unlink=True) for w in W]  # the same data, the same gradient
        W[SKIP] = self.architecture.skip_scale * W[SKIP]
        W1[SKIP] = self.architecture.skip_scale * W1[SKIP]
        return W, W1, b

    def _activation_and_slope(self, z: nn.Variable, m: int):
        """phi(z) of z (1, N, out), and phi'(z) (1, m, out) at the last m points."""
        n = z.shape[1]
        last = z if m == n else z[:, n - m :]
        if self.architecture.activation == "softplus":
            return F.softplus(z), F.sigmoid(last)
        positive = F.greater_scalar(F.identity(last).apply(need_grad=False), 0)
        return F.leaky_relu(z), 0.1 + 0.9 * positive  # a slope without a derivative to follow

    def _gradient(self, W1: list, slopes: list, m: int) -> nn.Variable:
        """The gradient with respect to gamma, (1, m, 3 + 6 K): u goes back from f = z_7 to z_0, v
        is u W^T."""
        inputs = W1[0].shape[1]
        u = F.constant(1, (1, m, 1))
        for layer in range(LAYERS - 1, 0, -1):
            v = F.batch_matmul(u, W1[layer], transpose_b=True)
            if layer == SKIP:
                past_skip = v[:, :, :inputs]
                v = v[:, :, inputs:]
            u = v * slopes[layer - 1]
        return F.batch_matmul(u, W1[0], transpose_b=True) + past_skip


class CompiledKernel:
    """Compute f and grad f on all threads, by field/training_kernel.py and field/inference.py.

    Runs on the CPU: training and inference with softplus; with leaky ReLU inference only.
    """

    def __init__(self, parameters: dict, architecture: Architecture, window: Window):
        self.parameters = parameters
        self.window = window.weights if window.frequencies else None
        self.activation = architecture.activation
        self.constants = architecture.beta, architecture.skip_scale

    def value(self, x: nn.Variable) -> nn.Variable:
        """f(x), (N, 1), of x (N, 3)."""
        return self.value_and_gradient(x, 0)[0]

    def value_and_gradient(self, x: nn.Variable, m: int):
        """(f (N, 1); grad f (m, 3) at the last m points) of x (N, 3); softplus only."""
        return training_kernel.value_and_gradient(x, m, list(self.parameters.values()),
                                                  *self.constants, self.window)

    def evaluate(self, points: np.ndarray, rows: int) -> np.ndarray:
        """f (N,) of points (N, 3), both float32; the kernel has its own blocks for `rows`."""
        arrays = [variable.d for variable in self.parameters.values()]
        return inference.evaluate(points, arrays, self.activation, *self.constants, self.window)


# -------------------------------------------------------------------------------- the parameters


def layer_shapes(dims: int, frequencies: int = 0) -> list:
    """List (in, out) of the eight layers. Layer 3 leaves room for x, which joins it at the skip;
    the waves join beside it."""
    fan_in = [3 + 6 * frequencies, *[dims] * (LAYERS - 1)]
    fan_in[SKIP] = dims + 6 * frequencies
    fan_out = [dims] * LAYERS
    fan_out[SKIP - 1] = dims - 3
    fan_out[-1] = 1
    return list(zip(fan_in, fan_out))


def make_parameters(dims: int, frequencies: int, arrays: dict) -> dict:
    """Make nnabla variables with gradient, by name, from `arrays`.

    Raises ValueError where one is missing or has the wrong shape.
    """
    parameters = {}
    for layer, (fan_in, fan_out) in enumerate(layer_shapes(dims, frequencies)):
        for name, shape in (("W", (fan_in, fan_out)), ("b", (fan_out,))):
            name = f"fc{layer}/affine/{name}"
            have = arrays[name].shape if name in arrays else "nothing"
            if have != shape:
                raise ValueError(f"{name}: shape {shape} is needed, there is {have}")
            parameters[name] = nn.Variable(shape, need_grad=True)
            parameters[name].d = arrays[name]
    return parameters


def geometric_init(dims: int, radius: float, rng: np.random.Generator,
                   frequencies: int = 0) -> dict:
    """Draw parameters (float32, by name) with which f is about |x| - radius (Atzmon & Lipman, SAL,
    theorem 1): hidden W ~ N(0, 2 / out), the last W ~ N(sqrt(pi / in), 1e-10), its bias -radius.

    The skip's 1 / sqrt(2) keeps the norm of [x, h], so the theorem holds across it. The weights of
    the waves are 0 at first: they change nothing.
    """
    arrays = {}
    for layer, (fan_in, fan_out) in enumerate(layer_shapes(dims)):
        mean = 0.0
        deviation = np.sqrt(2 / fan_out)
        bias = 0.0
        if layer == LAYERS - 1:
            mean = np.sqrt(np.pi / fan_in)
            deviation = 1e-5
            bias = -radius
        W = rng.normal(mean, deviation, (fan_in, fan_out))
        if layer in (0, SKIP):
            W = np.insert(W, 3, np.zeros((6 * frequencies, fan_out)), axis=0)
        arrays[f"fc{layer}/affine/W"] = W
        arrays[f"fc{layer}/affine/b"] = np.full(fan_out, bias)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


# -------------------------------------------------------------------------------- from a checkpoint


class Network(NamedTuple):
    """A network as a checkpoint holds it, with all that its use needs to know."""

    mlp: MLP
    frame: Frame  # of the cloud that it was trained on
    volume_factor: float  # half the side of the cube of free space, unit frame
    info: dict  # what the checkpoint says about the training; {} for a published model


def load_network(path, kernel: bool) -> Network:
    """Load the network of a checkpoint, or of a file of the published nnabla-examples models.

    Raises UserError where the file is damaged, or the parameters do not fit the architecture.
    """
    arrays, info = checkpoints.load_checkpoint(path)
    try:
        if info is None:
            published = Architecture(arrays["fc0/affine/W"].shape[1], "leaky_relu", skip_scale=1.0)
            return Network(MLP(published, kernel, arrays), Frame(), 1.5, {})
        mlp = MLP(Architecture(**info["architecture"]), kernel, arrays)
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: does not fit the network ({error})") from None
    frame = Frame(tuple(info["frame"]["center"]), info["frame"]["scale"])
    return Network(mlp, frame, info["volume_factor"], info)
