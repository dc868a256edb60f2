"""Choose where the network runs, by nnabla's contexts."""

from __future__ import annotations

from importlib.util import find_spec
import os
import sys
import types
from typing import NamedTuple

from helper import UserError, reason_of
from igr.backend import cuda

import numpy as np


class Device(NamedTuple):
    """Where the network runs."""

    text: str  # its name and why it was chosen, for the user
    kernel: bool  # our compiled kernel computes there; else nnabla's functions do
    cuda: bool
    rows: int  # points that inference takes at a time


# On a GPU, enough rows to fill the largest one at 8 x 512 (a layer is 64 MiB). nnabla's functions
# on the CPU are no faster with more, and what fills up the last batch is thrown away.
CUDA_ROWS = 32768
CPU_ROWS = 1024


def set_context(context: str, device_id: str = "0", precision: str = "float32") -> Device:
    """Make `context` nnabla's default.

    context: "auto" (CUDA if it works, else the CPU), "cpu", "cpu-graph", "cuda", "cudnn".
    precision: "float32", or "tf32" (CUDA only). Raises UserError where CUDA does not work, but was
    asked for by name or is needed for the precision.
    """
    import nnabla as nn
    from nnabla.ext_utils import get_extension_context

    shorten_imports()
    why = "as asked"
    if context in ("auto", "cuda", "cudnn"):
        try:
            return _use_cuda("cuda" if context == "auto" else context, device_id, precision)
        except Exception as error:  # the extension raises what its loader raises: any type
            reason = reason_of(error)
            if context != "auto":
                raise UserError(
                    f"--context {context} does not work here: {reason}; "
                    "see docs/cuda.md, or use --context cpu"
                ) from None
            why = f"no CUDA: {reason}"
    if precision != "float32":
        raise UserError(f"--precision {precision} needs CUDA, but the network would run on the CPU "
                        f"({why}); leave it out")
    nn.set_default_context(get_extension_context("cpu"))
    text = f"{'cpu' if context == 'auto' else context} ({why})"
    return Device(text, kernel=context != "cpu-graph", cuda=False, rows=CPU_ROWS)


def may_use_cuda(context: str) -> bool:
    """Whether set_context(context) can bring CUDA into this process."""
    return context in ("auto", "cuda", "cudnn") and bool(find_spec("nnabla_ext.cuda"))


def shorten_imports() -> None:
    """Spare nnabla's compiled modules a search on disk at each access of an array.

    They look for each of their imports inside the package first: 90 times a training step, 30
    microseconds each. This tells them at once what is there: of nnabla_ext the CPU's part, which
    every access imports, and nothing else.

    A module without a path has no parts beside those that are named, so others are still imported
    from their own place, and once.
    """
    import nnabla_ext.cpu

    inside = types.ModuleType("nnabla.nnabla_ext")
    inside.cpu = nnabla_ext.cpu
    sys.modules.update({"nnabla.nnabla": None, "nnabla.nnabla_ext": inside,
                        "nnabla.nnabla_ext.cpu": nnabla_ext.cpu})


def _use_cuda(context: str, device_id: str, precision: str) -> Device:
    """Make "cuda" or "cudnn" nnabla's default. Raises an exception of any type on failure."""
    import nnabla as nn
    from nnabla.ext_utils import get_extension_context

    # cuBLAS may read its variable as soon as it is loaded; the extension sets it at its import
    for name in ("NVIDIA_TF32_OVERRIDE", "NNABLA_CUDA_ALLOW_TF32"):
        os.environ[name] = "1" if precision == "tf32" else "0"
    cuda.prepare(device_id)
    ctx = get_extension_context(context, device_id=device_id)
    check_products(ctx, precision)
    nn.set_default_context(ctx)
    text = f"{context}, device {device_id}, {precision}"
    return Device(text, kernel=False, cuda=True, rows=CUDA_ROWS)


def check_products(ctx, precision: str) -> None:
    """Check the precision of matrix products in the nnabla context `ctx`. Raises RuntimeError where
    one is wrong or has another precision. A factor 1 + 2^-12 is 1 in TF32, which keeps 10 bits
    after the point."""
    import nnabla as nn
    import nnabla.functions as F

    n = 512
    factor = 1 + 2.0**-12
    with nn.context_scope(ctx), nn.auto_forward():
        product = F.affine(F.constant(factor, (n, n)), F.constant(1, (n, n))).d
    expected = {"float32": n * factor, "tf32": n}[precision]
    if not np.abs(product - expected).max() < 1e-3:
        raise RuntimeError(f"a matrix product is not {precision}'s: {product[0, 0]:.7g} and not "
                           f"{expected:.7g}")
