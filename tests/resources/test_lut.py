"""Predicted LUTs: digits against an algorithm on Python integers, counts against loops over single results, gradients against formulas."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import export, layers, resources
from hgqjax.description import operations
from hgqjax.quantizers import Binary, Format, Kif, Minifloat, PowerOfTwo, Ternary
from hgqjax.resources import Luts, Signal, signed_digits


def digits_of(m: int) -> int:
    """Non-zero digits of the non-adjacent form, from the right."""
    m, count = abs(m), 0
    while m:
        if m & 1:
            count += 1
            m -= 2 - (m & 3)
        m >>= 1
    return count


@hypothesis.given(st.lists(st.integers(-(2**24), 2**24), min_size=8, max_size=8), st.integers(-30, 30))
def test_digits_are_those_of_the_non_adjacent_form(integers, shift):
    expected = [digits_of(m) for m in integers]
    values = np.ldexp(np.array(integers, np.float64), shift)
    assert signed_digits(values).tolist() == expected
    assert signed_digits(jnp.asarray(values, jnp.float32)).tolist() == expected


@hypothesis.given(st.lists(st.integers(-(2**53), 2**53), min_size=4, max_size=4))
def test_digits_of_the_widest_constants(integers):
    assert signed_digits(np.array(integers, np.float64)).tolist() == [digits_of(m) for m in integers]


def test_digits_are_the_fewest():
    fewest = {0: 0}  # what n powers of two make, up to 2**9
    for n in range(1, 6):
        for m in [m for m in fewest if fewest[m] == n - 1]:
            for power in range(10):
                for new in (m + 2**power, m - 2**power):
                    fewest.setdefault(new, n)
    known = [m for m in range(256) if m in fewest]
    assert known == list(range(256)) and [digits_of(m) for m in known] == [fewest[m] for m in known]


class Networks:
    """Small models, one of each operation with a kernel, and rows for them."""

    @staticmethod
    def dense(rngs):
        return layers.Dense(5, 4, kernel_quantizer=Kif(b0=5.0), rngs=rngs), (5,)

    @staticmethod
    def einsum(rngs):
        return layers.EinsumDense("tc,cd->td", (3, 4), (3, 2), kernel_quantizer=Kif(b0=5.0), rngs=rngs), (3, 4)

    @staticmethod
    def conv(rngs):
        settings = {"strides": 2, "padding": "SAME", "kernel_quantizer": Kif(b0=5.0)}
        return layers.Conv2D((5, 4, 2), 3, 3, rngs=rngs, **settings), (5, 4, 2)

    @staticmethod
    def depthwise(rngs):
        return layers.DepthwiseConv1D((6, 3), 2, kernel_quantizer=Kif(b0=5.0), rngs=rngs), (6, 3)


def described(name):
    layer, shape = getattr(Networks, name)(nnx.Rngs(1))
    rng = np.random.default_rng(2)
    layer.bias[...] = jnp.asarray(rng.normal(size=layer.bias[...].shape) * (rng.random(layer.bias[...].shape) < 0.7), jnp.float32)
    model = layers.Sequential(layer)
    rows = rng.normal(size=(200, *shape)).astype(np.float32)
    layers.adapt(model, jnp.asarray(rows))
    layer.input_quantizer.f[...] = layer.input_quantizer.f[...] + jnp.asarray(
        rng.integers(-6, 2, layer.input_quantizer.f[...].shape), jnp.float32
    )
    return model, export.describe(model, rows)


@pytest.mark.parametrize("name", ["einsum", "conv", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dense", "depthwise"))])
def test_counts_are_those_of_single_results(name):
    model, description = described(name)
    (op,) = (op for op in description.operations if isinstance(op, operations.Linear))
    source = description[op.inputs[0]]
    bits = op.arrange(source.bits[None], 0)[0]  # groups, positions, terms
    kernel = op.arrange_kernel(op.kernel.integers)
    bias = np.broadcast_to(op.bias.integers, op.shape)
    total, cost = 0.0, Luts(growth=1.5)
    results = {}
    for g, p, n in np.ndindex(kernel.shape[0], bits.shape[1], kernel.shape[2]):
        terms = [(digits_of(int(kernel[g, t, n])), int(bits[g, p, t])) for t in range(kernel.shape[1])]
        results[g, p, n] = [(d, b) for d, b in terms if d and b]
    shape = (1, kernel.shape[0], bits.shape[1], kernel.shape[2])
    where = op.result(np.arange(np.prod(shape)).reshape(shape))[0]  # which product is which result
    for index in np.ndindex(op.shape):
        terms = results[np.unravel_index(where[index], shape[1:])]
        copies = sum(d for d, _ in terms)
        adders = max(copies - 1 + (bias[index] != 0), 0) if copies else 0
        total += adders * (sum(d * b for d, b in terms) / max(copies, 1) + 1.5)
    assert float(cost(description).total) == pytest.approx(total, rel=1e-12) and total > 20
    frozen = layers.calibrate(model, description.sample)
    assert float(cost(frozen).total) == pytest.approx(total, rel=1e-5)


def kernel_signal(x, f, i=0.0):
    quantizer = Kif(overflow="SAT_SYM")
    params = {"f": f, "i": jnp.full_like(f, i)}
    return Signal(quantizer.format(params), "SAT_SYM", f.shape, True, values=lambda: (x, quantizer.quantize(x, params)))


def luts(x, f, f_in, **settings):
    one = jnp.ones_like(f_in)
    inputs = Signal(Format(one, 0 * one, f_in), "WRAP", f_in.shape)
    return Luts(**settings).operation(resources.Dense(inputs, kernel_signal(x, f), None))


def test_gradients_follow_the_formulas():
    x = jnp.array([[0.40], [0.70], [-0.30], [0.02]])  # on a grid of 1/16: 6, 11, -5, 0 of digits 2, 3, 2, 0
    f, f_in = jnp.full((4, 1), 4.0), jnp.array([3.0, 4.0, 5.0, 6.0])
    copies, bits = np.array([2, 3, 2, 0]), np.array([4, 5, 6, 7])
    cost = functools.partial(luts, growth=1.0, slope=0.25, pull=2.0)
    value, (in_x, in_f, in_inputs) = jax.jit(jax.value_and_grad(cost, (0, 1, 2)))(x, f, f_in)
    n, total = copies.sum(), (copies * bits).sum()
    assert float(value) == pytest.approx((n - 1) * (total / n + 1.0))
    of_digit = (total / n + 1.0) + (n - 1) * (bits / n - total / n**2)  # derivative in the digits of each weight
    np.testing.assert_allclose(in_f[:, 0], 0.25 * of_digit, rtol=1e-5)
    np.testing.assert_allclose(in_inputs, (n - 1) / n * copies, rtol=1e-5)
    # the neighbours of 6.4, 11.2, -4.8, 0.32 on the grid: 6 | 7, 11 | 12, -5 | -4, 0 | 1
    rise = np.array([2 - 2, 2 - 3, 1 - 2, 1 - 0]) * 16.0
    np.testing.assert_allclose(in_x[:, 0], 2.0 * rise * of_digit, rtol=1e-5)
    assert not np.any(jax.jit(jax.grad(functools.partial(luts, pull=0.0)))(x, f, f_in))


@pytest.mark.parametrize(
    ("quantizer", "pulled"), [(Kif(), True), (Ternary(), True), (Binary(), False), (PowerOfTwo(), False), (Minifloat(), False)], ids=repr
)
def test_only_weights_on_a_grid_of_one_step_are_drawn_to_their_neighbours(quantizer, pulled):
    layer = layers.Dense(5, 4, kernel_quantizer=quantizer, rngs=nnx.Rngs(0))
    x = jnp.linspace(-0.9, 0.9, 20).reshape(5, 4) ** 3
    inputs = Signal(Format(*(jnp.full(5, v) for v in (1.0, 0.0, 3.0))), "WRAP", (5,))

    @jax.jit
    def both(x):
        def cost(x, pull):
            return Luts(pull=pull).operation(resources.Dense(inputs, layer.kernel_quantizer.signal(lambda: x), None))

        return [jax.value_and_grad(cost)(x, pull) for pull in (0.0, 1.0)]

    (value, without), (same, drawn) = both(x)
    assert bool(jnp.any(without != drawn)) == pulled and value == same > 0


def test_wide_weights_of_few_digits_are_cheap():
    def cost(weight):
        kernel = np.full((6, 1), weight)
        inputs = Signal(Format(*np.array([np.ones(6), np.zeros(6), np.full(6, 3.0)])), "WRAP", (6,))
        signal = Signal(Format(*np.array([np.ones((6, 1)), np.zeros((6, 1)), np.full((6, 1), 8.0)])), "WRAP", (6, 1), True)
        return float(Luts().operation(resources.Dense(inputs, signal._replace(values=lambda: (kernel, kernel)), None)))

    assert cost(0.5) == cost(0.0078125) < cost(0.484375) < cost(0.41796875)
    assert cost(0.0) == 0


def test_one_copy_needs_no_adder_and_a_bias_needs_one():
    inputs = Signal(Format(*np.array([np.ones(1), np.zeros(1), np.full(1, 3.0)])), "WRAP", (1,))

    def constant(values):
        return Signal(
            Format(*(np.full(values.shape, v) for v in (1.0, 0.0, 4.0))), "WRAP", values.shape, True, values=lambda: (values, values)
        )

    op = resources.Dense(inputs, constant(np.array([[0.5, 0.25]])), None)
    assert float(Luts().operation(op)) == 0
    assert float(Luts(growth=1.0).operation(op._replace(bias=constant(np.array([0.0, 0.25]))))) == 5


@pytest.mark.parametrize("name", ["growth", "slope", "pull"])
def test_negative_settings_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is -1"):
        Luts(**{name: -1.0})
