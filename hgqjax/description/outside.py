"""What to say of a model that computes outside hgqjax.layers: where, and which layer would do instead."""

import re
import traceback
from pathlib import Path

LIBRARIES = re.compile(r"[/\\](jax|jaxlib|flax|numpy|opt_einsum)[/\\]")
CHECKERS = re.compile(r"[/\\](jaxtyping|beartype)[/\\]|<@beartype|contextlib.py")
"""Frames of run-time checks of types, which stand between a call and what is called."""
PACKAGE = Path(__file__).resolve().parents[1]

_INSTEAD = {
    "layers.Einsum, or layers.EinsumDense where one factor is a weight": "einsum matmul dot dot_general tensordot vdot inner outer @",
    "x + y, or layers.Add, which quantizes both": "add +",
    "layers.sum": "sum",
    "x - y, or layers.Subtract, which quantizes both": "subtract -",
    "x * y, or layers.Multiply, which quantizes both": "multiply *",
    "x[:, n], or layers.select": "take split array_split getitem [] dynamic_slice slice_in_dim unstack flip roll",
    "layers.concatenate": "concatenate stack hstack vstack append",
    "layers.zero_pad": "pad",
    "layers.upsample": "repeat tile resize",
    "layers.ConvTranspose1D or layers.ConvTranspose2D": "conv_transpose",
    "x + y, where axes of size 1 repeat": "broadcast_to",
    "layers.reshape": "reshape ravel squeeze expand_dims",
    "layers.transpose": "transpose swapaxes moveaxis permute_dims T mT",
    "layers.relu": "relu maximum clip",
    "-x": "negative",
    "x * x": "square",
    "layers.mean": "mean average",
    "layers.max": "max amax",
    "-layers.max(-x, axes)": "min amin",
    "layers.max_pool": "max_pool reduce_window",
    "layers.average_pool": "avg_pool",
    "layers.Conv1D or layers.Conv2D": "conv convolve conv_general_dilated",
    "layers.Softmax": "softmax log_softmax",
    "layers.Quantize": "round rint floor ceil",
    "x * c with c = 1 / divisor of few bits, or a layers.Table of 1 / y": "divide true_divide /",
    "layers.Table, a function of single values": (
        "tanh sigmoid exp log sqrt abs sin cos gelu silu swish elu selu softplus leaky_relu hard_tanh log1p expm1 reciprocal power "
        "sign arctan erf float_power exp2 log2 cbrt **"
    ),
}
INSTEAD = {name: layer for layer, names in _INSTEAD.items() for name in names.split()}


def refusal(error: Exception) -> str | None:
    """The sentence for an `error` of jax, numpy or Python about a symbol; None where it is one of another kind.

    The error counts as one about a symbol where it is a TypeError, or where the code that called jax, numpy or flax is not this package's.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not CHECKERS.search(frame.filename)]
    outside = [n for n, frame in enumerate(frames) if not LIBRARIES.search(frame.filename) and not _ours(frame.filename)]
    if not outside:
        return str(error) if isinstance(error, TypeError) else None
    last = outside[-1]
    behind = frames[last + 1 :]
    if not isinstance(error, TypeError) and not (behind and LIBRARIES.search(behind[0].filename)):
        return None
    line = (frames[last].line or "").strip()
    called = [frame.name for frame in behind[:1] if LIBRARIES.search(frame.filename)] + re.findall(r"(\w+)\(", line)
    quoted = re.findall(r"^'?([^' ]+)'? of ", str(error))
    known = next((INSTEAD[name] for name in (*quoted, *called) if name in INSTEAD), None)
    where = f"line {frames[last].lineno} of {Path(frames[last].filename).name}"
    code = f", {line!r}" if line else ""
    return f"{where}{code}; " + (f"use {known}" if known else "use a layer or a function of hgqjax.layers")


def _ours(filename: str) -> bool:
    return Path(filename).resolve().is_relative_to(PACKAGE)
