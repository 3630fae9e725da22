"""Blocks for sets of particles, and masks of those that pad: against numpy, and through both gates."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import export, layers
from hgqjax.export.gate import check_words, gate_rows
from hgqjax.export.rtl import trace, words
from hgqjax.quantizers import Kif

NARROW = {"input_quantizer": Kif(b0=4.0), "kernel_quantizer": Kif(b0=3.0)}


class Padded(layers.Module):
    """Attention among the particles that are there, then their mean."""

    def __init__(self, rngs, projected_tokens=None):
        self.mask = layers.Mask(3, 2, above=-0.5)
        self.first = layers.Masked((3, 2), input_quantizer=Kif(b0=4.0))
        more = {"projected_tokens": projected_tokens, "masked": True}
        self.attention = layers.MultiHeadAttention(3, 2, heads=1, key_features=2, rngs=rngs, **more, **NARROW)
        self.mean = layers.MaskedMean((3, 2), input_quantizer=Kif(b0=4.0))

    def __call__(self, x):
        mask = self.mask(x)
        return self.mean(self.attention(self.first(x, mask), mask=mask), mask)


def interaction(rngs):
    return layers.InteractionNetwork(3, 2, edge_units=(3, 2), node_units=(3,), edges=((0, 1), (2, 1), (1, 0)), rngs=rngs, **NARROW)


def jedi_linear(rngs):
    return layers.JediLinear(3, 2, 4, batch_norm=layers.BatchNorm(), input_granularity="channel", rngs=rngs, **NARROW)


def mixer(rngs):
    return layers.MlpMixer(3, 2, particle_units=2, feature_units=3, rngs=rngs, **NARROW)


MAKERS = [Padded, lambda rngs: Padded(rngs, 2), interaction, jedi_linear, mixer]
NAMES = ["masked attention", "masked linformer", "interaction network", "jedi linear", "mixer"]


def rows(count=300):
    x = np.random.default_rng(2).normal(0, 1.5, (count, 3, 2)).astype(np.float32)
    x[:, :, 0] = np.abs(x[:, :, 0]) - 0.4
    x[:, :, 0] = np.where(np.arange(3) < (np.arange(count) % 4)[:, None], x[:, :, 0], -1.0)  # 0 to 3 particles are there
    return x


def described(make):
    model, x = make(nnx.Rngs(0)), rows()
    layers.adapt(model, jnp.asarray(x))
    return export.describe(model, x), x


def in_float(model, x):
    model.set_mode("float")
    return np.asarray(nnx.jit(lambda model, x: model(x))(model, jnp.asarray(x)))


def dense(layer, x, relu=True):
    y = x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])
    return np.maximum(y, 0) if relu else y


def test_float_interaction_network_is_that_of_numpy():
    model, x = interaction(nnx.Rngs(1)), rows(6)
    effects = np.zeros((6, 3, 2), np.float32)
    for sender, receiver in ((0, 1), (2, 1), (1, 0)):
        edge = np.concatenate([x[:, receiver], x[:, sender]], -1)
        effects[:, receiver] += dense(model.edge[1], dense(model.edge[0], edge))
    np.testing.assert_allclose(in_float(model, x), dense(model.node[0], np.concatenate([x, effects], -1)), rtol=1e-4, atol=1e-4)


def test_float_jedi_linear_is_that_of_numpy():
    model, x = layers.JediLinear(3, 2, 4, rngs=nnx.Rngs(1)), rows(6)
    want = dense(model.own, x) + dense(model.common, x.sum(1, keepdims=True) / 4)
    np.testing.assert_allclose(in_float(model, x), want, rtol=1e-4, atol=1e-4)


def test_float_mixer_is_that_of_numpy():
    model, x = mixer(nnx.Rngs(1)), rows(6)
    hidden = np.maximum(np.einsum("rnc,nm->rcm", x, model.particles_in.kernel[...]) + np.asarray(model.particles_in.bias[...]), 0)
    u = x + np.einsum("rcm,mn->rnc", hidden, model.particles_out.kernel[...]) + np.asarray(model.particles_out.bias[...])
    want = u + dense(model.features_out, dense(model.features_in, u), relu=False)
    np.testing.assert_allclose(in_float(model, x), want, rtol=1e-4, atol=1e-4)


def test_what_pads_makes_no_difference_to_a_softmax():
    layer, mask = layers.Softmax((4,), masked=True), jnp.array([[1.0, 0.0, 1.0, 1.0]])
    layer(jnp.array([[-3.0, 3.0, 1.0, -1.0]]), mask)
    layer.set_mode("evaluate")
    got = layer(jnp.array([[-3.0, 3.0, 1.0, -1.0]]), mask)
    np.testing.assert_array_equal(layer(jnp.array([[-3.0, -1.5, 1.0, -1.0]]), mask), got)
    assert got[0, 1] == 0 and abs(float(got.sum()) - 1) < 0.1
    assert not np.any(layer(jnp.ones((1, 4)), jnp.zeros((1, 4))))


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS[:2], ids=NAMES[:2])
def test_what_pads_makes_no_difference_to_a_network(make):
    description, x = described(make)
    padded = x[:, :, 0] < -0.5
    other = np.where(padded[..., None], np.float32([-2.0, 7.0]), x)
    got = description.evaluate(x)
    np.testing.assert_array_equal(description.evaluate(other), got)
    assert np.all(got[padded.all(1)] == 0) and len(np.unique(got[~padded.any(1)])) > 10


def test_a_mean_is_that_of_the_particles_that_are_there():
    model, x = layers.MaskedMean((3, 2)), rows(8)
    mask = jnp.asarray(x[:, :, 0] > -0.5, jnp.float32)
    model.set_mode("float")
    want = (x * mask[..., None]).sum(1) / np.maximum(mask.sum(1), 1)[:, None]
    np.testing.assert_allclose(model(jnp.asarray(x), mask), want, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
def test_both_gates(make, tmp_path):
    description, _ = described(make)
    graph, x = trace.trace(description), gate_rows(description, min_rows=500)
    found = words.output_integers(description, graph.predict(words.stimulus_values(description, x), n_threads=1))
    assert check_words(description, x, found, tool="alkaid") > 0
    assert export.to_hls4ml(description, tmp_path / "p", min_rows=300).gate.differing_words == 0


@pytest.mark.synth
@pytest.mark.parametrize("make", [MAKERS[0], MAKERS[2]], ids=[NAMES[0], NAMES[2]])
def test_in_verilator(make, tmp_path):
    project = export.to_rtl(described(make)[0], tmp_path / "p", min_rows=1000)
    assert project.gate.words >= 2 * project.gate.rows and project.gate.differing_words == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Aggregate((0, 3), 3, 2), r"receivers are \(0, 3\) of 3 nodes; an edge at least, and 0 .. nodes - 1, are needed"),
        (
            lambda: layers.InteractionNetwork(3, 2, edge_units=(), node_units=(2,), rngs=nnx.Rngs(0)),
            r"edge_units \(\), node_units \(2,\); at least one of each, and nodes 0 .. 2, are needed",
        ),
        (lambda: layers.JediLinear(3, 2, 0, rngs=nnx.Rngs(0)), "JediLinear: units is 0; at least 1 is needed"),
        (lambda: layers.MlpMixer(3, 2, particle_units=0, feature_units=1, rngs=nnx.Rngs(0)), "MlpMixer: particle_units is 0"),
        (lambda: layers.Mask(3, 2, feature=2), "feature is 2 of 2, above 0.0; one of 0 .. 1 and a number are needed"),
        (lambda: layers.Masked((3, 2), 2), r"axis is 2 for rows of shape \(3, 2\); one of -2 .. 1 is needed"),
        (lambda: layers.Masked((3, 2))(jnp.ones((4, 3, 2)), jnp.ones((4, 2))), r"mask has rows of shape \(2,\); \(3,\) is needed"),
        (lambda: layers.Softmax((3,), masked=True)(jnp.ones((4, 3))), "Softmax was made with masked=True and is called without a mask"),
        (lambda: layers.Softmax((3,))(jnp.ones((4, 3)), jnp.ones((4, 3))), "masked=False and is called with a mask"),
        (lambda: layers.gather(jnp.ones((4, 3)), [0, 3]), "index has values int64 that are not all -1 .. 2, or none that takes an element"),
        (lambda: layers.gather(jnp.ones((4, 3)), [-1]), "or none that takes an element"),
        (lambda: layers.gather(jnp.ones((4, 3)), [0], axis=1), r"axis is 1 for rows of shape \(3,\); one of -1 .. 0 is needed"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
