"""For people who extend: an exact reference of `quantize`, numbers at its ties and limits, and hypothesis strategies of both.

A test of an operation that rounds takes a format from `formats`, numbers from `near_edges`, and compares with `exact_quantize`::

    @hypothesis.given(testing.formats(), st.data())
    def test_mine(kif, data):
        x = data.draw(testing.near_edges(*kif, count=32))
        assert [Fraction(float(q)) for q in mine(x, *kif)] == [testing.exact_quantize(float(v), *kif) for v in x]

The strategies need hypothesis (extra ``test``), which is imported when one is made; the rest needs numpy only.
"""

import math
from fractions import Fraction
from typing import Literal, cast

import numpy as np

from hgqjax import fixed_point

FAR = 60  # numbers beside 0 are +-2**-FAR, numbers far outside +-2**FAR: both stay normal floats when shifted by |f| <= 60


def exact_quantize(x: float | Fraction, k: int, i: int, f: int, rounding: str = "RND", overflow: str = "WRAP") -> Fraction:
    """`hgqjax.fixed_point.quantize` of one finite number as a fraction: the definition, RND, TRN and RND_CONV.

    >>> exact_quantize(1.8, 1, 1, 1)
    Fraction(-2, 1)
    """
    _check(rounding, overflow)
    if k + i + f <= 0:
        return Fraction(0)
    v = Fraction(x) * Fraction(2) ** f  # in steps
    if rounding == "RND":
        m = math.floor(v + Fraction(1, 2))
    elif rounding == "TRN":
        m = math.floor(v)
    else:
        m = round(v)  # Python's own rule: half to even
    high = 2 ** (i + f) - 1
    low = -k * (high if overflow == "SAT_SYM" else high + 1)
    if overflow == "WRAP":
        m = (m - low) % (high - low + 1) + low
    else:
        m = min(max(m, low), high)
    return Fraction(m) / Fraction(2) ** f


def exact_words(x: np.ndarray, k, i, f, rounding: str = "RND", overflow: str = "WRAP") -> np.ndarray:
    """`exact_quantize` of arrays of finite numbers, as whole numbers of steps ``2**-f`` (int64): the same, written in integers only.

    `k`, `i` and `f` broadcast against `x`. A million numbers take a second or two.

    >>> exact_words(np.array([1.8, 0.26, -0.2]), 1, 1, np.array([1, 2, 1])).tolist()
    [-4, 1, 0]
    """
    _check(rounding, overflow)
    rows = np.broadcast_arrays(np.asarray(x, np.float64), *(np.asarray(n).astype(np.int64) for n in (k, i, f)))
    words = []
    for v, k, i, f in zip(*(a.ravel().tolist() for a in rows), strict=True):
        if k + i + f <= 0:
            words.append(0)
            continue
        n, d = v.as_integer_ratio()
        n, d = (n << f, d) if f >= 0 else (n, d << -f)
        m, rest = divmod(n, d)
        if rounding == "RND":
            m += 2 * rest >= d
        elif rounding == "RND_CONV":
            m += 2 * rest > d or (2 * rest == d and m % 2 == 1)
        top = 1 << (i + f)
        if overflow == "WRAP":
            m = (m + k * top) % (top << k) - k * top
        elif m >= top:
            m = top - 1
        elif m <= -k * top:
            m = -k * (top - (overflow == "SAT_SYM"))
        words.append(m)
    return np.array(words, np.int64).reshape(rows[0].shape)


def _check(rounding: str, overflow: str) -> None:
    fixed_point.check_modes(rounding, overflow)
    if rounding == "S_RND":
        raise ValueError(f"rounding is {rounding!r}; the exact reference has RND, TRN and RND_CONV")


def edges(k: int, i: int, f: int, dtype=np.float32, *, ties: int = 64, rng: np.random.Generator | None = None) -> np.ndarray:
    """Ties and limits of a format and one ulp either side of each, to twice the range; small and huge numbers; no subnormals.

    The steps, ties and numbers around 0 and around ``+-2**i`` and ``+-2**(i+1)`` (the limits, the period) always; every other tie and
    grid point where there are at most `ties` ties, else a random choice. Points that `dtype` lacks are rounded to it.

    >>> x = edges(1, 0, 0)
    >>> bool(np.all(np.isin(np.float32([-2, -1, -0.5, 0, np.nextafter(np.float32(0.5), np.float32(0)), 0.5, 1]), x)))
    True
    """
    rng = rng or np.random.default_rng(0)
    top = 2 << max(i + f, 0)  # 2**i in half steps; a tie is an odd number of half steps
    halves = {at + step for at in (0, top, -top, 2 * top, -2 * top) for step in range(-3, 4)}
    if 2 * top <= ties:
        halves.update(range(-2 * top, 2 * top + 1))
    else:  # about as many as there would be: half of them ties
        chosen = np.concatenate([rng.integers(-top, top + 1, ties), rng.integers(-2 * top, 2 * top + 1, ties)])
        halves.update(int(h) for h in chosen | (np.arange(2 * ties) % 4 > 0))
    x = np.array([math.ldexp(float(h), -f - 1) for h in sorted(halves)] + [s * 2.0**e for e in (FAR, -FAR) for s in (1, -1)], dtype)
    return _normal(np.concatenate([x, np.nextafter(x, dtype(np.inf)), np.nextafter(x, dtype(-np.inf))]))


def _normal(x: np.ndarray) -> np.ndarray:
    """Subnormal numbers to 0, as XLA does."""
    return np.where(abs(x) < np.finfo(x.dtype).tiny, 0, x).astype(x.dtype)


def numbers_near_edges(rng: np.random.Generator, k: int, i: int, f: int, count: int, dtype=np.float32) -> np.ndarray:
    """`count` numbers, four of five drawn from `edges`, the rest random around the range; no subnormals.

    >>> numbers_near_edges(np.random.default_rng(0), 1, 2, 3, 100).shape
    (100,)
    """
    near = rng.choice(edges(k, i, f, dtype, rng=rng), count)
    return _normal(np.where(rng.random(count) < 0.8, near, rng.normal(size=count) * 2.0 ** (i + 1)).astype(dtype))


def formats(k=(0, 1), i=(-24, 24), f=(-24, 24)):
    """Hypothesis strategy: formats ``(k, i, f)`` within these bounds (both included), of at most 52 bits and of none.

    >>> import hypothesis
    >>> k, i, f = hypothesis.find(formats(), lambda kif: sum(kif) >= 3)
    >>> k + i + f
    3
    """
    from hypothesis import strategies as st

    within = st.tuples(*(st.integers(*bounds) for bounds in (k, i, f)))
    return within.filter(lambda kif: sum(kif) <= fixed_point.MAX_BITS)


def near_edges(k: int, i: int, f: int, count: int, dtype=np.float32):
    """Hypothesis strategy: arrays of `count` numbers of one format, from `edges` and from anywhere within twice the range.

    The length is fixed, for jax compiles again for each shape.

    >>> import hypothesis
    >>> x = hypothesis.find(near_edges(1, 2, 3, count=4), lambda x: np.any(x > 3.9375))
    >>> x.dtype, x.shape
    (dtype('float32'), (4,))
    """
    from hypothesis import strategies as st

    bits = cast(Literal[16, 32, 64], 8 * np.dtype(dtype).itemsize)
    bound = 2.0 ** (i + 1)
    anywhere = st.floats(-bound, bound, allow_subnormal=False, width=bits)
    number = st.one_of(st.sampled_from(edges(k, i, f, dtype).tolist()), anywhere)
    return st.lists(number, min_size=count, max_size=count).map(lambda x: np.array(x, dtype))
