"""The network of IGR: f: R^3 -> R, eight affine layers with softplus and a skip into layer 4."""

from __future__ import annotations

from typing import NamedTuple

from helper import UserError
from igr import checkpoints, inference, kernels
from igr.frames import Frame

import nnabla as nn
import nnabla.functions as F
import numpy as np

LAYERS, SKIP = 8, kernels.SKIP
PUBLISHED = {"activation": "leaky_relu", "skip_scale": 1.0}  # nnabla-examples' models say nothing


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
        self.kernel, self.parameters, self._inference = kernel, {}, {}
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
        if self._fused:
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

    def value_and_gradient(self, x: nn.Variable, m: int):
        """(f(x), (N, 1); grad f, (m, 3), at the last m points) of x (N, 3).

        A loss in both can be differentiated with respect to the parameters.
        """
        return self._kernel(x, m) if self._fused else self._graph(x, m)

    def evaluate(self, points: np.ndarray, rows: int = 1024) -> np.ndarray:
        """f (N,) float32 of points (N, 3), numpy in and out, by the graph `rows` points at a time.

        A batch is filled up to `rows`: a product of another shape may round otherwise, and the
        octree relies on a point having the same value in whatever company it comes.
        """
        points = np.asarray(points, np.float32)
        if self.kernel:
            arrays = [variable.d for variable in self.parameters.values()]
            activation = self.architecture["activation"]
            return inference.evaluate(points, arrays, activation, *self._constants)
        if rows not in self._inference:
            x = nn.Variable((rows, 3))
            self._inference[rows] = x, self.value(x)
        x, f = self._inference[rows]
        values = np.empty(len(points), np.float32)
        for start in range(0, len(points), rows):
            batch = points[start : start + rows]
            batch = np.concatenate([batch, np.zeros((rows - len(batch), 3), np.float32)])
            x.data = nn.NdArray.from_numpy_array(batch)  # x.d = batch would fetch the old one first
            f.forward(clear_buffer=True)
            values[start : start + rows] = f.d[: len(points) - start, 0]
        return values

    def evaluate_with_gradient(self, points: np.ndarray, rows: int = 2048):
        """f (N,) and grad f (N, 3), float32, of points (N, 3), numpy in and out."""
        points = np.asarray(points, np.float32)
        values, gradients = np.empty(len(points), np.float32), np.empty(points.shape, np.float32)
        for start in range(0, len(points), rows):
            part = slice(start, start + rows)
            x = nn.Variable.from_numpy_array(points[part])
            f, gradient = self.value_and_gradient(x, x.shape[0])
            nn.forward_all([f, gradient])
            values[part], gradients[part] = f.d[:, 0], gradient.d
        return values, gradients

    @property
    def _fused(self) -> bool:
        """Whether kernels.py computes value and gradient in one: it knows softplus only."""
        return self.kernel and self.architecture["activation"] == "softplus"

    def _kernel(self, x, m):
        return kernels.value_and_gradient(x, m, list(self.parameters.values()), *self._constants)

    def _graph(self, x, m):
        """The sweeps "value" and "gradient" of kernels.py as nnabla functions that all run on the
        device, which backward() then differentiates. (nn.grad would do, but it differentiates an
        affine function by Python functions.)

        All that is between the layers is beta times what it is in kernels.py: so softplus' slope is
        a plain sigmoid (and leaky ReLU's is what it was). There is a leading axis of length 1, for
        F.batch_matmul: it multiplies by a transposed W without transposing it.
        """
        beta, scale = self._constants
        W, b = ([self.parameters[f"fc{layer}/affine/{name}"] for layer in range(LAYERS)]
                for name in "Wb")
        W1 = [w.reshape((1, *w.shape), unlink=True) for w in W]  # the same data, the same gradient
        W[SKIP], W1[SKIP] = scale * W[SKIP], scale * W1[SKIP]
        x = beta * F.reshape(x, (1, *x.shape))
        n, h, slopes = x.shape[1], x, []
        for layer in range(LAYERS - 1):
            if layer == SKIP:
                h = F.concatenate(x, h, axis=2)
            z = F.affine(h, W[layer], beta * b[layer], base_axis=2)
            sloped = z if m == n else z[:, n - m :]
            if self.architecture["activation"] == "softplus":
                h, slope = F.softplus(z), F.sigmoid(sloped)
            else:
                sign = F.greater_scalar(F.identity(sloped).apply(need_grad=False), 0)
                h, slope = F.leaky_relu(z), 0.1 + 0.9 * sign  # which has no derivative to follow
            slopes.append(slope)
        f = F.affine(h, W[-1], beta * b[-1], base_axis=2) / beta
        u = F.constant(1, (1, m, 1))
        for layer in range(LAYERS - 1, -1, -1):
            v = F.batch_matmul(u, W1[layer], transpose_b=True)
            if layer == SKIP:
                past, v = v[:, :, :3], v[:, :, 3:]
            u = v * slopes[layer - 1] if layer else v + past
        return F.reshape(f, (n, 1)), F.reshape(u, (m, 3))

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


class Network(NamedTuple):
    """What a checkpoint holds."""

    mlp: MLP
    frame: Frame
    volume_factor: float
    cloud: str  # path of the cloud it was trained on, or ""


def load(path, kernel: bool, overrides: dict | None = None) -> Network:
    """The network of a checkpoint; entries of `overrides` that are not None replace its
    architecture's. Raises UserError where the two do not fit."""
    arrays, info = checkpoints.load_checkpoint(path)
    if info is None:
        info = {"architecture": {"dims": arrays["fc0/affine/W"].shape[1], **PUBLISHED},
                "frame": Frame()._asdict(), "volume_factor": 1.5}
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        mlp = MLP(**{**info["architecture"], **given}, kernel=kernel, arrays=arrays)
        frame = Frame(tuple(info["frame"]["center"]), info["frame"]["scale"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: does not fit the network ({error})") from None
    return Network(mlp, frame, info["volume_factor"], info.get("cloud", ""))
