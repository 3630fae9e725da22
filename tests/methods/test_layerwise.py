"""OHQ: the integer program against brute force, budgets, sensitivities, and a front down to exported words."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slots as of_tests
from flax import nnx

from hgqjax import data as data_
from hgqjax import layers, methods, quantizers, resources, runs, scores, training
from hgqjax.config import ConfigError
from hgqjax.layers import allocation
from hgqjax.layers.quantize import _Quantizer as Quantizer
from hgqjax.methods.allocation import layerwise
from hgqjax.methods.allocation.layerwise import CELLS, Layerwise, integer_program
from hgqjax.runs import checks, networks

RNG = np.random.default_rng(0)
EVERY = np.array(list(itertools.product(range(9), repeat=4)))
LAYERS = np.arange(4)
solved = jax.jit(integer_program)


def tables(whole):
    """Losses and costs of 4 layers and 9 pairs of bits (3 x 3), and both of every choice."""
    loss = RNG.exponential(size=(4, 9)) * RNG.choice([0.1, 1.0, 10.0], size=(4, 1))
    cost = RNG.integers(1, 1500, size=(4, 9)) * 1.0 if whole else RNG.uniform(1, 1500, size=(4, 9))
    return loss.astype(np.float32), cost.astype(np.float32), loss[LAYERS, EVERY].sum(1), cost[LAYERS, EVERY].sum(1)


@pytest.mark.parametrize("whole", [True, False])
def test_no_choice_within_the_budget_has_less_loss(whole):
    for _ in range(8):
        loss, cost, losses, costs = tables(whole)
        for budget in (CELLS,) if whole else (700.0, 2000.0, 3777.0):
            found = np.asarray(solved(loss, cost, jnp.float32(budget)))
            spent, reached = cost[LAYERS, found].sum(), loss[LAYERS, found].sum()
            if costs.min() > budget:
                assert (found == cost.argmin(1)).all()
                continue
            within = costs <= (budget if whole else budget * (1 - 4 / CELLS))
            assert spent <= budget * (1 + 1e-6) and reached <= losses[within].min() * (1 + 1e-6)


def test_choices_of_equals_budgets_and_orders():
    loss, cost, _, costs = tables(True)
    assert (np.asarray(solved(0 * loss, cost, jnp.float32(CELLS))) == cost.argmin(1)).all()  # nothing to lose: the least cost
    assert (np.asarray(solved(loss, cost, jnp.float32(costs.max()))) == loss.argmin(1)).all()
    order = np.array([2, 0, 3, 1])
    budget = jnp.float32(np.median(costs))
    np.testing.assert_array_equal(solved(loss[order], cost[order], budget), np.asarray(solved(loss, cost, budget))[order])
    assert (np.asarray(solved(loss, cost, jnp.float32(0))) == cost.argmin(1)).all()


SIGNED = quantizers.Allocated(overflow="SAT_SYM", signed=True, bits=(1, 4))
EITHER = quantizers.Allocated(overflow="SAT_SYM", bits=(1, 4))
WEIGHTS = RNG.normal(size=(5, 3))
SLOTS = [
    of_tests.slot(quantizer, WEIGHTS * scale, role=role, name=f"{layer}{role}", layer=layer, shape=(1, 3))
    for layer, scale in (("a", 1.0), ("b", 2.0), ("c", 1.0))
    for quantizer, role in ((EITHER, "activation"), (SIGNED, "kernel"))
]
SENSITIVE = np.array([3.0, 1.0, 0.1, 0.2, 0.0, 0.0], np.float32)
"""Of each slot; nothing depends on the layer c."""
PRICES = [1.0, 4.0, 2.0, 1.0, 1.0, 1.0]


def divergence_of(model):
    """Of the outputs from those in floats, Kullback-Leibler, on the rows that the allocation has."""
    logs = []
    for mode in ("float", "observe"):
        model.set_mode(mode)
        logs.append(jax.nn.log_softmax(model(jnp.asarray(of_tests.ROWS[:256]))))
    model.set_mode("train")
    return float(jnp.mean(jnp.sum(jnp.exp(logs[0]) * (logs[0] - logs[1]), -1)))


def divergence(n, params):
    return SENSITIVE[n] * jnp.mean(4.0 ** -(params["i"] + params["f"]))


allocate = of_tests.compiled(Layerwise(bits=(1, 4)), SLOTS, prices=PRICES, divergences=of_tests.divergences(divergence))


def bits_of(widths):
    """Magnitude bits of each slot: one number each, all over its groups."""
    found = [np.unique(np.asarray(params["i"] + params["f"])) for params in widths]
    assert all(len(bits) == 1 for bits in found)
    return np.array([bits[0] for bits in found])


def test_layers_get_the_bits_of_least_divergence():
    every = np.array(list(itertools.product((1, 2, 3, 4), repeat=6)))
    costs, losses = 3 * (every * PRICES).sum(1), (SENSITIVE * 4.0**-every).sum(1)
    found = []
    for budget in (31.0, 45.0, 70.0, 95.0, 200.0):
        bits = bits_of(allocate(budget))
        assert 3 * (bits * PRICES).sum() <= budget
        assert (SENSITIVE * 4.0**-bits).sum() <= losses[costs <= budget * (1 - 3 / CELLS)].min() * (1 + 1e-5)
        assert (bits[4:] == 1).all()  # a tensor that no output depends on
        found.append((SENSITIVE * 4.0**-bits).sum())
    assert found == sorted(found, reverse=True)
    assert (bits_of(allocate(1.0)) == 1).all()


def test_divergences_are_those_of_one_quantized_tensor_after_the_other():
    model = networks.Mlp(method=methods.Ohq(), hidden=(3,)).build((4,), 3)(nnx.Rngs(0))
    x = jnp.asarray(of_tests.ROWS[:256])
    layers.adapt(model, x)
    names = [name for name, quantizer in model.named(Quantizer) if quantizer.quantizer.allocation is not None]
    options = {n: _given(dict(model.named(Quantizer))[name], (2.0, 5.0)) for n, name in enumerate(names)}
    task = layers.Task(
        (x,), jnp.zeros(256, jnp.int32), None, scores.Accuracy().loss, scores.Accuracy().divergence, lambda model: {}, jnp.zeros(())
    )
    moment = allocation._moment(model, names, jax.random.key(0), jnp.zeros(()), task)
    found = jax.jit(moment.divergences)(options)
    assert found.shape == (len(names), 2) and np.all(found[:, 0] > found[:, 1])
    for n, name in enumerate(names):
        for which in range(2):
            copy = nnx.clone(model)
            dict(copy.named(Quantizer))[name].set_params({key: value[which] for key, value in options[n].items()})
            assert float(found[n, which]) == pytest.approx(divergence_of(copy), rel=1e-3)
    few = jax.jit(moment.divergences)({2: options[2]})
    np.testing.assert_allclose(few, found[2:3], rtol=1e-5)


def _given(quantizer, bits):
    """Parameters with each of these numbers of fractional bits, stacked."""
    each = [quantizer.quantizer.given(quantizer.params, f) for f in bits]
    return {name: jnp.stack([params[name] for params in each]) for name in each[0]}


def test_what_no_layer_is_charged_for_is_left_out_of_the_budget():
    assert [float(layerwise.spendable(lambda s: 2 * s, *map(jnp.float32, pair))) for pair in ((0.0, 0.0), (-3.0, 5.0))] == [0.0, 0.0]
    found = float(layerwise.spendable(lambda s: jnp.floor(s) * 2, jnp.float32(10.0), jnp.float32(11.0)))
    assert found < 6 and np.floor(found) * 2 == 10.0


def test_bad_bits_are_named():
    with pytest.raises(ValueError, match=r"bits is \(4, 2\); fewest and most magnitude bits within 1..12"):
        methods.Ohq(bits=(4, 2))
    with pytest.raises(ValueError, match="after is 0.0; a share"):
        methods.Ohq(after=0.0)


@pytest.mark.parametrize("method", [methods.Ohq(), methods.Sfmp()], ids=repr)
def test_a_sweep_without_a_budget_is_refused(method):
    sweep = runs.Sweep(rows=600, model=networks.Mlp(method=method, hidden=(8,)), train=training.Config(batch_size=64))
    with pytest.raises(ConfigError, match="points_at is empty, and this method needs a cost to reach"):
        checks.before_training(sweep, data_.load("jets", rows=600), "", 1)


@pytest.mark.slow
def test_one_program_has_the_front_and_hardware_its_words():
    budgets = (330.0, 500.0, 500.0, 1e9)
    last, models = of_tests.front_of(methods.Ohq(), budgets, resources.Ebops())
    assert last[1] | {"member": 2} == last[2]  # the same key, the same bits
    costs = [row["cost"] for row in last]
    assert costs[0] <= 330 < costs[1] <= 500 < costs[3] and len({row["train_loss"] for row in last}) == 1
    far = [divergence_of(model) for model in models]
    assert far[0] > far[1] > far[3] > 0
    for model, row in zip(models, last, strict=True):
        assert float(resources.ebops(model).total) == row["cost"]
        of_tests.words(model)
