"""Tables of published and measured rows: matching, errors, formats, refusals."""

import csv
import importlib.util
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from hgqjax import cli, published, tables
from hgqjax.data import muon
from hgqjax.run_tables import ReportError

spec = importlib.util.spec_from_file_location("run_folders", Path(__file__).with_name("run_folders.py"))
run_folders = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run_folders)
COSTS = (540.0, 2_600.0, 60_000.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three points at costs that are known, the second and third of which two seeds reach in training."""
    folder = run_folders.make_run(tmp_path_factory.mktemp("run") / "a", betas=(1e-6,), checks=1, points=3)
    path = folder / "summary.csv"
    heads, *lines = list(csv.reader(io.StringIO(path.read_text())))
    for line, cost in zip(lines, COSTS, strict=True):
        cells = dict(zip(heads, line, strict=True)) | {"ebops": cost, "cost": cost, "cost_estimate": cost, "test_score": 0.74}
        line[:] = map(str, cells.values())
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([heads, *lines])
    write_seeds(folder, {0: [(0.70, 500.0), (0.75, 2_000.0)], 1: [(0.71, 600.0), (0.73, 2_000.0)]})
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["config"]["train"] = {"epochs": 10, "batch_size": 1_000}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def write_seeds(folder, seeds):
    """Metrics of a check for each (score, cost) of each seed."""
    import polars as pl

    head = {"member": 0, "beta": 1e-6, "epoch": 1, "split": "val"}
    rows = [
        head | {"seed": seed, "step": step, "metric": metric, "value": value}
        for seed, checks in seeds.items()
        for step, check in enumerate(checks)
        for metric, value in zip(("score", "ebops"), check, strict=True)
    ]
    pl.DataFrame(rows).write_parquet(folder / "metrics.parquet")


def measured(table):
    return [row for row in table.rows if row.origin == "measured here"]


def test_every_table_prints_its_published_rows_with_their_sources():
    for name in tables.NAMES:
        table = tables.build(name)
        assert table.rows and all(row.source and row.origin != "measured here" for row in table.rows)
        assert "memory only are left out" in table.caption and not measured(table)
    assert len(tables.build("jets").rows) == len(published.read("jets"))
    artifact = tables.build("artifact")
    assert {row.origin for row in artifact.rows} == {"artifact"} and {row.unit for row in artifact.rows} == {"%", "mrad"}
    text = tables.build("svhn").text()
    assert "12 000 epochs x 2 048 rows, 3 504 000 steps" in text and "second-hand: [2nd: bnjettag research log]" in text
    assert "69 407" not in text and "| EBOPs |" not in text  # from memory; and a column that would be empty
    assert "| 1.90 |" in tables.build("muon").text() and "| 1.882 |" in tables.build("muon").text()


def test_measured_rows_are_compared_with_the_nearest_on_the_same_data(run):
    table = tables.build("jets", [run])
    first, second, third = measured(table)
    assert first.compared_with == "HGQ v3, jets (re-simulated), all 176 760 rows: 72.35 %, 530 EBOPs"
    error = 100 * math.sqrt(0.74 * 0.26 / 36_760), 100 * math.sqrt(0.7235 * 0.2765 / 176_760)
    assert first.difference == pytest.approx(74.0 - 72.35) and first.difference_error == pytest.approx(math.hypot(*error))
    assert first.cost_ratio == pytest.approx(540 / 530) and first.rows == "test, 36 760 rows"
    assert second.compared_with.endswith("74.50 %, 2 571 EBOPs") and second.difference == pytest.approx(-0.5)
    assert (third.compared_with, third.difference, third.cost_ratio) == ("", None, None)  # none within the factor
    assert (first.epochs, first.batch_size, first.steps) == (10, 1_000, 1_120)
    assert f"factor {tables.FACTOR:g}" in table.caption and "sqrt(a(1 - a)/n)" in table.caption


def test_spread_over_seeds_is_that_of_what_each_reaches(run):
    first, second, third = measured(tables.build("jets", [run]))
    assert first.seed_spread is None  # at 540 EBOPs only one seed has a network
    assert second.seed_count == 2 and second.seed_spread == third.seed_spread == pytest.approx(100 * 0.02 / 2**0.5)
    assert "74.00 ± 0.23 (seeds ± 1.4, n = 2)" in tables.build("jets", [run]).text()


def test_other_data_is_named_where_it_is_all_there_is():
    row = tables.of_model("m", "my rows", 1_000, 0.75, 0.5, 1_040.0)
    found = tables.compared(row, tables.build("jets").rows)
    assert found.compared_with == "HGQ v3, CERNBox, validation: 73.3 %, 1 043 EBOPs"
    assert found.difference_error == row.error == 0.5
    by_luts = tables.compared(
        tables.Row(origin="", name="", dataset="", rows="", score=76.0, unit="%", lut=10_000), tables.build("jets").rows
    )
    assert by_luts.compared_with == "HGQ v3, OpenML 42468, test: 76.9 %, 10 182 LUT"
    muon = tables.compared(tables.of_model("m", "muon (simulated)", 20_000, -2.0, 0.01, 15_000.0, "mrad"), tables.build("muon").rows)
    assert muon.difference == pytest.approx(-0.26) and muon.difference_error == 0.01
    assert tables.compared(tables.of_model("m", "x", 100, -2.0, 0.1, 15_000.0, "K"), tables.build("muon").rows).difference is None


def test_lut_and_cycles_of_a_synthesis_are_in_the_rows(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", checks=0, points=1, status="running")
    heads = "point,status,tool,tool_version,family,fmax_family,lut,lut_sites,ff,carry8,dsp,latency_cycles,bram,clock_ns,adder_cost,ebops"
    (folder / "synth.csv").write_text(f"{heads},fmax_mhz\np00,done,yosys,0.66,xcup,,500,400,90,10,0,4,0,5.0,450,520,\n")
    (row,) = measured(tables.build("jets", [folder]))
    assert (row.lut, row.ff, row.dsp, row.latency_ns) == (500, 90, 0, 20.0)


def test_formats_hold_the_same_rows(run, tmp_path, capsys):
    table = tables.build("jets", [run])
    rows = list(csv.DictReader(io.StringIO(table.text("csv"))))
    assert len(rows) == len(table.rows) and {row["origin"] for row in rows} == {"published", "artifact", "measured here"}
    assert float(rows[-2]["difference"]) == pytest.approx(-0.5) and rows[0]["difference"] == ""
    latex = table.text("latex")
    assert latex.count(r"\\") == len(table.rows) + 1 and r"74.00 $\pm$ 0.23" in latex and r"accuracy (\%)" in latex
    assert not re.search(r"(?<!\\)[%#_]", latex.replace("$\\pm$", ""))
    markdown = [line for line in table.text().splitlines() if line.startswith("|")]
    assert len(markdown) == len(rows) + 2 and len({len(re.findall(r"(?<!\\)\|", line)) for line in markdown}) == 1
    out = tmp_path / "jets.tex"
    assert cli.main(["table", "jets", "--runs", str(run), "--format", "latex", "--output", str(out)]) == 0
    assert out.read_text() == latex and [*tmp_path.iterdir()] == [out] and capsys.readouterr().out == ""
    assert cli.main(["table", "muon"]) == 0
    assert capsys.readouterr().out == tables.build("muon").text()
    with pytest.raises(ValueError, match="format is 'html'; legal are markdown, csv, latex"):
        table.text("html")


def test_a_released_network_is_measured_beside_its_published_row(shared, capsys):
    network = shared / "golden" / "hgq2" / "openml_0.733.keras"
    rows = shared / "data" / "jets_openml_real1000" / "jsc_openml_test1000.npz"
    arguments = ["table", "artifact", "--models", str(network), "--data", str(rows), "--data-name", "OpenML 42468"]
    assert cli.main(arguments) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "| openml_0.733 | OpenML 42468 | all 1 000 rows | 73.30 ± 1.40 |" in last
    assert "HGQ v3, OpenML 42468, validation: 73.3 %, 530 EBOPs | +0.00 ± 1.40 | 0.99 |" in last


def test_a_released_tracker_is_measured_on_tracks_of_a_file(shared, tmp_path, capsys):
    x, y = muon.simulate(2_000)
    np.savez(tmp_path / "tracks.npz", x=x, y=y, unit=muon.UNIT)
    network = str(shared / "golden" / "hgq2" / "muon_2.377.keras")
    arguments = ["--data", str(tmp_path / "tracks.npz"), "--window", "30"]
    assert cli.main(["table", "muon", "--models", network, "--data-name", muon.NAME, *arguments]) == 0
    found = re.search(
        r"\| muon_2.377 \| muon \(simulated\) \| all 2 000 rows \| (2\.1\d\d) ± 0.0\d\d \| 15 366 \|.*\|"
        r" HGQ v3, muon \(simulated\), all rows: 2.260? mrad, 14 914 EBOPs \|",
        capsys.readouterr().out,
    )
    assert found
    assert cli.main(["summary", network, *arguments]) == 0
    said = re.search(r"resolution (\S+) \+- 0.0\d+ mrad, outliers 0.\d\d % \(2000 rows\)$", capsys.readouterr().out.strip())
    assert float(said[1]) == pytest.approx(float(found[1]), abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tops"], "there is no table 'tops'; legal are jets, svhn, muon, plf, artifact"),
        (["jets", "--output", "nowhere/t.md"], "there is no folder nowhere for t.md"),
        (["jets", "--models", "m"], "--models and --data go together"),
        (["jets", "--data-name", "x"], "--models and --data go together"),
        (["jets", "--models", ".", "--data", "jets"], ". is no model description, no .keras file and no folder of such"),
        (["jets", "--runs", "nowhere"], "nowhere is not a run folder"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["table", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("hgqjax: ") and sentence in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_run_of_another_table_is_refused(run, tmp_path):
    with pytest.raises(ReportError, match=r"is a run on jets \(re-simulated\), which does not belong to table svhn, but to table jets$"):
        tables.build("svhn", [run])
    with pytest.raises(ReportError, match="which does not belong to table jets$"):
        tables.build("jets", [run_folders.make_run(tmp_path / "a", checks=0, points=1, status="running", task="regression", name="mine")])
    with pytest.raises(ReportError, match="has no points yet"):
        tables.build("jets", [run_folders.make_run(tmp_path / "b", checks=0, points=0, status="running")])
