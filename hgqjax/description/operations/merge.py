"""Operations that bring several results together: sums, products, extremes, concatenation."""

import abc
import dataclasses
import functools
from typing import ClassVar

import numpy as np

from hgqjax.description import integers as exact
from hgqjax.description.operations._base import DescriptionError, Grid, Operation


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Elementwise(Operation):
    """One result for each element of two inputs or more, which have the shape of the result, or 1 instead on axes that repeat."""

    def __post_init__(self):
        if len(self.inputs) < 2:
            raise DescriptionError(f"layer {self.name!r} is of kind {self.kind} and reads {len(self.inputs)} inputs; at least 2 are needed")

    def _repeated(self, grids: tuple[Grid, ...]) -> list[Grid]:
        """The grids of the inputs, all of the shape of the result."""
        for name, g in zip(self.inputs, grids, strict=True):
            shape = g.f.shape
            if len(shape) != len(self.shape) or any(n not in (1, size) for n, size in zip(shape, self.shape, strict=True)):
                raise DescriptionError(
                    f"layer {self.name!r} of shape {self.shape} needs inputs of its own shape, or of size 1 on some axes, "
                    f"but {name!r} is {shape}"
                )
        if any(all(g.f.shape[n] == 1 for g in grids) for n, size in enumerate(self.shape) if size > 1):
            shapes = ", ".join(str(g.f.shape) for g in grids)
            raise DescriptionError(f"layer {self.name!r} has shape {self.shape}, which inputs of shapes {shapes} do not give")
        return [Grid(*(np.broadcast_to(v, self.shape) for v in g)) for g in grids]

    def _rows(self, values: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        return [np.broadcast_to(v, (len(v), *self.shape)) for v in values]


class Aligned(Elementwise):
    """Inputs brought to the finest grid of all, element by element, then `combine`d."""

    @abc.abstractmethod
    def combine(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Of two aligned inputs; more are combined from the left."""

    def bounds(self, a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Interval of the combination; here of one that grows with both."""
        return self.combine(a[0], b[0]), self.combine(a[1], b[1])

    def grid(self, *inputs):
        inputs = self._repeated(inputs)
        f = functools.reduce(np.maximum, (g.f for g in inputs))
        ends = [(exact.shift_left(g.low, f - g.f), exact.shift_left(g.high, f - g.f)) for g in inputs]
        low, high = functools.reduce(self.bounds, ends)
        return Grid(f, low.astype(object), high.astype(object))

    def evaluate(self, values, grids, grid):
        aligned = (exact.shift_left(v, grid.f - g.f) for v, g in zip(self._rows(values), self._repeated(grids), strict=True))
        return exact.narrow(functools.reduce(self.combine, aligned))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Add(Aligned):
    """The sum of two inputs or more, exact."""

    kind: ClassVar[str] = "add"

    def combine(self, a, b):
        return exact.add(a, b)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Maximum(Aligned):
    """The greatest of two inputs or more."""

    kind: ClassVar[str] = "maximum"

    def combine(self, a, b):
        return np.maximum(a, b)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Minimum(Aligned):
    """The least of two inputs or more."""

    kind: ClassVar[str] = "minimum"

    def combine(self, a, b):
        return np.minimum(a, b)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Subtract(Aligned):
    """The first of two inputs less the second, exact."""

    kind: ClassVar[str] = "subtract"

    def __post_init__(self):
        super().__post_init__()
        if len(self.inputs) > 2:
            raise DescriptionError(f"layer {self.name!r} subtracts, and reads {len(self.inputs)} inputs; 2 are needed")

    def combine(self, a, b):
        return exact.add(a, -b)

    def bounds(self, a, b):
        return self.combine(a[0], b[1]), self.combine(a[1], b[0])


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Multiply(Elementwise):
    """The product of two inputs or more, exact."""

    kind: ClassVar[str] = "multiply"

    def grid(self, *inputs):
        return functools.reduce(_multiply_grids, self._repeated(inputs))

    def evaluate(self, values, grids, grid):
        return functools.reduce(exact.multiply, self._rows(values))


def _multiply_grids(a: Grid, b: Grid) -> Grid:
    corners = [exact.multiply(x, y).astype(object) for x in (a.low, a.high) for y in (b.low, b.high)]
    return Grid(a.f + b.f, functools.reduce(np.minimum, corners), functools.reduce(np.maximum, corners))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Concatenate(Operation):
    """The inputs one after the other along `axis`, counted without the batch axis."""

    kind: ClassVar[str] = "concatenate"
    axis: int

    def __post_init__(self):
        if not 0 <= self.axis < len(self.shape):
            raise DescriptionError(f"layer {self.name!r} has axis {self.axis}; 0 .. {len(self.shape) - 1} is legal")

    def grid(self, *inputs):
        shapes = [g.f.shape[: self.axis] + g.f.shape[self.axis + 1 :] for g in inputs]
        if any(len(g.f.shape) != len(self.shape) for g in inputs) or any(shape != shapes[0] for shape in shapes):
            raise DescriptionError(f"layer {self.name!r} needs inputs that differ in axis {self.axis} alone; theirs are {shapes}")
        return Grid(*(np.concatenate(parts, self.axis) for parts in zip(*inputs, strict=True)))

    def evaluate(self, values, grids, grid):
        return np.concatenate(values, self.axis + 1)
