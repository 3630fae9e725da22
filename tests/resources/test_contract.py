"""What every cost operation keeps to. A new one enters CASES."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgqjax import resources
from hgqjax.quantizers import Format
from hgqjax.resources import Signal


def operand(f, constant=False, overflow="WRAP"):
    """A signal with the fractional bits `f`, one integer bit and a sign."""
    one = 0 * f + 1
    return Signal(Format(one, one, f), overflow, f.shape, constant)


CASES = {
    "Dense": lambda x, w: resources.Dense(operand(x), operand(w[0, :, :2], True), operand(w[0, 0], True)),
    "Einsum": lambda x, w: resources.Einsum(operand(x), operand(w[0], True), operand(w[0, 0], True), "tc,cd->td", parallelization=2),
    "Conv": lambda x, w: resources.Conv(operand(x), operand(w, True), operand(w[0, 0], True), (1,), ((1, 0),), (1,), parallelization=2),
    "Add": lambda x, w: resources.Add((operand(x), operand(x[::-1]), operand(2 * x))),
    "Subtract": lambda x, w: resources.Subtract((operand(x), operand(x[::-1], overflow="SAT"))),
    "Multiply": lambda x, w: resources.Multiply((operand(x), operand(x[::-1]))),
    "Extreme": lambda x, w: resources.Extreme((operand(x), operand(x[::-1]))),
    "Sum": lambda x, w: resources.Sum(operand(x), (0,)),
    "Pool": lambda x, w: resources.Pool(operand(x), 2, 1),
}


def widths():
    """Fractional bits of data (4, 3) and of a kernel (2, 3, 3), no two equal, none near a width of 0."""
    rng = np.random.default_rng(0)
    return rng.permutation(12).reshape(4, 3) * 0.5 + 0.25, rng.permutation(18).reshape(2, 3, 3) * 0.25 + 0.125


def count(case, x, w, definition="hgq2", normalize=False):
    return CASES[case](x, w).ebops(definition, normalize)


def test_every_public_cost_operation_is_here():
    assert set(CASES) == {name for name in resources.__all__ if hasattr(getattr(resources, name), "ebops")}


@pytest.mark.parametrize("definition", ["hgq2", "paper_v1"])
@pytest.mark.parametrize("case", CASES)
def test_numpy_jax_and_jit_agree(case, definition):
    x, w = widths()
    expected = float(count(case, x, w, definition))
    arrays = jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32)
    assert float(count(case, *arrays, definition)) == pytest.approx(expected, rel=1e-6) and expected >= 0
    assert float(jax.jit(lambda x, w: jnp.asarray(count(case, x, w, definition)))(*arrays)) == pytest.approx(expected, rel=1e-6)
    assert float(count(case, *arrays, definition, normalize=True)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_count(case):
    x, w = widths()
    gradients = jax.grad(lambda x, w: count(case, x, w), (0, 1))(jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32))
    for which, gradient in enumerate(gradients):
        for index in np.ndindex(gradient.shape):
            step = np.zeros(gradient.shape)
            step[index] = 2.0**-6
            above, below = ([x + s * step, w] if which == 0 else [x, w + s * step] for s in (1, -1))
            assert gradient[index] == pytest.approx(float(count(case, *above) - count(case, *below)) * 2.0**5, rel=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_a_bit_more_never_costs_less_and_no_bits_cost_nothing(case):
    x, w = widths()
    for definition in ("hgq2", "paper_v1"):
        assert float(count(case, x + 1, w + 1, definition)) >= float(count(case, x, w, definition))
        assert float(count(case, 0 * x - 3, 0 * w - 3, definition)) == 0
    gradients = jax.grad(lambda x, w: count(case, x, w), (0, 1))(jnp.full((4, 3), -3.0), jnp.full((2, 3, 3), -3.0))
    assert not any(np.any(gradient) for gradient in gradients)
