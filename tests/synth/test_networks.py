"""Networks through RTL and Yosys: a small one by default, the released 16-64-32-32 networks, timing and Dask with the marker synth."""

import importlib.util
import re

import pytest
from run_folders import make_model, make_run

from hgqjax import cli
from hgqjax.reports.page import report
from hgqjax.resources import ebops
from hgqjax.runs import folders
from hgqjax.synth import designs, ecp5, flow, record, synthesize, synthesize_many, verify, yosys
from hgqjax.synth.settings import Settings, SynthError, ToolError

pytestmark = pytest.mark.skipif(importlib.util.find_spec("alkaid") is None, reason="alkaid makes the RTL")


def test_a_run_folder_gets_its_table_and_its_report_shows_it(tmp_path, capsys):
    run = make_run(tmp_path / "run", points=2, widths=(4, 2))
    arguments = ["synth", str(run), "--verify", "64", "--jobs", "2", "--clock-ns", "2"]
    assert cli.main(arguments) == 0
    told = capsys.readouterr().out
    rows = record.read(run)
    assert [row.point for row in rows] == ["p00", "p01"] and all(row.done for row in rows)
    for row in rows:
        model = designs.load(run / "models" / row.point)
        assert (row.ebops, row.ebops_paper_v1) == (float(ebops(model).total), float(ebops(model, "paper_v1").total))
        assert (row.rows_checked, row.differing_words, row.clock_ns) == (64, 0, 2.0)
        assert row.lut > 0 and row.lut_sites <= row.lut and row.ff > 0 and row.latency_cycles >= 1
        folder = run / row.folder
        assert (folder / "rtl" / "hgqjax_rtl.json").exists() and (folder / "yosys.log").exists() and not (folder / "netlist.json").exists()
        assert [row.point, str(row.lut), str(row.lut_sites)] in [line.split()[:3] for line in told.splitlines()]
    assert not list(run.rglob("*.part")) and folders.Run.open(run)
    assert cli.main(arguments) == 0 and "nothing to do: all 2 designs were done before" in capsys.readouterr().out
    assert record.read(run) == rows
    text = report(run, formats=("png",)).read_text()
    words = " ".join(re.sub(r"<[^>]*>", " ", text).split())
    assert f"p00 {rows[0].lut} {rows[0].lut_sites} {rows[0].ff} " in words and "AMD UltraScale+ (yosys" in words


def test_a_wrong_netlist_is_found(tmp_path, monkeypatch):
    right = yosys.script
    inverted = "cd myproject\nconnect -set model_out[0] 1'0\ncd\nopt_clean\n"
    monkeypatch.setattr(yosys, "script", lambda rtl: right(rtl).replace("tee -q", f"{inverted}tee -q"))
    with pytest.raises(
        ToolError, match=r"the mapped netlist differs from the model in \d+ of \d+ words; first: row \d+ .*, output element 0"
    ):
        synthesize(make_model(4.0, (3, 2)), tmp_path, verify=40)
    (row,) = record.read(tmp_path)
    assert row.status == "failed" and row.lut is None


def test_models_that_are_too_large_are_refused_before_any_tool(monkeypatch):
    monkeypatch.setattr(yosys, "synthesize", lambda *arguments: pytest.fail("Yosys was started"))
    model = make_model(4.0, (8, 4))
    with pytest.raises(SynthError, match=r"about \d+ LUTs are estimated \(\d+ EBOPs with every position .*and max_luts is 20; raise it"):
        synthesize(model, max_luts=20)


def test_what_does_not_fit_the_device_of_the_timing_is_refused(make_project):
    rtl = designs.read_rtl(make_project())
    with pytest.raises(
        SynthError, match="about 80000 LUT4 are estimated for timing .*the limit is 75276, of 83640 that Lattice ECP5 85k has"
    ):
        ecp5.place_and_route(rtl, {}, 40_000, rtl.folder, 1.0)


def test_the_check_of_a_netlist_needs_a_test_bench(make_project):
    rtl = designs.read_rtl(make_project())
    with pytest.raises(SynthError, match="has no test bench to check its netlist with"):
        verify.check(rtl, {"ports": {}, "cells": {}}, 10)


# larger


@pytest.mark.synth
def test_a_released_network_keeps_every_word(shared):
    found = synthesize(shared / "golden" / "hgq2" / "openml_0.758.keras", verify=400)
    assert (found.rows_checked, found.differing_words, found.latency_cycles, found.dsp) == (400, 0, 2, 0)
    assert found.ebops == 2549 and 0.8 < found.lut_sites / found.ebops < 1.2 and 0.9 < found.lut_sites / found.lut < 1


@pytest.mark.synth
def test_shorter_stages_are_faster_and_take_more_registers(shared, tmp_path):
    source, rows = shared / "golden" / "hgq2" / "openml_0.733.keras", {}
    for levels, timing in ((0.0, False), (1.0, True), (9.0, True)):
        rows[levels] = synthesize(source, tmp_path, latency_cutoff=levels, timing=timing)
    assert rows[0.0].ff == rows[0.0].latency_cycles == 0 and rows[0.0].fmax_mhz is None
    assert rows[1.0].fmax_mhz > 1.5 * rows[9.0].fmax_mhz > 15 and rows[1.0].fmax_family == "Lattice ECP5 85k"
    assert rows[1.0].ff > 2 * rows[9.0].ff and rows[1.0].latency_cycles > rows[9.0].latency_cycles
    assert all(abs(row.lut / rows[0.0].lut - 1) < 0.1 for row in rows.values())
    assert "nextpnr-ecp5" in rows[1.0].tool_version and len(record.read(tmp_path)) == 3
    again = synthesize(tmp_path / rows[1.0].folder / "rtl", verify=30)  # as a project of its own
    same = ("lut", "lut_sites", "ff", "carry8", "latency_cycles", "latency_cutoff", "ebops", "ebops_paper_v1", "adder_cost")
    assert [getattr(again, name) for name in same] == [getattr(rows[1.0], name) for name in same] and again.rows_checked == 30


@pytest.mark.synth
def test_a_cluster_gives_the_same_rows(tmp_path):
    models = {f"m{n}": make_model(3.0 + n, (6, 3), seed=n) for n in range(3)}
    here = synthesize_many(models, tmp_path / "here", jobs=2)
    there = synthesize_many(models, tmp_path / "there", cluster="local:2")

    def numbers(rows):
        return [{name: value for name, value in vars(row).items() if name != "seconds"} for row in rows]

    assert numbers(here) == numbers(there) and all(row.done for row in here)
    work = [designs.Design(base=tmp_path / "there", point=name, source=tmp_path / "there" / "synth" / name / "model") for name in models]
    assert flow.run(work, Settings(), cluster="local:2", progress=False) == there  # nothing to do: no cluster is started
