"""The sum over axes: of particles, of tokens, of the entries of a softmax."""

from collections.abc import Sequence

import jax

from hgqjax import resources
from hgqjax.granularity import Granularity
from hgqjax.layers._base import Layer, Symbol
from hgqjax.layers.quantize import ACTIVATION, Quantize
from hgqjax.quantizers import AbstractQuantizer


class Sum(Layer):
    """``sum(q(x), axes) * 2**-shift``.

    Args:
      shape: of a row.
      axes: whole numbers, counted without the batch axis, from the end where negative.
      shift: log2 of what the sum is divided by: that of the number of terms makes it their mean.
      keepdims: whether `axes` stay, with size 1. A sum over all axes keeps one axis of size 1.
      input_quantizer, input_granularity: see `Quantize`.

    Cost: `hgqjax.resources.Sum`.
    Raises: ValueError, where `axes` are not different axes of `shape`.

    >>> Sum((4, 3), (0,), shift=2)(jax.numpy.ones((5, 4, 3)))[0].tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        shape: Sequence[int],
        axes: Sequence[int],
        *,
        shift: int = 0,
        keepdims: bool = False,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        input_granularity: Granularity = "element",
    ):
        shape, rank = tuple(shape), len(shape)
        found = {axis % rank for axis in axes if -rank <= axis < rank}
        if not found or len(found) < len(axes):
            raise ValueError(f"axes is {tuple(axes)} for rows of shape {shape}; different ones of {-rank} .. {rank - 1} are needed")
        self.axes, self.shift = tuple(sorted(found)), int(shift)
        kept = ((1,) if n in found else (size,) for n, size in enumerate(shape) if keepdims or n not in found)
        self.output_shape = tuple(size for (size,) in kept) or (1,)
        self.input_quantizer = Quantize(shape, input_quantizer, input_granularity)

    def forward(self, x: jax.Array) -> jax.Array:
        total = self.input_quantizer(x).sum(tuple(1 + axis for axis in self.axes))
        return total.reshape(len(x), *self.output_shape) * 2.0**-self.shift

    def cost(self) -> resources.Sum:
        return resources.Sum(self.input_quantizer.signal(), self.axes)

    def describe(self, x: Symbol) -> Symbol:
        name = x.graph.name_of(self)
        x = self.input_quantizer.describe(x, f"{name}_input")
        return x.graph.apply("sum", (x,), self.output_shape, name=name, axes=self.axes, shift=self.shift)
