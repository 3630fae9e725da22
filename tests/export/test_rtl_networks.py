"""RTL of whole networks in simulators: released ones, convolutions, random ones, every flavor; minutes."""

import json
import shutil
import subprocess

import pytest
from hls4ml_networks import Network, random_network

from hgqjax import interop
from hgqjax.description import operations as o
from hgqjax.export.gate import GateError
from hgqjax.export.project import RTL_FILE
from hgqjax.export.rtl import convert
from hgqjax.export.rtl.bench import BENCH
from hgqjax.export.rtl.convert import adder_graph, to_rtl

pytestmark = pytest.mark.synth

COST, CYCLES = {"openml_0.733": 312.55, "cernbox_0.726": 602.9, "openml_0.758": 2121.3}, {"openml_0.733": 9, "openml_0.758": 18}


def released(shared, name):
    return interop.load_hgq2(shared / "golden" / "hgq2" / f"{name}.keras")


@pytest.mark.parametrize("name", COST)
def test_adder_cost_of_released_networks(name, shared):
    graph = adder_graph(released(shared, name))
    assert graph.cost == pytest.approx(COST[name], rel=1e-6)


@pytest.mark.parametrize("name", ["openml_0.733", "openml_0.758"])
def test_released_networks_in_verilator(name, shared, tmp_path):
    project = to_rtl(released(shared, name), tmp_path / "p", clock_ns=1.0)
    assert project.gate.rows >= 10_000 and project.gate.words == 10 * project.gate.rows
    assert project.latency_cycles == CYCLES[name]


def test_a_released_network_in_ghdl(shared, tmp_path):
    project = to_rtl(released(shared, "cernbox_0.726"), tmp_path / "p", flavor="vhdl", simulated_rows=500)
    assert project.gate.words == 5 * project.gate.rows


def test_three_inputs(shared, tmp_path):
    project = to_rtl(released(shared, "muon_2.377"), tmp_path / "p", min_rows=2000)
    assert project.gate.words == project.gate.rows


def convolutions():
    """Two dimensions, then one, groups, pools, a table."""
    net = Network((6, 5, 2), seed=4)
    net.quantize(net.relu(net.conv(net.last, 3, (3, 2), padding=((1, 1), (0, 1)))))
    net.pool(o.MaxPool, net.last, (2, 2), (2, 2), ((0, 0), (0, 1)))
    net.quantize(net.conv(net.last, 3, (2, 2), groups=3))
    net.table(net.quantize(net.last, bits=(3, 5)))
    net.quantize(net.reshape(net.last))
    net.dense(net.last, 4)
    return net.model()


@pytest.mark.parametrize(("flavor", "rows"), [("verilog", 10_000), ("vhdl", 300)])
def test_convolutions(flavor, rows, tmp_path):
    project = to_rtl(convolutions(), tmp_path / "p", flavor=flavor, clock_ns=2.0, simulated_rows=rows)
    assert project.gate.words == 4 * project.gate.rows


@pytest.mark.parametrize(
    ("seed", "options"),
    [(0, {"latency_cutoff": 0.0}), (1, {"latency_cutoff": 2.0, "ternary": True}), (7, {"flavor": "vhdl", "latency_cutoff": 0.0})]
    + [(seed, {"flavor": "vhdl", "latency_cutoff": 1.0, "ternary": seed == 10}) for seed in (10, 164, 206)],
)
def test_random_networks(seed, options, tmp_path):
    rows = 200 if options.get("flavor") == "vhdl" else 2000
    project = to_rtl(random_network(seed, shared=False), tmp_path / "p", min_rows=2000, simulated_rows=rows, **options)
    assert project.gate.differing_words == 0 and (project.latency_cycles == 0) == (options["latency_cutoff"] == 0)


def test_one_wrong_operation_in_verilog_stops_the_export(tmp_path, monkeypatch):
    write = convert._write

    def corrupt(graph, folder, *arguments):
        design = write(graph, folder, *arguments)
        path = folder / "src/static/shift_adder.v"
        text = path.read_text()
        assert text.count("in0_ext - in1_ext;") == 1
        path.write_text(text.replace("in0_ext - in1_ext;", "in0_ext + in1_ext;"))
        return design

    monkeypatch.setattr(convert, "_write", corrupt)
    with pytest.raises(GateError, match="Verilog in Verilator differs from the model"):
        to_rtl(convolutions(), tmp_path / "p", min_rows=500)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="the system package iverilog is missing")
def test_the_test_bench_in_icarus(tmp_path):
    """The project's own files, run as a user would, in another simulator."""
    project = to_rtl(convolutions(), tmp_path / "p", verify=False, min_rows=300)
    about = json.loads((project.path / RTL_FILE).read_text())
    files = [str(project.path / source) for source in about["sources"]]
    bench = project.path / BENCH
    for name in ("stimulus.hex", "expected.hex"):
        lines = (bench / name).read_text().splitlines()
        (bench / name).write_text("\n".join(lines[:300]) + "\n")
    subprocess.run(["iverilog", "-g2012", "-o", "simulation", *files, "myproject_tb.v"], cwd=bench, check=True)
    for expected in ("PASS 300 rows, 0 differ", "FAIL 300 rows, 1 differ"):
        said = subprocess.run(["vvp", "simulation"], cwd=bench, check=True, capture_output=True, text=True).stdout
        assert expected in said
        lines = (bench / "expected.hex").read_text().splitlines()
        (bench / "expected.hex").write_text("\n".join([*lines[:-1], "0" * len(lines[-1])]) + "\n")
