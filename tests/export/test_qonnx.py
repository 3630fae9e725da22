"""QONNX files: every operation, every format, and hls4ml's own front end, word for word."""

import numpy as np
import pytest
from hls4ml_networks import MODES, Network, arrays, random_arrays, random_network

from hgqjax import cli, export
from hgqjax.description import operations as o
from hgqjax.export import gate
from hgqjax.export.gate import ExportError, GateError
from hgqjax.export.qonnx import convert, to_qonnx

onnx = pytest.importorskip("onnx")
pytest.importorskip("qonnx")
pytestmark = [
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of qonnx's own dependencies
]


def written(model, folder, **more):
    """The file passed its gate, which counted every word of every output."""
    found = to_qonnx(model, folder / "network.onnx", **{"min_rows": 1000, **more})
    words = sum(int(np.prod(model[name].shape)) for name in model.outputs)
    assert found.gate.rows >= 1000 and found.gate.words == words * found.gate.rows and found.gate.differing_words == 0
    onnx.checker.check_model(onnx.load(found.path))
    return found


def uniform(mode=("TRN", "SAT"), shape=(16,), widths=(8, 5), bits=6, hidden=None):
    """One format for each tensor, relus between dense layers, as FINN and hls4ml's front end need it."""
    net = Network(shape, shared=True, seed=1)
    net.operations, net.last = net.operations[:1], "x"

    def quantize(source, k, i, mode):
        formats = {"k": k, "i": i, "f": bits - k - i}
        full = {name: np.full(net.shapes[source], v, np.int64) for name, v in formats.items()}
        return net.add(o.Quantize, source, net.shapes[source], **full, rounding=mode[0], overflow=mode[1])

    quantize("x", 1, 2, mode)
    for size in widths[:-1]:
        net.relu(net.dense(net.last, size))
        quantize(net.last, 0, 3, hidden or mode)
    net.dense(net.last, widths[-1])
    return net.model()


def test_every_kind_of_operation(tmp_path):
    assert {op.kind for op in everything().operations} == set(o.KINDS)
    written(everything(), tmp_path)


def everything():
    """A network with every operation."""
    net = Network((4, 4, 2), seed=3)
    first = net.last
    net.quantize(net.relu(net.conv(first, 4, (2, 2), padding=((1, 0), (0, 1)), groups=2)))
    net.pool(o.MaxPool, net.last, (2, 2), (1, 1), ((0, 1), (1, 0)))
    a = net.quantize(net.pool(o.AveragePool, net.last, (2, 2), (2, 2)))
    b = net.quantize(net.einsum(a, "hwc,cd->hwd", {"d": 4}))
    parts = [net.quantize(net.merge(cls, a, b)) for cls in (o.Add, o.Subtract, o.Multiply, o.Maximum, o.Minimum)]
    net.lookup(net.quantize(net.concatenate(1, *parts)))
    net.table(net.quantize(net.reshape(net.last, (10, 8))))
    c = net.quantize(net.slice(net.transpose(net.last, (1, 0)), (None, 4, None), (1, None, 3)))
    net.gather(net.quantize(net.contract(c, c, "ab,cb->ac")), [[0, -1, 3], [15, 15, 2]])
    net.quantize(net.sum(net.last, (0,), shift=1))
    net.dense(net.last, 3)
    return net.model(parts[0], net.last, net.last)


@pytest.mark.parametrize("mode", MODES, ids="-".join)
@pytest.mark.parametrize("shared", [True, False], ids=["one format", "a format for each element"])
def test_every_rounding_and_overflow(mode, shared, tmp_path):
    net = Network((5,), shared=shared, seed=2, mode=mode)
    net.quantize(net.dense(net.last, 4), mode=mode, bits=(3, 5))
    found = written(net.model(), tmp_path)
    assert ("quantize1" in found.unnamed) == (not shared or mode[1] == "WRAP")


def test_rounding_of_rows_a_hair_below_a_tie(tmp_path):
    """Half a step that is added in float32 would round these up."""
    net = Network((4,), shared=True, seed=2, mode=("RND", "SAT"))
    step = 2.0 ** -int(net.operations[1].f[0])
    tie = np.float32(step * np.array([0.5, 1.5, -0.5, -1.5]))
    rows = np.stack([tie, np.nextafter(tie, np.float32(-9)), np.nextafter(tie, np.float32(9))]).astype(np.float64)
    assert np.any(np.floor(np.float32(rows[1] / step) + np.float32(0.5)) != np.floor(rows[1] / step + 0.5))
    written(net.model("quantize1"), tmp_path, rows=rows)


def test_sums_of_more_than_24_bits_are_float64(tmp_path, monkeypatch):
    net = Network((3,), seed=1)
    net.quantize(net.reshape("x", (3, 1)), bits=(23, 25), integer=(3, 4))
    net.conv(net.last, 2, (2,))
    found = written(net.model(), tmp_path)
    assert found.wide and "float64" in str(found) and "Quant" not in found.nodes
    monkeypatch.setattr(convert, "FLOATS", convert.FLOATS[:1])
    with pytest.raises(ExportError, match=r"layer 'conv\d' computes numbers of \d+ bits; .* hold 24 at most"):
        to_qonnx(net.model(), tmp_path / "again.onnx")
    assert not (tmp_path / "again.onnx").exists()


@pytest.mark.slow
@pytest.mark.parametrize("floats", [convert.FLOATS, convert.FLOATS[1:]], ids=["float32", "float64"])
def test_random_networks(floats, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "FLOATS", floats)
    for seed in range(7):
        for n, model in enumerate([random_network(seed, False), random_network(seed, True), random_arrays(seed)]):
            to_qonnx(model, tmp_path / f"{seed}_{n}.onnx", min_rows=1000)
    written(arrays(), tmp_path)


def test_one_wrong_node_stops_the_export(tmp_path, monkeypatch):
    graph_model = convert.Graph.model

    def wrong(graph, properties):
        model = graph_model(graph, properties)
        node = next(node for node in model.graph.node if node.op_type == "Relu")
        node.op_type = "Abs"
        return model

    monkeypatch.setattr(convert.Graph, "model", wrong)
    with pytest.raises(GateError, match="qonnx's executor differs from the model in"):
        to_qonnx(uniform(), tmp_path / "network.onnx", min_rows=100)
    assert not any(tmp_path.iterdir())


def test_a_file_that_exists_stays(tmp_path):
    (tmp_path / "network.onnx").write_text("mine")
    with pytest.raises(ExportError, match="exists already; name a file that does not"):
        to_qonnx(uniform(), tmp_path / "network.onnx")
    assert (tmp_path / "network.onnx").read_text() == "mine"


def test_the_command(tmp_path, capsys):
    uniform().save(tmp_path / "model")
    assert cli.main(["export", str(tmp_path / "model"), "--backend", "qonnx", "--rows", "200"]) == 0
    assert "every format has a name of QONNX" in capsys.readouterr().out and (tmp_path / "model_qonnx.onnx").is_file()
    assert cli.main(["export", str(tmp_path / "model"), "--backend", "qonnx", "--part", "xc7z020"]) == 2
    assert "backend qonnx has no part; Vitis and Vivado" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "hidden"),
    [(("TRN", "SAT"), None), (("RND_CONV", "SAT"), None), (("RND_CONV", "SAT_SYM"), None), (("TRN", "SAT"), ("RND", "SAT"))],
    ids=lambda mode: "-".join(mode) if mode else "same",
)
def test_through_the_front_end_of_hls4ml(mode, hidden, tmp_path):
    """Their reader, their types, their C++: every precision is inferred from the file but that of the input, as they ask for it."""
    import hls4ml
    from hls4ml.utils.config import config_from_onnx_model
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.util.cleanup import cleanup_model

    model = uniform(mode, hidden=hidden)
    found = written(model, tmp_path)
    assert not found.unnamed
    wrapper = cleanup_model(ModelWrapper(str(found.path)))
    config = config_from_onnx_model(wrapper, granularity="name", backend="Vitis", default_precision="fixed<40,20>")
    for entry in config["LayerName"].values():
        entry["Precision"] = dict.fromkeys(entry["Precision"], "auto") if isinstance(entry["Precision"], dict) else "auto"
    quantizer = next(op for op in model.operations if isinstance(op, o.Quantize))
    rounding = f"ap_fixed<{quantizer.bits[0]},{quantizer.k[0] + quantizer.i[0]},AP_{quantizer.rounding},AP_{quantizer.overflow}>"
    config["LayerName"][wrapper.graph.input[0].name]["Precision"] = {"result": rounding}
    project = hls4ml.converters.convert_from_onnx_model(wrapper, hls_config=config, output_dir=str(tmp_path / "p"), backend="Vitis")
    project.compile()
    x = gate.gate_rows(model, min_rows=1000)
    y = project.predict(np.ascontiguousarray(x))
    words = gate.to_words(y, model.grids[model.outputs[0]])
    assert gate.check_words(model, x, (words,), tool="hls4ml's front end") == words.size >= 5000


def test_the_sentence_for_a_missing_package(tmp_path, monkeypatch):
    find = convert.importlib.util.find_spec
    monkeypatch.setattr(convert.importlib.util, "find_spec", lambda name: None if name == "qonnx" else find(name))
    with pytest.raises(ExportError, match=r"QONNX needs the package qonnx, which is not installed; pip install 'hgqjax\[qonnx\]'"):
        export.to_qonnx(uniform(), tmp_path / "network.onnx")
