"""Words for numbers: the row of a trained table that each index names."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hgqjax import fixed_point, resources
from hgqjax.layers._base import Layer
from hgqjax.layers._symbol import Symbol
from hgqjax.layers.quantize import WEIGHT, Quantize, QuantizeWeight
from hgqjax.layers.shapes import gather
from hgqjax.quantizers import AbstractQuantizer, Fixed, FixedPoint, Format
from hgqjax.resources import Signal

MOST_ENTRIES = 2**16


class Embedding(Layer):
    """``q(table)[x]``: each value x, a whole number 0 .. entries - 1, becomes a row of `features` trained numbers.

    Args:
      shape: of a row of indices; the result is (rows, *shape, features).
      entries: rows of the table, 1 .. 2**16. An index below 0 takes the first, one above the last; others are rounded.
      rngs: flax random streams; `rngs.params` draws the table, from a normal distribution of standard deviation 1.
      table_quantizer: a `FixedPoint` quantizer of the entries; each feature has one width.

    Cost: `hgqjax.resources.Lookup`, a table for each result.
    Raises: ValueError, where there are too many entries, or the quantizer is none of fixed point.

    >>> layer = Embedding((2,), 4, 3, rngs=nnx.Rngs(0))
    >>> y = layer(jnp.array([[1.0, 3.0], [3.0, 9.0]]))
    >>> y.shape, bool(jnp.all(y[0, 1] == y[1, 0])), bool(jnp.all(y[1, 0] == y[1, 1]))
    ((2, 2, 3), True, True)
    """

    def __init__(self, shape: Sequence[int], entries: int, features: int, *, rngs: nnx.Rngs, table_quantizer: AbstractQuantizer = WEIGHT):
        if not 1 <= entries <= MOST_ENTRIES or features < 1:
            raise ValueError(f"Embedding: entries is {entries}, features {features}; 1 .. {MOST_ENTRIES} and at least 1 are legal")
        if not isinstance(table_quantizer, FixedPoint) or table_quantizer.samples:
            raise ValueError(f"Embedding: table_quantizer is {table_quantizer!r}; a FixedPoint of one grid, such as Kif, is needed")
        self.output_shape = (*shape, features)
        number = Fixed(keep_negative=False, i=max((entries - 1).bit_length(), 1), f=0)
        self.input_quantizer = Quantize(tuple(shape), number, "tensor")
        self.table = nnx.Param(jax.random.normal(rngs.params(), (entries, features), jnp.float32))
        self.table_quantizer = QuantizeWeight((entries, features), table_quantizer, "channel", sample=self.table[...])

    def forward(self, x: jax.Array) -> jax.Array:
        table = fixed_point.materialized(self.table_quantizer(self.table[...])).astype(x.dtype)
        index = jnp.clip(jnp.rint(self.input_quantizer(x)).astype(jnp.int32), 0, len(table) - 1)
        return jnp.take(table, index, axis=0)

    def cost(self) -> resources.Lookup:
        words = self.table_quantizer.signal()
        fmt = Format(*(v[0] if v.ndim else v for v in words.format))
        index = self.input_quantizer.signal()._replace(shape=self.output_shape)

        def span() -> jax.Array:
            table = self.table[...]
            return jnp.broadcast_to(table.max(0) - table.min(0), self.output_shape)

        return resources.Lookup(index, Signal(fmt, words.overflow, self.output_shape), span=span)

    def describe(self, x: Symbol) -> Symbol:
        name, (*shape, features) = x.graph.name_of(self), self.output_shape
        x = self.input_quantizer.describe(x, f"{name}_input")
        x = gather(x, np.repeat(np.arange(math.prod(shape)), features).reshape(self.output_shape))
        frozen = self.table_quantizer.frozen(self.table[...])
        k, i, f = (np.asarray(v)[0].astype(np.int64) for v in frozen.format)
        magnitude = np.maximum(i + f, 0)
        bits = magnitude + np.where((magnitude > 0) | (frozen.overflow == "SAT"), k, 0)
        f = np.where(k + i + f > 0, f, 0)
        words = np.ldexp(np.asarray(frozen.values, np.float64), f).astype(np.int64)
        reached = 2 ** int(self.input_quantizer.format().i)  # an index that is too large takes the last entry
        words = np.concatenate([words, np.repeat(words[-1:], reached - len(words), axis=0)])
        positions = math.prod(shape)
        each = {key: np.broadcast_to(v, self.output_shape).copy() for key, v in (("f", f), ("bits", bits))}
        each |= {key: np.zeros(self.output_shape, np.int64) for key in ("low", "f_in")}
        start = np.arange(positions * features + 1, dtype=np.int64) * reached
        return x.graph.apply("lookup", (x,), self.output_shape, name=name, words=np.tile(words.T.ravel(), positions), start=start, **each)
