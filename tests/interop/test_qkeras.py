"""Files of QKeras and Keras: networks and single quantizers against what QKeras 0.9 computes, weights as a start, and what is refused."""

import json
import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import cli, export, interop, layers
from hgqjax.description import ModelDescription
from hgqjax.description import operations as o
from hgqjax.interop import InteropError, qkeras_quantizers
from hgqjax.interop.keras_file import Layer
from hgqjax.interop.models import is_model, open_model
from hgqjax.interop.qkeras_activations import activate
from hgqjax.interop.qonnx_values import Reading, Value
from hgqjax.runs import start

h5py = pytest.importorskip("h5py")
GOLDEN = Path(__file__).parents[1] / "golden" / "qkeras"
NETWORKS = {"dense.h5": 1520, "scales.json": 120, "windows.keras": 7376, "few.keras": 1720}
LAYER = Layer("q", "QDense", "qkeras", {}, {}, (), ())


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    """Every word of every layer with an exact result; few and scales also have layers between, whose floats become thresholds."""
    model, arrays = interop.load_qkeras(GOLDEN / name), np.load((GOLDEN / name).with_suffix(".npz"))
    values, words = model.integers(arrays["x0"]), 0
    for layer, op in model.metadata["qkeras"]["results"].items():
        ours = np.ldexp(values[op].astype(np.float64), -model.grids[op].f.astype(np.int64))
        np.testing.assert_array_equal(ours, arrays[f"t/{layer}"], err_msg=layer)
        words += ours.size
    assert words == NETWORKS[name] and model.outputs[0] in model.metadata["qkeras"]["results"].values()
    assert model.metadata["qkeras"]["softmax"] == (name == "dense.h5")


def test_quantizers_of_weights():
    arrays = np.load(GOLDEN / "quantizers.npz")
    for n, name in enumerate(map(str, arrays["names"])):
        kind, *rest = name.split("/", 2)
        if kind == "w":
            quantizer = qkeras_quantizers.read(LAYER, rest[1], "quantizer")
            ours = qkeras_quantizers.constant(LAYER, quantizer, arrays[f"w{rest[0]}"], "quantizer")
            theirs = arrays[f"r{n}"].astype(np.float64)
            if "0.7" in name or "alpha='auto'" in name:  # scales in floating point: the float32 product may be one ulp away
                np.testing.assert_allclose(ours.values, theirs, rtol=2e-7, atol=2e-7, err_msg=name)
            else:
                np.testing.assert_array_equal(ours.values, theirs, err_msg=name)


def test_quantizers_of_values():
    arrays, count = np.load(GOLDEN / "quantizers.npz"), 0
    for n, name in enumerate(map(str, arrays["names"])):
        if name.startswith("a/"):
            reading, count = Reading((1, 3, 5)), count + 1
            value = reading.grounded(Value(reading.build.add(o.Input, "x", (), arrays["a"].shape)), LAYER)
            value = activate(LAYER, qkeras_quantizers.read(LAYER, name[2:], "activation"), value, reading)
            scales: dict[str, list[float]] = {}
            out = reading.output(LAYER, value, scales)
            model = ModelDescription(name="m", operations=reading.build.used([out]), outputs=(out,), metadata={})
            factor, offset = scales.get(out, (1.0, 0.0))
            np.testing.assert_array_equal(model.evaluate(arrays["a"][None])[0] * factor + offset, arrays[f"r{n}"], err_msg=name)
    assert count == 25


def test_the_commands_take_them(tmp_path, capsys):
    for path in GOLDEN.iterdir():
        if path.stem in ("dense", "scales", "scales_weights"):
            shutil.copy(path, tmp_path)
    assert [path.name for path in sorted(tmp_path.iterdir()) if is_model(path)] == ["dense.h5", "scales.json"]
    assert cli.main(["summary", str(tmp_path / "dense.h5")]) == 0 and "q_dense_2" in capsys.readouterr().out
    assert cli.main(["zoo", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "1 520" in said.replace(",", " ") or "1520" in said


def test_through_qonnx_and_back(tmp_path):
    pytest.importorskip("qonnx")
    model = interop.load_qkeras(GOLDEN / "dense.h5")
    assert export.to_qonnx(model, tmp_path / "d.onnx", min_rows=200).gate.differing_words == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense.h5", "scales.json", "few.keras"])
def test_through_the_gate_of_hls4ml(name, tmp_path):
    assert export.to_hls4ml(interop.load_qkeras(GOLDEN / name), tmp_path / "hls", min_rows=500).gate.differing_words == 0


@pytest.mark.synth
@pytest.mark.parametrize("name", ["dense.h5", "scales.json", "few.keras"])
def test_in_verilog(name, tmp_path):
    assert export.to_rtl(interop.load_qkeras(GOLDEN / name), tmp_path / "v", min_rows=200).gate.differing_words == 0


@pytest.mark.parametrize("name", ["qkeras_3layer", "qkeras_mnist_cnn", "qkeras_mnist_dense"])
def test_the_networks_of_hls4mls_own_tests(name):
    """HGQJAX_EXAMPLE_MODELS names a checkout of fastmachinelearning/example-models."""
    path = Path(os.environ.get("HGQJAX_EXAMPLE_MODELS", "/none")) / "keras" / f"{name}.json"
    if not path.is_file():
        pytest.skip("HGQJAX_EXAMPLE_MODELS names no checkout of fastmachinelearning/example-models")
    arrays = np.load(GOLDEN / "example_models.npz")
    np.testing.assert_array_equal(interop.load_qkeras(path).evaluate(arrays[f"{name}/x"]), arrays[f"{name}/y"])


# ---- floats as a start ----


def float_network():
    conv = layers.Conv2D((6, 6, 2), 4, 3, activation="relu", batch_norm=layers.BatchNorm(), rngs=nnx.Rngs(0))
    return layers.Sequential(conv, layers.flatten, layers.Dense(64, 3, rngs=nnx.Rngs(1)))


def test_weights_of_keras_compute_what_keras_computes():
    weights, arrays = interop.load_keras_weights(GOLDEN / "floats.keras"), np.load(GOLDEN / "floats.npz")
    assert list(weights)[:2] == ["conv/kernel", "conv/bias"] and list(weights)[-2:] == ["out/kernel", "out/bias"] and len(weights) == 8
    model = float_network()
    layers.load_weights(model, weights)
    model.set_mode("float")
    np.testing.assert_allclose(model(jnp.asarray(arrays["x0"])), arrays["t/out"], rtol=1e-4, atol=1e-4)


def test_a_file_of_keras_is_a_start_and_no_network(tmp_path):
    found = start.of_path(str(GOLDEN / "floats.keras"))
    assert isinstance(found, layers.FloatStart) and found.weights["conv/kernel"].shape == (3, 3, 2, 4)
    found.check(float_network())
    with pytest.raises(InteropError, match=r"those of Keras \(Conv2D, \.\.\.\), whose weights are floats; give it to a sweep"):
        open_model(GOLDEN / "floats.keras")
    with pytest.raises(InteropError, match="its layers are those of QKeras"):
        interop.load_hgq2(GOLDEN / "dense.h5")
    kept = interop.load_keras_weights(GOLDEN / "windows.keras")  # of QKeras, before their quantizers
    assert kept["q_conv2d_batchnorm/batchnorm/gamma"].shape == kept["q_conv2d_batchnorm/bias"].shape == (3,)
    assert kept["q_depthwise_conv2d/kernel"].shape == (3, 3, 1, 4) and kept["q_separable_conv2d/pointwise/kernel"].shape == (1, 1, 3, 5)


# ---- what is refused ----


def changed(tmp_path, change):
    """scales.json with its layers changed, weights beside it."""
    found = json.loads((GOLDEN / "scales.json").read_text())
    change(found["config"]["layers"])
    shutil.copy(GOLDEN / "scales_weights.h5", tmp_path / "n_weights.h5")
    (tmp_path / "n.json").write_text(json.dumps(found))
    return tmp_path / "n.json"


def first(**config):
    return lambda entries: entries[1]["config"].update(config)


def of_bits(**arguments):
    return lambda entries: entries[1]["config"]["kernel_quantizer"]["config"].update(arguments)


REFUSED = {
    r"layer 'q_dense_3' \(QLSTM\) has no description; the nearest that has one is ": lambda entries: entries[1].update(class_name="QLSTM"),
    r"'q_dense_3' \(QDense\) has the activation 'quantized_hswish'; legal are quantized_bits, ": first(activation="quantized_hswish(8)"),
    "has the activation .__import__.*, which is no quantizer of QKeras with plain": first(activation="__import__('os').getcwd()"),
    "has the activation quantized_bits with a scale that follows from each batch": first(activation="quantized_bits(4,0,1,alpha='auto')"),
    "has the activation quantized_relu with bits 0; whole numbers from 1 to 32": first(activation="quantized_relu(0)"),
    r"has the activation 'quantized_tanh\(1,2,3,4,5\)' with 5 arguments; 4 are the most": first(activation="quantized_tanh(1,2,3,4,5)"),
    "has a softmax that is not at an output": first(activation="softmax"),
    "has no kernel_quantizer, and its weights are floats; a quantizer is needed": first(kernel_quantizer=None),
    "has the kernel_quantizer quantized_tanh, which is none of weights": first(kernel_quantizer="quantized_tanh(4)"),
    "has the kernel_quantizer quantized_bits with qnoise_factor 0.5, which mixes floats": of_bits(qnoise_factor=0.5),
    "has the kernel_quantizer quantized_bits with alpha -1; None, 'auto'": of_bits(alpha=-1),
    "has the kernel_quantizer quantized_bits with 'post_training_scale', which is none": of_bits(post_training_scale=2.0),
    "QKeras has that for symmetric quantizers": of_bits(symmetric=0),
    "has weights of shapes .*; needed are kernel": first(units=10),
    "there is no|damaged, or not as Keras writes it": lambda entries: entries.clear(),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(message, tmp_path):
    path = changed(tmp_path, REFUSED[message])
    with pytest.raises(InteropError, match=rf"^{path}:? .*({message})"):
        interop.load_qkeras(path)


def test_weights_that_are_not_there(tmp_path):
    shutil.copy(GOLDEN / "scales.json", tmp_path)
    assert not is_model(tmp_path / "scales.json")
    with pytest.raises(InteropError, match="there are no weights beside it; scales_weights.h5 is needed"):
        interop.load_qkeras(tmp_path / "scales.json")
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"] = np.ones(3)
    assert not is_model(tmp_path / "rows.h5")
    with pytest.raises(InteropError, match="it is an HDF5 file, and no model of Keras"):
        interop.load_qkeras(tmp_path / "rows.h5")
