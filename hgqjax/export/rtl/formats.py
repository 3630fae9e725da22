"""Numbers on symbols of alkaid: constants, formats with every rounding and overflow, sums; bit for bit, also where alkaid is not."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hgqjax.description import integers as exact

CONSTANT_BITS = 24
"""Significant bits of a constant: alkaid finds the lowest bit of weights, offsets, limits and table words in float32."""


class WideConstant(ValueError):
    """A constant of so many significant bits."""


def narrow(value: float) -> float:
    """`value`, where alkaid can carry it."""
    lowest, above = exponents(value) if value else (0, 0)
    if above - lowest > CONSTANT_BITS:
        raise WideConstant(above - lowest)
    return float(value)


def exponents(value: float) -> tuple[int, int]:
    """Exponents of the lowest and of one above the highest bit that is set in a value that is not 0."""
    mantissa, exponent = np.frexp(abs(value))
    digits = int(np.ldexp(mantissa, 53))
    return int(exponent) - 53 + (digits & -digits).bit_length() - 1, int(exponent)


def constant(value: float):
    """A symbol with one value."""
    from alkaid.trace import FVariable, HWConfig

    return FVariable.from_const(narrow(value), HWConfig(1, 1, -1))


def fixed(v) -> bool:
    """Whether a symbol has one value."""
    return v.low == v.high


def to_format(v, k: int, i: int, f: int, rounding: str, overflow: str):
    """`v` in the format, bit for bit; RND_CONV is made of the other operations.

    alkaid 0.8.2 takes the cut bits of RND_CONV from the wrong end where its interval arithmetic knows that the last ones are zero, and
    wraps constants into unsigned formats modulo twice their range.
    """
    if fixed(v):
        return constant(_quantized(v.low, k, i, f, rounding, overflow))
    exactly = v.step >= 2.0**-f
    if not exactly and rounding == "RND":
        v = _alone(v, f + 1)
    if overflow != "WRAP":
        (k_v, i_v, _), cut = v.kif, f + (rounding == "RND")
        if not exactly and rounding != "RND_CONV" and k_v + i_v + cut > 0:
            v = v.quantize(k_v, i_v, cut, "WRAP", "TRN")  # what rounding does not see need not be compared with the limits
        high = 2.0**i - 2.0**-f
        low = -k * (high if overflow == "SAT_SYM" else 2.0**i)
        v = v.max_of(narrow(low)) if v.low < low else v
        v = v.min_of(narrow(high)) if v.high > high else v
    if rounding != "RND_CONV" or exactly or fixed(v) or v.step >= 2.0**-f:
        return _wrap(v, k, i, f, rounding)
    odd = _wrap(v, 0, 1 - f, f, "TRN")  # half up, but a tie is one step below where the last bit that stays is 0
    v = total([v, constant(2.0 ** (-f - 1) - v.step), odd * (v.step * 2.0**f)])
    return _wrap(v, k, i, f, "TRN")


def _alone(v, f: int):
    """`v`, to which 2**-f will be added: cut there first, where alkaid would merge that with an offset to too wide a constant."""
    if v.opr != "cadd":
        return v
    offset, shift = (((v._data >> n & 0xFFFFFFFF) + 2**31) % 2**32 - 2**31 for n in (0, 32))
    merged = offset * 2.0**-shift * v._factor + 2.0**-f
    lowest, above = exponents(merged) if merged else (0, 0)
    k_v, i_v, _ = v.kif
    return v if above - lowest <= CONSTANT_BITS or k_v + i_v + f <= 0 else v.quantize(k_v, i_v, f, "WRAP", "TRN")


def _wrap(v, k: int, i: int, f: int, rounding: str):
    """`v` in a format that wraps.

    alkaid 0.8.2 takes one bit of a value scaled by 2**n for its most significant one where it is n below (canonicalize_msb_wraps);
    with the bit above it, as a signed number, it is left alone.
    """
    if fixed(v):
        return constant(_quantized(v.low, k, i, f, rounding, "WRAP"))
    f = min(f, fraction(v))
    if k == 0 and i + f == 1:
        if rounding == "RND" and v.step < 2.0**-f:
            v = v + 2.0 ** (-f - 1)
        v, rounding = v if fixed(v) else v.quantize(1, i, f, "WRAP", "TRN"), "TRN"
    return constant(_quantized(v.low, k, i, f, rounding, "WRAP")) if fixed(v) else v.quantize(k, i, f, "WRAP", rounding)


def fraction(v) -> int:
    """Fractional bits of a value that is not constant."""
    return 1 - int(np.frexp(v.step)[1])


def _quantized(value: float, k: int, i: int, f: int, rounding: str, overflow: str) -> float:
    magnitude = 2 ** (i + f)
    low, high = np.array([-k * (magnitude - (overflow == "SAT_SYM"))], object), np.array([magnitude - 1], object)
    (word,) = exact.quantize_floats(np.array([value]), np.array([f]), rounding, overflow, low, high)
    return float(np.ldexp(float(word), -f))


def total(terms: Sequence[Any]):
    """The sum of symbols; constants first, the rest in alkaid's own order (least latency first)."""
    from alkaid.trace import FVArray

    offset, live = sum(v.low for v in terms if fixed(v)), [v for v in terms if not fixed(v)]
    if not live:
        return constant(offset)
    array = np.empty(len(live), object)
    array[:] = live
    result = live[0] if len(live) == 1 else np.sum(FVArray(array))
    result = np.asarray(result).item() if isinstance(result, np.ndarray) else result
    return result + narrow(offset) if offset else result
