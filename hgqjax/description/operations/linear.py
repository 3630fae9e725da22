"""Operations that are linear in their input, with constant kernels: dense, einsum, convolution. One engine evaluates all of them.

Each is a product of matrices, in groups that do not mix: what comes in is arranged as (rows, groups, positions, terms), the kernel as
(groups, terms, outputs), and (rows, groups, positions, outputs) becomes the result. Arranging only moves elements, so the same function
arranges values, grids and limits.
"""

import abc
import dataclasses
import functools
import math
from typing import ClassVar

import numpy as np

from hgqjax.description import integers as exact
from hgqjax.description.operations._base import Constant, DescriptionError, Grid, Operation, broadcasts
from hgqjax.description.operations.windows import Windows

NONE = np.iinfo(np.int64).min
"""`f` of a sum without terms."""
CHUNK = 2**24
"""Elements of an arranged input that are held at a time."""


def product(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """``x @ kernel`` of whole numbers, exact: float64 or int64 where no partial sum can overflow them, Python ints elsewhere."""
    largest = int(abs(x).max(initial=0)) * int(abs(kernel.astype(object)).sum(-2).max(initial=0))
    if largest < 2**53:
        return (x.astype(np.float64) @ kernel.astype(np.float64)).astype(np.int64)
    dtype = np.int64 if largest < 2**62 else object
    return x.astype(dtype) @ kernel.astype(dtype)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Operation):
    """A sum of products with the constant `kernel` in every element, plus `bias`, which broadcasts to `shape`; exact, however wide."""

    kernel: Constant
    bias: Constant | None

    @abc.abstractmethod
    def arrange(self, x: np.ndarray, fill: int) -> np.ndarray:
        """Input (rows, *shape of the input) as (rows, groups, positions, terms); `fill` is what stands outside the input."""

    @abc.abstractmethod
    def arrange_kernel(self, kernel: np.ndarray) -> np.ndarray:
        """An array of the kernel's shape as (groups, terms, outputs)."""

    @abc.abstractmethod
    def result(self, y: np.ndarray) -> np.ndarray:
        """Products (rows, groups, positions, outputs) as (rows, *shape)."""

    def _aligned(self, source: Grid):
        """Arranged `f` of the input, one f_in for each term, kernel integers on one f for each output, and that f, NONE without terms."""
        f_source = self.arrange(source.f[None].astype(np.int64), int(source.f.min(initial=0)))[0]
        f_in = f_source.max(1)[..., None]
        integers, f_kernel = (self.arrange_kernel(v) for v in (self.kernel.integers, self.kernel.f))
        f_out = np.where(integers == 0, NONE, f_in + f_kernel).max(1, initial=NONE)
        kernel = exact.shift_left(integers, np.where(integers == 0, 0, f_out[:, None] - f_in - f_kernel))
        return f_source, f_in[..., 0], kernel, f_out

    def _sum(self, y: np.ndarray, f_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Products and bias as whole numbers (rows, *shape) on their common grid, and its f."""
        f_product = self.result(np.broadcast_to(f_out[None, :, None], (1, *y.shape[1:])))[0]
        if self.bias is None:
            return self.result(y), np.where(f_product == NONE, 0, f_product)
        f = np.maximum(f_product, np.where(self.bias.integers == 0, NONE, self.bias.f))
        f = np.where(f == NONE, 0, f)
        bias = exact.shift_left(self.bias.integers, np.where(self.bias.integers == 0, 0, f - self.bias.f))
        return exact.add(exact.shift_left(self.result(y), np.where(f_product == NONE, 0, f - f_product)), bias), f

    def grid(self, *inputs: Grid) -> Grid:
        (source,) = inputs
        f_source, f_in, kernel, f_out = self._aligned(source)
        shift = f_in[:, None] - f_source
        low, high = (exact.narrow(exact.shift_left(self.arrange(v[None], 0), shift)) for v in (source.low, source.high))
        positive, negative = np.maximum(kernel, 0), np.minimum(kernel, 0)
        least, f = self._sum(exact.add(product(low, positive), product(high, negative)), f_out)
        greatest, _ = self._sum(exact.add(product(high, positive), product(low, negative)), f_out)
        return Grid(f, least[0].astype(object), greatest[0].astype(object))

    def accumulator_bits(self, source: Grid) -> np.ndarray:
        """Bits of the largest partial sum of each element, in units of its own grid, whatever the order of summation."""
        f_source, f_in, kernel, f_out = self._aligned(source)
        largest = np.maximum(abs(source.low), abs(source.high))
        largest = exact.narrow(exact.shift_left(self.arrange(largest[None], 0), f_in[:, None] - f_source))
        size = dataclasses.replace(self, bias=self.bias and dataclasses.replace(self.bias, integers=abs(self.bias.integers)))
        bound, _ = size._sum(product(largest, abs(kernel)), f_out)
        return np.vectorize(lambda v: int(v).bit_length(), otypes=[np.int64])(bound[0])

    def evaluate(self, values, grids, grid):
        (x,) = values
        f_source, f_in, kernel, f_out = self._aligned(grids[0])
        shift = f_in[:, None] - f_source
        step = max(CHUNK // max(f_source.size, 1), 1)
        parts = [
            self._sum(product(exact.shift_left(self.arrange(x[n : n + step], 0), shift), kernel), f_out)[0]
            for n in range(0, max(len(x), 1), step)
        ]
        return np.concatenate(parts)

    def _check(self, fits: bool, legal: str) -> None:
        if not fits:
            raise DescriptionError(f"layer {self.name!r} has a kernel of shape {self.kernel.integers.shape}; {legal}")
        if self.bias is not None and not broadcasts(self.bias.integers.shape, self.shape):
            raise DescriptionError(f"layer {self.name!r} has a bias of shape {self.bias.integers.shape} for a result of shape {self.shape}")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Dense(Linear):
    """``x @ kernel + bias`` over the last axis, exact: the accumulator is as wide as it must be."""

    kind: ClassVar[str] = "dense"

    def __post_init__(self):
        fits = self.kernel.integers.ndim == 2 and self.shape[-1:] == self.kernel.integers.shape[1:]
        self._check(fits, f"(features, {self.shape[-1]}) is needed for its result of shape {self.shape}")

    def arrange(self, x, fill):
        return x.reshape(len(x), 1, math.prod(x.shape[1:-1]), x.shape[-1])

    def arrange_kernel(self, kernel):
        return kernel[None]

    def result(self, y):
        return y.reshape(len(y), *self.shape)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Einsum(Linear):
    """``einsum(equation, x, kernel) + bias`` with a constant kernel; `equation`, like "tc,cd->td", has no label for the batch axis.

    `parallelization` is the number of positions (result elements that share weights) that hardware computes at a time, None for all;
    it changes no value, only the cost.
    """

    kind: ClassVar[str] = "einsum"
    equation: str
    parallelization: int | None = None

    def __post_init__(self):
        x, kernel, y = labels = self.labels
        if not all(part.isalpha() or not part for part in labels) or any(len(set(part)) != len(part) for part in labels):
            raise DescriptionError(
                f"layer {self.name!r} has the equation {self.equation!r}; one like 'tc,cd->td', no label twice, is needed"
            )
        if set(x) - set(kernel) - set(y) or set(kernel) - set(x) - set(y) or set(y) - set(x) - set(kernel):
            raise DescriptionError(f"layer {self.name!r} has the equation {self.equation!r}; every label must be in two of its three parts")
        sizes = dict(zip(y, self.shape, strict=False))
        shape = self.kernel.integers.shape
        fits = len(y) == len(self.shape) and len(kernel) == len(shape)
        fits = fits and all(sizes.get(label, n) == n for label, n in zip(kernel, shape, strict=False))
        self._check(fits, f"one that {self.equation!r} brings to {self.shape} is needed")

    @functools.cached_property
    def labels(self) -> tuple[str, str, str]:
        """Labels of the input, the kernel and the result."""
        sources, _, y = self.equation.partition("->")
        x, _, kernel = sources.partition(",")
        return x, kernel, y

    def _order(self) -> tuple[str, str, str, str]:
        """Labels of groups, positions, terms and outputs."""
        x, kernel, y = self.labels
        groups = "".join(label for label in x if label in kernel and label in y)
        positions = "".join(label for label in x if label not in kernel)
        terms = "".join(label for label in x if label not in y)
        return groups, positions, terms, "".join(label for label in kernel if label not in x)

    def _sizes(self) -> dict[str, int]:
        return dict(zip(self.labels[2], self.shape, strict=True)) | dict(zip(self.labels[1], self.kernel.integers.shape, strict=True))

    def _blocks(self, *blocks: str) -> list[int]:
        return [math.prod(self._sizes()[label] for label in block) for block in blocks]

    def arrange(self, x, fill):
        groups, positions, terms, _ = self._order()
        axes = [1 + self.labels[0].index(label) for label in groups + positions + terms]
        return x.transpose(0, *axes).reshape(len(x), *self._blocks(groups, positions, terms))

    def arrange_kernel(self, kernel):
        groups, _, terms, outputs = self._order()
        axes = [self.labels[1].index(label) for label in groups + terms + outputs]
        return kernel.transpose(axes).reshape(self._blocks(groups, terms, outputs))

    def result(self, y):
        groups, positions, _, outputs = self._order()
        order = groups + positions + outputs
        y = y.reshape(len(y), *(self._sizes()[label] for label in order))
        return y.transpose(0, *(1 + order.index(label) for label in self.labels[2]))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Linear):
    """Convolution (cross-correlation, as neural networks have it) over the spatial axes of values (spatial axes..., channels).

    The kernel is (window sizes..., channels / groups, filters). `padding` has the zeros (before, after) each spatial axis, `dilation` the
    distance of the elements in a window. Filters come in `groups` (as many as channels: depthwise), each of which sees its own share of
    the channels. `parallelization`: see `Einsum`.
    """

    kind: ClassVar[str] = "conv"
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1
    parallelization: int | None = None

    def __post_init__(self):
        shape = self.kernel.integers.shape
        fits = len(shape) == len(self.shape) + 1 and shape[-1] == self.shape[-1] and self.groups > 0 and shape[-1] % self.groups == 0
        self._check(fits, f"(window sizes..., channels / {self.groups}, {self.shape[-1]}) is needed for its result of shape {self.shape}")

    def windows(self, shape: tuple[int, ...]) -> Windows:
        """The windows over an input of `shape`."""
        return Windows(shape, self.kernel.integers.shape[:-2], self.strides, self.padding, self.dilation)

    def arrange(self, x, fill):
        windows = self.windows(x.shape[1:]).gather(x, fill)  # rows, positions, elements, channels
        rows, positions, elements, channels = windows.shape
        if channels != self.groups * self.kernel.integers.shape[-2]:
            raise DescriptionError(
                f"layer {self.name!r} takes {self.groups * self.kernel.integers.shape[-2]} channels, but is given {channels}"
            )
        windows = windows.reshape(rows, positions, elements, self.groups, channels // self.groups)
        return windows.transpose(0, 3, 1, 2, 4).reshape(rows, self.groups, positions, elements * (channels // self.groups))

    def arrange_kernel(self, kernel):
        *_, channels, filters = kernel.shape
        kernel = kernel.reshape(-1, channels, self.groups, filters // self.groups)
        return kernel.transpose(2, 0, 1, 3).reshape(self.groups, -1, filters // self.groups)

    def result(self, y):
        return y.transpose(0, 2, 1, 3).reshape(len(y), *self.shape)
