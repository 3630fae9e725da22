"""hls4ml's VivadoAccelerator: a board instead of a part, the wrapper of floats, every word through it."""

import json

import numpy as np
import pytest
from hls4ml_networks import Network, verified

from hgqjax import cli
from hgqjax.export.gate import ExportError
from hgqjax.export.hls4ml import accelerator, to_hls4ml
from hgqjax.export.hls4ml.config import read_config, write_config
from hgqjax.export.project import GATE_FILE

BACKEND = accelerator.NAME


def model(outputs=1, bits=(2, 6)):
    net = Network((4,), seed=1)
    first = net.quantize(net.relu(net.dense(net.last, 3)), bits=bits)
    net.lookup(first) if bits == (2, 6) else None
    net.dense(net.last, 2)
    return net.model(*((first,) if outputs == 2 else ()), net.last)


def test_the_command_writes_an_accelerator(tmp_path, capsys):
    model().save(tmp_path / "m")
    assert cli.main(["export", str(tmp_path / "m"), "--board", "pynq-z2", "--no-verify"]) == 0
    project = tmp_path / "m_hls4ml"
    assert {"design.tcl", "axi_stream_driver.py"} <= {path.name for path in project.iterdir()} and [
        p.name for p in tmp_path.glob("*.gz")
    ] == []
    assert 'set part "xc7z020clg400-1"' in (project / "project.tcl").read_text()
    record = json.loads((project / GATE_FILE).read_text())
    assert (record["backend"], record["board"], record["verified"]) == (BACKEND, "pynq-z2", False)
    assert "were run nowhere" in (project / "README.md").read_text()
    assert f"namespace {record['namespace']} {{" in (project / "firmware" / "myproject_axi.cpp").read_text()
    capsys.readouterr()
    assert cli.main(["export", str(tmp_path / "m"), "--board", "pynq-z2", "--part", "xc7z020clg400-1"]) == 2
    assert "backend VivadoAccelerator has no part; Vitis and Vivado" in capsys.readouterr().err
    assert cli.main(["export", str(tmp_path / "m"), "--board", "pynq-z2", "--backend", "Vitis"]) == 2
    assert "backend Vitis has no board; VivadoAccelerator have" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (model(), {"board": "pynq-z9"}, "board 'pynq-z9' is not one of pynq-z2, zcu102"),
        (model(), {"part": "xc7z020clg400-1"}, "takes a board, which has its part"),
        (model(outputs=2), {}, "has 1 inputs and 2 outputs; back end VivadoAccelerator has one of each"),
        (model(bits=(24, 26)), {}, r"output 'dense5' has \d+ bits, more than the 24 of the wrapper's floats"),
        (model(), {"backend": "Vitis", "board": "pynq-z2"}, "board 'pynq-z2' is of back end VivadoAccelerator; Vitis takes a part"),
    ],
)
def test_what_is_refused(network, settings, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        to_hls4ml(network, tmp_path / "p", **{"backend": BACKEND, **settings})
    assert not any(tmp_path.iterdir())


def test_streams_are_refused_as_long_as_nobody_compared_them(tmp_path):
    net = Network((4,), shared=True, seed=1)
    net.dense(net.last, 2)
    with pytest.raises(ExportError, match="io_type io_stream was not compared with back end VivadoAccelerator"):
        to_hls4ml(net.model(), tmp_path / "p", backend=BACKEND, io_type="io_stream")


def test_the_board_in_a_file(tmp_path):
    write_config(tmp_path / "e.yml", model="m", output_dir="o", backend=BACKEND, board="zcu102")
    _, found = read_config(tmp_path / "e.yml")
    assert found["board"] == "zcu102" and "part" not in found


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["latency", "resource"])
def test_every_word_through_the_wrapper(strategy, tmp_path):
    rows = np.random.default_rng(0).normal(0, 2, (50, 4))  # of float64: the wrapper has float32
    verified(model(), tmp_path / "p", min_rows=1000, backend=BACKEND, strategy=strategy, rows=rows)
