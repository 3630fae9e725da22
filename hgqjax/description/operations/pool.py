"""Many elements become one: pooling over windows, channel by channel, and sums over whole axes."""

import dataclasses
import math
from typing import ClassVar

import numpy as np

from hgqjax.description import integers as exact
from hgqjax.description.operations._base import DescriptionError, Grid, Operation
from hgqjax.description.operations.windows import Windows


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Pool(Operation):
    """Windows of `size` every `strides` steps over values (spatial axes..., channels), `padding` (before, after) each axis.

    `counted` says whether EBOPs count it: HGQ2 counts its own pooling layers, and not those of Keras. `parallelization`: see `Einsum`.
    """

    size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    counted: bool = True
    parallelization: int | None = None

    def windows(self, shape: tuple[int, ...]) -> Windows:
        """The windows over an input of `shape`."""
        return Windows(shape, self.size, self.strides, self.padding, (1,) * len(self.size))

    def _gather(self, x: np.ndarray, f: np.ndarray, fill: int, f_out: np.ndarray) -> np.ndarray:
        """Windows of `x` (rows, positions, elements, channels) on the grid of their position."""
        windows = self.windows(f.shape)
        shift = f_out.reshape(1, -1, 1, f.shape[-1]) - windows.gather(f[None], int(f.min()))
        return exact.shift_left(windows.gather(x, fill), shift)

    def _finest(self, source: Grid) -> np.ndarray:
        """`f` of each result: the greatest within its window."""
        return self.windows(source.f.shape).gather(source.f[None], int(source.f.min()))[0].max(1).reshape(self.shape)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool(Pool):
    """The greatest value of each window; padding is never the greatest."""

    kind: ClassVar[str] = "max_pool"

    def grid(self, *inputs):
        (source,) = inputs
        f = self._finest(source)
        ends = (self._gather(v[None], source.f, int(v.min()), f)[0].max(1).reshape(self.shape) for v in (source.low, source.high))
        return Grid(f, *(v.astype(object) for v in ends))

    def evaluate(self, values, grids, grid):
        (x,) = values
        # what stands outside must be below every value, on the coarsest grid too
        least = -(1 << max(int(abs(grids[0].low).max()), int(abs(grids[0].high).max())).bit_length())
        return exact.narrow(self._gather(x, grids[0].f, least, grid.f).max(2).reshape(len(x), *self.shape))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class AveragePool(Pool):
    """The average of each window, exact; so a window has a power of two of elements, all of them inside."""

    kind: ClassVar[str] = "average_pool"

    def __post_init__(self):
        elements = math.prod(self.size)
        if elements & (elements - 1) or any(n for pair in self.padding for n in pair):
            raise DescriptionError(
                f"layer {self.name!r} averages windows of size {self.size} with padding {self.padding}; only those with a power of two of "
                "elements and no padding stay on a grid"
            )

    def _total(self, x: np.ndarray, source: Grid, f: np.ndarray) -> np.ndarray:
        return exact.total(self._gather(x, source.f, 0, f), 2).reshape(len(x), *self.shape)

    def grid(self, *inputs):
        (source,) = inputs
        f = self._finest(source)
        low, high = (self._total(v[None], source, f)[0] for v in (source.low, source.high))
        return Grid(f + math.prod(self.size).bit_length() - 1, low.astype(object), high.astype(object))

    def evaluate(self, values, grids, grid):
        (x,) = values
        return self._total(x, grids[0], grid.f - (math.prod(self.size).bit_length() - 1))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Sum(Operation):
    """The sum over `axes` (without the batch axis) times ``2**-shift``, exact, in `shape`, which may keep these axes with size 1."""

    kind: ClassVar[str] = "sum"
    axes: tuple[int, ...]
    shift: int = 0

    def grid(self, *inputs):
        (source,) = inputs
        if not self.axes or not all(0 <= axis < source.f.ndim for axis in self.axes):
            raise DescriptionError(f"layer {self.name!r} sums over axes {self.axes} of values of shape {source.f.shape}")
        if math.prod(self.shape) != source.f.max(self.axes).size:
            raise DescriptionError(f"layer {self.name!r} has shape {self.shape} for a sum over {self.axes} of {source.f.shape}")
        low, high = (self._total(v[None], source)[0].astype(object) for v in (source.low, source.high))
        return Grid(source.f.max(self.axes).reshape(self.shape) + self.shift, low, high)

    def _total(self, x: np.ndarray, source: Grid) -> np.ndarray:
        aligned = exact.shift_left(x, source.f.max(self.axes, keepdims=True) - source.f)
        return exact.total(aligned, tuple(1 + axis for axis in self.axes)).reshape(len(x), *self.shape)

    def evaluate(self, values, grids, grid):
        return self._total(values[0], grids[0])
