"""Observed extrema of a signal, and the fewest integer bits that hold them: how WRAP quantizers get their range."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hgqjax import fixed_point


class Range(NamedTuple):
    """Least and greatest value seen, 0 included: ``low <= 0 <= high``; one pair for each group that shares a width."""

    low: Float[Array, "..."]
    high: Float[Array, "..."]


def empty(shape: tuple[int, ...]) -> Range:
    """Nothing seen yet."""
    return Range(jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32))


def shared_axes(x: Float[Array, "..."], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes over which values of `x` share one of `shape`: where it is 1; raises ValueError where it does not fit."""
    if len(shape) != x.ndim or any(n not in (1, m) for n, m in zip(shape, x.shape, strict=True)):
        raise ValueError(f"shape is {shape}; it needs the rank of x, {x.shape}, with 1 on the axes that share a range")
    return tuple(a for a, n in enumerate(shape) if n == 1)


@fixed_point.one_program("shape")
def _extrema(x, *, shape) -> Range:
    axes = shared_axes(x, shape)
    x = lax.stop_gradient(x)
    return Range(jnp.min(x, axes, keepdims=True, initial=0.0), jnp.max(x, axes, keepdims=True, initial=0.0))


def observe(x: Float[Array, "..."], shape: tuple[int, ...]) -> Range:
    """Extrema of `x` over the axes where `shape`, which has the rank of `x`, is 1. No gradients.

    >>> [float(v[0, 0]) for v in observe(jnp.array([[-1.0, 3.0]]), (1, 1))]
    [-1.0, 3.0]
    """
    return _extrema(x, shape=tuple(shape))


def update(old: Range, x: Float[Array, "..."], decay_bits: float = 0.0) -> Range:
    """`old` widened to hold `x`, after its extrema shrank by ``2**-decay_bits``. 0 keeps all ever seen, infinity only `x`.

    NaN in `x` makes the range NaN, so that it shows.

    Source: HGQ2 lets integer bits decay by 0.01 a step, so that an early outlier is forgotten.

    >>> float(update(Range(jnp.zeros((1,)), jnp.full((1,), 4.0)), jnp.array([1.0]), decay_bits=1.0).high[0])
    2.0
    """
    new, keep = observe(x, old.low.shape), 2.0**-decay_bits
    return Range(jnp.minimum(new.low, old.low * keep), jnp.maximum(new.high, old.high * keep))


@fixed_point.one_program("rounding")
def integer_bits(seen: Range, f: Float[Array, "..."], rounding: fixed_point.Rounding):
    """``(k, i)``: the sign bit and the fewest integer bits above all magnitudes of the range, rounded to ``2**-f``; i = -f for {0}.

    ``i = floor(log2 max(-low, high)) + 1`` of the rounded extrema, exact in floating point. The range is that of magnitudes, as in HGQ2
    and as the paper counts a weight: a signed format without magnitude bits would still hold {-1, 0} steps, which EBOPs, that count no
    sign, would take for free. S_RND counts as rounding outward. No gradients.

    >>> [float(v) for v in integer_bits(Range(jnp.float32(-2.0), jnp.float32(1.9)), jnp.float32(1.0), "TRN")]
    [1.0, 2.0]
    """
    if rounding == "S_RND":
        low, high = (direction(v * fixed_point.pow2(f)) for direction, v in ((jnp.floor, seen.low), (jnp.ceil, seen.high)))
    else:
        low, high = (fixed_point.round_to_integer(v * fixed_point.pow2(f), rounding) for v in seen)
    bits = fixed_point.exponent(jnp.maximum(-low, high))
    return lax.stop_gradient((low < 0).astype(f.dtype)), lax.stop_gradient(bits - f)
