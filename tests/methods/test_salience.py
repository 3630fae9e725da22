"""The limit of SFMP: bits against brute force and the greedy order, budgets, and a whole front down to exported words."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slots as of_tests
from flax import nnx

from hgqjax import export, layers, methods, quantizers, resources, training
from hgqjax.layers.quantize import _Quantizer
from hgqjax.methods.allocation.salience import Salience
from hgqjax.runs import networks
from hgqjax.training import schedules
from hgqjax.training.objective import Objective

QUANTIZER = quantizers.Allocated(allocation=Salience(), bits=(0, 3))
VALUES = np.array([0.9, -0.7, 0.6, 0.8])  # all of 0 integer bits, and rounded to themselves by no grid of three bits
SALIENCE = np.array([3.0, 0.4, 1.1, 0.02])
PRICES = jnp.array([2.0, 1.0, 3.0, 1.0])


@functools.partial(jax.jit, static_argnames="allocation")
@functools.partial(jax.vmap, in_axes=(0, None, None, None))
def _allocated(budget, salience, values, price, allocation=Salience()):
    slot = of_tests.slot(QUANTIZER, values, salience)
    (widths,) = allocation.allocate([slot], of_tests.moment([slot], budget, [price]))
    return widths["f"]


def allocated(budgets, salience=SALIENCE, values=VALUES, price=PRICES):
    """Fractional bits for each of `budgets`, or for one; compiled once."""
    of = np.full(50, 0.0)
    of[: np.size(budgets)] = budgets
    found = _allocated(*(jnp.asarray(v, jnp.float32) for v in (of, salience, values, price)))
    return np.asarray(found)[: np.size(budgets)] if np.ndim(budgets) else np.asarray(found)[0]


def error(f, salience=SALIENCE):
    return np.sum(salience * 4.0**-f)


def test_no_assignment_of_this_cost_has_less_error():
    every = np.array(list(itertools.product((-1, 0, 1, 2, 3), repeat=4)), np.float64)
    bits = np.maximum(every, 0)  # f = -1 prunes a value of 0 integer bits; the model has it like any other step
    costs, errors = (every * np.asarray(PRICES)).sum(1), (SALIENCE * 4.0**-every).sum(1)
    for budget in (0.0, 3.0, 7.0, 12.0, 17.0, 21.0):
        f = allocated(budget)
        spent = (np.maximum(f, 0) * np.asarray(PRICES)).sum()
        assert spent <= budget and spent + 3.0 * np.asarray(PRICES).max() > min(budget, 21.0)
        assert error(f) <= errors[costs <= (f * np.asarray(PRICES)).sum()].min() * (1 + 1e-6)
    assert bits.max() == 3


def test_it_is_the_greedy_order_of_gain_over_price():
    f, order = np.full(4, -1.0), []
    while (f < 3).any():
        gain = np.where(f < 3, SALIENCE * 4.0**-f / np.asarray(PRICES), 0)
        f[np.argmax(gain)] += 1
        order.append(f.copy())
    found = {tuple(f) for f in allocated(np.arange(0, 21.5, 0.5)).tolist()}
    assert found <= {tuple(f) for f in order} | {(-1.0,) * 4} and len(found) > 8


def test_scales_signs_zeros_and_orders_of_values():
    np.testing.assert_array_equal(allocated(9.0), allocated(9.0, 2 * SALIENCE))
    order = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(allocated(9.0)[order], allocated(9.0, SALIENCE[order], VALUES[order], PRICES[order]))
    assert len(set(allocated(6.0, np.ones(4), np.array([0.9, -0.9, 0.9, 0.9]), jnp.ones(4)))) == 1  # equal values, equal bits
    nothing = allocated(1e9, np.zeros(4))
    assert np.isfinite(nothing).all()
    assert (allocated(0.0) == -1).all() and (allocated(1e9) == 3).all()


def test_more_budget_never_costs_error():
    slots = [of_tests.slot(QUANTIZER, VALUES[:, None], SALIENCE[:, None]), of_tests.slot(QUANTIZER, VALUES[None], role="activation")]
    allocate = of_tests.compiled(Salience(), slots, prices=[PRICES[:, None], 2.0])
    found = [sum(float(jnp.sum(s.fisher() * 4.0 ** -w["f"])) for s, w in zip(slots, allocate(b), strict=True)) for b in range(0, 46, 3)]
    assert found == sorted(found, reverse=True) and found[0] > 10 * found[-1]


def test_squared_gradients_are_those_of_single_rows():
    model = networks.Mlp(method=methods.Sfmp(), hidden=(4,)).build((3,), 2)(nnx.Rngs(0))
    x, y = jax.random.normal(jax.random.key(0), (6, 3)), jnp.arange(6) % 2
    layers.adapt(model, x)
    score = Objective().score
    task = layers.Task((x,), y, None, score.loss, score.divergence, lambda model: {}, jnp.zeros(()))
    names = [name for name, _ in model.named(_Quantizer) if "1_kernel" in name or "1_input" in name]
    found = layers.fishers(model, names, task)
    floats = nnx.clone(model)
    floats.set_mode("float")
    hidden = floats.layer[0](x)
    kernel, bias = floats.layer[1].weights()
    outputs = jax.nn.softmax(hidden @ kernel + bias[None]) - jax.nn.one_hot(y, 2)
    weights = np.mean((np.asarray(hidden)[:, :, None] * np.asarray(outputs)[:, None]) ** 2, 0)
    to_hidden = np.mean((np.asarray(outputs) @ np.asarray(kernel).T) ** 2, 0, keepdims=True)
    for name, expected in zip(sorted(names), (to_hidden, weights), strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=1e-4)


ROWS = np.random.default_rng(0).normal(size=(700, 4)).astype(np.float32)
LABELS = np.argmax(ROWS[:, :3] + 0.3 * ROWS[:, 1:], axis=1).astype(np.int32)
DATA = training.Data(*(jnp.asarray(v) for v in (ROWS[:512], LABELS[:512], ROWS[512:], LABELS[512:])))


@pytest.mark.slow
def test_one_program_has_the_front_and_hardware_its_words():
    config = training.Config(
        epochs=10, epochs_per_check=5, batch_size=64, objective=Objective(cost=resources.Ebops()), penalty=schedules.Budget()
    )
    train = training.make_train(config, networks.Mlp(method=methods.Sfmp(), hidden=(8,)).build((4,), 3))
    budgets = (40.0, 1200.0, 1200.0, 1e9)
    members = training.Member(*(jnp.full(4, v, jnp.float32) for v in (0.0, 1e-2)), jnp.asarray(budgets, jnp.float32))
    result = training.sweep(train, DATA, members, (0,) * 4)
    before, last = result.history[:4], result.history[4:]
    assert len({row["train_loss"] for row in last}) == 1  # one float network, to the last step
    assert len({row["cost"] for row in before}) == 1 and last[3]["cost"] == pytest.approx(before[3]["cost"], rel=0.05)  # 12 bits
    assert last[1] | {"member": 2} == last[2]
    costs = [row["cost"] for row in last]
    assert costs[0] <= 40 < costs[1] <= 1200 < costs[3] and costs[1] > 1180
    scores = [row["val_score"] for row in last]
    assert scores[0] < scores[1] - 0.02 and scores[1] > 0.7
    for point in result.archive.points:
        model = train.model(result.state(point))
        description = export.describe(model, ROWS)
        frozen = layers.calibrate(model, ROWS)
        np.testing.assert_array_equal(description.evaluate(ROWS), np.asarray(frozen(jnp.asarray(ROWS)), np.float64))
        if point.member < 3 and point.check == 1:  # allocated
            assert float(resources.ebops(description).total) <= budgets[point.member]  # frozen ranges are those of all rows


def test_no_later_range_makes_a_value_dearer():
    """Ranges of all rows are wider than those at the allocation: what needs more integer bits has fewer fractional ones."""
    values = np.concatenate([VALUES, [0.99, 0.26, -0.51]])
    slot = of_tests.slot(QUANTIZER, values, np.geomspace(1e-2, 9.0, 7))
    (widths,) = Salience().allocate([slot], of_tests.moment([slot], 11.0))
    (given,) = of_tests.bits([slot], [widths])
    assert 0 < float(jnp.sum(given)) <= 11 and len(set(np.asarray(given).tolist())) > 2
    for factor in np.geomspace(0.1, 70.0, 41).astype(np.float32):
        later = jax.tree.map(lambda v, factor=factor: v * factor, slot.range)
        _, i, f = QUANTIZER.format(widths, later)
        assert np.all(np.maximum(i + f, 0) <= given)
        if factor == 1:
            np.testing.assert_array_equal(np.maximum(i + f, 0), given)
        held = QUANTIZER.quantize(slot.values() * factor, widths, ranges=later)  # WRAP: nothing wraps
        assert np.all(np.abs(held - slot.values() * factor) <= np.where(given > 0, 2.0 ** -(f + 1), np.inf))
        assert np.all((held == 0) | (given > 0))


def test_bad_shares_are_named():
    with pytest.raises(ValueError, match="after is 0.0, rounds 3; a share of the run within 0..1"):
        methods.Sfmp(after=0.0)
    with pytest.raises(ValueError, match=r"bits is \(0, 40\), widest 40; fewest and most magnitude bits within 0..24"):
        methods.Sfmp(most_bits=40)
