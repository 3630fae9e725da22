"""Operations that only move elements: reshape, transpose, slice, gather."""

import abc
import dataclasses
import math
from typing import ClassVar

import numpy as np

from hgqjax.description.operations._base import DescriptionError, Grid, Operation


class Rearrange(Operation):
    """Moves the elements of one input; `move` does so for values and grids alike."""

    @abc.abstractmethod
    def move(self, x: np.ndarray) -> np.ndarray:
        """Input (rows, *shape of the input) as (rows, *shape)."""

    def grid(self, *inputs):
        (source,) = inputs
        try:
            moved = [self.move(v[None]) for v in source]
            return Grid(*(v.reshape(v.shape[1:]) for v in moved))  # not v[0]: of a single object it is no array
        except (ValueError, IndexError) as error:
            raise DescriptionError(f"layer {self.name!r} cannot {self.kind} values of shape {source.f.shape}: {error}") from error

    def evaluate(self, values, grids, grid):
        return self.move(values[0])


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Rearrange):
    """The same elements, last axis fastest, in another `shape`."""

    kind: ClassVar[str] = "reshape"

    def move(self, x):
        return x.reshape(len(x), *self.shape)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Transpose(Rearrange):
    """Axis n of the result is axis ``axes[n]`` of the input, counted without the batch axis."""

    kind: ClassVar[str] = "transpose"
    axes: tuple[int, ...]

    def __post_init__(self):
        if sorted(self.axes) != list(range(len(self.shape))):
            raise DescriptionError(f"layer {self.name!r} has axes {self.axes}; each of 0 .. {len(self.shape) - 1} once is legal")

    def move(self, x):
        return x.transpose(0, *(1 + axis for axis in self.axes))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Rearrange):
    """``x[index]``: for each axis, without the batch axis, one whole number (the axis goes) or (start, stop, step), None as in Python."""

    kind: ClassVar[str] = "slice"
    index: tuple[int | tuple[int | None, int | None, int | None], ...]

    def __post_init__(self):
        if any(part[2] == 0 for part in self.index if isinstance(part, tuple)) or not math.prod(self.shape):
            raise DescriptionError(f"layer {self.name!r} takes no element or has step 0")

    def move(self, x):
        return x[(slice(None), *(slice(*part) if isinstance(part, tuple) else part for part in self.index))]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Gather(Rearrange):
    """``x.ravel()[index]``, last axis fastest, and 0 where `index` (int64, of `shape`) is -1: any choice of elements, also several times.

    For what `Reshape`, `Transpose` and `Slice` cannot say: repeats, windows, edges of a graph, zeros between elements.
    """

    kind: ClassVar[str] = "gather"
    index: np.ndarray

    def __post_init__(self):
        if self.index.dtype != np.int64 or self.index.shape != self.shape or np.any(self.index < -1):
            raise DescriptionError(
                f"layer {self.name!r} has an index {self.index.dtype}{self.index.shape}; int64, {self.shape} and at least -1 are needed"
            )
        if not np.any(self.index >= 0):
            raise DescriptionError(f"layer {self.name!r} takes no element of its input")

    def grid(self, *inputs):
        size = inputs[0].f.size
        if self.index.max() >= size:
            raise DescriptionError(f"layer {self.name!r} takes element {self.index.max()} of an input that has {size}")
        return super().grid(*inputs)

    def move(self, x):
        flat = x.reshape(len(x), -1)
        return np.concatenate([flat, np.zeros_like(flat[:, :1])], 1)[:, self.index]
