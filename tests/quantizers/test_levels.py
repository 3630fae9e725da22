"""The quantizers that are no plain fixed point: every level listed, the nearest found by search; gradients by their formulas."""

import bisect
import functools
import itertools
from fractions import Fraction

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from hgqjax import quantizers, ranges

LN2 = np.log(2)
ROWS = 256


def power_of_two_levels(quantizer, i):
    positive = [Fraction(2) ** (i - n) for n in range(1, quantizer.powers + 1)]
    return sorted([-v for v in positive] + [Fraction(0)] + positive)


def minifloat_levels(m, e, c):
    span = max(2 ** (e - 1), 1) if e else 1
    least, greatest = c + 1 - span, c + span - 1
    subnormal = [Fraction(n, 2**m) * Fraction(2) ** least for n in range(2**m)]
    normal = [(1 + Fraction(n, 2**m)) * Fraction(2) ** p for p, n in itertools.product(range(least, greatest + 1), range(2**m))]
    return sorted({sign * v for sign in (-1, 1) for v in subnormal + normal})


def nearest(levels, x, ties):
    """The nearest level; of two, the one that `ties` ranks higher."""
    at = bisect.bisect(levels, Fraction(float(x)))
    return min(levels[max(at - 1, 0) : at + 1], key=lambda level: (abs(level - Fraction(float(x))), -ties(level)))


def points(levels):
    """ROWS numbers: levels, midpoints, their neighbours one ulp beside, and numbers beyond, float32."""
    exact = [float(v) for v in levels] + [float((a + b) / 2) for a, b in itertools.pairwise(levels)]
    exact = np.array([*exact, 3 * float(levels[-1]), -3 * float(levels[-1])], np.float32)
    x = np.concatenate([exact, np.nextafter(exact, np.float32(np.inf)), np.nextafter(exact, np.float32(-np.inf))])
    x = np.where(abs(x) < np.finfo(np.float32).tiny, 0, x).astype(np.float32)
    return np.random.default_rng(len(x)).choice(x, ROWS)


@functools.cache
def compiled(quantizer):
    return jax.jit(quantizer.quantize)


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
@hypothesis.given(i=st.integers(-10, 10))
@hypothesis.settings(max_examples=20)
def test_power_of_two_is_the_nearest_level(bits, i):
    quantizer = quantizers.PowerOfTwo(bits=bits)
    levels = power_of_two_levels(quantizer, i)
    x = points(levels)
    q = np.asarray(compiled(quantizer)(x, {"i": jnp.full((1,), i, jnp.float32)}))
    assert [Fraction(float(v)) for v in q] == [nearest(levels, v, abs) for v in x]


@hypothesis.given(m=st.integers(0, 4), e=st.integers(0, 4), c=st.integers(-6, 6))
@hypothesis.settings(max_examples=60)
def test_minifloat_is_the_nearest_level(m, e, c):
    levels = minifloat_levels(m, e, c)
    x = points(levels)
    params = {name: jnp.full((1,), v, jnp.float32) for name, v in (("m", m), ("e", e), ("c", c))}
    q = np.asarray(compiled(quantizers.Minifloat())(x, params))
    zero = levels.index(Fraction(0))

    def even(level):  # its significand: those of levels beside differ by one; without mantissa bits a tie is of 1 and 2, or of 0 and 1
        if m == 0:
            return abs(level) or 1e9
        return -((bisect.bisect_left(levels, level) - zero) % 2)

    assert [Fraction(float(v)) for v in q] == [nearest(levels, v, even) for v in x]


def test_binary_and_ternary_by_hand():
    x = jnp.array([-3.0, -0.25, -0.0, 0.0, 0.1, 0.25, 9.0], jnp.float32)
    i = {"i": jnp.zeros((1,))}
    assert quantizers.Binary().quantize(x, i).tolist() == [-0.5, -0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert quantizers.Ternary().quantize(x, i).tolist() == [-0.5, 0, 0, 0, 0, 0.5, 0.5]
    assert quantizers.Ternary(keep_negative=False).quantize(x, i).tolist() == [0, 0, 0, 0, 0, 0.5, 0.5]


def gradients(quantizer, x, **params):
    """dq/dx and dq/d each parameter of one number."""
    values = {name: jnp.float32(v) for name, v in params.items()}
    g = jax.grad(lambda x, p: quantizer.quantize(x, p), argnums=(0, 1))(jnp.float32(x), values)
    return [float(g[0]), *(float(g[1][name]) for name in params)]


@pytest.mark.parametrize(
    ("quantizer", "x", "params", "want"),
    [
        # the scale of Binary: dq/di = ln2 q
        (quantizers.Binary(), 0.3, {"i": 0.0}, [1, LN2 * 0.5]),
        (quantizers.Binary(), -1.5, {"i": 0.0}, [0, -LN2 * 0.5]),
        # Ternary, and the two smallest levels of PowerOfTwo: dq/di = ln2 (q - x)
        (quantizers.Ternary(), 0.3, {"i": 0.0}, [1, LN2 * (0.5 - 0.3)]),
        (quantizers.Ternary(), 0.1, {"i": 0.0}, [1, LN2 * (0 - 0.1)]),
        (quantizers.Ternary(), -0.8, {"i": 0.0}, [0, LN2 * -0.5]),
        (quantizers.PowerOfTwo(bits=3), 0.2, {"i": 1.0}, [1, LN2 * (0.25 - 0.2)]),
        (quantizers.PowerOfTwo(bits=3), 0.1, {"i": 1.0}, [1, LN2 * (0 - 0.1)]),
        (quantizers.PowerOfTwo(bits=3), 0.6, {"i": 1.0}, [1, 0]),
        (quantizers.PowerOfTwo(bits=3), -1.2, {"i": 1.0}, [0, LN2 * -1.0]),
        # Minifloat m=1, e=2 (E=2), c=0: normal 0.5 .. 3, subnormal 0 .. 0.5 by 0.25, dE/de = 2 ln2
        (quantizers.Minifloat(), 1.2, {"m": 1.0, "e": 2.0, "c": 0.0}, [1, LN2 * 0.2, 0, 0]),
        (quantizers.Minifloat(), 0.3, {"m": 1.0, "e": 2.0, "c": 0.0}, [1, LN2 * 0.05, LN2 * 0.05 * 2 * LN2, -LN2 * 0.05]),
        (quantizers.Minifloat(), -9.0, {"m": 1.0, "e": 2.0, "c": 0.0}, [0, -LN2 * 1.0, -LN2 * 3 * 2 * LN2, -LN2 * 3]),
    ],
)
def test_gradients_follow_the_formulas(quantizer, x, params, want):
    np.testing.assert_allclose(gradients(quantizer, x, **params), want, atol=1e-6)


def test_ternary_is_the_smallest_power_of_two():
    x = np.random.default_rng(0).normal(size=100).astype(np.float32)
    i = {"i": jnp.zeros((1,))}
    assert np.array_equal(quantizers.Ternary().quantize(x, i), quantizers.PowerOfTwo(bits=2).quantize(x, i))


def test_limits_of_minifloat_differentiate_as_they_move():
    """The greatest number is (2 - 2^-m) 2^(c+E-1): its true slopes, by differences over whole widths, have the signs of the gradients."""
    params = {"m": 2.0, "e": 3.0, "c": 0.0}

    def top(params):
        return float(quantizers.Minifloat().quantize(jnp.float32(1e6), {name: jnp.float32(v) for name, v in params.items()}))

    q = [top({**params, name: params[name] + 1}) for name in params]
    here = top(params)
    assert here == (2 - 2**-2) * 2**3 and q == [(2 - 2**-3) * 2**3, (2 - 2**-2) * 2**7, (2 - 2**-2) * 2**4]
    assert all(g > 0 for g in gradients(quantizers.Minifloat(), 1e6, **params)[1:])


def test_each_value_has_its_own_format():
    x = jnp.array([[0.5, -3.0, 0.0]], jnp.float32)
    seen = ranges.observe(x, (1, 3))
    pot = quantizers.PowerOfTwo(bits=4).format({"i": jnp.full((1, 1), 2.0)}, seen)
    assert [v.tolist()[0] for v in pot] == [[0, 1, 0], [0, 2, 0], [1, -1, 0]]
    mini = quantizers.Minifloat().format({"m": jnp.full((1, 1), 2.0), "e": jnp.full((1, 1), 3.0), "c": jnp.zeros((1, 1))}, seen)
    assert (mini.i + mini.f).tolist() == [[3, 3, 0]] and mini.k.tolist() == [[0, 1, 0]]


def test_scales_start_at_least_error():
    w = jnp.asarray(np.random.default_rng(1).normal(0, 0.1, (1, 2000)), jnp.float32)
    for quantizer in (quantizers.Binary(), quantizers.Ternary()):
        start = quantizer.init((1, 1), sample=w)
        error = [float(jnp.mean((quantizer.quantize(w, {"i": start["i"] + d}) - w) ** 2)) for d in (-1, 0, 1)]
        assert error[1] == min(error)
    start = quantizers.PowerOfTwo().init((1, 1), sample=w)["i"][0, 0]
    assert 2 ** (start - 1) / 1.34 < float(abs(w).max()) < 2 ** (start - 1) * 1.5
    top = quantizers.Minifloat().init((1, 1), sample=w)
    assert float(abs(quantizers.Minifloat().quantize(w, top) - w).max()) < 2.0**-3 * float(abs(w).max())


def test_zero_samples_keep_the_start():
    zero = jnp.zeros((1, 8))
    assert quantizers.Binary(i0=3.0).init((1, 1), sample=zero)["i"] == 3 and quantizers.Ternary(i0=3.0).init((1, 1), sample=zero)["i"] == 3
    assert quantizers.PowerOfTwo(i0=3.0).init((1, 1), sample=zero)["i"] in (0, 3)
