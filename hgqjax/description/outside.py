"""What to say of a model that computes outside hgqjax.layers: where, and which layer would do instead."""

import re
import traceback
from pathlib import Path

LIBRARIES = re.compile(r"[/\\](jax|jaxlib|flax|numpy|opt_einsum)[/\\]")
CHECKERS = re.compile(r"[/\\](jaxtyping|beartype)[/\\]|<@beartype|contextlib.py")
"""Frames of run-time checks of types, which stand between a call and what is called."""
PACKAGE = Path(__file__).resolve().parents[1]

_INSTEAD = {
    "layers.Einsum, or layers.EinsumDense where one factor is a weight": "einsum matmul dot dot_general tensordot vdot inner @",
    "layers.Add": "add +",
    "layers.Sum": "sum",
    "layers.Subtract": "subtract -",
    "layers.Multiply": "multiply *",
    "layers.select": "take split array_split getitem [] dynamic_slice",
    "layers.concatenate": "concatenate stack hstack vstack append",
    "layers.reshape": "reshape ravel squeeze expand_dims",
    "layers.transpose": "transpose swapaxes moveaxis permute_dims T mT",
    "layers.relu": "relu maximum clip",
    "layers.Sum with shift=, or layers.global_average_pool": "mean average",
    "layers.global_max_pool": "max amax",
    "layers.max_pool": "max_pool reduce_window",
    "layers.average_pool": "avg_pool",
    "layers.Conv1D or layers.Conv2D": "conv convolve conv_general_dilated",
    "layers.Quantize": "round rint floor ceil",
    "layers.Table, a function of single values": (
        "tanh sigmoid exp log sqrt square abs sin cos gelu silu swish elu selu softplus leaky_relu hard_tanh log1p expm1 reciprocal power "
        "sign arctan erf / ** -x"
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
