"""Soft mixtures of grids against their formulas: DQA, CPQ with DropBits."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slots as of_tests

from hgqjax import methods, quantizers, ranges
from hgqjax.methods.allocation.dropping import Dropping

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


CPQ = quantizers.Cpq(least=1, most=3)


def gates(*logits):
    """Parameters with these logits, and levels from -7 to 7."""
    return CPQ.init((1, 1)) | {"drop": jnp.array([[logits]], jnp.float32), "f": jnp.zeros((1, 1))}


@functools.partial(jax.jit, static_argnums=2)
@functools.partial(jax.vmap, in_axes=(0, None, None))
def dropped(key, params, quantizer=CPQ):
    return quantizer.sample(2 * X, params, key=jax.random.key(key), temperature=jnp.ones(()))


def test_cpq_drops_its_highest_bits_together():
    saturated = [np.clip(np.floor(2 * X + 0.5), -top, top) for top in (1, 3, 7)]
    found = np.asarray(dropped(jnp.arange(400), gates(0.8, -0.4), CPQ))
    kinds = [np.all(found == one, axis=(1, 2)) for one in saturated]
    assert np.all(sum(kind.astype(int) for kind in kinds) == 1)  # each draw is one plain grid
    there = 1 / (1 + np.exp([-0.8, 0.4]))
    expected = np.array([1 - there[0], there[0] * (1 - there[1]), there[0] * there[1]])
    errors = np.sqrt(expected * (1 - expected) / 400)
    assert np.all(np.abs(np.mean(kinds, 1) - expected) < 4 * errors)
    mean = CPQ.expected_format(gates(0.8, -0.4))
    assert float((mean.i + mean.f)[0, 0]) == pytest.approx(expected @ [1, 2, 3], rel=1e-6)
    np.testing.assert_array_equal(found[:50], dropped(jnp.arange(50), gates(0.8, -0.4), CPQ))  # a key decides
    for logits, one in (((30, 30), saturated[2]), ((-30, 30), saturated[0])):  # a bit needs all below it
        np.testing.assert_array_equal(dropped(jnp.arange(3), gates(*logits), CPQ), np.stack([one] * 3))
    kif = quantizers.Kif(overflow="SAT_SYM")
    np.testing.assert_array_equal(kif.quantize(2 * X, {"i": jnp.full((1, 1), 3.0), "f": jnp.zeros((1, 1))}), saturated[2])


@pytest.mark.parametrize(
    ("sigma", "on_level", "between"), [(1 / 3, 0.964, 1.037), (1 / 4, 0.860, 1.144), (1 / 8, 0.283, 2.005), (1.0, 1, 1)]
)
def test_cpq_has_the_slope_of_the_mean_over_levels(sigma, on_level, between):
    quantizer = quantizers.Cpq(least=1, most=6, sigma=sigma)
    params = quantizer.init((1, 1)) | {"f": jnp.zeros((1, 1)), "drop": jnp.full((1, 1, 5), 30.0)}

    def value(x, params):
        return quantizer.sample(x, params, key=KEY, temperature=jnp.ones(()))

    def mean(x):
        levels = jnp.arange(-63.0, 64.0).reshape(1, 1, -1)
        share = [jax.nn.sigmoid((edge - x[..., None]) / sigma) for edge in (levels + 0.5, levels - 0.5)]
        return jnp.sum(levels * (share[0] - share[1]))

    x = jnp.array([[0.0, 0.5, 2.2, -1.3, 3.2, -33.9, 70.0]])
    slopes, found = jax.grad(lambda *at: jnp.sum(value(*at)), (0, 1))(x, params)
    np.testing.assert_allclose(slopes[0, :2], [on_level, between], atol=1e-3)
    np.testing.assert_allclose(slopes[:, :6], jax.grad(mean)(x)[:, :6], atol=1e-3)
    assert slopes[0, 6] == 0
    np.testing.assert_allclose(found["f"][0, 0], np.log(2) * jnp.sum(x * slopes - value(x, params)), rtol=1e-5)


def test_cpq_gates_have_the_difference_that_a_bit_makes():
    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def found(key, logits):
        x = jnp.array([[6.2, -2.0, 0.3]])  # saturates at 1, -1; 3, -2; 6.2, -2 with one, two, three bits
        how = {"key": jax.random.key(key), "temperature": jnp.ones(())}
        return jax.grad(lambda logits: jnp.sum(CPQ.sample(x, gates(0, 0) | {"drop": logits}, **how)))(logits)

    noise = np.stack([jax.random.logistic(jax.random.key(n), (1, 1, 2))[0, 0] for n in range(20)]) + np.float32([0.5, 0.2])
    s = 1 / (1 + np.exp(-noise * 1.5))
    z, soft = noise >= 0, 1.2 * s - 0.1
    slope = np.where((soft > 0) & (soft < 1), 1.2 * 1.5 * s * (1 - s), 0.0)
    expected = np.stack([slope[:, 0] * (1 + z[:, 1] * 3.2), slope[:, 1] * z[:, 0] * 3.2], 1)
    assert np.sum(expected > 0) > 10
    np.testing.assert_allclose(found(jnp.arange(20), gates(0.5, 0.2)["drop"])[:, 0, 0], expected, rtol=1e-4)


def test_cpq_weights_gather_at_levels():
    noise = 0.1 * jax.random.normal(KEY, (200, 1, 500))

    def distance(sigma):
        quantizer = dataclasses.replace(CPQ, sigma=sigma)

        def step(x, pull):
            slope = jax.grad(lambda x: jnp.sum(quantizer.sample(x, gates(30, 30), key=KEY, temperature=jnp.ones(()))))(x)
            return x - pull * slope, None

        x, _ = jax.jit(lambda x: jax.lax.scan(step, x, noise))(jnp.linspace(-5.5, 5.5, 500)[None])
        return float(jnp.mean(jnp.abs(x - jnp.round(x))))

    assert abs(distance(1.0) - 0.25) < 0.03 and distance(1 / 8) < 0.15  # of a wide sigma, plain: as far as chance has it


def test_cpq_choice_is_one_plain_grid_ever_after():
    params = gates(0.1, -0.2)
    assert [bool(Dropping().allocates(jnp.int32(epoch), 10)) for epoch in range(11)].index(True) == 6
    slot = of_tests.slot(CPQ, X, shape=(1, 1))._replace(params=params)
    (chosen,) = Dropping().allocate([slot], of_tests.moment([slot]))
    hard = CPQ.quantize(2 * X, params)
    np.testing.assert_array_equal(dropped(jnp.arange(20), chosen, CPQ), np.stack([hard] * 20))
    for soft, fixed in zip(CPQ.expected_format(chosen), CPQ.format(params), strict=True):
        np.testing.assert_array_equal(soft, fixed)
    assert float(sum(CPQ.format(params)[1:])[0, 0]) == 2.0 and float(sum(CPQ.format(CPQ.narrowest(params))[1:])[0, 0]) == 1.0
    seen = ranges.Range(jnp.full((1, 1), -0.4), jnp.full((1, 1), 9.0))  # no level below 0: no sign, no level below 0
    assert float(CPQ.format(params, seen).k[0, 0]) == 0
    np.testing.assert_array_equal(CPQ.quantize(jnp.array([[-3.0, 9.0]]), params, ranges=seen), [[0.0, 3.0]])


def test_cpq_drops_further_bits_in_the_order_of_their_odds_until_the_budget_holds():
    logits = [[2.0, 3.0, 0.5], [1.5, 0.2, 0.9], [-1.0, 4.0, 4.0]]  # a bit needs all below it: the least up to each counts
    quantizer = quantizers.Cpq(least=1, most=4)
    slots = [of_tests.slot(quantizer, X, shape=(1, 1), name=str(n), layer=str(n)) for n in range(3)]
    slots = [slot._replace(params=slot.params | {"drop": jnp.array([[values]])}) for slot, values in zip(slots, logits, strict=True)]
    prices = [3.0, 2.0, 1.0]
    allocate, costs = of_tests.compiled(Dropping(), slots, prices=prices), []
    for budget in (0.0, 99.0, 20.0, 19.9, 14.0, 11.0, 9.5, 6.0, 1.0):
        bits = [int(b[0, 0]) for b in of_tests.bits(slots, allocate(budget))]
        costs.append(sum(price * b for price, b in zip(prices, bits, strict=True)))
        assert costs[-1] <= (budget if budget >= 6.0 else 21.0)
    # all that is likelier there than not: 4, 4, 1 bits; then go odds of 0.2 (two of 2), 0.5 (3), 1.5 (2), 2 (two of 3)
    assert costs == [21.0, 21.0, 19.0, 19.0, 14.0, 9.0, 9.0, 6.0, 6.0]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"least": 0}, "least is 0, most 7; whole numbers"),
        ({"least": 5, "most": 4}, "least is 5, most 4; whole numbers"),
        ({"sigma": 0.0}, "sigma is 0.0; a width of 0.0625 to 1 steps"),
        ({"rounding": "TRN"}, "rounding is 'TRN'; the likeliest level is the nearest"),
        ({"keep": 1.0}, "keep is 1.0; a probability above 0 and below 1 is needed"),
    ],
)
def test_cpq_refuses(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        quantizers.Cpq(**fields)


def test_methods_of_mixtures_refuse_what_they_cannot_choose_from():
    with pytest.raises(ValueError, match=r"weight_bits is \(1, 4\); one or more numbers of bits within 2..17"):
        methods.Dqa(weight_bits=(1, 4))
    with pytest.raises(ValueError, match=r"bits is \(3, 3\); one or more different"):
        methods.Dqa(activation_bits=(3, 3))
    with pytest.raises(ValueError, match=r"weight_bits is \(1, 8\); fewest and more bits within 2..17"):
        methods.Cpq(weight_bits=(1, 8))
    with pytest.raises(ValueError, match="after is 0.0; a share of the run within 0..1"):
        methods.Cpq(search=0.0)
