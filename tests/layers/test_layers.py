"""Layers: shapes, batch norm against flax's own, ranges, costs, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.core import Tracer

from hgqjax import layers, resources
from hgqjax.quantizers import Fixed, Kbi, Kif, Minifloat

FINE = Kif(f0=20.0, b0=23.0)


def rows(n=64, features=4, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(1.0, 2.0, (n, features)), jnp.float32)


def model(**dense):
    return layers.mlp((4, 6, 3), rngs=nnx.Rngs(0), **dense)


def state(module):
    return jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(module)))


def same(a, b):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


def test_batch_norm_is_a_true_one_in_training():
    layer = layers.Dense(
        4, 6, rngs=nnx.Rngs(0), batch_norm=layers.BatchNorm(), input_quantizer=FINE, kernel_quantizer=FINE, bias_quantizer=FINE
    )
    norm = nnx.BatchNorm(6, momentum=0.97, epsilon=1e-5, rngs=nnx.Rngs(1), use_fast_variance=False)
    x = rows()

    kernel = layer.kernel[...]
    np.testing.assert_allclose(layer(x), norm(x @ kernel), atol=2e-4)
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)

    def pure(kernel):
        merged = nnx.merge(graphdef, params, rest, copy=True)
        merged.kernel[...] = kernel
        return jnp.sum(jnp.sin(merged(x)))

    def plain(kernel):
        return jnp.sum(jnp.sin(_normalized(x @ kernel)))

    np.testing.assert_allclose(jax.jit(jax.grad(pure))(kernel), jax.jit(jax.grad(plain))(kernel), atol=3e-3)


def _normalized(z):
    return (z - z.mean(0, keepdims=True)) / jnp.sqrt(z.var(0, keepdims=True) + 1e-5)


def test_running_averages_begin_with_the_first_batch_and_follow():
    layer = layers.Dense(4, 6, rngs=nnx.Rngs(0), batch_norm=layers.BatchNorm(momentum=0.9), input_quantizer=FINE)
    x = rows()
    z = np.asarray(layer.input_quantizer(x) @ layer.kernel[...])
    layer(x)
    np.testing.assert_allclose(layer.norm.mean[...], z.mean(0), rtol=1e-4)
    layer(x + 1)
    shifted = np.asarray(layer.input_quantizer(x + 1) @ layer.kernel[...])
    np.testing.assert_allclose(layer.norm.mean[...], 0.9 * z.mean(0) + 0.1 * shifted.mean(0), rtol=1e-3)


def test_evaluation_and_observing_change_only_what_they_say():
    net = model()
    layers.adapt(net, rows())
    net.set_mode("evaluate")
    before = state(net)
    net(rows(seed=1) * 9)
    assert same(before, state(net))
    net.set_mode("observe")
    net(rows(seed=1) * 9)
    after = state(net)
    assert not same(before, after)
    assert all(same(before["layer"][n][part], after["layer"][n][part]) for n in before["layer"] for part in ("kernel", "bias", "norm"))


def test_calibrated_ranges_are_those_of_the_rows_and_hold_them():
    net, x = model(), rows(300)
    layers.adapt(net, x[:20] * 5)
    frozen = layers.calibrate(net, x, batch=128)
    np.testing.assert_array_equal(frozen.layer[0].input_quantizer.high[...][0], np.maximum(x.max(0), 0))
    np.testing.assert_array_equal(frozen.layer[0].input_quantizer.low[...][0], np.minimum(x.min(0), 0))
    net.set_mode("observe")
    assert np.array_equal(frozen(x), net(x))  # nothing wraps on the rows of the calibration
    assert not np.array_equal(frozen(x * 40), net(x * 40))  # but it does far outside


def test_adapt_starts_every_layer_alive_whatever_the_scale():
    for scale in (1e-6, 1.0, 1e5):
        net = model(input_quantizer=Kif(b0=3.0), batch_norm=None)
        layers.adapt(net, rows() * scale)
        y = net(rows() * scale)
        assert np.all(np.asarray(y).std(0) > 0), scale
        assert all(cost > 0 for cost in resources.ebops(net).values())


def test_costs_are_differentiable_in_every_width():
    net = model()
    layers.adapt(net, rows())
    graphdef, widths, rest = nnx.split(net, layers.BitWidth, ...)
    total = lambda w: resources.ebops(nnx.merge(graphdef, w, rest)).total  # noqa: E731
    gradients = nnx.to_pure_dict(jax.jit(jax.grad(total))(widths))
    assert np.all(
        gradients["layer"][0]["kernel_quantizer"]["f"] == np.asarray(net.layer[0].input_quantizer.signal().bits("hgq2", False))[:, None]
    )
    assert np.any(gradients["layer"][1]["input_quantizer"]["f"] > 0) and np.all(
        gradients["layer"][1]["bias_quantizer"]["f"] == np.float32(3 / 3)
    )


def test_bits_sum_and_limits():
    net = layers.Sequential(
        layers.Dense(4, 2, rngs=nnx.Rngs(0), kernel_quantizer=Kbi(b0=3.0, overflow="SAT_SYM", b_limits=(0.0, 5.0)), use_bias=False)
    )
    layers.adapt(net, rows())
    inputs = net.layer[0].input_quantizer.format()
    assert float(layers.regularizer_bits(net)) == 8 * 3 + float(jnp.sum(inputs.i + inputs.f))
    net.layer[0].kernel_quantizer.b[...] = jnp.full((4, 2), 99.0)
    layers.clip_widths(net)
    assert np.all(net.layer[0].kernel_quantizer.b[...] == 5)


def test_shared_widths():
    net = model(input_granularity="tensor", kernel_granularity="channel")
    assert net.layer[0].input_quantizer.f.shape == (1, 1) and net.layer[0].kernel_quantizer.f.shape == (1, 6)
    layers.adapt(net, rows())
    assert float(resources.ebops(net).total) > 0


def test_higher_rank_rows():
    layer = layers.Dense(4, 2, rngs=nnx.Rngs(0), input_shape=(5, 4))
    assert layer(jnp.ones((3, 5, 4))).shape == (3, 5, 2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: layers.Dense(0, 2, rngs=nnx.Rngs(0)), ValueError, "n_in is 0"),
        (lambda: layers.Dense(4, 2, rngs=nnx.Rngs(0), activation="gelu"), ValueError, "activation is 'gelu'; legal are None and 'relu'"),
        (lambda: layers.Dense(4, 2, rngs=nnx.Rngs(0), batch_norm=layers.BatchNorm(momentum=1.0)), ValueError, "momentum is 1.0"),
        (lambda: layers.Quantize((4,))._setup((4,), (4,), "Kif", None), TypeError, "quantizer is 'Kif'; one of hgqjax.quantizers is"),
        (lambda: layers.Quantize((4,), Kif(rounding="S_RND")), ValueError, "rounding S_RND has no hardware form"),
        (lambda: layers.Quantize((4,), decay_bits=-1.0), ValueError, "decay_bits is -1.0"),
        (lambda: layers.Quantize((4,))(jnp.zeros((2, 3))), ValueError, r"x has rows of shape \(3,\); this quantizer was made for \(4,\)"),
        (lambda: layers.mlp((4,), rngs=nnx.Rngs(0)), ValueError, r"sizes is \(4,\)"),
        (lambda: layers.Sequential(), ValueError, "at least one layer"),
        (
            lambda: layers.Dense(3, 2, rngs=nnx.Rngs(0), kernel_quantiser=FINE),
            TypeError,
            r"^Dense has no argument 'kernel_quantiser' \(did you mean 'kernel_quantizer'\?\); legal are n_in, .*granularity, ",
        ),
        (
            lambda: layers.SeparableConv1D((8, 3), 4, 3, rngs=nnx.Rngs(0), mask=1),
            TypeError,
            "^SeparableConv1D has no argument 'mask'; legal",
        ),
        (
            lambda: layers.Conv2D((8, 8, 3), 4, 3),
            TypeError,
            "^Conv2D: missing a required .*argument: 'rngs'; its arguments are input_shape, ",
        ),
        (lambda: layers.Add((3,)).set_mode("training"), ValueError, "^mode is 'training'; legal are 'train', .* 'evaluate'$"),
    ],
)
def test_bad_input_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_regularizer_counts_each_shared_width_once():
    layer = layers.Dense(6, 4, rngs=nnx.Rngs(0), kernel_quantizer=Minifloat(m0=2.0), kernel_granularity="tensor", use_bias=False)
    layer.kernel[...] = jnp.abs(layer.kernel[...]) + 0.5
    layer(rows(features=6))
    inputs = float(layers.regularizer_bits(layer.input_quantizer))
    assert float(layers.regularizer_bits(layer)) == pytest.approx(inputs + 3) and layer.kernel_quantizer.signal().sharing == 24
    constant = layers.Dense(6, 4, rngs=nnx.Rngs(0), input_quantizer=Fixed(), kernel_quantizer=Fixed(), bias_quantizer=Fixed())
    assert float(layers.regularizer_bits(constant)) == 0


def test_a_traced_value_is_not_asked_for_its_sharding(monkeypatch):
    """It would search the whole trace for what to say, so that tracing took a time that grows with the square of the size."""
    network = layers.mlp((4, 6, 3), rngs=nnx.Rngs(0), batch_norm=layers.BatchNorm())
    graphdef, state = nnx.split(network)

    def asked(tracer):
        raise AssertionError("sharding of a traced value")

    @jax.make_jaxpr
    def trained(state, x):
        copy = nnx.merge(graphdef, state, copy=True)
        copy(x)
        for _, quantizer in copy.named(layers.Quantize):
            quantizer.set_params({name: value + 1 for name, value in quantizer.params.items()})
        return nnx.state(copy)

    monkeypatch.setattr(Tracer, "sharding", property(asked))
    assert len(trained(state, rows()).jaxpr.outvars) == len(jax.tree.leaves(state))
