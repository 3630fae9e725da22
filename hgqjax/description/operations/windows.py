"""Windows that slide over the spatial axes of a tensor: what convolutions and pooling share."""

import dataclasses
import itertools
import math

import numpy as np

from hgqjax.description.operations._base import DescriptionError


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows of `size` elements, `dilation` apart, every `strides` steps over a tensor of `shape` = (spatial axes..., channels).

    `padding` has a pair (before, after) for each spatial axis. `index` is (positions, elements of a window) into the flattened spatial
    axes; an element of the padding has the index that is one past the last.
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    def __post_init__(self):
        rank = len(self.shape) - 1
        if rank < 1 or any(len(v) != rank for v in (self.size, self.strides, self.padding, self.dilation)):
            raise DescriptionError(f"windows of size {self.size} do not fit values of shape {self.shape}: one size for each spatial axis")
        if min(*self.size, *self.strides, *self.dilation) < 1 or min(itertools.chain(*self.padding)) < 0:
            raise DescriptionError("sizes, strides and dilations are at least 1, and padding at least 0")
        if min(self.positions) < 1:
            raise DescriptionError(f"windows of size {self.size} are larger than the padded values of shape {self.shape}")

    @property
    def positions(self) -> tuple[int, ...]:
        """Number of windows along each spatial axis."""
        axes = zip(self.shape, self.size, self.strides, self.padding, self.dilation, strict=False)
        return tuple((n + sum(pad) - dilation * (size - 1) - 1) // stride + 1 for n, size, stride, pad, dilation in axes)

    @property
    def index(self) -> np.ndarray:
        """See the class."""
        rank, flat, inside = len(self.size), 0, True
        for axis, n in enumerate(self.positions):
            start = np.arange(n) * self.strides[axis] - self.padding[axis][0]
            where = start[:, None] + np.arange(self.size[axis]) * self.dilation[axis]
            where = where.reshape([n if a == axis else 1 for a in range(rank)] + [self.size[axis] if a == axis else 1 for a in range(rank)])
            flat = flat * self.shape[axis] + where
            inside = inside & (where >= 0) & (where < self.shape[axis])
        index = np.where(inside, flat, math.prod(self.shape[:-1]))
        return index.reshape(math.prod(self.positions), math.prod(self.size))

    def gather(self, x: np.ndarray, fill: int) -> np.ndarray:
        """Rows `x` (rows, *shape) as (rows, positions, elements of a window, channels), with `fill` in the padding."""
        x = x.reshape(len(x), math.prod(self.shape[:-1]), self.shape[-1])
        return np.concatenate([x, np.full_like(x[:, :1], fill)], axis=1)[:, self.index]
