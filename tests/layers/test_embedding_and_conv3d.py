"""Tables of an index and convolutions of three axes, against numpy and XLA, and through both gates."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from hgqjax import export, layers
from hgqjax.export.gate import check_words, gate_rows
from hgqjax.export.rtl import trace, words
from hgqjax.quantizers import Binary, Kbi, Kif


def test_an_embedding_is_a_row_of_its_table():
    layer = layers.Embedding((3,), 5, 2, rngs=nnx.Rngs(0), table_quantizer=Kbi(b0=4.0))
    layer.set_mode("evaluate")
    table = np.asarray(layer.table_quantizer(layer.table[...]))
    got = layer(jnp.array([[0.0, 2.2, 4.0], [-3.0, 9.0, 3.6]]))
    np.testing.assert_array_equal(got, table[[[0, 2, 4], [0, 4, 4]]])


@pytest.mark.parametrize(("padding", "strides", "dilation"), [("SAME", (1, 2, 1), 1), (((0, 1), (1, 0), (2, 2)), 1, (1, 1, 2))])
def test_float_conv3d_is_that_of_xla(padding, strides, dilation):
    layer = layers.Conv3D((3, 4, 5, 2), 3, (2, 2, 3), rngs=nnx.Rngs(0), padding=padding, strides=strides, dilation=dilation)
    layer.set_mode("float")
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 2)).astype(np.float32)
    steps, dilations = (v if isinstance(v, tuple) else (v,) * 3 for v in (strides, dilation))
    want = lax.conv_general_dilated(
        x, layer.kernel[...], steps, padding, rhs_dilation=dilations, dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    np.testing.assert_allclose(layer(jnp.asarray(x)), want, rtol=1e-4, atol=1e-4)


MAKERS = {
    "embedding": (lambda rngs: layers.Embedding((2,), 5, 2, rngs=rngs, table_quantizer=Kbi(b0=4.0)), (2,)),
    "conv 3d": (
        lambda rngs: layers.Conv3D((2, 2, 3, 1), 2, 2, rngs=rngs, padding="SAME", activation="relu", input_quantizer=Kif(b0=4.0)),
        (2, 2, 3, 1),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_both_gates(name, tmp_path):
    make, shape = MAKERS[name]
    model, x = make(nnx.Rngs(0)), np.random.default_rng(3).uniform(-1, 6, (300, *shape)).astype(np.float32)
    layers.adapt(model, jnp.asarray(x))
    description = export.describe(model, x)
    graph, gated = trace.trace(description), gate_rows(description, min_rows=500)
    found = words.output_integers(description, graph.predict(words.stimulus_values(description, gated), n_threads=1))
    assert check_words(description, gated, found, tool="alkaid") > 0
    assert export.to_hls4ml(description, tmp_path / "p", min_rows=300).gate.differing_words == 0


@pytest.mark.synth
@pytest.mark.parametrize("name", MAKERS)
def test_in_verilator(name, tmp_path):
    make, shape = MAKERS[name]
    x = np.random.default_rng(3).uniform(-1, 6, (100, *shape)).astype(np.float32)
    project = export.to_rtl(export.describe(make(nnx.Rngs(0)), x), tmp_path / "p", min_rows=1000)
    assert project.gate.words >= project.gate.rows and project.gate.differing_words == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda r: layers.Embedding((2,), 70000, 2, rngs=r), "entries is 70000, features 2; 1 .. 65536 and at least 1 are legal"),
        (lambda r: layers.Embedding((2,), 4, 2, rngs=r, table_quantizer=Binary()), "a FixedPoint of one grid, such as Kif, is needed"),
        (lambda r: layers.Conv3D((2, 2, 1), 2, 2, rngs=r), r"Conv3D: input_shape is \(2, 2, 1\); 3 spatial axes and channels are needed"),
        (lambda r: layers.Conv3D((2, 2, 2, 1), 2, 3, rngs=r), r"windows of size \(3, 3, 3\), dilation \(1, 1, 1\) do not fit"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(nnx.Rngs(0))
