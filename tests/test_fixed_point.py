"""Modes, gradients and errors of `quantize`; that its values are exact is shown in test_proof.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgqjax import fixed_point
from hgqjax.fixed_point import quantize, quantize_unwrapped
from hgqjax.testing import edges

pytestmark = pytest.mark.exact


def test_pow2_and_exponent_are_exact():
    n = np.arange(-126, 128)
    assert np.array_equal(fixed_point.pow2(jnp.asarray(n, jnp.float32)), np.ldexp(np.float32(1), n))
    x = np.concatenate([np.ldexp(np.float32(1), n), np.nextafter(np.ldexp(np.float32(1), n[1:]), np.float32(0))]).astype(np.float32)
    x = x[x >= np.finfo(np.float32).tiny]
    assert np.array_equal(fixed_point.exponent(jnp.asarray(x)), np.frexp(x)[1])
    with jax.enable_x64(True):
        n = np.arange(-1022, 1024)
        assert np.array_equal(fixed_point.pow2(jnp.asarray(n, jnp.float64)), np.ldexp(1.0, n))
        assert np.array_equal(fixed_point.exponent(jnp.asarray(np.ldexp(0.75, n[1:]), jnp.float64)), n[1:])


def test_once_is_the_identity_bit_for_bit():
    x = np.concatenate([edges(1, 3, 4), [-0.0, np.nan, 3e38]]).astype(np.float32)
    assert np.array_equal(np.asarray(fixed_point.materialized(jnp.asarray(x))).view(np.int32), x.view(np.int32))
    assert float(jax.grad(fixed_point.materialized)(jnp.float32(3.0))) == 1.0


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about XLA's CPU back end")
@pytest.mark.parametrize("overflow", ["WRAP", "SAT"])
def test_powers_of_two_are_computed_once_and_not_for_each_row(overflow):
    def loss(x, f):
        return jnp.sum(quantize_unwrapped(jnp.tanh(x), 1, jnp.full((1, 8), 2.0), f, "RND", overflow) ** 2)

    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(jnp.ones((512, 8)), jnp.ones((1, 8))).compile().as_text()
    loops = [loop for loop in text.split("\n\n") if "fused_computation" in loop.split("(")[0] and "[512,8]" in loop]
    assert loops and not [loop for loop in loops if "shift-left" in loop]


@pytest.mark.parametrize("overflow", ["WRAP", "SAT", "SAT_SYM"])
def test_formats_without_bits_are_zero(overflow):
    x = jnp.array([0.7, -3.0, jnp.inf, -jnp.inf, jnp.nan], jnp.float32)
    assert np.array_equal(quantize(x, 0, -2, 2, "RND", overflow), np.zeros(5))
    assert np.array_equal(quantize(x, 1, -3, 2, "RND", overflow), np.zeros(5))


def test_nan_and_infinity():
    x = jnp.array([jnp.nan, jnp.inf, -jnp.inf], jnp.float32)
    assert np.isnan(quantize(x, 1, 2, 2, "RND", "WRAP")).all()
    sat = np.asarray(quantize(x, 1, 2, 2, "RND", "SAT"))
    assert np.isnan(sat[0]) and list(sat[1:]) == [3.75, -4]


def gradients(fn, x, k, i, f, *modes):
    return [float(g) for g in jax.grad(lambda *a: fn(*a, *modes), argnums=(0, 1, 2, 3))(*(jnp.float32(v) for v in (x, k, i, f)))]


@pytest.mark.parametrize("fn", [quantize, quantize_unwrapped])
def test_gradients_follow_the_formulas(fn):
    ln2 = np.log(2)
    assert np.allclose(gradients(fn, 0.8, 1, 1, 1, "RND", "WRAP"), [1, 0, 0, ln2 * (0.8 - 1.0)])
    assert np.allclose(gradients(fn, 0.8, 1, 1, 1, "RND", "SAT"), [1, 0, 0, ln2 * (0.8 - 1.0)])
    assert np.allclose(gradients(fn, 9.0, 1, 1, 2, "RND", "SAT"), [0, 0, ln2 * 2, ln2 / 4])
    assert np.allclose(gradients(fn, -9.0, 1, 1, 2, "RND", "SAT"), [0, 0, -ln2 * 2, 0])
    assert np.allclose(gradients(fn, -9.0, 1, 1, 2, "RND", "SAT_SYM"), [0, 0, -ln2 * 2, -ln2 / 4])
    assert np.allclose(gradients(fn, -9.0, 0, 1, 2, "RND", "SAT"), [0, 0, 0, 0])


def test_a_pruned_value_keeps_a_gradient_on_f():
    assert quantize(0.2, 1, -3, 1) == 0
    assert np.allclose(gradients(quantize, 0.2, 1, -3, 1, "RND", "WRAP"), [1, 0, 0, np.log(2) * 0.2])


def test_gradients_of_shared_widths_are_sums_over_the_group():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)), jnp.float32)
    f = jnp.full((1, 4), 2.0)
    g = jax.grad(lambda f: jnp.sum(quantize(x, 1, 3, f)))(f)
    assert g.shape == (1, 4)
    assert np.allclose(g, np.log(2) * np.sum(x - quantize(x, 1, 3, f), 0, keepdims=True), atol=1e-6)
    assert jax.grad(lambda f: jnp.sum(quantize(x, 1, 3, f)))(jnp.float32(2)).shape == ()


def test_a_product_sums_its_gradients_over_repeated_axes():
    x, y = (jnp.asarray(np.random.default_rng(0).integers(-8, 9, shape), jnp.float32) for shape in ((3, 4), (3, 1)))

    def found(product):
        return jax.grad(lambda x, y: jnp.sum(product(x, y) ** 2), argnums=(0, 1))(x, y)

    assert all(np.array_equal(*pair) for pair in zip(found(fixed_point.product), found(jnp.multiply), strict=True))


def test_unwrapped_is_quantize_inside_the_range():
    x = jnp.asarray(np.random.default_rng(0).uniform(-1.9, 1.7, 100), jnp.float32)
    assert np.array_equal(quantize(x, 1, 1, 3), quantize_unwrapped(x, 1, 1, 3))
    assert float(quantize(2.1, 1, 1, 3)) == -1.875 and float(quantize_unwrapped(2.1, 1, 1, 3)) == 2.125


def test_stochastic_rounding_needs_a_key():
    with pytest.raises(ValueError, match="S_RND needs key="):
        quantize(0.3, 1, 3, 1, "S_RND")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, 1, 1, 1, "NEAREST"), "rounding is 'NEAREST'; legal are RND, TRN"),
        ((1.0, 1, 1, 1, "RND", "CLIP"), "overflow is 'CLIP'; legal are WRAP, SAT, SAT_SYM"),
        ((jnp.arange(3), 1, 1, 1), "x has dtype int32; a float array"),
        ((1.0, 2, 1, 1), "k is 2; 0 or 1 are needed"),
        ((1.0, 1, 1, 0.5), "f is 0.5; whole numbers of bits are needed"),
        ((1.0, 1, np.inf, -np.inf), "i is inf; whole numbers of bits are needed"),
        ((1.0, 1, 26, 26), r"k \+ i \+ f is 53; at most 52 bits"),
        ((jnp.zeros(3), 1, jnp.zeros(2), 1), r"i has shape \(2,\), which does not broadcast to the shape \(3,\) of x"),
        ((jnp.zeros(3), 1, 1, jnp.zeros((1, 3))), r"f has shape \(1, 3\), which does not broadcast"),
    ],
)
@pytest.mark.usefixtures("annotations_unchecked")
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        quantize(*arguments)
    with pytest.raises(ValueError, match=message):  # widths that are not traced are looked at in compiled code too
        jax.jit(lambda x: quantize(x, *arguments[1:]))(arguments[0])
