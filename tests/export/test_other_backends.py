"""hls4ml's Catapult and oneAPI behind the gate, and the table of all back ends, strategies and io types."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hls4ml_networks import MODES, Network, verified

from hgqjax import cli
from hgqjax.description import operations as o
from hgqjax.description.model import ModelDescription
from hgqjax.export.gate import ExportError
from hgqjax.export.hls4ml import testbench, to_hls4ml
from hgqjax.export.hls4ml.ac_types import with_two_bits
from hgqjax.export.hls4ml.backends import BACKENDS
from hgqjax.export.project import GATE_FILE
from hgqjax.synth.build import build
from hgqjax.synth.settings import SynthError

ALL = (None, None, None)
TOOLS = Path(__file__).parents[2] / "docs" / "tools.md"


def mlp():
    """Every rounding with every overflow, a format for each element."""
    net = Network((4,), seed=1, mode=("RND", "SAT"))
    for mode in MODES:
        net.quantize(net.relu(net.dense(net.last, 3)) if mode[0] == "RND" else net.dense(net.last, 3), mode, bits=(3, 6))
    net.dense(net.last, 2)
    return net.model()


def test_catapult(tmp_path):
    project = verified(mlp(), tmp_path / "p", min_rows=500, backend="Catapult", part="xc7z020clg400-1").path
    record = json.loads((project / GATE_FILE).read_text())
    assert record["words_beside_second_project"] == 1600 and record["proof"] == ""
    assert "xc7z020clg400-1" in (project / "build_prj.tcl").read_text()
    assert not [p for p in project.rglob("*") if p.is_file() and p.suffix != ".npz" and str(tmp_path).encode() in p.read_bytes()]
    assert [p.name for p in tmp_path.iterdir()] == ["p"]
    with pytest.raises(SynthError, match="p is for back end Catapult; hgqjax build runs the compilers of Vitis and Vivado and VivadoAcc"):
        build(project)


@pytest.mark.slow
def test_the_test_bench_of_catapult_gives_the_same(tmp_path):
    project = to_hls4ml(mlp(), tmp_path / "p", verify=False, min_rows=500, backend="Catapult").path
    folders = ("", *(f"/{part}" for part in ("nnet_utils", "ac_types/include", "ac_math/include", "ac_simutils/include")))
    includes = ["-I.", *(f"-Ifirmware{part}" for part in folders)]
    sources = ["firmware/myproject.cpp", "myproject_test.cpp", "-o", "bench"]
    subprocess.run(["g++", "-O0", "-w", "-std=c++17", *includes, *sources], cwd=project, check=True)
    rows = [f"{testbench.FOLDER}/{name}" for name in (testbench.INPUTS, testbench.OUTPUTS)]
    subprocess.run(["./bench", "firmware/weights", *rows], cwd=project, check=True, capture_output=True)
    assert testbench.compared(project, "csim") == 200


def test_oneapi_from_the_command(tmp_path, capsys):
    mlp().save(tmp_path / "m")
    assert cli.main(["export", str(tmp_path / "m"), "--backend", "oneAPI", "--strategy", "resource", "--rows", "500"]) == 0
    assert "words on" in (said := capsys.readouterr().out) and "by g++ against a stand-in for SYCL; icpx was not run" in said
    project = tmp_path / "m_hls4ml"
    assert json.loads((project / GATE_FILE).read_text())["proof"].startswith("by g++ against a stand-in for SYCL")
    assert "compared by g++ against a stand-in for SYCL; icpx was not run" in (project / "README.md").read_text()
    assert 'set(FPGA_DEVICE "Agilex7")' in (project / "CMakeLists.txt").read_text()
    assert not list(project.glob("tmp*")) + list(project.glob("*.so"))


def one(make, shared=False, shape=(6, 2)):
    net = Network(shape, shared, seed=6)
    make(net)
    net.dense(net.reshape(net.last), 2)
    return net.model()


AVERAGE = one(lambda net: net.pool(o.AveragePool, net.last, (2,), name="layer"))
TABLE = one(lambda net: net.table(net.last, name="layer"))
DEPTHWISE = one(lambda net: net.conv(net.last, 2, (2,), groups=2, name="layer"))
TURNED = one(lambda net: net.transpose(net.last, (1, 0), name="layer"), shared=True)
ROWS = one(lambda net: net.reshape(net.last, (3, 4), name="layer"), shared=True)
STREAM = {"io_type": "io_stream"}
ONEAPI = {"backend": "oneAPI", "strategy": "resource"}


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (AVERAGE, {}, "layer 'layer' is of kind average_pool, which back end Catapult has not with equal words in io_parallel; Vitis has"),
        (TABLE, {}, "layer 'layer' is of kind table, which back end Catapult"),
        (TABLE, ONEAPI, "layer 'layer' is of kind table, which back end oneAPI"),
        (DEPTHWISE, {}, "layer 'layer' is a depthwise convolution, which back end Catapult has not"),
        (TURNED, STREAM, "layer 'layer' is of kind transpose, which back end Catapult has not with equal words in io_stream"),
        (ROWS, ONEAPI | STREAM, "layer 'layer' is of kind reshape, which back end oneAPI"),
        (
            TABLE,
            {"strategy": "distributed_arithmetic"},
            "distributed_arithmetic was not compared with back end Catapult; legal: latency, res",
        ),
        (TABLE, {"backend": "VivadoAccelerator", "strategy": "distributed_arithmetic"}, "was not compared with back end VivadoAccelerator"),
        (TABLE, {"backend": "oneAPI"}, "strategy latency was not compared with back end oneAPI; legal: resource"),
        (TABLE, {"backend": "Quartus"}, "backend 'Quartus' is not one of Vitis, Vivado, VivadoAccelerator, Catapult, oneAPI"),
        (TABLE, {"board": "pynq-z2"}, "board 'pynq-z2' is of back end VivadoAccelerator; Catapult takes a part"),
    ],
)
def test_what_was_not_compared_is_refused(model, settings, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        to_hls4ml(model, tmp_path / "p", **{"backend": "Catapult", **settings})
    assert not any(tmp_path.iterdir())


def test_elements_of_one_bit():
    def model(**fields):
        first, second = ({name: np.array([n]) for name, n in part.items()} for part in ({"k": 0, "i": 1, "f": 1}, fields))
        how = {"shape": (1,), "rounding": "TRN", "overflow": "WRAP"}
        ops = (o.Input(name="x", inputs=(), shape=(1,)), o.Quantize(name="q", inputs=("x",), **how, **first))
        return ModelDescription(name="m", operations=(*ops, o.Quantize(name="bit", inputs=("q",), **how, **second)), outputs=("bit",))

    before = model(k=0, i=1, f=0)  # of 0 .. 1.5 comes 0 or 1: a second bit changes nothing
    after, x = with_two_bits(before), np.arange(4.0)[:, None] / 2
    assert after["bit"].bits.tolist() == [2] and after["q"].bits.tolist() == [2]
    np.testing.assert_array_equal(after.evaluate(x), before.evaluate(x))
    with pytest.raises(ExportError, match="layer 'bit' has elements of 1 bit, and values beyond them; this back end has 2 bits and more"):
        with_two_bits(model(k=0, i=0, f=1))  # 1 and 1.5 wrap around


def kinds(backend, io_type):
    """Every kind that the back end has in arrays or streams; no tensor is read more often than streams can be."""
    stream = io_type == "io_stream"
    net = Network((6, 4, 2), stream, seed=6)
    q, few = net.last, BACKENDS[backend].lacks[io_type]
    r = net.relu(q)
    q2 = net.quantize(net.conv(r, 2, (3, 2), padding=((1, 1), (0, 1))))
    ends = [net.merge(kind, q, q2) for kind in (o.Add, o.Subtract, o.Multiply, o.Maximum, o.Minimum) if kind not in few]
    ends += [net.pool(kind, r, (2, 2)) for kind in (o.MaxPool, o.AveragePool) if kind not in few]
    ends += [net.conv(r, 3, (1, 1)), net.conv(r, 2, (2, 3), (2, 1)), net.dense(r, 3), net.slice(r, ALL, ALL, (0, 1, None))]
    ends.append(net.concatenate(2, q, q2))
    if BACKENDS[backend].repacks or not stream:
        row = net.reshape(q2, (24, 2))
        ends += [net.conv(row, 3, (3,), padding=((1, 1),)), net.pool(o.MaxPool, row, (2,))]
    if o.Transpose not in few:
        ends.append(net.transpose(q2, (2, 0, 1)))
    if not stream:
        ends += [net.sum(q, (0, 1)), net.pool(o.MaxPool, r, (3, 2), (2, 2), ((1, 1), (0, 1)))]
    if o.Einsum not in few and not stream:
        ends.append(net.einsum(q2, "tpc,cd->dpt", {"d": 3}))
    if io_type in BACKENDS[backend].depthwise:
        ends.append(net.conv(q, 2, (2, 2), groups=2))
    return net.model(*ends)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["Catapult", "oneAPI"])
@pytest.mark.parametrize("io_type", ["io_parallel", "io_stream"])
def test_every_kind(backend, io_type, tmp_path):
    verified(kinds(backend, io_type), tmp_path / "p", min_rows=300, backend=backend, io_type=io_type, strategy="resource")


def small(shared):
    net = Network((3, 2), shared, seed=1)
    net.quantize(net.relu(net.conv(net.last, 2, (2,))))
    net.dense(net.reshape(net.last), 2)
    return net.model()


TABLE_ROWS = [(name, strategy, io) for name, backend in BACKENDS.items() for strategy in backend.strategies for io in backend.io_types]


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "strategy", "io_type"), TABLE_ROWS)
def test_the_table_of_back_ends(backend, strategy, io_type, tmp_path):
    """The rows of docs/tools.md."""
    gate = verified(small(io_type == "io_stream"), tmp_path / "p", min_rows=1000, backend=backend, strategy=strategy, io_type=io_type).gate
    assert f"| {backend} | {strategy} | {io_type} | {gate.words:,} | {gate.differing_words} |".replace(",", " ") in TOOLS.read_text()
