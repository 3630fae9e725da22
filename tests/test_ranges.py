"""Observed ranges: the fewest integer bits that hold them."""

from fractions import Fraction

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from hgqjax import fixed_point, ranges, testing
from hgqjax.granularity import widths_shape


@hypothesis.given(
    f=st.integers(-3, 8), i=st.integers(-4, 6), seed=st.integers(0, 2**31), rounding=st.sampled_from(["RND", "TRN", "RND_CONV"])
)
@hypothesis.settings(max_examples=100)
def test_integer_bits_hold_the_range_and_one_less_does_not(f, i, seed, rounding):
    x = testing.numbers_near_edges(np.random.default_rng(seed), 1, i, f, 32)
    x = x[abs(x) < 2.0**14]
    seen = ranges.observe(jnp.asarray(x), (1,))
    k, bits = (float(v[0]) for v in ranges.integer_bits(seen, jnp.full((1,), float(f)), rounding))
    exact = [testing.exact_quantize(float(v), 1, 60, f, rounding) for v in x]
    assert k == float(min(exact) < 0)

    largest = max(abs(q) for q in exact)
    assert largest < Fraction(2) ** int(bits)
    assert bits == -f if largest == 0 else largest >= Fraction(2) ** int(bits - 1)
    kept = [testing.exact_quantize(float(v), int(k), int(bits), f, rounding, "WRAP") for v in x]
    assert kept == exact


def test_a_lone_negative_step_costs_a_magnitude_bit():
    k, i = ranges.integer_bits(ranges.Range(jnp.float32(-0.25), jnp.float32(0.0)), jnp.float32(2.0), "RND")
    assert (float(k), float(i + 2)) == (1.0, 1.0)  # not the free set {-1, 0}


def test_ranges_contain_zero_and_never_forget_without_decay():
    seen = ranges.update(ranges.empty((1, 2)), jnp.array([[3.0, 1.0], [2.0, 5.0]]))
    seen = ranges.update(seen, jnp.array([[-1.0, 1.0]]))
    assert seen.low.tolist() == [[-1.0, 0.0]] and seen.high.tolist() == [[3.0, 5.0]]


def test_decay_shrinks_both_ends():
    old = ranges.Range(jnp.full((1,), -8.0), jnp.full((1,), 4.0))
    new = ranges.update(old, jnp.array([1.0]), decay_bits=1.0)
    assert (float(new.low[0]), float(new.high[0])) == (-4.0, 2.0)
    assert float(ranges.update(old, jnp.array([1.0]), decay_bits=float("inf")).high[0]) == 1.0


def test_nan_shows():
    assert np.isnan(ranges.update(ranges.empty((1,)), jnp.array([jnp.nan])).high[0])


def test_shape_must_fit():
    with pytest.raises(ValueError, match="needs the rank of x"):
        ranges.observe(jnp.zeros((2, 3)), (3,))


def test_granularity():
    assert widths_shape((3, 4, 5), "element") == (3, 4, 5)
    assert widths_shape((3, 4, 5), "channel") == (1, 1, 5)
    assert widths_shape((3, 4, 5), "tensor") == (1, 1, 1)
    with pytest.raises(ValueError, match="granularity is 'layer'; legal are element, channel, tensor"):
        widths_shape((3,), "layer")


def test_stochastic_rounding_counts_outward():
    k, i = ranges.integer_bits(ranges.Range(jnp.float32(0.0), jnp.float32(1.9)), jnp.float32(0.0), "S_RND")
    assert (float(k), float(i)) == (0.0, 2.0) and fixed_point.Rounding.__args__[-1] == "S_RND"
