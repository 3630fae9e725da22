"""Norms against numpy, and through both gates."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import export, layers
from hgqjax.export.gate import check_words, gate_rows
from hgqjax.export.rtl import trace, words
from hgqjax.quantizers import Kif


def rows(shape, count=300):
    return np.random.default_rng(3).normal(0.5, 1.5, (count, *shape)).astype(np.float32)


def rms(x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + np.float32(1e-3))


@pytest.mark.parametrize("features", [3, 4])
def test_float_layer_norm_is_that_of_numpy(features):
    model, x = layers.LayerNorm((2, features), affine=True), rows((2, features), 6)
    model.norm.affine.kernel[...], model.norm.affine.bias[...] = jnp.arange(1.0, features + 1), jnp.arange(0.0, features)
    model.set_mode("float")
    got = nnx.jit(lambda model, x: model(x))(model, jnp.asarray(x))
    want = rms(x - x.mean(-1, keepdims=True)) * np.arange(1, features + 1) + np.arange(features)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_float_rms_norm_is_that_of_numpy():
    model, x = layers.RMSNorm((3,)), rows((3,), 6)
    model.set_mode("float")
    np.testing.assert_allclose(model(jnp.asarray(x)), rms(x), rtol=1e-4)


MAKERS = {
    "rms": (lambda: layers.RMSNorm((2, 4), input_quantizer=Kif(b0=5.0)), (2, 4)),
    "layer, 4 features": (lambda: layers.LayerNorm((2, 4), input_quantizer=Kif(b0=5.0)), (2, 4)),
    "layer, 3 features": (lambda: layers.LayerNorm((3,), affine=True, input_quantizer=Kif(b0=5.0)), (3,)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_both_gates(name, tmp_path):
    make, shape = MAKERS[name]
    model, x = make(), rows(shape)
    layers.adapt(model, jnp.asarray(x))
    description = export.describe(model, x)
    want = rms(x - x.mean(-1, keepdims=True)) if "layer" in name else rms(x)
    assert np.abs(description.evaluate(x) - want).mean() < 0.15
    graph, gated = trace.trace(description), gate_rows(description, min_rows=500)
    found = words.output_integers(description, graph.predict(words.stimulus_values(description, gated), n_threads=1))
    assert check_words(description, gated, found, tool="alkaid") > 0
    assert export.to_hls4ml(description, tmp_path / "p", min_rows=300).gate.differing_words == 0


@pytest.mark.synth
def test_a_layer_norm_in_verilator(tmp_path):
    make, shape = MAKERS["layer, 3 features"]
    project = export.to_rtl(export.describe(make(), rows(shape)), tmp_path / "p", min_rows=1000)
    assert project.gate.words == 3 * project.gate.rows and project.gate.differing_words == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.RMSNorm(()), r"RMSNorm: shape is \(\), epsilon 0.001; a feature at least"),
        (lambda: layers.LayerNorm((3, 1)), r"LayerNorm: shape is \(3, 1\); two features at least are needed"),
        (lambda: layers.RMSNorm((3,), epsilon=0.0), "epsilon 0.0; a feature at least and a finite number above 0 are needed"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
def test_a_key_of_too_many_bits_is_named():
    model, x = layers.RMSNorm((2,), squares_quantizer=Kif(keep_negative=False, i0=9.0, f0=8.0, overflow="SAT")), rows((2,), 20)
    with pytest.raises(ValueError, match="layer 'inverse' has an input of 17 bits; at most 16 "):
        export.describe(model, x)
