"""A table of words for each element: what layers made of look-up tables compute."""

import dataclasses
from typing import ClassVar

import numpy as np

from hgqjax.description import integers as exact
from hgqjax.description.operations._base import DescriptionError, Grid, Operation

KEY_BITS = 16
"""Widest key of a table."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Lookup(Operation):
    """A table for each element: of element n the value ``(low[n] + a) * 2**-f_in[n]`` becomes ``words[start[n] + a] * 2**-f[n]``.

    `words` (int64, one axis) holds all tables one after the other, `start` (one more than there are elements) where each begins; `low`,
    `f_in`, `f` and `bits`, what costs count of a result, sign included, have the shape of the result. A table must hold every word that
    its input can take; an element whose input is constant needs one word.
    """

    kind: ClassVar[str] = "lookup"
    words: np.ndarray
    start: np.ndarray
    low: np.ndarray
    f_in: np.ndarray
    f: np.ndarray
    bits: np.ndarray

    def __post_init__(self):
        arrays = {name: getattr(self, name) for name in ("words", "start", "low", "f_in", "f", "bits")}
        odd = [name for name, v in arrays.items() if v.dtype != np.int64 or (name not in ("words", "start") and v.shape != self.shape)]
        if odd:
            v = arrays[odd[0]]
            raise DescriptionError(
                f"layer {self.name!r} has {odd[0]} {v.dtype}{v.shape}; int64 is needed, {self.shape} but for words and start"
            )
        size, sizes = self.low.size, self.sizes
        fits = self.words.ndim == 1 and self.start.shape == (size + 1,) and self.start[0] == 0 and self.start[-1] == self.words.size
        if not fits or np.any(sizes < 1):
            raise DescriptionError(
                f"layer {self.name!r} has {self.words.size} words in tables that start {self.start}; each of {size} needs one"
            )
        if np.any(sizes > 2**KEY_BITS):
            which = tuple(int(n) for n in np.unravel_index(sizes.argmax(), self.shape))
            raise DescriptionError(
                f"layer {self.name!r} has a table of {sizes.max()} words at {which}; 2**{KEY_BITS}, a key of {KEY_BITS} bits, is the most"
            )

    @property
    def sizes(self) -> np.ndarray:
        """Words of each table, one axis."""
        return np.diff(self.start)

    def _index(self, x: np.ndarray, source: Grid) -> np.ndarray:
        """Of values (rows, *shape): the number of each in its table."""
        return exact.shift_left(x, np.where((source.low == 0) & (source.high == 0), 0, self.f_in - source.f)) - self.low

    def reached(self, source: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each element, one axis: the first and the last word that its input reaches, and the step between two; see `Lookup`."""
        if source.f.shape != self.shape:
            raise DescriptionError(f"layer {self.name!r} has tables for shape {self.shape}, but is given {source.f.shape}")
        constant, zero = (source.low == source.high).ravel(), ((source.low == 0) & (source.high == 0)).ravel()
        coarser = (self.f_in - source.f).ravel()
        if np.any((coarser < 0) & ~zero):
            raise self._missing(int(np.argmax((coarser < 0) & ~zero)))
        first, last = (self._index(v[None], source).ravel() for v in (source.low, source.high))
        outside = (first < 0) | (last >= self.sizes)
        if np.any(outside):
            raise self._missing(int(np.argmax(outside)))
        return first.astype(np.int64), last.astype(np.int64), np.where(constant, 1, 1 << np.where(constant, 0, coarser))

    def _missing(self, n: int) -> DescriptionError:
        where = tuple(int(i) for i in np.unravel_index(n, self.shape))
        low, f_in, size = int(self.low[where]), int(self.f_in[where]), int(self.sizes[n])
        return DescriptionError(f"layer {self.name!r} has a table of {size} words from {low} * 2**-{f_in} at {where}; its input has others")

    def grid(self, *inputs: Grid) -> Grid:
        (source,) = inputs
        low, high = np.empty(self.low.size, object), np.empty(self.low.size, object)
        for n, (first, last, step) in enumerate(zip(*self.reached(source), strict=True)):
            words = self.words[self.start[n] + first : self.start[n] + last + 1 : step]
            low[n], high[n] = int(words.min()), int(words.max())
        return Grid(self.f, low.reshape(self.shape), high.reshape(self.shape))

    def evaluate(self, values, grids, grid):
        index = self._index(values[0], grids[0]).astype(np.int64)
        return self.words[index + self.start[:-1].reshape(self.shape)]
