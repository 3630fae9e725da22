"""For people who extend: an exact reference of `quantize` in fractions, and hypothesis strategies that aim at ties and limits."""

import math
from fractions import Fraction

import numpy as np

from hgqjax import fixed_point


def exact_quantize(x: float, k: int, i: int, f: int, rounding: str = "RND", overflow: str = "WRAP") -> Fraction:
    """`hgqjax.fixed_point.quantize` of one finite number in exact arithmetic, RND, TRN and RND_CONV.

    >>> exact_quantize(1.8, 1, 1, 1)
    Fraction(-2, 1)
    """
    fixed_point.check_modes(rounding, overflow)
    if k + i + f <= 0:
        return Fraction(0)
    step = Fraction(2) ** -f
    top = Fraction(2) ** max(i, -f)
    high = top - step
    low = -k * (high if overflow == "SAT_SYM" else top)
    v = Fraction(x)
    if overflow != "WRAP":
        v = min(max(v, low), high)
    v /= step
    if rounding == "RND":
        n = math.floor(v + Fraction(1, 2))
    elif rounding == "TRN":
        n = math.floor(v)
    elif rounding == "RND_CONV":
        n = round(v)
    else:
        raise ValueError(f"rounding is {rounding!r}; the exact reference has RND, TRN and RND_CONV")
    if overflow == "WRAP":
        words = 2 ** (k + i + f)
        n = (n + k * words // 2) % words - k * words // 2
    return n * step


def numbers_near_edges(rng: np.random.Generator, k: int, i: int, f: int, count: int) -> np.ndarray:
    """float32 numbers of which most lie on, or one ulp beside, a grid point, a tie or a limit of the format; no subnormals."""
    bits = min(max(i + f, 0) + 2, 20)
    half_steps = rng.integers(-(2 ** (bits + 1)), 2 ** (bits + 1) + 1, count)
    x = np.ldexp(half_steps.astype(np.float32), -f - 1)
    limits = np.array([s * 2.0**i + d * 2.0**-f for s in (-1, 1) for d in (-1, -0.5, 0, 0.5)], np.float32)
    x = np.where(rng.random(count) < 0.2, rng.choice(limits, count), x)
    nudge = rng.integers(-1, 2, count)
    x = np.where(nudge == 0, x, np.nextafter(x, np.where(nudge > 0, np.inf, -np.inf).astype(np.float32)))
    x = np.where(rng.random(count) < 0.2, rng.normal(size=count).astype(np.float32) * np.float32(2.0 ** (i + 1)), x)
    return np.where(abs(x) < np.finfo(np.float32).tiny, 0, x).astype(np.float32)
