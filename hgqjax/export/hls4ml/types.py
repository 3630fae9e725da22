"""C++ fixed-point types for the values of a model description."""

import dataclasses

import numpy as np

from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Constant, Gather, Grid, Input, Quantize, Reshape, Transpose
from hgqjax.description.readers import input_readers
from hgqjax.export.gate import EXTRA_BITS


@dataclasses.dataclass(frozen=True)
class Fixed:
    """One C++ type: `k`, `i`, `f` as everywhere in hgqjax; no bits stands for the constant 0."""

    k: int
    i: int
    f: int
    rounding: str = "TRN"
    overflow: str = "WRAP"

    @property
    def width(self) -> int:
        """Bits in C++, at least 1."""
        return max(self.k + self.i + self.f, 1)

    def __str__(self) -> str:
        if self.k + self.i + self.f <= 0:
            return "ap_ufixed<1,1,AP_TRN,AP_WRAP,0>"
        return f"ap_{'' if self.k else 'u'}fixed<{self.width},{self.k + self.i},AP_{self.rounding},AP_{self.overflow},0>"


def enclosing(grid: Grid) -> Fixed:
    """Fewest bits that hold every value of `grid` exactly, in one type."""
    f, low, high = (v.ravel() for v in grid)
    live = [n for n in range(len(low)) if low[n] or high[n]]
    if not live:
        return Fixed(0, 0, 0)
    finest = max(int(f[n]) for n in live)
    least = min(int(low[n]) << (finest - int(f[n])) for n in live)
    greatest = max(int(high[n]) << (finest - int(f[n])) for n in live)
    bits = max((-least - 1).bit_length() if least < 0 else 0, greatest.bit_length())
    return Fixed(int(least < 0), bits - finest, finest)


def constant_type(constant: Constant | None) -> Fixed:
    """The type that holds every constant."""
    if constant is None:
        return Fixed(0, 0, 0)
    integers = constant.integers.astype(object)
    return enclosing(Grid(constant.f, integers, integers))


def joint(kinds: list[Fixed]) -> Fixed:
    """The type that holds the values of all of `kinds`."""
    live = [kind for kind in kinds if kind.k + kind.i + kind.f > 0]
    if not live:
        return Fixed(0, 0, 0)
    return Fixed(max(kind.k for kind in live), max(kind.i for kind in live), max(kind.f for kind in live))


def quantizer_type(op: Quantize) -> Fixed:
    """The type that holds every element of a quantizer: its own casts round and clip, this one changes nothing."""
    live = op.bits > 0
    if not live.any():
        return Fixed(0, 0, 0)
    k, i, f = (int(v[live].max()) for v in (op.k, op.i, op.f))
    return Fixed(k, i, f)


def port_type(readers: list[Quantize]) -> Fixed:
    """Input port: fine and wide enough that the quantizers behind it see no difference from the float that was fed in."""
    kinds = [quantizer_type(op) for op in readers]
    k, i, f = (max(getattr(kind, name) for kind in kinds) for name in ("k", "i", "f"))
    f += any(op.rounding == "RND" for op in readers)
    if any(op.rounding == "RND_CONV" for op in readers):
        f = max(24, f + EXTRA_BITS + 1)
    return Fixed(k, i, f, "TRN", "WRAP" if readers[0].overflow == "WRAP" else "SAT")


def tensor_types(description: ModelDescription, io_type: str) -> dict[str, Fixed]:
    """The one C++ type of the result of every operation.

    In io_stream a quantizer is this type and nothing else: the cast to it rounds and clips.
    """
    types: dict[str, Fixed] = {}
    for op in description.operations:
        if isinstance(op, Input):
            types[op.name] = port_type(input_readers(description, op))
        elif isinstance(op, Quantize):
            kind, source = quantizer_type(op), types[op.inputs[0]]
            if io_type == "io_stream" and kind.k + kind.i + kind.f > 0:
                kind = dataclasses.replace(kind, rounding=op.rounding, overflow=op.overflow)
                # hls4ml takes out a cast to the same type and makes its input the output, which may already be one, or the model's input
                kind = dataclasses.replace(kind, i=kind.i + 1) if kind == source and op.name in description.outputs else kind
            types[op.name] = kind
        elif isinstance(op, Reshape | Transpose | Gather):  # hls4ml gives the first two the type of their input, whatever it is told
            types[op.name] = types[op.inputs[0]]
        else:
            types[op.name] = enclosing(description.grids[op.name])
    return types


def uniform(op: Quantize) -> bool:
    """Whether all elements have the same format."""
    return all(np.unique(v).size == 1 for v in (op.k, op.i, op.f))
