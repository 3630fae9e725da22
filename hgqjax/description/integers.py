"""Exact integer arithmetic on numpy arrays: int64 where it cannot overflow, Python ints (dtype object) where it could."""

import numpy as np

SAFE_BITS = 61  # magnitudes below 2**61 leave int64 room for a sum and a rounding offset


def _magnitude_bits(m: np.ndarray) -> int:
    if m.size == 0:
        return 0
    return max(int(m.max()).bit_length(), int(m.min()).bit_length())


def narrow(m: np.ndarray) -> np.ndarray:
    """The same whole numbers as int64 when they fit, else unchanged."""
    return m.astype(np.int64) if m.dtype == object and _magnitude_bits(m) <= SAFE_BITS else m


def shift_left(m: np.ndarray, n: np.ndarray) -> np.ndarray:
    """``m * 2**n`` for whole ``n >= 0``, exact.

    >>> shift_left(np.array([3]), np.array([70]))[0] == 3 * 2**70
    True
    """
    n = np.asarray(n)
    if np.any(n < 0):
        raise ArithmeticError("a left shift by a negative count would lose bits")
    if not n.any() and np.broadcast_shapes(m.shape, n.shape) == m.shape:
        return m
    if m.dtype != object and _magnitude_bits(m) + int(n.max(initial=0)) <= SAFE_BITS:
        return m << n
    return np.asarray(m.astype(object) << n.astype(object), object)


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a + b``, exact.

    >>> add(np.array([2**61]), np.array([2**62]))[0] == 3 * 2**61
    True
    """
    fits = max(_magnitude_bits(a), _magnitude_bits(b)) <= SAFE_BITS
    return a + b if fits else narrow(a.astype(object) + b.astype(object))


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a * b``, exact.

    >>> multiply(np.array([2**40]), np.array([-(2**40)]))[0] == -(2**80)
    True
    """
    fits = _magnitude_bits(a) + _magnitude_bits(b) <= SAFE_BITS
    return a * b if fits else narrow(a.astype(object) * b.astype(object))


def total(m: np.ndarray, axes: int | tuple[int, ...]) -> np.ndarray:
    """The sum over `axes`, exact.

    >>> total(np.full((1, 4), 2**61), 1)[0] == 2**63
    True
    """
    fits = _magnitude_bits(m) + m.size.bit_length() <= SAFE_BITS
    return m.sum(axes) if fits else narrow(np.asarray(m.astype(object).sum(axes)))


def round_to_grid(m: np.ndarray, f_from: np.ndarray, f_to: np.ndarray, rounding: str) -> np.ndarray:
    """Whole numbers on the grid ``2**-f_to`` nearest to ``m * 2**-f_from``: RND half up, TRN down, RND_CONV half to even.

    >>> round_to_grid(np.array([-5, 5]), np.array([1, 1]), np.array([0, 0]), "RND")
    array([-2,  3])
    """
    drop = np.asarray(f_from, np.int64) - np.asarray(f_to, np.int64)
    m = shift_left(m, np.maximum(-drop, 0))
    drop = np.maximum(drop, 0)
    # beyond, a magnitude of at most SAFE_BITS bits is less than half
    drop = np.minimum(drop, SAFE_BITS + 1) if m.dtype != object else drop.astype(object)
    half = (1 << drop) >> 1  # 0 where nothing is dropped
    if rounding == "TRN":
        m = m >> drop
    elif rounding == "RND":
        m = (m + half) >> drop
    elif rounding == "RND_CONV":
        odd = (m >> drop) & (half > 0)
        m = (m + (half - (half > 0)) + odd) >> drop
    else:
        raise ValueError(f"rounding is {rounding!r}; hardware has RND, TRN and RND_CONV")
    return narrow(m)


def overflow(m: np.ndarray, mode: str, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Brings whole numbers into ``[low, high]``: modulo ``high - low + 1``, a power of two, for WRAP, else by clipping.

    >>> overflow(np.array([5]), "WRAP", np.array([-4]), np.array([3]))
    array([-3])
    """
    low, high = narrow(np.asarray(low)), narrow(np.asarray(high))
    if object in (m.dtype, low.dtype, high.dtype):
        m, low, high = (v.astype(object) for v in (m, low, high))
    if mode == "WRAP":
        return narrow(np.asarray(((m - low) & (high - low)) + low))
    return narrow(np.asarray(np.minimum(np.maximum(m, low), high)))


def quantize_floats(x: np.ndarray, f: np.ndarray, rounding: str, mode: str, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Float rows to whole numbers on the grid ``2**-f``, exact for every finite float64.

    A value far outside is first brought near (modulo, exact by fmod, or clipped), so that no integer type is too small.
    """
    span = (high - low + 1).astype(np.float64)  # a power of two, or that less one (SAT_SYM): only WRAP divides by it
    v = x * np.ldexp(1.0, f) if np.all(abs(f) < 1000) else np.ldexp(x, f)  # the same, in a tenth of the time
    largest = max(v.max(initial=0.0), -v.min(initial=0.0))
    if not np.isfinite(largest):
        raise ValueError("an input is so large that its shift by f overflows float64")
    if mode == "WRAP":
        v = np.fmod(v, span) if largest > 2.0**SAFE_BITS else v
    else:
        v = np.clip(v, low.astype(np.float64) - 1, high.astype(np.float64) + 1)
    floor = np.floor(v)
    rest = v - floor
    if rounding == "RND":
        up = rest >= 0.5
    elif rounding == "RND_CONV":
        up = (rest > 0.5) | (rest == 0.5) & (np.mod(floor, 2) == 1)
    elif rounding == "TRN":
        up = np.zeros_like(rest, bool)
    else:
        raise ValueError(f"rounding is {rounding!r}; hardware has RND, TRN and RND_CONV")
    return overflow(floor.astype(np.int64) + up, mode, low, high)
