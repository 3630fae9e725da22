"""Convolutions made of tables: a layer of tables over the elements of each window."""

import itertools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from flax import nnx

from hgqjax.layers._base import Module, Value
from hgqjax.layers.batch_norm import BatchNorm
from hgqjax.layers.edges import AbstractEdge, EdgeMlp
from hgqjax.layers.lut_dense import KEY, WORD, LutDense
from hgqjax.layers.shapes import gather
from hgqjax.layers.windows import Padding, each, pads, positions
from hgqjax.quantizers import AbstractQuantizer


class _LutConv(Module):
    """Base of `LutConv1D` and `LutConv2D`, which differ in the number of spatial axes."""

    rank: ClassVar[int]

    def __init__(
        self,
        input_shape: Sequence[int],
        filters: int,
        size: int | Sequence[int],
        *,
        rngs: nnx.Rngs,
        strides: int | Sequence[int] = 1,
        padding: Padding = "VALID",
        dilation: int | Sequence[int] = 1,
        function: str | AbstractEdge = EdgeMlp(),
        batch_norm: BatchNorm | None = None,
        input_quantizer: AbstractQuantizer | None = KEY,
        output_quantizer: AbstractQuantizer = WORD,
    ):
        name, shape = type(self).__name__, tuple(input_shape)
        if len(shape) != self.rank + 1:
            raise ValueError(f"{name}: input_shape is {shape}; {self.rank} spatial axes and the channels are needed")
        spatial = shape[:-1]
        self.input_shape, self.size = shape, each(size, self.rank, "size")
        self.strides, self.dilation = each(strides, self.rank, "strides"), each(dilation, self.rank, "dilation")
        self.padding = pads(padding, spatial, self.size, self.strides, self.dilation, name)
        counts = positions(spatial, self.size, self.strides, self.padding, self.dilation, name)
        self.output_shape = (*counts, filters)
        n_in = int(np.prod(self.size)) * shape[-1]
        self.tables = LutDense(
            n_in,
            filters,
            rngs=rngs,
            input_shape=(*counts, n_in),
            function=function,
            batch_norm=batch_norm,
            input_quantizer=input_quantizer,
            output_quantizer=output_quantizer,
        )

    def _windows(self) -> np.ndarray:
        """The elements of each window, (*positions, elements of a window); -1 in the padding."""
        number = np.arange(np.prod(self.input_shape)).reshape(self.input_shape)
        number = np.pad(number, (*self.padding, (0, 0)), constant_values=-1)
        steps = [(n - 1) * stride + 1 for n, stride in zip(self.output_shape, self.strides, strict=False)]
        taps = itertools.product(*(range(0, n * d, d) for n, d in zip(self.size, self.dilation, strict=True)))
        found = [number[tuple(slice(a, a + n, s) for a, n, s in zip(tap, steps, self.strides, strict=True))] for tap in taps]
        return np.concatenate(found, -1)

    def __call__(self, x: Value) -> Value:
        return self.tables(gather(x, self._windows()))


class LutConv1D(_LutConv):
    """Each output is a sum of functions of the elements of its window, one for each element and filter, the same at all positions.

    Keys and words have a width at each position of its own, and so there is a table for each. `tables` is the `LutDense` of the windows.

    Args:
      input_shape: (length, channels) of a row. filters: channels of the result. size: of the window.
      strides, padding, dilation: as of `Conv1D`. Further arguments: as of `LutDense`.

    >>> LutConv1D((5, 2), 3, 3, rngs=nnx.Rngs(0), padding="SAME").output_shape
    (5, 3)
    """

    rank = 1


class LutConv2D(_LutConv):
    """As `LutConv1D`, of rows (height, width, channels); sizes are one number or two.

    >>> LutConv2D((5, 4, 2), 3, 3, rngs=nnx.Rngs(0), strides=(2, 1)).output_shape
    (2, 2, 3)
    """

    rank = 2
