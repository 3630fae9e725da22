"""DAQ: steps against samples and published tables, what outliers, scales and zeros do, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slots as of_tests

from hgqjax import methods, quantizers, ranges, resources
from hgqjax.methods.allocation import clipping

SIGNED = quantizers.Allocated(overflow="SAT_SYM", signed=True, bits=(0, 12))
EITHER = quantizers.Allocated(overflow="SAT_SYM", bits=(0, 12))
RNG = np.random.default_rng(0)


@jax.jit
def of_four_bits(x):
    """Of weights, neuron by neuron."""
    slot = of_tests.slot(SIGNED, x, shape=(1, x.shape[1]))
    params = clipping.of_bits(slot, 4)
    return params, SIGNED.quantize(x, params, ranges=slot.range)


def test_steps_are_the_best_of_grids_with_a_zero():
    best = [clipping.optimal_step(bits) for bits in range(1, 9)]
    np.testing.assert_allclose(best, [1.224, 0.651, 0.354, 0.193, 0.1055, 0.0573, 0.0309, 0.0165], rtol=3e-3)
    samples = np.abs(RNG.normal(size=200_000))
    for bits in (1, 3):
        steps = np.linspace(0.8, 1.2, 41) * best[bits - 1]
        errors = [np.mean((samples - np.minimum(np.floor(samples / s + 0.5), 2**bits - 1) * s) ** 2) for s in steps]
        assert abs(steps[np.argmin(errors)] / best[bits - 1] - 1) < 0.03
        assert min(errors) == pytest.approx(clipping.normal_error(best[bits - 1], bits), rel=0.02)


@pytest.mark.parametrize(("bits", "mean", "worst"), [(1, 1.10, 1.3), (3, 1.27, 1.8), (7, 1.51, 2.4)])
def test_the_price_of_a_power_of_two(bits, mean, worst):
    """The better of two neighbours; the nearest in log2 costs 2.4, at most 9.9, at 8 bits."""
    least = clipping.normal_error(clipping.optimal_step(bits), bits)
    for_sigmas = [clipping.least_step(bits) * 2.0**shift for shift in np.linspace(0, 1, 101)[1:]]  # all that a power of two can be
    ratios = [clipping.normal_error(step, bits) / least for step in for_sigmas]
    assert np.mean(ratios) == pytest.approx(mean, abs=0.02) and max(ratios) == pytest.approx(worst, abs=0.06)
    assert all(clipping.normal_error(s, bits) <= min(clipping.normal_error(v, bits) for v in (s / 2, 2 * s)) * 1.0001 for s in for_sigmas)


def test_outliers_scales_and_zeros():
    x = RNG.normal(size=(10_000, 4)).astype(np.float32) * [1.0, 1.3, 1.7, 0.0]
    params, q = of_four_bits(jnp.asarray(x))
    f, i = (np.asarray(params[name])[0] for name in ("f", "i"))
    assert (i[:3] + f[:3] == 3).all() and (np.asarray(q)[:, 3] == 0).all() and i[3] + f[3] <= -1
    assert 0.6 < np.mean((x[:, 0] - np.asarray(q)[:, 0]) ** 2) / clipping.normal_error(clipping.optimal_step(3), 3) < 1.8
    far = x.copy()
    far[0, :3] = 100.0 * np.array([1.0, 1.3, 1.7])
    moved, _ = of_four_bits(jnp.asarray(far))
    assert set((f - np.asarray(moved["f"])[0])[:3]) <= {0.0, 1.0}
    finer, _ = of_four_bits(jnp.asarray(x / 8))
    np.testing.assert_array_equal(np.asarray(finer["f"])[0, :3], f[:3] + 3)
    np.testing.assert_array_equal(np.asarray(finer["i"])[0, :3], i[:3] - 3)


def test_activations_have_a_sign_where_they_need_one():
    x = RNG.normal(size=(400, 2)).astype(np.float32)
    x[:, 0] = np.maximum(x[:, 0], 0)
    slot = of_tests.slot(EITHER, x, role="activation")
    (params,) = clipping.Clipping(bits=4).allocate([slot], of_tests.moment([slot]))
    k, i, f = (np.asarray(v)[0] for v in EITHER.format(params, slot.range))
    np.testing.assert_array_equal(k, [0, 1])
    np.testing.assert_array_equal(k + i + f, [4, 4])
    q = np.asarray(EITHER.quantize(jnp.asarray(x), params, ranges=slot.range))
    assert len(np.unique(q[:, 0])) <= 16 and np.abs(q[:, 1]).max() <= 7 * 2.0 ** -f[1]
    unseen = slot._replace(values=lambda: jnp.zeros((400, 2)), range=ranges.Range(slot.range.low, slot.range.high))
    assert np.isfinite(np.asarray(clipping.of_bits(unseen, 4)["f"])).all()


def test_illegal_bits_are_named():
    with pytest.raises(ValueError, match="weight_bits is 1; 2 .. 12 are legal"):
        methods.Daq(weight_bits=1)
    with pytest.raises(ValueError, match="after is 1.5; a share of the run"):
        methods.Daq(after=1.5)


@pytest.mark.slow
def test_hardware_has_the_words_of_given_bits():
    (last,), (model,) = of_tests.front_of(methods.Daq(bits=5, weight_bits=4), (0.0,), resources.Ebops())
    assert last["val_score"] > 0.6
    for op in of_tests.words(model).operations:
        if hasattr(op, "kernel"):
            assert np.abs(op.kernel.integers).max() <= 7 and np.max(op.kernel.bits) <= 3  # and a sign
