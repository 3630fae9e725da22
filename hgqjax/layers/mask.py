"""Masks of padded particles: which are there, and sums, means and extremes over these alone.

A mask is rows (rows, particles) of 1 for a particle that is there and 0 for one that pads; `Mask` makes it of a feature, or it is an input
of the model.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from hgqjax import resources
from hgqjax.granularity import Granularity
from hgqjax.layers._base import Module, Value
from hgqjax.layers._symbol import Symbol
from hgqjax.layers.merge import Multiply
from hgqjax.layers.quantize import ACTIVATION, Quantize
from hgqjax.layers.reduce import Sum
from hgqjax.layers.several import AbstractSeveral
from hgqjax.layers.shapes import reshape, row_shape, select
from hgqjax.layers.table import Table
from hgqjax.quantizers import AbstractQuantizer, Fixed, Kif

BIT = Fixed(keep_negative=False, i=1, f=0)
"""Of a mask: 0 and 1."""
FEATURE = Kif(f0=6.0, f_limits=(6.0, 6.0))
"""Of the feature that tells; its fractional bits stay, as no gradient of a threshold would keep them."""
SHARE = Kif(keep_negative=False, i0=1.0, f0=7.0, overflow="SAT")
PRODUCT = Kif(f0=7.0)


class Mask(Module):
    """The mask of particles: 1 where a feature of theirs, once quantized, is greater than `above`, else 0.

    Args:
      particles, features: shape of a row; the result is (rows, particles).
      feature: number of the feature that tells: the transverse momentum, say, which is 0 of what pads.
      above: in the unit of the rows; of scaled ones a number between the scaled value of what pads and that of the softest particle.
      input_quantizer: of the feature, of at most 16 bits; its fractional bits should not be trained. Where the rows are an input of the
        model it wraps, or saturates, as the other quantizers of that input do: hardware has one port for them.

    The part, with its cost: `table` (`Table`).
    Raises: ValueError where there is no such feature.

    >>> Mask(3, 2)(jnp.array([[[0.5, 9.0], [2.0, 9.0], [0.0, 9.0]]])).tolist()
    [[1.0, 1.0, 0.0]]
    """

    def __init__(
        self, particles: int, features: int, *, feature: int = 0, above: float = 0.0, input_quantizer: AbstractQuantizer = FEATURE
    ):
        if not 0 <= feature < features or not math.isfinite(above):
            raise ValueError(f"Mask: feature is {feature} of {features}, above {above}; one of 0 .. {features - 1} and a number are needed")
        self.feature = feature
        self.table = Table(lambda x: (x > above).astype(x.dtype), (particles,), input_quantizer=input_quantizer, output_quantizer=BIT)

    def __call__(self, x: Value) -> Value:
        return self.table(select(x, slice(None), self.feature))


class Masked(AbstractSeveral):
    """``q(x)`` where the mask is 1, 0 where it is 0.

    Args:
      shape: of a row of x. axis: that of the particles, counted without the batch axis, from the end where negative.
      input_quantizer, input_granularity: of x; see `Quantize`. A mask has one bit.

    Called with x and the mask, (rows, particles). Cost: `hgqjax.resources.Multiply`: a bit for each of x.
    Raises: ValueError, where a mask has another shape.

    >>> Masked((2, 3))(jnp.ones((5, 2, 3)), jnp.array([[1.0, 0.0]] * 5))[0].tolist()
    [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    """

    def __init__(
        self,
        shape: Sequence[int],
        axis: int = 0,
        *,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        input_granularity: Granularity = "element",
    ):
        shape = tuple(shape)
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"Masked: axis is {axis} for rows of shape {shape}; one of {-len(shape)} .. {len(shape) - 1} is needed")
        self.spread = tuple(n if at == axis % len(shape) else 1 for at, n in enumerate(shape))
        self.input_quantizer = nnx.List([Quantize(shape, input_quantizer, input_granularity), Quantize(self.spread, BIT)])

    def __call__(self, x: Value, mask: Value) -> Value:  # pyright: ignore[reportIncompatibleMethodOverride] of these two
        shape = (math.prod(self.spread),)
        if row_shape(mask) not in (shape, self.spread):
            raise ValueError(f"mask has rows of shape {row_shape(mask)}; {shape} is needed, 1 or 0 for each particle")
        return super().__call__(x, reshape(mask, self.spread))

    def forward(self, *xs: jax.Array) -> jax.Array:
        x, mask = self.quantized(xs)
        return x * mask

    def cost(self) -> resources.Multiply:
        x, mask = (quantizer.signal() for quantizer in self.input_quantizer)
        return resources.Multiply((x, mask))

    def describe(self, *xs: Symbol) -> Symbol:
        name, quantized = self.described(xs)
        return xs[0].graph.apply("multiply", quantized, self.input_quantizer[0].shape, name=name)


class MaskedMean(Module):
    """The mean over the particles that are there, (rows, particles, ...) to (rows, ...); 0 where none is.

    Args:
      shape: of a row, particles first.
      input_quantizer, input_granularity: of x, in the mask and in the sum; see `Quantize`.
      share_quantizer: of 1 / number, in its table. product_quantizer: of the sum and of 1 / number, where they are multiplied.

    Called with x and the mask. The parts, each with its cost: `masked` (`Masked`), `total`, `count` (`Sum`), `share` (`Table`, of the
    number of particles), `product` (`Multiply`). For the sum alone take `Masked` and `Sum`; for the greatest of values that are never
    negative, as after a relu, `Masked` and `max_pool`.

    >>> layer = MaskedMean((4, 1))
    >>> layer(jnp.array([[[1.0], [3.0], [9.0], [9.0]]]), jnp.array([[1.0, 1.0, 0.0, 0.0]])).tolist()
    [[2.0]]
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        input_granularity: Granularity = "element",
        share_quantizer: AbstractQuantizer = SHARE,
        product_quantizer: AbstractQuantizer = PRODUCT,
    ):
        particles, *rest = shape
        number = Fixed(keep_negative=False, i=particles.bit_length(), f=0)
        self.ones = (1,) * max(len(rest), 1)
        self.masked = Masked(shape, input_quantizer=input_quantizer, input_granularity=input_granularity)
        self.total = Sum(shape, (0,), input_quantizer=input_quantizer, input_granularity=input_granularity)
        self.count = Sum((particles,), (0,), input_quantizer=BIT, input_granularity="tensor")
        self.share = Table(lambda n: 1.0 / jnp.maximum(n, 1.0), (1,), input_quantizer=number, output_quantizer=share_quantizer)
        self.product = Multiply((tuple(rest) or (1,), self.ones), input_quantizer=product_quantizer)

    def __call__(self, x: Value, mask: Value) -> Value:
        share = self.share(self.count(mask))
        return self.product(self.total(self.masked(x, mask)), reshape(share, self.ones))


def check_mask(name: str, masked: bool, mask: Value | None) -> None:
    """Raises ValueError where a layer that was made for a mask is called without one, or the other way round."""
    if masked != (mask is not None):
        raise ValueError(f"{name} was made with masked={masked} and is called {'with' if mask is not None else 'without'} a mask")
