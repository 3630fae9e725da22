"""EBOPs: by hand, by both definitions, their gradients and their errors. What HGQ2 counts: tests/test_golden.py, tests/interop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgqjax import resources
from hgqjax.quantizers import Format
from hgqjax.resources import Add, Conv, Dense, Einsum, Extreme, Multiply, Pool, Signal, Subtract, Sum


def signal(bits, overflow="WRAP", k=1.0, **fields):
    bits = np.asarray(bits, np.float64)
    return Signal(Format(np.full(bits.shape, k), np.ones_like(bits), bits - 1), overflow, bits.shape, **fields)


class Model:
    def __init__(self, **operations):
        self.operations = operations

    def operations_cost(self):
        return self.operations

    def operations_uses(self):
        return {}


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
        return resources.Ebops(normalize_gradient=normalize)(Model(a=Dense(inputs, kernel, None))).total

    f = jnp.array([2.0])
    assert total(f, True) == total(f, False) == 4 * 4 * 6
    assert float(jax.grad(total)(f, True)[0]) == float(jax.grad(total)(f, False)[0]) / 2


def test_normalized_gradient_of_formats_of_each_value():
    """A format for each of 24 values, of one trained width."""
    m = jnp.array([3.0])

    def total(m, normalize):
        f = jnp.broadcast_to(m, (24,)).reshape(6, 4)
        kernel = Signal(Format(0 * f, 0 * f, f), "SAT_SYM", (6, 4), constant=True, sharing=24)
        inputs = Signal(Format(*(jnp.ones((6,)),) * 3), "WRAP", (6,))
        return resources.Ebops(normalize_gradient=normalize)(Model(a=Dense(inputs, kernel, None))).total

    assert float(jax.grad(total)(m, True)[0]) == pytest.approx(float(jax.grad(total)(m, False)[0]) / 24**0.5)


@pytest.mark.usefixtures("annotations_unchecked")
def test_unknown_definition():
    with pytest.raises(ValueError, match="definition is 'v9'; legal are hgq2, paper_v1"):
        resources.ebops(Model(), "v9")


# ---- convolutions, einsums, merges ----


def test_convolution_by_hand():
    bits, kernel = [[1.0], [2.0], [3.0]], signal([[[2.0, 0.0]], [[10.0, 5.0]]], constant=True)  # three positions; two elements, two filters
    plain = Conv(signal(bits), kernel, signal([4.0, 2.0], constant=True), (1,), ((0, 0),), (1,))
    assert resources.ebops(Model(a=plain)).total == (1 * 2 + 2 * 15) + (2 * 2 + 3 * 15) + 3 * 3 * 2
    assert resources.ebops(Model(a=plain._replace(parallelization=1))).total == (32 + 49) / 2 + 18
    padded = plain._replace(padding=((1, 0),), bias=None)
    assert resources.ebops(Model(a=padded)).total == 1 * 15 + 32 + 49
    assert resources.ebops(Model(a=padded._replace(strides=(2,)))).total == 1 * 15 + 49
    assert resources.ebops(Model(a=plain._replace(dilation=(2,), bias=None))).total == 1 * 2 + 3 * 15
    far = plain._replace(padding=((4, 5),), strides=(3,), bias=None)  # windows that meet padding alone
    assert resources.ebops(Model(a=far)).total == 1 * 15 + 3 * 2


def test_depthwise_convolution_keeps_channels_apart():
    kernel = signal([[[3.0, 5.0]]], constant=True)
    cost = Conv(signal([[1.0, 100.0], [2.0, 200.0]]), kernel, None, (1,), ((0, 0),), (1,), groups=2)
    assert resources.ebops(Model(a=cost)).total == 3 * 3 + 300 * 5


def test_einsum_by_hand():
    bits, kernel = signal([[1.0, 2.0], [3.0, 4.0]]), signal([[1.0, 10.0], [0.0, 5.0]], constant=True)
    shared = Einsum(bits, kernel, signal([2.0, 4.0], constant=True), "tc,cd->td")
    assert resources.ebops(Model(a=shared)).total == (1 + 3) * 11 + (2 + 4) * 5 + 3 * 4
    assert resources.ebops(Model(a=shared._replace(parallelization=1))).total == (74 + 12) / 2
    assert resources.ebops(Model(a=Einsum(bits, kernel, None, "tc,tc->t"))).total == 1 * 1 + 2 * 10 + 0 + 4 * 5


def test_what_does_not_multiply_counts_by_hgq2_alone():
    a, b = signal([1.0, 5.0]), signal([2.0, 3.0])
    model = Model(a=Add((a, b)), s=Subtract((a, b)), m=Extreme((a, b)), p=Pool(a, 2), t=Sum(a, (0,)))
    counted = {name: float(v) for name, v in resources.ebops(model).items()}
    assert counted == {"a": 0.65 * (11 - 4), "s": 2 + 5, "m": 11 - 4, "p": 6, "t": 0.65 * (6 - 1)}
    assert resources.ebops(model, "paper_v1").total == 0
    product = Model(p=Multiply((a, b)))
    assert resources.ebops(product).total == 1 * 2 + 5 * 3 and resources.ebops(product, "paper_v1").total == 2 * 3 + 6 * 4


def test_gradients_of_convolution_and_merges_are_those_of_the_counts():
    def count(f):
        x = Signal(Format(jnp.ones_like(f), jnp.zeros_like(f), f), "WRAP", f.shape)
        w = jnp.array([[[2.0, 1.0]], [[5.0, 0.0]]])
        kernel = Signal(Format(jnp.ones_like(w), jnp.zeros_like(w), w), "WRAP", w.shape, constant=True)
        conv = Conv(x, kernel, None, (1,), ((1, 0),), (1,))
        einsum = Einsum(x, Signal(Format(jnp.ones((1, 2)), jnp.zeros((1, 2)), w[0]), "WRAP", (1, 2), constant=True), None, "tc,cd->td")
        other = Signal(Format(jnp.ones_like(f), jnp.zeros_like(f), jnp.full_like(f, 2.5)), "WRAP", f.shape)
        return resources.ebops(Model(c=conv, e=einsum, a=Add((x, other)), s=Subtract((x, other)), m=Multiply((x, other)))).total

    f = jnp.array([[4.0], [1.0], [3.0]])
    wide = np.array([1.0, 0.0, 1.0])  # where x is the wider operand
    expected = [5 + 3, 5 + 3, 5] + np.full(3, 3.0) + 0.65 * wide + wide + 2.5
    assert jax.jit(jax.grad(count))(f)[:, 0] == pytest.approx(expected)
