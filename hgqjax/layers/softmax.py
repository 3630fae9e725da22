"""Softmax as a composition of layers: a difference, two tables, a sum and a product; no function is left for a back end to approximate."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from hgqjax import fixed_point, resources
from hgqjax.layers._base import Layer, Module, Value
from hgqjax.layers._symbol import Symbol
from hgqjax.layers.mask import Masked, check_mask
from hgqjax.layers.merge import Multiply
from hgqjax.layers.pool import max_pool
from hgqjax.layers.quantize import ACTIVATION, Quantize
from hgqjax.layers.reduce import Sum
from hgqjax.layers.shapes import reshape, transpose
from hgqjax.layers.table import Table
from hgqjax.quantizers import AbstractQuantizer, Kif

DISTANCE = Kif(keep_negative=False, i0=3.0, f0=3.0, overflow="SAT")
ENTRY = Kif(keep_negative=False, i0=0.0, f0=7.0, overflow="SAT")
TOTAL = Kif(keep_negative=False, i0=3.0, f0=4.0, overflow="SAT")
LEAST = 0.5
"""Of a sum before it divides: it holds the exponential of the greatest value, which is 1 but for rounding; smaller words never come in."""


class Below(Layer):
    """``max(q(x)) - q(x)`` over the last axis: how far each value is below the greatest of its row, at least 0.

    Args: shape: of a row. input_quantizer: see `Quantize`; one width for all, so that the difference is as wide as the values.

    Cost: `hgqjax.resources.Subtract`; finding the greatest is not counted, as in `max_pool`.

    >>> Below((3,))(jnp.array([[1.0, -0.5, 0.0]])).tolist()
    [[0.0, 1.5, 1.0]]
    """

    def __init__(self, shape: Sequence[int], *, input_quantizer: AbstractQuantizer = ACTIVATION):
        self.input_quantizer = Quantize(tuple(shape), input_quantizer, "tensor")

    def forward(self, x: jax.Array) -> jax.Array:
        x = self.input_quantizer(x)
        return _greatest(x) - x

    def cost(self) -> resources.Subtract:
        signal = self.input_quantizer.signal()
        return resources.Subtract((signal, signal))

    def describe(self, x: Symbol) -> Symbol:
        name, (*lead, terms) = x.graph.name_of(self), self.input_quantizer.shape
        x = self.input_quantizer.describe(x, f"{name}_input")
        columns = transpose(reshape(x, (math.prod(lead), terms)), (1, 0))
        most = reshape(max_pool(columns, terms), (*lead, 1))
        return x.graph.apply("subtract", (most, x), (*lead, terms), name=name)


@jax.custom_vjp
def _greatest(x: jax.Array) -> jax.Array:
    """``x.max(-1, keepdims=True)``, with its gradient: equal parts to all that are the greatest.

    XLA's CPU back end is several times slower where it repeats an extremum or a sum along the row in the same loop.
    """
    return fixed_point.materialized(x.max(-1, keepdims=True))


def _greatest_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    most = _greatest(x)
    return most, (x, most)


def _greatest_backward(kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array]:
    x, most = kept
    there = x == most
    count = there.astype(x.dtype).sum(-1, keepdims=True)
    return (jnp.where(there, fixed_point.materialized(g / count), 0.0),)


_greatest.defvjp(_greatest_forward, _greatest_backward)


class Softmax(Module):
    r"""``exp(scale x) / sum(exp(scale x))`` over the last axis, by :math:`e = \exp(-scale\,(\max x - x))` and ``e * (1 / sum(e))``.

    Args:
      shape: of a row.
      scale: what x is multiplied by, folded into the table: 1 / sqrt(features) in attention.
      input_quantizer: of x, one width for all.
      distance_quantizer: of max(x) - x, the key of the table of exponentials; saturating, so that what is far below counts alike.
      exponential_quantizer: of e, in the table, in the sum and in the product.
      sum_quantizer: of sum(e), the key of the table of inverses. inverse_quantizer: of the inverses, in the table and in the product.
      masked: whether it is called with a mask, too, (rows, last axis): 1 where a value counts. Those that do not are taken as 0 when the
        greatest is looked for, and give 0; so what they are makes no difference. Where none counts all results are 0.

    The parts, each with its cost: `below` (`Below`), `exponential` (`Table`), `total` (`Sum`), `inverse` (`Table`), `product` (`Multiply`);
    with a mask `hidden` before the first and `kept` after the second (`Masked`).

    >>> layer = Softmax((3,))
    >>> [round(float(v), 2) for v in layer(jnp.array([[1.0, 1.0, -7.0]]))[0]]
    [0.5, 0.5, 0.0]
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        scale: float = 1.0,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        distance_quantizer: AbstractQuantizer = DISTANCE,
        exponential_quantizer: AbstractQuantizer = ENTRY,
        sum_quantizer: AbstractQuantizer = TOTAL,
        inverse_quantizer: AbstractQuantizer = ENTRY,
        masked: bool = False,
    ):
        shape = tuple(shape)
        if not 0 < scale < math.inf:
            raise ValueError(f"scale is {scale}; a finite number above 0 is needed")
        kept, self.is_masked = (*shape[:-1], 1), masked
        if masked:
            self.hidden = Masked(shape, -1, input_quantizer=input_quantizer, input_granularity="tensor")
            self.kept = Masked(shape, -1, input_quantizer=exponential_quantizer, input_granularity="tensor")
        self.below = Below(shape, input_quantizer=input_quantizer)
        self.exponential = Table(
            lambda d: jnp.exp(-scale * d), shape, input_quantizer=distance_quantizer, output_quantizer=exponential_quantizer
        )
        self.total = Sum(shape, (-1,), keepdims=True, input_quantizer=exponential_quantizer, input_granularity="tensor")
        self.inverse = Table(lambda t: 1.0 / jnp.maximum(t, LEAST), kept, input_quantizer=sum_quantizer, output_quantizer=inverse_quantizer)
        self.product = Multiply((shape, kept), input_quantizer=exponential_quantizer, input_granularity="tensor")

    def __call__(self, x: Value, mask: Value | None = None) -> Value:
        check_mask("Softmax", self.is_masked, mask)
        e = self.exponential(self.below(x if mask is None else self.hidden(x, mask)))
        e = e if mask is None else self.kept(e, mask)
        return self.product(e, self.inverse(self.total(e)))
