"""Einsum of two results: both factors of every product are computed values."""

import dataclasses
import functools
import math
from typing import ClassVar

import numpy as np

from hgqjax.description import integers as exact
from hgqjax.description.operations._base import DescriptionError, Grid, Operation
from hgqjax.description.operations.linear import CHUNK, NONE, product

MOST_PRODUCTS = 2**26
"""Of one row: the interval of each is computed."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Contract(Operation):
    """``einsum(equation, a, b)`` of two results, exact; `equation`, like "the,she->hts", has no label for the batch axis.

    Every label is in two of the three parts at least, and in none twice. A result without labels, as of "t,t->", has the shape (1,).

    Labels fall into groups (in all three parts), terms (in both sources, not in the result), and those that are free in a or in b. Both
    sources are arranged so: a as (rows, groups, free of a, terms), b as (rows, groups, terms, free of b).
    """

    kind: ClassVar[str] = "contract"
    equation: str

    def __post_init__(self):
        a, b, y = labels = self.labels
        if len(self.inputs) != 2:
            raise DescriptionError(f"layer {self.name!r} is of kind {self.kind} and reads {len(self.inputs)} inputs; 2 are needed")
        if not all(part.isalpha() or not part for part in labels) or any(len(set(part)) != len(part) for part in labels):
            raise DescriptionError(
                f"layer {self.name!r} has the equation {self.equation!r}; one like 'the,she->hts', no label twice in a part, is needed"
            )
        if any(sum(label in part for part in labels) < 2 for label in a + b + y):
            raise DescriptionError(f"layer {self.name!r} has the equation {self.equation!r}; every label must be in two of its three parts")
        if len(self.shape) != max(len(y), 1) or (not y and self.shape != (1,)):
            raise DescriptionError(f"layer {self.name!r} has shape {self.shape}, which {self.equation!r} does not give")

    @functools.cached_property
    def labels(self) -> tuple[str, str, str]:
        """Labels of the two sources and of the result."""
        sources, _, y = self.equation.partition("->")
        a, _, b = sources.partition(",")
        return a, b, y

    @functools.cached_property
    def order(self) -> tuple[str, str, str, str]:
        """Labels of groups, free of a, free of b, terms."""
        a, b, y = self.labels
        groups = "".join(label for label in y if label in a and label in b)
        terms = "".join(label for label in a if label in b and label not in y)
        free_of_a, free_of_b = ("".join(label for label in part if label in y and label not in groups) for part in (a, b))
        return groups, free_of_a, free_of_b, terms

    def _sizes(self, a: tuple[int, ...], b: tuple[int, ...]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        pairs = [*zip((a, b), self.labels[:2], strict=True), *([(self.shape, self.labels[2])] if self.labels[2] else [])]
        for shape, labels in pairs:
            fits = len(shape) == len(labels)
            if not fits or any(sizes.setdefault(label, n) != n for label, n in zip(labels, shape, strict=True)):
                raise DescriptionError(
                    f"layer {self.name!r} has the equation {self.equation!r}, which does not bring {a} and {b} to {self.shape}"
                )
        if math.prod(sizes.values()) > MOST_PRODUCTS:
            raise DescriptionError(f"layer {self.name!r} has {math.prod(sizes.values())} products; {MOST_PRODUCTS} are the most")
        return sizes

    def arrange(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both sources (rows, *shape) as (rows, groups, free, terms) and (rows, groups, terms, free)."""
        groups, free_a, free_b, terms = self.order
        sizes = self._sizes(a.shape[1:], b.shape[1:])
        arranged = []
        for x, labels, blocks in ((a, self.labels[0], (groups, free_a, terms)), (b, self.labels[1], (groups, terms, free_b))):
            x = x.transpose(0, *(1 + labels.index(label) for label in "".join(blocks)))
            arranged.append(x.reshape(len(x), *(math.prod(sizes[label] for label in block) for block in blocks)))
        return arranged[0], arranged[1]

    def result(self, y: np.ndarray) -> np.ndarray:
        """Products (rows, groups, free of a, free of b) as (rows, *shape)."""
        groups, free_a, free_b, _ = self.order
        order = groups + free_a + free_b
        sizes = dict(zip(self.labels[2], self.shape, strict=False))
        y = y.reshape(len(y), *(sizes[label] for label in order))
        return y.transpose(0, *(1 + order.index(label) for label in self.labels[2])).reshape(len(y), *self.shape)

    def _common(self, a: Grid, b: Grid):
        """Left shifts that bring all terms of a row of a, and of a column of b, to one f, and by how much finer the sums are than `f`."""
        alive = [v[0] for v in self.arrange(*(((g.low != 0) | (g.high != 0))[None] for g in (a, b)))]
        f_a, f_b = (v[0] for v in self.arrange(a.f[None], b.f[None]))
        both = alive[0][..., None] & alive[1][:, None]
        f = np.where(both, f_a[..., None] + f_b[:, None], NONE).max(2, initial=NONE)
        row = np.where(alive[0], f_a, NONE).max(2, keepdims=True, initial=NONE)
        column = np.where(alive[1], f_b, NONE).max(1, keepdims=True, initial=NONE)
        shifts = np.where(alive[0], row - f_a, 0), np.where(alive[1], column - f_b, 0)
        return shifts, np.where(f == NONE, 0, f), np.where(f == NONE, 0, row + column - f)

    def _products(self, a: Grid, b: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Least and greatest value of every product (groups, free of a, terms, free of b), in units of `f` plus `finer` bits."""
        shifts, f, finer = self._common(a, b)
        lows, highs = (self.arrange(x[None], y[None]) for x, y in ((a.low, b.low), (a.high, b.high)))
        ends = [[exact.shift_left(exact.narrow(v[n][0]), shifts[n]) for v in (lows, highs)] for n in range(2)]
        corners = [exact.multiply(x[..., None], y[:, None]) for x in ends[0] for y in ends[1]]
        return functools.reduce(np.minimum, corners), functools.reduce(np.maximum, corners), f, finer

    def grid(self, *inputs: Grid) -> Grid:
        self._sizes(*(g.f.shape for g in inputs))
        low, high, f, finer = self._products(*inputs)
        ends = (self.result((exact.total(v, 2).astype(object) >> finer.astype(object))[None])[0] for v in (low, high))
        return Grid(self.result(f[None])[0], *ends)

    def accumulator_bits(self, a: Grid, b: Grid) -> np.ndarray:
        """Bits of the largest partial sum of each element, in units of its own grid, whatever the order of summation."""
        low, high, _, finer = self._products(a, b)
        largest = exact.total(np.maximum(abs(low), abs(high)), 2).astype(object) >> finer.astype(object)
        return np.vectorize(lambda v: int(v).bit_length(), otypes=[np.int64])(self.result(largest[None])[0])

    def evaluate(self, values, grids, grid):
        shifts, _, finer = self._common(*grids)
        step = max(CHUNK // max(sum(g.f.size for g in grids), finer.size), 1)
        parts = []
        for n in range(0, max(len(values[0]), 1), step):
            arranged = self.arrange(*(v[n : n + step] for v in values))
            a, b = (exact.shift_left(v, shift) for v, shift in zip(arranged, shifts, strict=True))
            y = product(a, b)
            parts.append(self.result(y >> (finer if y.dtype != object else finer.astype(object))))
        return exact.narrow(np.concatenate(parts))
