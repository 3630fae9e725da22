"""Quantized gradients (fully quantized training): unbiased, their errors in order, and the backward pass of a layer with them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import data as data_
from hgqjax import export, layers, methods, training
from hgqjax.layers import backward
from hgqjax.runs import networks

KINDS = (layers.PerTensor, layers.PerRow, layers.BlockHouseholder)
EQUAL = jnp.asarray(np.random.default_rng(0).normal(size=(64, 32)), jnp.float32)
OUTLIER = EQUAL * jnp.where(jnp.arange(64) == 5, 1.0, 1e-3)[:, None]


@functools.partial(jax.jit, static_argnums=(0, 1))
def draws(gradients, count, g):
    """So many quantized gradients."""
    return jax.lax.map(functools.partial(gradients.of_rows, g), jax.vmap(jax.random.key)(jnp.arange(count)))


def test_quantized_gradients_are_unbiased_and_their_errors_are_in_order():
    squared = {}  # 0.83, 0.076, 0.0014
    for kind in KINDS:
        found = np.asarray(draws(kind(), 400, OUTLIER), np.float64)
        spread = found.std(0) / 20
        away = np.abs(found.mean(0) - np.asarray(OUTLIER))
        assert np.max(away / np.maximum(spread, 0.2 * spread.max())) < 5.5, kind  # of 2048 values, in standard errors
        squared[kind] = np.mean(np.sum((found - np.asarray(OUTLIER)) ** 2, (1, 2)))
    tensor, row, block = squared.values()
    assert tensor > 5 * row and row > 20 * block > 0
    alike = [np.mean(np.sum((np.asarray(draws(kind(), 50, EQUAL)) - np.asarray(EQUAL)) ** 2, (1, 2))) for kind in KINDS]
    step = float(jnp.max(EQUAL) - jnp.min(EQUAL)) / 31
    assert alike[0] == pytest.approx(EQUAL.size * step**2 / 6, rel=0.05)  # the mean of p(1 - p)
    assert alike[0] > 2 * alike[1] and alike[1] > 0.8 * alike[2]  # rows that are alike have little to gain


@pytest.mark.parametrize("kind", KINDS)
def test_each_further_bit_quarters_the_error(kind):
    def error(bits):
        return float(jnp.mean((draws(kind(bits=bits), 30, EQUAL) - EQUAL[None]) ** 2))

    assert error(5) / error(6) == pytest.approx(4, rel=0.15)
    np.testing.assert_array_equal(draws(kind(), 3, OUTLIER), draws(kind(), 3, OUTLIER))  # keys decide
    assert not np.array_equal(*draws(kind(), 2, OUTLIER))
    for still in (jnp.zeros((4, 3)), jnp.full((1, 3), 2.5)):
        np.testing.assert_allclose(kind().of_rows(still, jax.random.key(0)), still, atol=1e-6)


@pytest.mark.parametrize("rows", [2, 7, 60])
def test_reflections_are_undone_and_their_groups_are_those_of_the_paper(rows):
    g = OUTLIER[4 : 4 + rows]
    spread = jnp.max(g, 1) - jnp.min(g, 1)
    mixing = backward._Mixing.of(spread)
    np.testing.assert_allclose(mixing.undo(mixing.mix(g)), g, rtol=1e-4, atol=1e-7)
    m = np.sort(np.asarray(spread, np.float64))[::-1]
    k = max([n for n in range(1, rows + 1) if (rows - n) * m[n - 1] > m[:n].sum()], default=1)
    assert int(mixing.leads.sum()) == k
    group = np.asarray(mixing.group)
    assert sorted(set(group.tolist())) == list(range(k)) or rows == 2
    ends = np.round(np.cumsum(m[:k]) / m[:k].sum() * (rows - k))
    np.testing.assert_array_equal(np.bincount(group, minlength=k), 1 + np.diff(ends, prepend=0))
    one = group == 0
    n = one.sum()
    v = 1 / np.sqrt(n) - np.eye(n)[0]
    reflection = np.eye(n) - 2 * np.outer(v, v) / (v @ v) if n > 1 else np.eye(1)
    expected = reflection @ (np.asarray(mixing.scale)[one, None] * np.asarray(g)[np.asarray(mixing.order)[one]])
    np.testing.assert_allclose(np.asarray(mixing.mix(g))[one], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("layer", "kind"), [("dense", layers.PerRow), ("conv", layers.BlockHouseholder)])
def test_the_backward_pass_of_a_layer_sees_quantized_gradients(layer, kind):
    if layer == "dense":
        plain = layers.Dense(4, 3, rngs=nnx.Rngs(0), batch_norm=layers.BatchNorm())
        x = jax.random.normal(jax.random.key(1), (6, 4))
    else:
        plain = layers.Conv1D((5, 2), 3, 2, rngs=nnx.Rngs(0))
        x = jax.random.normal(jax.random.key(1), (6, 5, 2))

    def gradients(gradients):
        model = nnx.clone(plain)
        model.quantize_gradients(gradients)
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def loss(params, x):
            y = nnx.merge(graphdef, params, rest, copy=True)(x)
            return jnp.sum(y**3), y

        (found, to_x), y = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, x)
        return np.asarray(found["kernel"][...]), np.asarray(to_x), np.asarray(y)

    exact = gradients(layers.Exact())
    fine, coarse = gradients(kind(bits=24, weight_bits=24)), gradients(kind(bits=2, weight_bits=2))
    for part in (0, 1):
        np.testing.assert_allclose(fine[part], exact[part], rtol=1e-4, atol=1e-5 * np.abs(exact[part]).max())
        assert np.abs(coarse[part] - exact[part]).max() > 1e-3
    np.testing.assert_array_equal(coarse[2], exact[2])  # the forward pass is the same


@pytest.mark.parametrize("fields", [{"bits": 1}, {"weight_bits": 25}])
def test_bits_that_no_gradient_has_are_refused(fields):
    ((name, value),) = fields.items()
    with pytest.raises(ValueError, match=rf"^{name} is {value}; a whole number of bits within 2..24 is needed for gradients$"):
        layers.BlockHouseholder(**fields)


@pytest.mark.slow
def test_a_run_with_quantized_gradients_is_decided_by_its_key_and_exported_without_trace():
    jets = data_.load("jets", rows=1200)
    data = training.Data(*(jnp.asarray(v) for v in (jets.x_train, jets.y_train, jets.x_val, jets.y_val)))
    config = training.Config(epochs=4, batch_size=64, gradients=layers.BlockHouseholder())
    traces = []

    def build(rngs):
        traces.append(1)
        return networks.Mlp(method=methods.Hgq(), hidden=(8,)).build((16,), 5)(rngs)

    train = training.make_train(config, build)
    members = training.Member(jnp.full(3, 1e-6), jnp.full(3, 1e-2), jnp.zeros(3))
    sweep = jax.jit(jax.vmap(train, (0, 0, None)))
    keys = jax.vmap(jax.random.key)(jnp.array([0, 0, 1]))
    states, metrics = sweep(keys, members, data)
    count = len(traces)
    sweep(keys, members._replace(beta=members.beta * 2), data)
    assert len(traces) == count  # one program
    assert np.array_equal(metrics["val_loss"][0], metrics["val_loss"][1]) and not np.array_equal(
        metrics["val_loss"][0], metrics["val_loss"][2]
    )
    assert float(metrics["val_score"][0, -1]) > 0.4
    model = train.model(jax.tree.map(lambda leaf: leaf[0], states))
    for layer in (layer for _, layer in model.named(layers.AbstractLinear)):
        layer.gradients = layers.PerTensor(bits=2)  # of no meaning for what is exported
    first, second = (export.describe(m, jets.x_train) for m in (model, train.model(jax.tree.map(lambda leaf: leaf[0], states))))
    np.testing.assert_array_equal(first.evaluate(jets.x_val), second.evaluate(jets.x_val))
    np.testing.assert_array_equal(first.evaluate(jets.x_val), layers.calibrate(model, jets.x_train)(jnp.asarray(jets.x_val)))
