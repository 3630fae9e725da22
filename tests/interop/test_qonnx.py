"""QONNX files: networks of Brevitas against qonnx's executor, everything that `to_qonnx` writes, and what is refused."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hls4ml_networks import Network

import hgqjax
from hgqjax import cli, export, interop
from hgqjax.description import ModelDescription
from hgqjax.description import operations as o
from hgqjax.export.gate import ExportError
from hgqjax.interop import InteropError
from hgqjax.interop.qonnx_file import QuantSetting

onnx = pytest.importorskip("onnx")
helper = pytest.importorskip("onnx.helper")
GOLDEN = Path(__file__).parents[1] / "golden" / "qonnx"
NAMES = ("po2", "floats", "bipolar", "convolutions")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of qonnx's own dependencies


def words(model, x):
    """Outputs for raw rows, in units of their last place and as the executor has them, scale and offset included."""
    about = model.metadata
    if "scaler" in about:
        x = (x.astype(np.float64) - np.array(about["scaler"]["mean"])) / np.array(about["scaler"]["scale"])
    (name,) = model.outputs
    scale, offset = about["qonnx"]["output_scales"].get(name, (1.0, 0.0))
    return model.evaluate(x), scale, offset, 2.0 ** -int(model.grids[name].f.max())


@pytest.mark.parametrize("name", NAMES)
def test_networks_of_brevitas(name):
    model, arrays = interop.load_qonnx(GOLDEN / f"{name}.onnx"), np.load(GOLDEN / f"{name}.npz")
    ours, scale, offset, step = words(model, arrays["x"])
    theirs = (arrays["y"].astype(np.float64) - offset) / scale
    assert ours.size >= 300 and abs(theirs - np.rint(theirs / step) * step).max() < 1e-3 * step  # they are words, but for float32
    np.testing.assert_array_equal(ours, np.rint(theirs / step) * step)
    assert len(np.unique(ours)) > 5
    if name == "po2":
        np.testing.assert_array_equal(ours, arrays["y"])


def test_which_steps_are_left():
    about = interop.load_qonnx(GOLDEN / "floats.onnx").metadata
    assert next(iter(about["qonnx"]["output_scales"].values()))[0] > 0 and about["scaler"]["scale"][0] == pytest.approx(0.0987, abs=1e-3)
    assert about["qonnx"]["inputs_that_got_it"] == [] and "scaler" not in interop.load_qonnx(GOLDEN / "po2.onnx").metadata


@pytest.mark.parametrize("mode", [(r, v) for r in ("TRN", "RND", "RND_CONV") for v in ("SAT", "SAT_SYM")], ids="-".join)
def test_what_we_write_comes_back(mode, tmp_path):
    """The same words, operations and EBOPs; metadata too."""
    net = Network((6, 6, 2), shared=True, seed=5, mode=mode if mode[0] != "RND" else ("TRN", "SAT"))
    net.quantize(net.relu(net.conv(net.last, 3, (3, 3), padding=((1, 1), (1, 1)))), mode=mode, bits=(4, 5))
    net.pool(o.MaxPool, net.last, (2, 2))
    net.quantize(net.conv(net.last, 3, (2, 2), groups=3), mode=mode, bits=(4, 5))
    net.dense(net.reshape(net.last), 4)
    model = net.model()
    model = ModelDescription(name="n", operations=model.operations, outputs=model.outputs, metadata={"classes": ["a", "b", "c", "d"]})
    export.to_qonnx(model, tmp_path / "n.onnx", min_rows=200)
    again = interop.load_qonnx(tmp_path / "n.onnx")
    x = np.random.default_rng(1).normal(0, 2, (500, 6, 6, 2))
    np.testing.assert_array_equal(again.evaluate(x), model.evaluate(x))
    assert [op.kind for op in again.operations if op.kind != "transpose"] == [op.kind for op in model.operations]
    assert again.metadata["classes"] == ["a", "b", "c", "d"]


def made(tmp_path, nodes, constants, shape=(1, 4), output="y"):
    """The path of a file with `nodes` (kind, inputs, output, attributes)."""
    built = []
    for kind, inputs, result, more in nodes:
        domain = "qonnx.custom_op.general" if "Quant" in kind else "qonnx.custom_op.channels_last" if "." in kind else ""
        built.append(helper.make_node(kind.rpartition(".")[2], inputs, [result], domain=domain, **more))
    real = onnx.TensorProto.FLOAT
    inputs, outputs = [helper.make_tensor_value_info("x", real, shape)], [helper.make_tensor_value_info(output, real, None)]
    weights = [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(helper.make_graph(built, "g", inputs, outputs, weights)), path)
    return path


QUANT = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
CONSTANTS = {"s": np.float32(0.25), "z": np.float32(0), "b": np.float32(5), "t": np.float32(0.3), "w": np.eye(4, dtype=np.float32)}
FIRST = ("Quant", ["x", "s", "z", "b"], "q", QUANT)


@pytest.mark.parametrize("rounding", ["ROUND", "FLOOR", "CEIL", "UP", "DOWN", "HALF_UP", "HALF_DOWN"])
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_every_rounding_of_a_quant_with_a_zero_point(rounding, signed, scale, tmp_path):
    """Behind a float scale and an offset: thresholds; compared with the definition."""
    setting = {"signed": signed, "narrow": 0, "rounding_mode": rounding}
    constants = CONSTANTS | {"s2": np.float32(scale), "z2": np.float32(1), "b2": np.float32(3), "m": np.float32(-1.25)}
    nodes = [FIRST, ("Mul", ["q", "m"], "r", {}), ("Quant", ["r", "s2", "z2", "b2"], "y", setting)]
    model = interop.load_qonnx(made(tmp_path, nodes, constants))
    x = np.random.default_rng(0).normal(0, 2, (300, 4))
    q = np.clip(np.rint(x * 4), -16, 15) / 4
    lo, hi = (-4, 3) if signed else (0, 7)
    values = np.clip(-1.25 * q / np.float64(np.float32(scale)) + 1, lo, hi)
    ours, factor, offset, _ = words(model, x)
    np.testing.assert_array_equal(ours, QuantSetting(3, bool(signed), False, rounding).words(values) - 1)
    assert (factor, offset) == (pytest.approx(scale), 0)


def test_rows_without_a_quant_get_a_format(tmp_path):
    constants = CONSTANTS | {"w": np.float32([[0.5], [0.25], [-0.5], [1]])}
    nodes = [("Quant", ["w", "s", "z", "b"], "v", QUANT), ("MatMul", ["x", "v"], "y", {})]
    model = interop.load_qonnx(made(tmp_path, nodes, constants), input_format=(1, 2, 1))
    assert model.metadata["qonnx"]["inputs_that_got_it"] == ["x"]
    np.testing.assert_array_equal(model.evaluate(np.array([[0.3, 0.8, 9.0, -9.0]])), [[0.5 * 0.5 + 0.25 * 1 - 0.5 * 3.5 - 4]])


def test_a_zoo_of_them(tmp_path, capsys):
    for name in ("po2", "bipolar"):
        shutil.copy(GOLDEN / f"{name}.onnx", tmp_path)
    assert cli.main(["summary", str(tmp_path / "po2.onnx")]) == 0 and "1816" in capsys.readouterr().out
    assert cli.main(["zoo", str(tmp_path)]) == 0
    assert "po2" in (said := capsys.readouterr().out) and "bipolar" in said
    x = np.load(GOLDEN / "po2.npz")["x"]
    assert hgqjax.load(tmp_path / "po2.onnx").predict(x).shape == (100, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_through_the_gates(name, tmp_path):
    model = interop.load_qonnx(GOLDEN / f"{name}.onnx")
    if name == "convolutions":
        with pytest.raises(ExportError, match="has 2 groups for 4 channels; hls4ml has 1 group, or as many as channels"):
            export.to_hls4ml(model, tmp_path / "hls")
    else:
        assert export.to_hls4ml(model, tmp_path / "hls", min_rows=1000).gate.differing_words == 0
    assert export.to_qonnx(model, tmp_path / "again.onnx", min_rows=1000).gate.differing_words == 0


@pytest.mark.synth
@pytest.mark.parametrize("name", NAMES)
def test_in_verilog(name, tmp_path):
    assert export.to_rtl(interop.load_qonnx(GOLDEN / f"{name}.onnx"), tmp_path / "v", min_rows=500).gate.differing_words == 0


def test_channels_last_leaky_relus_and_repeats(tmp_path):
    """qonnx's own nodes for tensors whose channels come last, and what U-Nets have beside them; compared with the definition."""
    rng = np.random.default_rng(3)
    weights = rng.integers(-4, 5, (3, 2, 2, 1)).astype(np.float32)  # filters, window, channels of a group
    conv = {"kernel_shape": [2, 2], "strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0], "group": 3}
    nodes = [FIRST, ("channels_last.Conv", ["q", "w", "c"], "r", conv), ("LeakyRelu", ["r"], "l", {"alpha": 0.1015625})]
    pool = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 0]}
    nodes += [("channels_last.MaxPool", ["l"], "p", pool)]
    mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    nodes += [("Resize", ["p", "", "f"], "y", mode)]
    constants = CONSTANTS | {"w": weights, "c": np.float32([1, -2, 0.5]), "f": np.float32([1, 2, 2, 1])}
    model = interop.load_qonnx(made(tmp_path, nodes, constants, (1, 5, 5, 3)))
    x = rng.normal(0, 2, (50, 5, 5, 3))
    q = np.clip(np.rint(x * 4), -16, 15) / 4
    y = np.float64([1, -2, 0.5])
    y = y + sum(q[:, i : i + 4, j : j + 4] * weights[:, i, j, 0] for i in range(2) for j in range(2))
    y = np.maximum(y, 0.1015625 * y).reshape(50, 2, 2, 2, 2, 3).max((2, 4))
    np.testing.assert_array_equal(model.evaluate(x), y.repeat(2, 1).repeat(2, 2))


EXAMPLES = {"bnn_model_fc_1layer": 0, "separable_conv_model_ch_last": 16, "branched_model_ch_last": 16, "tiny_unet_ch_last": 32}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_networks_of_hls4mls_own_tests(name, tmp_path):
    """On images of 16 or 32 pixels instead of 256 and 512; HGQJAX_EXAMPLE_MODELS names a checkout of fastmachinelearning/example-models."""
    path = Path(os.environ.get("HGQJAX_EXAMPLE_MODELS", "/none")) / "onnx" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip("HGQJAX_EXAMPLE_MODELS names no checkout of fastmachinelearning/example-models")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.util.cleanup import cleanup_model

    theirs, size = onnx.load(path), EXAMPLES[name]
    constants = {tensor.name for tensor in theirs.graph.initializer}
    for info in (*theirs.graph.value_info, *theirs.graph.input, *theirs.graph.output):
        shape = info.type.tensor_type.shape.dim
        if size and len(shape) == 4 and info.name not in constants:
            for axis in (1, 2):
                shape[axis].dim_value = shape[axis].dim_value * size // (512 if "separable" in name else 256)
    for node in theirs.graph.node:  # ceil_mode is 0, and unknown to the old version of ONNX that the executor takes
        for attribute in [a for a in node.attribute if a.name == "ceil_mode"]:
            node.attribute.remove(attribute)
    onnx.save(theirs, tmp_path / "n.onnx")
    ours, theirs = interop.load_qonnx(tmp_path / "n.onnx"), cleanup_model(ModelWrapper(str(tmp_path / "n.onnx")))
    x = np.round(np.random.default_rng(0).uniform(-1, 1, (2 if size else 200, *ours.inputs[0].shape)) * 1024) / 1024
    source, result = theirs.graph.input[0].name, theirs.graph.output[0].name
    y = np.concatenate([execute_onnx(theirs, {source: row[None].astype(np.float32)})[result] for row in x])
    np.testing.assert_array_equal(ours.evaluate(x), y)


ZOO = {  # of fastmachinelearning/qonnx_model_zoo: rows that fit, words that differ of how many
    "qkeras_jettagging": lambda rng, n: np.round(rng.normal(0, 2, (n, 16)) * 1024) / 1024,
    "TFC_1W1A": lambda rng, n: rng.integers(0, 256, (n, 1, 28, 28)) / 255,
    "TFC_1W2A": lambda rng, n: rng.integers(0, 256, (n, 1, 28, 28)) / 255,
    "TFC_2W2A": lambda rng, n: rng.integers(0, 256, (n, 1, 28, 28)) / 255,
    "kwsmlp_w3a3": lambda rng, n: rng.normal(0, 30, (n, 1, 10, 49)),
    "unsw_nb15-mlp-w2a2": lambda rng, n: rng.choice([-1.0, 1.0], (n, 600)),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Some old-style domain:UserWarning")  # qonnx, of the jets network
@pytest.mark.parametrize("name", ZOO)
def test_the_public_model_zoo(name):
    """Every word of 300 rows is that of qonnx's executor; HGQJAX_QONNX_ZOO names the folder with the files."""
    path = Path(os.environ.get("HGQJAX_QONNX_ZOO", "/none")) / f"{name}.onnx"
    if not path.is_file():
        pytest.skip("HGQJAX_QONNX_ZOO names no folder with this file of fastmachinelearning/qonnx_model_zoo")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.util.cleanup import cleanup_model

    x = ZOO[name](np.random.default_rng(0), 300).astype(np.float32)
    model = interop.load_qonnx(path)
    theirs = cleanup_model(ModelWrapper(str(path)))
    source, result = theirs.graph.input[0].name, theirs.graph.output[0].name
    if model.metadata["qonnx"]["softmax"]:
        result = theirs.find_producer(result).input[0]
    y = np.concatenate([execute_onnx(theirs, {source: row[None]}, True)[result] for row in x]).astype(np.float64)
    ours, scale, offset, step = words(model, x)
    np.testing.assert_array_equal(ours, np.rint((y.reshape(ours.shape) - offset) / scale / step) * step)


REFUSED = {
    r"node 'Sigmoid_1' \(Sigmoid\) is not known; there are Quant, ": [FIRST, ("Sigmoid", ["q"], "y", {})],
    r"node 'MatMul_1' \(MatMul\) has weights that no Quant made; a Quant is needed": [FIRST, ("MatMul", ["q", "third"], "y", {})],
    "has 2.5 bits; whole numbers from 1 to 32 are legal": [("Quant", ["x", "s", "z", "half"], "y", QUANT)],
    "has rounding mode ODD; legal are ROUND, FLOOR": [("Quant", ["x", "s", "z", "b"], "y", QUANT | {"rounding_mode": "ODD"})],
    "has more than one bit-width; one is legal": [("Quant", ["x", "s", "z", "bs"], "y", QUANT)],
    "reads 'nowhere', which nothing before it gives": [("Relu", ["nowhere"], "y", {})],
    "reads a value with a scale or an offset in floating point; a Quant": [FIRST, ("Mul", ["q", "vector"], "y", {})],
    "the batch axis must stay the first": [FIRST, ("Transpose", ["q"], "y", {"perm": [1, 0]})],
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(message, tmp_path):
    third = {"third": np.full((4, 2), 1 / 3, np.float32), "vector": np.float32([0.1, 0.2, 0.3, 0.4]), "half": np.float32(2.5)}
    path = made(tmp_path, REFUSED[message], CONSTANTS | third | {"bs": np.float32([3, 4, 5, 6])})
    with pytest.raises(InteropError, match=rf"^{path}: .*{message}"):
        interop.load_qonnx(path)


def test_damaged_files(tmp_path):
    raw, rng = (GOLDEN / "convolutions.onnx").read_bytes(), np.random.default_rng(0)
    path = tmp_path / "damaged.onnx"
    for _ in range(60):
        changed = bytearray(raw)
        for n in rng.integers(0, len(raw), rng.integers(1, 5)):
            changed[n] = rng.integers(256)
        path.write_bytes(bytes(changed[: rng.integers(1, len(raw))] if rng.random() < 0.3 else changed))
        try:
            interop.load_qonnx(path)
        except InteropError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
