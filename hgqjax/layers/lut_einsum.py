"""Tables between any axes of rows: a layer of tables over the axes that are summed."""

import math
from collections.abc import Sequence

from flax import nnx

from hgqjax.layers._base import Module, Value
from hgqjax.layers.batch_norm import BatchNorm
from hgqjax.layers.dense import labels_of
from hgqjax.layers.edges import AbstractEdge, EdgeMlp
from hgqjax.layers.lut_dense import KEY, WORD, LutDense
from hgqjax.layers.shapes import reshape, row_shape, transpose
from hgqjax.quantizers import AbstractQuantizer


class LutEinsum(Module):
    """``y[..., o, ...] = sum_i function_io(x[..., i, ...])``: an einsum whose products with weights are functions, each a table.

    Args:
      equation: as of `EinsumDense`, "tc,cd->td": labels of x, functions and result without the batch axis. Labels of x that the functions
        have are summed (i); labels that only functions and result have are outputs (o). Along the other labels the functions are the same.
      input_shape, output_shape: of a row.
      further arguments: as of `LutDense`. Keys and words have a width at each place of their own, and so there is a table for each.

    `tables` is the `LutDense` with the summed axes last, as one.
    Raises: ValueError, where
      - equation and shapes do not fit,
      - no label is summed, or none is an output,
      - a label is in all three parts (functions that differ from place to place).

    >>> layer = LutEinsum("tc,td->dc", (4, 3), (2, 3), rngs=nnx.Rngs(0))  # mixes the four times, for each channel alike
    >>> layer.output_shape, layer.tables.edges
    ((2, 3), (4, 2))
    """

    def __init__(
        self,
        equation: str,
        input_shape: Sequence[int],
        output_shape: Sequence[int],
        *,
        rngs: nnx.Rngs,
        function: str | AbstractEdge = EdgeMlp(),
        batch_norm: BatchNorm | None = None,
        input_quantizer: AbstractQuantizer | None = KEY,
        output_quantizer: AbstractQuantizer = WORD,
    ):
        self.input_shape, self.output_shape = tuple(input_shape), tuple(output_shape)
        x, functions, y = labels_of(equation, self.input_shape, self.output_shape)
        kept, summed, outputs = ([n for n in part if n in other] for part, other in ((x, y), (x, functions), (y, functions)))
        if not summed or not outputs or set(functions) & set(x) & set(y):
            raise ValueError(
                f"LutEinsum: equation is {equation!r}; one like 'tc,cd->td' is needed, where the functions share a label with x, "
                "one with the result, and none with both"
            )
        sizes = dict(zip(x + y, (*self.input_shape, *self.output_shape), strict=True))
        self.first = tuple(x.index(n) for n in (*kept, *summed))
        self.last = tuple((*kept, *outputs).index(n) for n in y)
        self.unfolded = tuple(sizes[n] for n in (*kept, *outputs))
        n_in, n_out = (math.prod(sizes[n] for n in part) for part in (summed, outputs))
        self.tables = LutDense(
            n_in,
            n_out,
            rngs=rngs,
            input_shape=(*(sizes[n] for n in kept), n_in),
            function=function,
            batch_norm=batch_norm,
            input_quantizer=input_quantizer,
            output_quantizer=output_quantizer,
        )

    def __call__(self, x: Value) -> Value:
        if row_shape(x) != self.input_shape:
            raise ValueError(f"LutEinsum takes rows of shape {self.input_shape}, but is given {row_shape(x)}")
        y = self.tables(reshape(transpose(x, self.first), self.tables.full[:-1]))
        return transpose(reshape(y, self.unfolded), self.last)
