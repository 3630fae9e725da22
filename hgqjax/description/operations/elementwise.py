"""Operations on single elements: the input rows, quantizers, relu, tables."""

import dataclasses
from typing import ClassVar

import numpy as np

from hgqjax.description import integers as exact
from hgqjax.description.operations._base import DescriptionError, Grid, Operation


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Input(Operation):
    """Rows of the user's floats, not yet on a grid; only `Quantize` may follow."""

    kind: ClassVar[str] = "input"

    def grid(self, *inputs: Grid) -> Grid:
        wide = np.full(self.shape, 2**1100, object)
        return Grid(np.full(self.shape, 1074), -wide, wide)

    def evaluate(self, values, grids, grid):
        raise NotImplementedError("the rows themselves")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Quantize(Operation):
    """To formats `k`, `i`, `f` (integer arrays of `shape`; no bits: the constant 0) with `rounding` (RND, TRN, RND_CONV) and `overflow`."""

    kind: ClassVar[str] = "quantize"
    k: np.ndarray
    i: np.ndarray
    f: np.ndarray
    rounding: str
    overflow: str

    def __post_init__(self):
        if self.rounding not in ("RND", "TRN", "RND_CONV") or self.overflow not in ("WRAP", "SAT", "SAT_SYM"):
            raise DescriptionError(
                f"layer {self.name!r} has rounding {self.rounding!r} and overflow {self.overflow!r}, which hardware has not"
            )
        if any(v.shape != self.shape for v in (self.k, self.i, self.f)):
            raise DescriptionError(f"layer {self.name!r} has formats of shape {self.f.shape} for values of shape {self.shape}")

    @property
    def bits(self) -> np.ndarray:
        """Total bits, 0 where the element is the constant 0."""
        bits = np.maximum(self.k + self.i + self.f, 0)
        return np.where((self.overflow == "SAT_SYM") & (self.i + self.f <= 0), 0, bits)

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest whole number of each element, Python ints."""
        magnitude = [2 ** max(int(b - k), 0) for b, k in zip(self.bits.ravel(), self.k.ravel(), strict=True)]
        alive = self.bits.ravel() > 0
        high = np.array([(m - 1) * bool(a) for m, a in zip(magnitude, alive, strict=True)], object).reshape(self.shape)
        low = np.array([m * bool(a) for m, a in zip(magnitude, alive, strict=True)], object).reshape(self.shape)
        return -self.k.astype(object) * (high if self.overflow == "SAT_SYM" else low), high

    def grid(self, *inputs: Grid) -> Grid:
        (source,) = inputs
        low, high = self.limits()
        lo = exact.round_to_grid(source.low, source.f, self.f, self.rounding)
        hi = exact.round_to_grid(source.high, source.f, self.f, self.rounding)
        fits = (lo >= low) & (hi <= high) | (self.overflow != "WRAP")
        inside = [np.minimum(np.maximum(v, low), high) for v in (lo, hi)]
        return Grid(self.f.astype(np.int64), np.where(fits, inside[0], low), np.where(fits, inside[1], high))

    def evaluate(self, values, grids, grid):
        (x,) = values
        low, high = self.limits()
        if np.issubdtype(x.dtype, np.floating):
            return exact.quantize_floats(x, self.f, self.rounding, self.overflow, low, high)
        m = exact.round_to_grid(x, grids[0].f, self.f, self.rounding)
        return exact.overflow(m, self.overflow, low, high)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Relu(Operation):
    """``max(x, 0)``."""

    kind: ClassVar[str] = "relu"

    def grid(self, *inputs: Grid) -> Grid:
        (source,) = inputs
        return Grid(source.f, np.maximum(source.low, 0), np.maximum(source.high, 0))

    def evaluate(self, values, grids, grid):
        return np.maximum(values[0], 0)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Table(Operation):
    """A function of single values, looked up: the value ``(low + n) * 2**-f_in`` becomes ``table[n] * 2**-f``.

    One `table` (int64, one axis) for all elements; it must hold every value that its input can take. `bits`: what EBOPs count of a result.
    """

    kind: ClassVar[str] = "table"
    table: np.ndarray
    f: int
    bits: int
    f_in: int
    low: int

    def __post_init__(self):
        if self.table.ndim != 1 or not self.table.size or self.table.dtype != np.int64:
            raise DescriptionError(f"layer {self.name!r} has a table {self.table.dtype}{self.table.shape}; int64 and one axis are needed")

    def _index(self, x: np.ndarray, source: Grid) -> np.ndarray:
        return exact.shift_left(x, np.where(x == 0, 0, self.f_in - source.f)) - self.low

    def grid(self, *inputs: Grid) -> Grid:
        (source,) = inputs
        on_grid = not np.any((source.f > self.f_in) & ((source.low != 0) | (source.high != 0)))
        first, last = (self._index(v, source) for v in (source.low, source.high)) if on_grid else (np.array(-1), np.array(-1))
        if first.min() < 0 or last.max() >= self.table.size:
            raise DescriptionError(
                f"layer {self.name!r} has a table of {self.table.size} words from {self.low} * 2**-{self.f_in}; its input has others"
            )
        low, high = (np.empty(self.shape, object) for _ in range(2))
        for n in np.ndindex(self.shape):
            step = 1 << int(self.f_in - source.f[n]) if source.low[n] < source.high[n] else 1
            reached = self.table[int(first[n]) : int(last[n]) + 1 : step]
            low[n], high[n] = int(reached.min()), int(reached.max())
        return Grid(np.full(self.shape, self.f), low, high)

    def evaluate(self, values, grids, grid):
        return self.table[self._index(values[0], grids[0]).astype(np.int64)]
