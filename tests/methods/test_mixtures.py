"""Soft mixtures of grids against their formulas: DQA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgqjax import methods, quantizers, ranges

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)) * 2, jnp.float32)
SEEN = ranges.observe(X, (1, 1))


def mixture(quantizer, params, temperature, x=X, seen=SEEN):
    return quantizer.sample(x, params, key=KEY, temperature=jnp.float32(temperature), ranges=seen)


def test_dqa_attention_is_that_of_the_paper_and_cools():
    quantizer = quantizers.Dqa(bits=(2, 4, 8))
    params = quantizer.init((1, 1))
    np.testing.assert_allclose(params["alpha"][0, 0], [0.8571, 0.7143, 0.4286], atol=5e-5)
    start, end = (quantizer.temperature(jnp.float32(p)) for p in (0.0, 1.0))
    np.testing.assert_allclose([start, quantizer.temperature(jnp.float32(0.5)), end], [100.0, 3.0**0.5, 0.03], rtol=1e-5)
    np.testing.assert_allclose(quantizer.attention(params, start)[0, 0], [0.3362, 0.3341, 0.3297], atol=5e-5)
    np.testing.assert_allclose(quantizer.attention(params, end)[0, 0], [1.0, 3.3e-10, 4e-29], rtol=0.1)
    mean = quantizer.expected_format(params, SEEN, start)
    assert float((mean.i + mean.f)[0, 0]) == pytest.approx(2 * 0.3362 + 4 * 0.3341 + 8 * 0.3297, abs=1e-3)
    assert float(sum(quantizer.expected_format(params, SEEN, end)[1:])[0, 0]) == 2.0


@pytest.mark.parametrize("overflow", ["WRAP", "SAT_SYM"])
def test_dqa_mixes_plain_grids(overflow):
    quantizer, grids = quantizers.Dqa(bits=(1, 4), overflow=overflow), []
    for bits in quantizer.bits:
        plain = quantizers.Kbi(b0=float(bits), overflow=overflow)
        sample = jnp.float32(np.abs(X).max()).reshape(1, 1)
        grids.append(plain.quantize_unwrapped(X, plain.init((1, 1), sample=sample), ranges=SEEN))
        single = quantizers.Dqa(bits=(bits,), overflow=overflow)  # K = 1 is the plain grid, at any temperature
        for temperature in (100.0, 0.03):
            np.testing.assert_array_equal(mixture(single, single.init((1, 1)), temperature), grids[-1])
        np.testing.assert_array_equal(single.quantize(X, single.init((1, 1)), ranges=SEEN), grids[-1])
    alike = quantizer.init((1, 1)) | {"alpha": jnp.ones((1, 1, 2))}  # no deviation to divide by
    for temperature in (100.0, 0.03):
        np.testing.assert_allclose(mixture(quantizer, alike, temperature), (grids[0] + grids[1]) / 2, rtol=1e-6)
    slopes = jax.grad(lambda x: jnp.sum(mixture(quantizer, quantizer.init((1, 1)), 2.0, x)))(X)
    inside = np.abs(X) <= (1.5 if overflow == "SAT_SYM" else 1e9)
    np.testing.assert_allclose(slopes[inside], 1.0, rtol=1e-6)


def test_dqa_alpha_has_the_gradient_of_the_softmax_and_two_grids_too():
    quantizer = quantizers.Dqa(bits=(1, 4))
    params = quantizer.init((1, 1))
    few, many = (quantizers.Dqa(bits=(bits,)).quantize(X, quantizers.Dqa(bits=(bits,)).init((1, 1)), ranges=SEEN) for bits in (1, 4))
    found = jax.grad(lambda alpha: jnp.sum(mixture(quantizer, params | {"alpha": alpha}, 2.0)))(params["alpha"])[0, 0]
    deviation = np.std(params["alpha"][0, 0], ddof=1)
    share = np.asarray(quantizer.attention(params, jnp.float32(2.0)))[0, 0]
    expected = share[0] * share[1] * float(jnp.sum(few - many)) / (2.0 * deviation)
    np.testing.assert_allclose(found, [expected, -expected], rtol=1e-4)


def test_dqa_choice_is_one_plain_grid_ever_after():
    quantizer = quantizers.Dqa(bits=(2, 4, 8))
    params = quantizer.init((1, 1)) | {"alpha": jnp.array([[[0.1, 0.4, 0.3]]])}
    assert [bool(quantizer.reassigns(epoch, 10)) for epoch in range(10)].index(True) == 9
    assert [bool(quantizer.reassigns(epoch, 40)) for epoch in range(40)].index(True) == 36
    chosen = quantizer.reassign(params, None, progress=jnp.float32(0.9), curvature=None)
    np.testing.assert_array_equal(mixture(quantizer, chosen, 1.0), quantizer.quantize(X, params, ranges=SEEN))
    for soft, hard in zip(quantizer.expected_format(chosen, SEEN, jnp.float32(9.0)), quantizer.format(params, SEEN), strict=True):
        np.testing.assert_array_equal(soft, hard)
    assert float(sum(quantizer.format(quantizer.narrowest(params), SEEN)[1:])[0, 0]) == 2.0


def test_dqa_has_a_sign_bit_only_where_there_are_negative_values():
    quantizer = quantizers.Dqa(bits=(2, 4))
    for data, k in ((X, 1), (abs(X), 0)):
        seen = ranges.observe(data, (1, 1))
        fmt = quantizer.format(quantizer.init((1, 1)), seen)
        assert (int(fmt.k[0, 0]), int(sum(fmt)[0, 0])) == (k, 2 + k)
        assert len(np.unique(quantizer.quantize(data, quantizer.init((1, 1)), ranges=seen))) <= 2 ** (2 + k) - k


def test_methods_of_mixtures_refuse_what_they_cannot_choose_from():
    with pytest.raises(ValueError, match=r"weight_bits is \(1, 4\); one or more numbers of bits within 2..17"):
        methods.Dqa(weight_bits=(1, 4))
    with pytest.raises(ValueError, match=r"bits is \(3, 3\); one or more different"):
        methods.Dqa(activation_bits=(3, 3))
