"""`hgqjax build` with a compiler that is played: a program of that name on PATH."""

import json
import stat
import sys

import made_up_reports as reports
import pytest
from hls4ml_networks import Network

from hgqjax import cli
from hgqjax.export.gate import ExportError
from hgqjax.export.hls4ml import to_hls4ml
from hgqjax.synth import build
from hgqjax.synth.settings import SynthError, ToolError

COMPILER = """
import pathlib, sys
assert sys.argv[1:] == {arguments!r}, sys.argv
options = dict(line.split() for line in open("build_opt.tcl").read().splitlines()[1:-1])
data = pathlib.Path("tb_data")
lines = (data / "tb_output_predictions.dat").read_text()
if options["csim"] == "1":
    numbers = ["%g" % float(word) for word in lines.split()]  # six digits, as the test bench prints
    (data / "csim_results.log").write_text("\\n".join(numbers[:len(numbers) + {short}]).replace({old!r}, {new!r}, 1))
if options["synth"] == "1":
    path = pathlib.Path("myproject_prj/solution1/syn/report/myproject_csynth.xml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text({csynth!r})
if options["vsynth"] == "1":
    pathlib.Path("vivado_synth.rpt").write_text({vsynth!r})
sys.exit({code})
"""
VSYNTH = "| CLB LUTs*  | 1548 | 0 |\n| CLB Registers | 555 | 0 |\n| DSPs | 3 | 0 |\n| Block RAM Tile | 1.5 | 0 |\n"
VITIS = ["--mode", "hls", "--tcl", "build_prj.tcl"]


@pytest.fixture
def play(tmp_path, monkeypatch):
    def make(name="vitis-run", arguments=VITIS, old="", new="", short=0, code=0):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        settings = {"arguments": arguments, "csynth": reports.CSYNTH, "vsynth": VSYNTH, "old": old, "new": new, "short": short}
        path.write_text(f"#!{sys.executable}\n" + COMPILER.format(**settings, code=code))
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setenv("PATH", str(path.parent))

    return make


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    net = Network((4,), seed=1)
    net.dense(net.quantize(net.relu(net.dense(net.last, 3))), 2)
    return to_hls4ml(net.model(), tmp_path_factory.mktemp("made") / "p", verify=False, min_rows=500).path


def test_simulation_synthesis_and_their_reports(project, play, capsys):
    play()
    assert cli.main(["build", str(project), "--steps", "csim", "synth", "vsynth"]) == 0
    said = capsys.readouterr().out
    assert (
        "csim: 200 outputs as expected" in said and "C synthesis estimates lut 6666, ff 555" in said and "Vivado counts lut 1548.0" in said
    )
    record = json.loads((project / "hgqjax_build.json").read_text())
    assert record["compared"] == {"csim": 200} and record["csynth"]["latency_cycles"] == 7
    assert record["vsynth"] == {"lut": 1548.0, "ff": 555.0, "dsp": 3.0, "bram": 1.5}
    found = build.build(project, ["synth"])
    assert found.compared == {} and found.vsynth is None and not (project / "tb_data" / "csim_results.log").exists()


def test_a_differing_output_is_an_error(project, play, capsys):
    first = (project / "tb_data" / "tb_output_predictions.dat").read_text().split()[0]
    play(old=f"{float(first):g}", new="77")
    with pytest.raises(ExportError, match=r"^csim differs in 1 of 200 outputs; first: output 0 of row 0 should be .*, is 77$"):
        build.build(project, ["csim"])
    play(short=-2)
    with pytest.raises(ExportError, match=r"csim_results.log has 99 rows; 100 were simulated"):
        build.build(project, ["csim"])
    with pytest.raises(ExportError, match=r"cosim left no tb_data/rtl_cosim_results.log"):
        build.build(project, ["cosim"])


def test_what_cannot_be_built(project, play, tmp_path, monkeypatch):
    play(code=3)
    with pytest.raises(ToolError, match=r"vitis-run failed: .*\(log: hgqjax_build.log\)"):
        build.build(project)
    with pytest.raises(SynthError, match="step 'simulate' is none of csim, synth"):
        build.build(project, ["simulate"])
    with pytest.raises(SynthError, match="is no hls4ml project of hgqjax"):
        build.build(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="neither vitis-run nor vitis_hls is on PATH"):
        build.build(project)
