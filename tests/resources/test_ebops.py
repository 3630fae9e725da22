"""EBOPs: by hand, by both definitions, their gradients and their errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgqjax import resources
from hgqjax.quantizers import Format
from hgqjax.resources import Dense, Signal


def signal(bits, overflow="WRAP", k=1.0, **fields):
    bits = np.asarray(bits, np.float64)
    return Signal(Format(np.full(bits.shape, k), np.ones_like(bits), bits - 1), overflow, bits.shape, **fields)


class Model:
    def __init__(self, **operations):
        self.operations = operations

    def operations_cost(self):
        return self.operations


def test_by_hand():
    kernel = signal([[2.0, 0.0], [1.0, 4.0]], constant=True)
    cost = resources.ebops(
        Model(a=Dense(signal([3.0, 5.0]), kernel, None), b=Dense(signal([3.0, 5.0]), kernel, signal([2.0, 4.0], constant=True)))
    )
    assert dict(cost) == {"a": 3 * 2 + 5 * 5, "b": 31 + 3 * 2} and cost.total == 31 + 37


def test_the_sign_counts_for_sat_only():
    kernel = signal([[1.0], [1.0]], constant=True)
    totals = {mode: resources.ebops(Model(a=Dense(signal([3.0, 0.0], mode), kernel, None))).total for mode in ("WRAP", "SAT", "SAT_SYM")}
    assert totals == {"WRAP": 3, "SAT": 5, "SAT_SYM": 3}


def test_paper_v1_counts_enclosed_bits_of_constants_and_signs_of_activations():
    kernel = signal([[7.0], [7.0]], constant=True, enclosed_bits=np.array([[4.0], [1.0]]))
    model = Model(a=Dense(signal([3.0, 2.0]), kernel, signal([9.0], constant=True)))
    assert resources.ebops(model, "paper_v1").total == 4 * 4 + 3 * 1
    unsigned = Model(a=Dense(signal([3.0, 0.0], k=0.0), kernel, None))
    assert resources.ebops(unsigned, "paper_v1").total == 3 * 4


def test_positions_of_a_higher_rank_input():
    bits = np.array([[1.0, 2.0], [3.0, 4.0]])
    model = Model(a=Dense(signal(bits), signal([[1.0], [10.0]], constant=True), signal([2.0], constant=True)))
    assert resources.ebops(model).total == (1 + 3) * 1 + (2 + 4) * 10 + 2 * 2


def test_gradients_are_exact_and_zero_for_widths_without_bits():
    def total(f):
        one = jnp.ones_like(f)
        return resources.ebops(Model(a=Dense(Signal(Format(one, one, f), "WRAP", (3,)), signal32([[2.0], [5.0], [7.0]]), None))).total

    def signal32(bits):
        bits = jnp.asarray(bits, jnp.float32)
        return Signal(Format(jnp.ones_like(bits), jnp.zeros_like(bits), bits), "WRAP", bits.shape, constant=True)

    assert jax.grad(total)(jnp.array([1.0, 0.0, -1.0])).tolist() == [2, 5, 0]


def test_normalized_gradient_changes_no_value():
    kernel = Signal(Format(jnp.ones((1, 1)), jnp.zeros((1, 1)), jnp.full((1, 1), 3.0)), "WRAP", (4, 4), constant=True)

    def total(f, normalize):
        inputs = Signal(Format(jnp.ones((1,)), jnp.zeros((1,)), f), "WRAP", (4,))
        return resources.ebops(Model(a=Dense(inputs, kernel, None)), normalize_gradient=normalize).total

    f = jnp.array([2.0])
    assert total(f, True) == total(f, False) == 4 * 4 * 6
    assert float(jax.grad(total)(f, True)[0]) == float(jax.grad(total)(f, False)[0]) / 2


def test_unknown_definition():
    with pytest.raises(ValueError, match="definition is 'v9'; legal are hgq2, paper_v1"):
        resources.ebops(Model(), "v9")
