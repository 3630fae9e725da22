"""A grid of given magnitude bits whose range follows the data: what mixtures mix, and what a search gives."""

from typing import cast

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hgqjax import fixed_point
from hgqjax import ranges as ranges_
from hgqjax.quantizers._base import FixedPoint, Format, as_float32
from hgqjax.quantizers.kbi import Kbi


def grid(quantizer: FixedPoint, bits: Float[Array, "..."], i: Float[Array, "..."], ranges: ranges_.Range | None) -> Format:
    """The format of `bits` magnitude bits; with `ranges` a sign bit where they need one. No gradient.

    With WRAP the range holds all values, up to a power of two; with SAT_SYM the largest level is one step below the power of two above the
    largest value, where few bits clip.

    Args:
      quantizer: gives `keep_negative`, `rounding`, `overflow`. i: integer bits without `ranges`.
    """
    bits, i = lax.stop_gradient(bits), lax.stop_gradient(i)
    if ranges is None or quantizer.overflow == "WRAP":
        overflow = cast(fixed_point.Overflow, quantizer.overflow)
        plain = Kbi(keep_negative=quantizer.keep_negative, rounding=quantizer.rounding, overflow=overflow)
        return plain.format({"b": bits, "i": i}, ranges)
    low, high = as_float32(ranges)
    low = low if quantizer.keep_negative else jnp.zeros_like(low)
    i = lax.stop_gradient(fixed_point.exponent(jnp.maximum(-low, high)))
    k, _ = ranges_.integer_bits(ranges_.Range(low, high), bits - i, quantizer.rounding)
    return Format(k, i, bits - i)
