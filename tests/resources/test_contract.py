"""What every cost model and every operation they count keep to. A new cost model is one more line in CASES, an operation in OPERATIONS."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgqjax import resources
from hgqjax.config import from_json, to_json
from hgqjax.quantizers import Format
from hgqjax.resources import Signal


def operand(f, constant=False, overflow="WRAP"):
    """A signal with the fractional bits `f`, one integer bit and a sign."""
    one = 0 * f + 1
    return Signal(Format(one, one, f), overflow, f.shape, constant)


CASES = [resources.Ebops(), resources.Ebops(definition="paper_v1"), resources.Ebops(normalize_gradient=True), resources.Luts()]
TABLE = [
    (float(n), float(m), float(w), float(a), n * m * w * a / 4)
    for n, m in ((3, 2), (3, 3), (6, 3))
    for w, a in ((2, 3), (2, 8), (5, 3), (5, 8))
]
CASES += [resources.WeightBits(), resources.Measured(table=tuple(TABLE))]
OPERATIONS = {
    "Dense": lambda x, w: resources.Dense(operand(x), operand(w[0, :, :2], True), operand(w[0, 0, :2], True)),
    "Einsum": lambda x, w: resources.Einsum(operand(x), operand(w[0], True), operand(w[0, 0], True), "tc,cd->td", parallelization=2),
    "Conv": lambda x, w: resources.Conv(operand(x), operand(w, True), operand(w[0, 0], True), (1,), ((1, 0),), (1,), parallelization=2),
    "Add": lambda x, w: resources.Add((operand(x), operand(x[::-1]), operand(2 * x))),
    "Subtract": lambda x, w: resources.Subtract((operand(x), operand(x[::-1], overflow="SAT"))),
    "Multiply": lambda x, w: resources.Multiply((operand(x), operand(x[::-1]))),
    "Extreme": lambda x, w: resources.Extreme((operand(x), operand(x[::-1]))),
    "Sum": lambda x, w: resources.Sum(operand(x), (0,)),
    "Table": lambda x, w: resources.Table(operand(x), operand(x[::-1])),
    "Contract": lambda x, w: resources.Contract((operand(x), operand(w[0])), "tc,dc->td"),
    "Lookup": lambda x, w: resources.Lookup(operand(x), operand(x[::-1]), summed=True),
    "Pool": lambda x, w: resources.Pool(operand(x), 2, 1),
}


def widths():
    """Fractional bits of data (4, 3) and of a kernel (2, 3, 3), no two equal, none near a width of 0."""
    rng = np.random.default_rng(0)
    return rng.permutation(12).reshape(4, 3) * 0.5 + 0.25, rng.permutation(18).reshape(2, 3, 3) * 0.25 + 0.125


def count(case, x, w, definition="hgq2", normalize=False):
    return OPERATIONS[case](x, w).ebops(definition, normalize)


class Model:
    """One of each operation."""

    def __init__(self, x, w):
        self.parts = {name: make(x, w) for name, make in OPERATIONS.items()}

    def operations_cost(self):
        return self.parts

    def operations_uses(self):
        return {}


def test_every_public_cost_model_is_a_case():
    public = {c for _, c in inspect.getmembers(resources, inspect.isclass) if issubclass(c, resources.AbstractCost)}
    assert public - {resources.AbstractCost} == {type(case) for case in CASES}


@pytest.mark.parametrize("cost", CASES, ids=repr)
def test_cost_models(cost):
    x, w = widths()
    exact = cost(Model(x, w))
    assert set(exact) == set(OPERATIONS) and float(exact.total) == pytest.approx(sum(map(float, exact.values())))
    arrays = jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32)

    @jax.jit
    def total(x, w):
        return jnp.asarray(cost(Model(x, w)).total)

    assert float(total(*arrays)) == pytest.approx(float(exact.total), rel=1e-5)
    assert float(total(*(a + 1 for a in arrays))) >= float(total(*arrays)) >= float(total(*(0 * a - 3 for a in arrays))) == 0
    gradients = jax.jit(jax.grad(total, (0, 1)))(*arrays)
    assert all(np.all(np.isfinite(g)) and np.all(g >= 0) for g in gradients) and any(np.any(g > 0) for g in gradients)
    assert from_json(resources.AbstractCost, to_json(cost)) == cost and hash(cost) is not None
    assert eval(repr(cost), vars(resources)) == cost


def test_every_public_cost_operation_is_here():
    assert set(OPERATIONS) == {name for name in resources.__all__ if hasattr(getattr(resources, name), "ebops")}


@pytest.mark.parametrize("definition", ["hgq2", "paper_v1"])
@pytest.mark.parametrize("case", OPERATIONS)
def test_numpy_jax_and_jit_agree(case, definition):
    x, w = widths()
    expected = float(count(case, x, w, definition))
    arrays = jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32)
    assert float(count(case, *arrays, definition)) == pytest.approx(expected, rel=1e-6) and expected >= 0
    assert float(jax.jit(lambda x, w: jnp.asarray(count(case, x, w, definition)))(*arrays)) == pytest.approx(expected, rel=1e-6)
    assert float(count(case, *arrays, definition, normalize=True)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("case", OPERATIONS)
def test_gradients_are_those_of_the_count(case):
    x, w = widths()
    gradients = jax.jit(jax.grad(lambda x, w: count(case, x, w), (0, 1)))(jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32))
    for which, gradient in enumerate(gradients):
        for index in np.ndindex(gradient.shape):
            step = np.zeros(gradient.shape)
            step[index] = 2.0**-6
            above, below = ([x + s * step, w] if which == 0 else [x, w + s * step] for s in (1, -1))
            assert gradient[index] == pytest.approx(float(count(case, *above) - count(case, *below)) * 2.0**5, rel=1e-4)


@pytest.mark.parametrize("case", OPERATIONS)
def test_a_bit_more_never_costs_less_and_no_bits_cost_nothing(case):
    x, w = widths()
    for definition in ("hgq2", "paper_v1"):
        assert float(count(case, x + 1, w + 1, definition)) >= float(count(case, x, w, definition))
        assert float(count(case, 0 * x - 3, 0 * w - 3, definition)) == 0
    gradients = jax.jit(jax.grad(lambda x, w: count(case, x, w), (0, 1)))(jnp.full((4, 3), -3.0), jnp.full((2, 3, 3), -3.0))
    assert not any(np.any(gradient) for gradient in gradients)
