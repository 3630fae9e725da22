"""Tables of published and measured rows: matching, errors, formats, refusals."""

import csv
import dataclasses
import io
import json
import math
import re

import numpy as np
import pytest
import run_folders

from hgqjax import cli, data
from hgqjax.config import to_json
from hgqjax.data import muon
from hgqjax.data.rows import sha256_of
from hgqjax.evaluation import Measured, RowReader
from hgqjax.reports import markup, paper_table, published, reader
from hgqjax.scores import Accuracy, Resolution

COSTS = (540.0, 2_600.0, 60_000.0)
SYNTH = (
    "point,status,tool,tool_version,family,fmax_family,lut,lut_sites,ff,carry8,dsp,latency_cycles,bram,clock_ns,adder_cost,ebops,fmax_mhz"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three points at costs that are known, the second and third of which two seeds reach in training."""
    folder = run_folders.make_run(tmp_path_factory.mktemp("run") / "a", betas=(1e-6,), checks=1, points=3)
    rewrite(folder, [{"ebops": cost, "cost": cost, "cost_estimate": cost, "test_score": 0.74} for cost in COSTS])
    write_seeds(folder, {0: [(0.70, 500.0), (0.75, 2_000.0)], 1: [(0.71, 600.0), (0.73, 2_000.0)]})
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["config"]["train"] = {"epochs": 10, "batch_size": 1_000}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def rewrite(folder, points):
    """Puts other numbers into summary.csv, point by point."""
    path = folder / "summary.csv"
    rows = [row | new for row, new in zip(csv.DictReader(io.StringIO(path.read_text())), points, strict=True)]
    path.write_text(markup.comma_separated(list(rows[0]), [list(map(str, row.values())) for row in rows]))


def tracker_run(folder, cost=15_000.0, score=2.0, window=30.0, **about):
    """One point on simulated muon tracks."""
    about = {"name": muon.NAME, "unit": muon.UNIT, "points": 1, "checks": 0, "status": "running"} | about
    rewrite(run_folders.make_run(folder, score=Resolution(window=window), **about), [{"ebops": cost, "test_score": score}])
    return folder


def save_model(folder, rows, y, width=1, **about):
    """A network of four inputs and an .npz of `rows` with it, on which it says that it was trained."""
    folder.mkdir(exist_ok=True)
    file = folder / "rows.npz"
    np.savez(file, x=np.random.default_rng(0).normal(size=(rows, 4)), y=y, **({"unit": about["unit"]} if "unit" in about else {}))
    scaler = {"mean": [0.0] * 4, "scale": [1.0] * 4}
    known = {"classes": [], "scaler": scaler, "data": {"name": "arrays rows.npz", "sha256": sha256_of(file)}} | about
    dataclasses.replace(run_folders.make_model(5.5, (4, width)), metadata=known).save(folder / "net")
    return str(folder / "net"), str(file)


def write_seeds(folder, seeds):
    """Metrics of a check for each (score, cost) of each seed."""
    import polars as pl

    head = {"member": 0, "beta": 1e-6, "epoch": 1, "split": "val"}
    rows = [
        head | {"seed": seed, "step": step, "metric": metric, "value": value}
        for seed, checks in seeds.items()
        for step, check in enumerate(checks)
        for metric, value in zip(("score", "cost"), check, strict=True)
    ]
    pl.DataFrame(rows).write_parquet(folder / "metrics.parquet")


def of_model(dataset, score, found, ebops, *, rows=100, unit="", training_rows=False):
    return paper_table.of_model("m", dataset, Measured(score, rows, found, unit, training_rows), ebops)


def measured(table):
    return [row for row in table.rows if row.origin == "measured here"]


def test_every_table_prints_its_published_rows_with_their_sources():
    for name in paper_table.NAMES:
        table = paper_table.build(name)
        assert table.rows and all(row.source and row.origin != "measured here" for row in table.rows)
        assert "memory only are left out" in table.caption and not measured(table)
    assert len(paper_table.build("jets").rows) == len(published.read("jets"))
    artifact = paper_table.build("artifact")
    assert {row.origin for row in artifact.rows} == {"artifact"} and {row.unit for row in artifact.rows} == {"%", "mrad"}
    text = paper_table.build("svhn").text()
    assert "12 000 epochs x 2 048 rows, 3 504 000 steps" in text and "second-hand: [2nd: bnjettag research log]" in text
    assert "69 407" not in text and "| EBOPs |" not in text  # from memory; and a column that would be empty
    text = paper_table.build("muon").text()
    assert all(f"| {digits} |" in text for digits in ("1.90", "1.882", "2.010", "2"))  # as they were read
    assert "[AE]: the accuracy" in text and "[PAPER: x]: " in text and "[FIG: x]" not in text
    text = paper_table.build("jets").text()
    assert "github.com/calad0i/hgq-ae @ d423090; training: [AE scripts] |" in text and "; [AE scripts]: the scripts of" in text
    assert "| 76.86 |" in text and any("da4ml's artifact" in row.name and row.score == 76.86 for row in artifact.rows)


def test_measured_rows_are_compared_with_the_nearest_on_the_same_data(run):
    table = paper_table.build("jets", [run])
    first, second, third = measured(table)
    assert first.compared_with == "HGQ v3, jets (re-simulated), all 176 760 rows: 72.35 %, 530 EBOPs"
    error = 100 * math.sqrt(0.74 * 0.26 / 36_760), 100 * math.sqrt(0.7235 * 0.2765 / 176_760)
    assert first.difference == pytest.approx(74.0 - 72.35) and first.difference_error == pytest.approx(math.hypot(*error))
    assert first.cost_ratio == pytest.approx(540 / 530) and first.rows == "test, 36 760 rows"
    assert second.compared_with.endswith("74.50 %, 2 571 EBOPs") and second.difference == pytest.approx(-0.5)
    assert (third.compared_with, third.difference, third.cost_ratio) == ("", None, None)  # none within the factor
    assert (first.epochs, first.batch_size, first.steps) == (10, 1_000, 1_120)
    assert f"factor {paper_table.FACTOR:g}" in table.caption and "sqrt(a(1 - a)/n)" in table.caption


def test_spread_over_seeds_is_that_of_what_each_reaches(run):
    first, second, third = measured(paper_table.build("jets", [run]))
    assert first.seed_spread is None  # at 540 EBOPs only one seed has a network
    assert second.seed_count == 2 and second.seed_spread == third.seed_spread == pytest.approx(100 * 0.02 / 2**0.5)
    assert "74.00 ± 0.23 (seeds ± 1.4, n = 2)" in paper_table.build("jets", [run]).text()


def test_other_data_is_named_without_a_difference():
    row = of_model("my rows", Accuracy(), {"score": 0.75, "error": 0.005}, 1_040.0, rows=1_000)
    found = paper_table.compared(row, paper_table.build("jets").rows)
    assert found.compared_with == "HGQ v3, CERNBox, validation: 73.3 %, 1 043 EBOPs" and found.cost_ratio == pytest.approx(1_040 / 1_043)
    assert found.difference is None and found.difference_error is None
    by_luts = dataclasses.replace(row, score=76.0, ebops=None, lut=10_000, dataset="OpenML 42468")
    found = paper_table.compared(by_luts, paper_table.build("jets").rows)
    assert found.compared_with == "HGQ v3, OpenML 42468, test: 76.9 %, 10 182 LUT"
    assert found.difference == pytest.approx(-0.9) and found.difference_error == row.error == 0.5
    other = of_model("x", Resolution(), {"score": 2.0, "error": 0.1}, 15_000.0, unit="K")
    assert paper_table.compared(other, paper_table.build("muon").rows) == other


def test_resolutions_differ_within_the_same_window_only(tmp_path):
    same, other, none = (measured(paper_table.build("muon", [tracker_run(tmp_path / str(w), window=w)]))[0] for w in (30.0, 20.0, None))
    assert same.difference == pytest.approx(-0.26) and same.difference_error == same.error == 0.009
    assert other.difference is None is none.difference and same.compared_with == other.compared_with == none.compared_with
    assert same.compared_with == "HGQ v3, muon (simulated), all rows: 2.26 mrad, 14 914 EBOPs"
    text = paper_table.build("muon", [tmp_path / "30.0"]).text()
    assert "| resolution (mrad) | outliers (%) | EBOPs |" in text and "| 2.000 ± 0.009 | 0.20 | 15 000 |" in text
    assert "outliers" not in paper_table.build("muon", [tmp_path / "None"]).text().partition("|")[2]


def test_scores_that_are_no_numbers_have_empty_cells(tmp_path):
    table = paper_table.build("muon", [tracker_run(tmp_path / "a", score="nan", window=None)])
    (row,) = measured(table)
    assert row.score is None is row.difference
    for form in ("markdown", "csv", "latex"):
        assert "nan" not in table.text(form).lower()
    assert of_model(muon.NAME, Resolution(), {"score": math.nan, "error": math.nan}, 15_000.0, unit="mrad").score is None


def test_each_unit_has_its_column():
    found = {"score": 2.0, "error": 0.1}
    rows = [of_model("x", score, found, 9.0, unit=unit) for score, unit in ((Accuracy(), ""), (Resolution(), "K"))]
    rows += [of_model("x", Resolution(), found, 9.0, unit=unit) for unit in ("", "%")]
    text = paper_table.Table("caption", rows).text()
    assert "| accuracy (%) | resolution | resolution (%) | resolution (K) | EBOPs |" in text
    assert "|  |  | 2.000 ± 0.100 |  | 9 |" in text  # a resolution in % is no accuracy


def test_every_design_of_a_point_has_its_row(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", checks=0, points=1, status="running")
    path = folder / "synth.csv"
    path.write_text(f"{SYNTH}\np00,done,yosys,0.66,xcup,,500,400,90,10,0,4,0,5.0,450,520,\n")
    (row,) = measured(paper_table.build("jets", [folder]))
    assert (row.lut, row.ff, row.dsp, row.latency_ns) == (400, 90, 0, 20.0)  # LUT sites, as Vivado counts
    assert row.source == "run a; yosys 0.66, 5 ns"
    lines = ["yosys,0.66,xcup,,500,400,90,10,0,4,0,5.0,450,520,,", "vivado,2025.1,xcvu13p,,450,380,80,10,0,9,0,1,450,520,,1"]
    lines += ["vitis,2024.1,xcvu13p,,900,,70,,3,2,0,5,,,,", "yosys,0.66,xcup,,,,,,,,,2.0,,,,"]
    status = ["done", "done", "done", "timeout"]
    path.write_text("\n".join([f"{SYNTH},latency_cutoff", *(f"p00,{s},{line}" for s, line in zip(status, lines, strict=True))]) + "\n")
    rows = measured(paper_table.build("jets", [folder]))
    assert [(row.lut, row.latency_ns) for row in rows] == [(400, 20.0), (380, 9.0), (900, 10.0)]  # HLS knows no sites
    assert [row.source for row in rows] == [
        "run a; yosys 0.66, 5 ns",
        "run a; vivado 2025.1, 1 ns, latency cut-off 1",
        "run a; vitis 2024.1, 5 ns",
    ]
    assert "by Yosys" not in paper_table.RULE


def test_formats_hold_the_same_rows(run, tmp_path, capsys):
    table = paper_table.build("jets", [run])
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
    assert capsys.readouterr().out == paper_table.build("muon").text()
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
        r"\| muon_2.377 \| muon \(simulated\) \| all 2 000 rows \| (2\.1\d\d) ± 0.0\d\d \| 0\.\d\d \| 15 366 \|.*\|"
        r" HGQ v3, muon \(simulated\), all rows: 2.26 mrad, 14 914 EBOPs \| −0.\d\d\d ± 0.0\d\d \|",
        capsys.readouterr().out,
    )
    assert found
    assert cli.main(["summary", network, *arguments]) == 0
    said = re.search(r"resolution (\S+) \+- 0.0\d+ mrad, outliers 0.\d\d % \(2000 rows\)\n", capsys.readouterr().out)
    assert float(said[1]) == pytest.approx(float(found[1]), abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tops"], "there is no table 'tops'; legal are jets, svhn, muon, plf, artifact"),
        (["jets", "--output", "nowhere/t.md"], "there is no folder nowhere for t.md"),
        (["jets", "--models", "m"], "--models and --data go together"),
        (["jets", "--data-name", "x"], "--models and --data go together"),
        (
            ["jets", "--models", ".", "--data", "jets", "--data-name", "x"],
            "--data-name names the rows of a file, but --data jets is a data set",
        ),
        (["jets", "--output", "."], "--output is ., which is a folder; a file is needed"),
        (
            ["jets", "--models", ".", "--data", "jets"],
            ". is no model: a folder with description.json, a .keras or .h5 file of HGQ2 or QKeras (or NAME.json of QKeras with "
            "NAME_weights.h5), an .onnx file of QONNX, or a folder of KANELE (truth_tables.json, config.json), or a folder of such, is "
            "needed",
        ),
        (["jets", "--runs", "nowhere"], "there is no nowhere"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["table", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("hgqjax: ") and sentence in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_does_not_belong_to_the_table_is_refused(run, tmp_path, capsys):
    with pytest.raises(
        ValueError, match=r"^made-up p00 \(run a\) has its accuracy \(%\) on jets \(re-simulated\), .* table svhn, but to table jets$"
    ):
        paper_table.build("svhn", [run])
    with pytest.raises(
        ValueError, match=r"p00 .* has its resolution \(mrad\) on muon .*, which does not belong to table jets, but to table muon$"
    ):
        paper_table.build("jets", [tracker_run(tmp_path / "tracks")])
    for unit, words in (("K", r"resolution \(K\)"), ("", "resolution"), ("%", r"resolution \(%\)")):
        other = tracker_run(tmp_path / f"unit {unit}", name="mine", unit=unit)
        for name in ("muon", "artifact", "jets"):
            with pytest.raises(ValueError, match=rf"has its {words} on mine, which does not belong to table {name}$"):
                paper_table.build(name, [other])
    with pytest.raises(reader.ReportError, match="has no points yet"):
        paper_table.build("jets", [run_folders.make_run(tmp_path / "b", checks=0, points=0, status="running")])
    net, rows = save_model(tmp_path, 100, np.linspace(-1, 1, 100), score=to_json(Resolution()), unit="mrad")
    assert cli.main(["table", "jets", "--models", net, "--data", rows]) == 2
    sentence = "net (exact evaluator) has its resolution (mrad) on arrays rows.npz, which does not belong to table jets"
    assert capsys.readouterr().err == f"hgqjax: {sentence}\n"


def test_training_rows_are_named_and_have_no_difference(tmp_path, capsys):
    net, rows = save_model(tmp_path, 600, np.arange(600) % 3, 3, classes=["0", "1", "2"])
    assert cli.main(["table", "jets", "--models", net, "--data", rows]) == 0
    assert "| net | arrays rows.npz | all 600 rows, training rows among them |" in capsys.readouterr().out
    assert cli.main(["summary", net, "--data", rows]) == 0
    assert "% (600 rows, training rows among them)\n" in capsys.readouterr().out
    np.savez(tmp_path / "new.npz", x=np.ones((10, 4)), y=np.zeros(10, int))
    assert cli.main(["table", "jets", "--models", net, "--data", str(tmp_path / "new.npz")]) == 0
    assert "| arrays new.npz | all 10 rows |" in capsys.readouterr().out
    ours = [of_model("CERNBox", Accuracy(), {"score": 0.7, "error": 0.01}, 750.0, training_rows=seen) for seen in (False, True)]
    unseen, seen = measured(paper_table.build("jets", measured=ours))
    assert unseen.difference == pytest.approx(70 - 72.6) and seen.difference is None and seen.compared_with == unseen.compared_with


def test_rows_have_one_name_and_are_known_again(tmp_path):
    file = tmp_path / muon.AUTHORS_FILE
    h5py, (x, y) = pytest.importorskip("h5py"), muon.simulate(100)
    with h5py.File(file, "w") as out:
        out["X"], out["Y"] = x.transpose(0, 2, 1), y
    np.savez(tmp_path / "rows.npz", x=np.eye(10), y=np.arange(10) % 2)
    for path in (file, tmp_path / "rows.npz"):
        assert RowReader().name(str(path)) == data.load(path).name  # which the manifest of a run has
    assert RowReader().name(str(file)) == muon.AUTHORS_NAME
    model = dataclasses.replace(run_folders.make_model(5.5), metadata={"data": {"name": muon.NAME, "sha256": "of fewer rows"}})
    assert RowReader().trained_on(model, "muon") and not RowReader().trained_on(model, str(file))


def test_a_window_counts_where_the_model_has_none(tmp_path, capsys):
    y = np.linspace(-9, 9, 100)
    net, rows = save_model(tmp_path, 100, y, score=to_json(Resolution()), unit="mrad")
    assert cli.main(["summary", net, "--data", rows]) == 0
    assert "outliers" not in capsys.readouterr().out
    assert cli.main(["summary", net, "--data", rows, "--window", "5"]) == 0
    assert "outliers" in capsys.readouterr().out
    net, rows = save_model(tmp_path / "classes", 100, np.arange(100) % 3, 3, classes=["0", "1", "2"])
    for command in (["summary", net], ["table", "jets", "--models", net]):
        assert cli.main([*command, "--data", rows, "--window", "5"]) == 2
        assert capsys.readouterr().err == f"hgqjax: --window is of a resolution, but the score of {net} is its accuracy; leave it out\n"


def test_latex_rows_do_not_begin_with_an_argument():
    text = markup.latex(["run"], [["a"], ["[b]"], ["*c"]])
    assert "a \\\\\n{[}b] \\\\\n{*}c \\\\" in text  # or \\ takes [b] for a length, and * for its own
