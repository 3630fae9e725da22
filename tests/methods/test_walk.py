"""AMED: frequencies of the walk, scores, the budget, refusals, and walks of a population down to exported words."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slots as of_tests

from hgqjax import methods, quantizers, resources
from hgqjax.methods.allocation import walk
from hgqjax.methods.allocation.walk import Walk

WALK = Walk()
QUANTIZER = functools.partial(quantizers.Allocated, allocation=WALK, overflow="SAT_SYM", bits=(2, 8))
RNG = np.random.default_rng(0)
SLOTS = [
    of_tests.slot(quantizer, RNG.normal(size=(5, 3)), role=role, name=f"{layer}{role}", layer=layer, shape=(1, 3))
    for layer in "abc"
    for quantizer, role in ((QUANTIZER(), "activation"), (QUANTIZER(signed=True), "kernel"))
]


def test_frequencies_are_those_of_twice_the_score():
    scores = jnp.array([[0.0, 0.5, 1.0, 0.2], [2.0, 0.0, 0.0, 0.0]])

    def step(choice, key):
        choice = walk.move(key, scores, choice, 1.5)
        return choice, choice

    seen = jax.jit(lambda keys: jax.lax.scan(step, jnp.array([0, 1]), keys)[1])(jax.random.split(jax.random.key(0), 60_000))
    for layer in range(2):
        found = np.bincount(np.asarray(seen)[:, layer], minlength=4) / len(seen)
        np.testing.assert_allclose(found, jax.nn.softmax(2 * scores[layer] / 1.5), atol=0.01)


def test_nothing_is_earned_by_the_same_zeta_and_the_newest_may_be_all():
    scores = jnp.array([0.3, 0.6])
    np.testing.assert_array_equal(Walk(rate=-1.0).scored(scores, jnp.zeros(())), scores)
    np.testing.assert_array_equal(Walk(rate=1.0).scored(scores, jnp.float32(0.25)), [0.25, 0.25])


@jax.jit
def called(widths, budget, key):
    """After one more call; the loss is that of few bits."""
    slots = [slot._replace(params=params) for slot, params in zip(SLOTS, widths, strict=True)]

    def loss(widths):
        return sum(jnp.mean(4.0 ** -(params["i"] + params["f"])) for params in widths)

    moment = of_tests.moment(slots, budget, loss=loss)._replace(key=key)
    return WALK.allocate(slots, moment), moment.cost(WALK.allocate(slots, moment))


def walked(budget, seed, calls=6):
    """Parameters after the first call, and after so many more; choices of all calls."""
    widths, choices = [slot.params for slot in SLOTS], []
    for n in range(calls + 1):
        widths, cost = called(widths, jnp.float32(budget), jax.random.key(100 * seed + n))
        assert budget == 0 or float(cost) <= budget
        bits = [np.unique(np.asarray(params["i"] + params["f"])) for params in widths]
        assert all(len(b) == 1 for b in bits) and bits[0::2] == bits[1::2]  # weights and inputs of a layer alike
        choices.append([b[0] for b in bits[0::2]])
    return widths, np.array(choices)


def test_a_walk_begins_with_the_most_bits_and_a_key_decides_it():
    widths, choices = walked(0.0, 0)
    assert (choices[0] == 8).all() and set(choices.ravel()) <= {2, 3, 4, 8} and len(set(choices.ravel())) > 2
    again, other = walked(0.0, 0), walked(0.0, 1)
    np.testing.assert_array_equal(again[1], choices)
    assert not np.array_equal(other[1], choices)
    memory = np.asarray(widths[0]["memory"])
    assert memory.shape == (1, 3, 6) and (memory == memory[:, :1]).all()
    first = sum(4.0**-8 for _ in SLOTS) + 1.0  # zeta with the most bits
    np.testing.assert_allclose(memory[0, 0, 5], np.log10(first), rtol=1e-3, atol=1e-6)


def test_no_step_goes_beyond_the_budget():
    _, choices = walked(6 * 3 * 3.0, 2)
    assert (choices.sum(1) * 6 <= 54).all()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"bits": (4,)}, r"bits is \(4,\); two or more magnitude bits that rise"),
        ({"bits": (4, 4)}, "two or more magnitude bits that rise"),
        ({"temperature": 0.0}, "temperature is 0.0; a finite number above 0"),
        ({"rate": 2.0}, "rate is 2.0; within 0..1 is needed, or -1"),
        ({"cost_weight": -1.0}, "loss_weight is 1.0, cost_weight -1.0"),
        ({"every": 0}, "every is 0, until 0.6"),
    ],
)
def test_illegal_numbers_are_named(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        methods.Amed(**fields)


def test_runs_without_a_step_are_refused():
    with pytest.raises(ValueError, match="epochs is 3; one step of this method comes after 2, within 0.6 of the run"):
        Walk().allocates(jnp.int32(0), 3)
    assert [bool(Walk().allocates(jnp.int32(n), 10)) for n in range(11)] == [n in (0, 2, 4, 6) for n in range(11)]


@pytest.mark.slow
def test_a_population_of_walks_down_to_words():
    budgets = (0.0, 0.0, 0.0, 400.0)
    last, models = of_tests.front_of(methods.Amed(every=1), budgets, resources.Ebops(), seeds=(0, 0, 1, 0))
    assert last[0] | {"member": 1} == last[1] and last[2]["cost"] != last[0]["cost"] and last[3]["cost"] <= 400
    for model, row in zip(models, last, strict=True):
        assert float(resources.ebops(model).total) == row["cost"]
        of_tests.words(model)
