"""Softmax and attention against plain JAX, and through both gates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import export, layers
from hgqjax.export.gate import check_words, gate_rows
from hgqjax.export.rtl import trace, words
from hgqjax.quantizers import Kif


def rows(shape, count=300):
    return np.random.default_rng(2).normal(0, 1.5, (count, *shape)).astype(np.float32)


def described(make, shape):
    x = rows(shape)
    model = make(nnx.Rngs(0))
    layers.adapt(model, jnp.asarray(x))
    return export.describe(model, x), x


def softmax(rngs):
    return layers.Softmax((2, 4), scale=0.7)


def attention(rngs):
    narrow = {"input_quantizer": Kif(b0=4.0), "kernel_quantizer": Kif(b0=3.0)}
    return layers.MultiHeadAttention(3, 2, heads=2, key_features=2, projected_tokens=2, rngs=rngs, **narrow)


def test_softmax_is_near_that_of_jax():
    description, x = described(softmax, (2, 4))
    want = jax.nn.softmax(0.7 * x)
    got = description.evaluate(x)
    assert np.abs(got - want).max() < 0.06 and np.abs(got.sum(-1) - 1).max() < 0.1


def test_float_attention_is_that_of_jax():
    layer = layers.MultiHeadAttention(4, 3, heads=2, key_features=2, others=5, other_features=2, value_features=3, rngs=nnx.Rngs(1))
    query, other = (rows(shape, 6) for shape in ((4, 3), (5, 2)))
    layer.set_mode("float")
    got = nnx.jit(lambda layer, a, b: layer(a, b))(layer, jnp.asarray(query), jnp.asarray(other))
    parts = zip((layer.query, layer.key, layer.value), (query, other, other), strict=True)
    q, k, v = (np.einsum("rtc,cnk->rtnk", x, np.asarray(part.kernel[...])) for part, x in parts)
    q, v = q + np.asarray(layer.query.bias[...]), v + np.asarray(layer.value.bias[...])
    weights = np.asarray(jax.nn.softmax(np.einsum("rtnk,rsnk->rnts", q, k) / np.float32(np.sqrt(2))))
    want = np.einsum("rtnv,nvc->rtc", np.einsum("rnts,rsnv->rtnv", weights, v), np.asarray(layer.output.kernel[...]))
    want = want + np.asarray(layer.output.bias[...])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "shape"), [(softmax, (2, 4)), pytest.param(attention, (3, 2), marks=pytest.mark.slow)], ids=["softmax", "attention"]
)
def test_adder_graph(make, shape):
    description, _ = described(make, shape)
    graph, x = trace.trace(description), gate_rows(description, min_rows=500)
    found = words.output_integers(description, graph.predict(words.stimulus_values(description, x), n_threads=1))
    assert check_words(description, x, found, tool="alkaid") > 0


def test_all_that_are_greatest_share_its_gradient():
    x = jnp.array([[1.0, 3.0, 3.0, -1.0], [2.0, 0.0, 2.0, 2.0]])
    below = layers.Below((4,))
    assert below(x).tolist() == [[2.0, 0.0, 0.0, 4.0], [0.0, 2.0, 0.0, 0.0]]
    below.set_mode("evaluate")

    def found(function):
        return jax.grad(lambda x: jnp.sum(function(x) ** 2))(x)

    assert np.array_equal(found(below), found(lambda x: x.max(-1, keepdims=True) - x))


@pytest.mark.slow
@pytest.mark.parametrize(("make", "shape"), [(softmax, (2, 4)), (attention, (3, 2))], ids=["softmax", "attention"])
def test_cpp(make, shape, tmp_path):
    description, _ = described(make, shape)
    assert export.to_hls4ml(description, tmp_path / "p", min_rows=300).gate.differing_words == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Softmax((3,), scale=0.0), "scale is 0.0; a finite number above 0 is needed"),
        (lambda: layers.Sum((3, 2), (2,)), r"axes is \(2,\) for rows of shape \(3, 2\); different ones of -2 .. 1 are needed"),
        (lambda: layers.Sum((3, 2), (0, -2)), "different ones of -2 .. 1 are needed"),
        (lambda: layers.Einsum("aa,a->a", (3, 3), (3,)), "equation is 'aa,a->a'; one like 'the,she->hts'"),
        (lambda: layers.Einsum("ab,a->b", (3, 2), (4,)), r"equation is 'ab,a->b', which does not fit rows of shapes \(3, 2\) and \(4,\)"),
        (lambda: layers.Einsum("ab,c->b", (3, 2), (4,)), "every label in two of three parts"),
        (lambda: layers.MultiHeadAttention(3, 2, heads=0, key_features=2, rngs=nnx.Rngs(0)), "heads is 0; at least 1 is needed"),
        (
            lambda: layers.MultiHeadAttention(3, 2, heads=1, key_features=2, projected_tokens=0, rngs=nnx.Rngs(0)),
            "projected_tokens is 0; at least 1 is needed",
        ),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
