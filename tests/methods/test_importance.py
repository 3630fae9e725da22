"""PTILMPQ: regions against fixed point and their levels, importance, shares and budgets, down to exported words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slots as of_tests

from hgqjax import methods, quantizers, ranges, resources
from hgqjax.methods.allocation import importance
from hgqjax.methods.allocation.importance import Importance

REGIONS = quantizers.Regions(bits=(2, 6))
RNG = np.random.default_rng(0)
quantized = jax.jit(lambda x, params: REGIONS.quantize(x, params))


def params_of(b, i, t):
    return REGIONS.given(REGIONS.init((1, 1)), float(b), float(i), float(t))


def test_levels_are_those_of_two_regions():
    x = jnp.linspace(-8.0, 8.0, 4001)[:, None]
    for b, i, t in ((3, 0, 1), (2, 1, 2), (4, -1, 2)):
        d = 2.0 ** (i - b)
        magnitudes = np.array([n * d for n in range(2**b)] + [2.0**i + n * 2.0**t * d for n in range(2**b)])
        q = np.asarray(quantized(x, params_of(b, i, t)))
        assert set(np.abs(q).ravel()) == set(magnitudes)
        nearest = np.abs(np.asarray(x) - np.sign(np.asarray(x)) * magnitudes[None]).min(1)
        np.testing.assert_allclose(np.abs(q - np.asarray(x))[:, 0], nearest, atol=1e-6)
        fmt = REGIONS.format(params_of(b, i, t), ranges.observe(x, x.shape))
        bits = np.asarray(fmt.i + fmt.f)
        assert set(bits[np.abs(q) < 2.0**i]) == {b} and set(bits[np.abs(q) >= 2.0**i]) == {b + 1}


def test_without_a_tail_it_is_fixed_point():
    x = jnp.asarray(RNG.normal(size=(500, 1)) * 2, jnp.float32)
    fixed = quantizers.Fixed(i=1, f=3, overflow="SAT_SYM")
    np.testing.assert_array_equal(quantized(x, params_of(4, 1, 0)), fixed.quantize(x, fixed.init((1, 1))))


WEIGHTS = RNG.standard_t(3, size=(60, 6)) * np.array([1.0, 0.1, 3.0, 1.0, 1.0, 0.0])
SLOT = of_tests.slot(REGIONS, WEIGHTS, shape=(1, 6))


def test_regions_never_have_a_larger_error():
    def error(params):
        return np.sum((np.asarray(REGIONS.quantize(SLOT.values(), params)) - WEIGHTS) ** 2, 0)

    for bits in (2, 4):
        found = importance.fitted(SLOT, bits)
        plain = REGIONS.given(SLOT.params, float(bits), importance.integer_bits(SLOT), 0.0)
        assert (error(found) <= error(plain) * (1 + 1e-6)).all() and error(found).sum() < 0.6 * error(plain).sum()
        assert float(np.max(found["t"])) > 0 and error(found)[5] == 0


FISHER = np.ones((60, 6)) * np.array([1.0, 1.0, 1.0, 9.0, 0.0, 1.0])
ACTIVATION = quantizers.Allocated(overflow="SAT_SYM", bits=(8, 8))
SLOTS = [
    of_tests.slot(REGIONS, WEIGHTS, FISHER, name="a", layer="a", shape=(1, 6)),
    of_tests.slot(ACTIVATION, RNG.normal(size=(50, 3)), role="activation", name="x", layer="a"),
    of_tests.slot(REGIONS, WEIGHTS, FISHER, name="b", layer="b", shape=(1, 6)),
]


def divergence(n, params):
    return jnp.asarray([2.0, 0.0, 1.0])[n]


def bits_of(found):
    return np.concatenate([np.asarray(found[n]["b"])[0] for n in (0, 2)])


def test_the_most_important_channels_get_the_bits():
    errors = [np.asarray(importance._error(s, importance.fitted(s, 2)))[0] for s in (SLOTS[0], SLOTS[2])]
    order = np.argsort(-np.concatenate([2 * errors[0], errors[1]]), kind="stable")
    for share, many in ((0.0, 0), (0.25, 3)):
        allocation = Importance(bits=(2, 6), share=share)
        found = of_tests.compiled(allocation, SLOTS, divergences=of_tests.divergences(divergence))(0.0)
        assert set(np.flatnonzero(bits_of(found) == 6)) == set(order[:many]) and (bits_of(found)[order[many:]] == 2).all()
        assert set(np.asarray(found[1]["i"] + found[1]["f"]).ravel()) == {8.0}


def test_a_budget_decides_how_many():
    allocate = of_tests.compiled(Importance(bits=(2, 6)), SLOTS, divergences=of_tests.divergences(divergence))

    def cost(found):
        return sum(float(jnp.sum(b)) for b in of_tests.bits(SLOTS, found))

    assert cost(allocate(1.0)) == 12 * 2 + 3 * 8 and all(float(jnp.max(allocate(1.0)[n]["t"])) == 0 for n in (0, 2))
    counts = []
    for budget in (47.0, 60.0, 68.0, 77.0, 200.0):
        found = allocate(budget)
        counts.append(int((bits_of(found) == 6).sum()))
        assert budget < 48 or cost(found) <= budget
    assert counts[0] == 0 and counts == sorted(counts) and counts[-1] == 12 > counts[2] > 0


def test_illegal_choices_are_named():
    with pytest.raises(ValueError, match=r"bits is \(4, 4\), activation_bits 8; few and many"):
        methods.Ptilmpq(bits=(4, 4))
    with pytest.raises(ValueError, match="after is 1.0, share 1.5; shares within"):
        methods.Ptilmpq(share=1.5)


@pytest.mark.slow
def test_shares_and_budgets_in_one_program_down_to_words():
    budgets = (1.0, 2200.0, 2200.0, 1e9, 0.0)
    last, models = of_tests.front_of(methods.Ptilmpq(), budgets, resources.Ebops())
    assert last[1] | {"member": 2} == last[2]
    costs = [row["cost"] for row in last]
    assert costs[0] < costs[1] <= 2200 < costs[3] and costs[0] < costs[4] < costs[3]
    for model, row in zip(models, last, strict=True):
        assert float(resources.ebops(model).total) == row["cost"]
        of_tests.words(model)
