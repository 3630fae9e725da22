import importlib.util
import json
import re
from pathlib import Path

import pytest

from hgqjax.report import ReportError, report

spec = importlib.util.spec_from_file_location("run_folders", Path(__file__).with_name("run_folders.py"))
run_folders = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run_folders)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = run_folders.make_run(tmp_path_factory.mktemp("run") / "a")
    path = report(folder, formats=("png", "svg"))
    assert path == folder / "report.md" and not list(folder.glob(".*"))
    return path.read_text()


@pytest.fixture
def folder(tmp_path):
    return run_folders.make_run(tmp_path / "a", checks=1, points=1)


def change_manifest(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_head_and_origin(text):
    assert text.startswith("# made-up on jets (re-simulated)\n")
    assert "Data set: **jets (re-simulated)**. Rows: train 112 000, val 28 000, test 36 760. Source: made up for a test." in text
    assert "ab" * 32 in text and "not finished" not in text
    assert "- command: `hgqjax sweep 'a | b'`" in text
    assert f"- commit: `{'c0ffee' * 6}` with uncommitted changes" in text
    assert "python 3.11, jax 0.9" in text and '"task": "classification"' in text


def test_points_with_statistical_errors(text):
    (row,) = re.findall(r"^\| p00 \|.*$", text, re.M)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    accuracy, _, error = cells[8].partition(" ± ")
    a = float(accuracy) / 100
    assert error == f"{100 * (a * (1 - a) / 36_760) ** 0.5:.2f}"
    assert cells[9:] == ["12 345", "0", "[projects/p00](projects/p00)"]
    assert int(cells[4].replace(" ", "")) > int(cells[5].replace(" ", "")) > 0
    (row,) = re.findall(r"^\| p02 \|.*$", text, re.M)
    assert "not exported" in row
    assert text.index("| p02 |") < text.index("| p00 |")  # by rising EBOPs


def test_tables_are_whole(text):
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    layers = re.search(r"### p00\n\n(?:^\|.*\n)+", text, re.M).group()
    assert "| layers_0 | 16x5 |" in layers
    total, first = (
        int(re.search(rf"^\| {name} .*\| ([\d ]+) \| [\d ]+ \|$", layers, re.M).group(1).replace(" ", "")) for name in ("total", "layers_0")
    )
    assert total == first


def test_published_beside_ours(text):
    assert "### Released networks, measured by this project" in text
    assert "| HGQ v3 | jets (re-simulated) | all 176 760 rows | 72.35 | 530 |" in text
    assert "| HGQ v3 | OpenML 42468 | validation | 77.1 | 13 285 |" in text
    assert "0.53 % | 0.50 % | 30 | [2nd: bnjettag research log]" in text
    assert "[AE]: the accuracy on validation rows" in text


def test_figures_are_embedded(text):
    assert re.findall(r"^!\[(\w+)\]\((.*)\)$", text, re.M) == [(s, f"figures/{s}.png") for s in ("front", "widths", "training")]
    assert "by epoch, a line a member. ([SVG](figures/training.svg))" in text


@pytest.mark.parametrize(("status", "words"), [("running", "is not finished (status: running)"), ("failed", "failed (status: failed)")])
def test_an_unfinished_run(tmp_path, status, words):
    folder = run_folders.make_run(tmp_path / "a", checks=0, points=0, status=status, name="muons")
    text = report(folder).read_text()
    assert f"**This run {words}; what follows is what it has so far.**" in text
    assert "None yet." in text and "## Figures" not in text and "published" not in text


def test_a_regression_has_no_percent(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", task="regression", checks=0, points=1, status="running", name="muons")
    text = report(folder, formats=("svg",)).read_text()
    assert "test resolution |" in text and "±" not in text and "outliers" not in text
    assert "The resolution is the root mean square of the residuals; less is better." in text


def test_a_regression_with_a_window_shows_resolution_and_outliers(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", task="regression", window=30.0, checks=1, name="muons", unit="mrad")
    text = report(folder, formats=("svg",)).read_text()
    (row,) = re.findall(r"^\| p01 \|.*$", text, re.M)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    value, _, share = cells[8].partition(" ")
    assert 0.2 < float(value) < 1 and share == "(outliers 0.40 %)"
    assert "| validation resolution (mrad) | test resolution (mrad) |" in text and "score" not in text.split("## How it was made")[0]
    assert "the residuals below 30 mrad; less is better. Outliers are the other residuals." in text
    assert "Test resolution of the frozen models, of which less is better" in text


def test_no_run(tmp_path):
    with pytest.raises(ReportError, match=r"^.*nowhere is not a run folder: .*manifest\.json'$"):
        report(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def cut(folder):
    (folder / "metrics.parquet").write_bytes((folder / "metrics.parquet").read_bytes()[:50])


def drop_column(folder):
    path = folder / "summary.csv"
    path.write_text(path.read_text().replace("test_score", "tset_score"))


def drop_metric_column(folder):
    import polars as pl

    pl.DataFrame({"member": [0], "beta": [0.0], "metric": ["loss"]}).write_parquet(folder / "metrics.parquet")


def wrong_type(folder):
    path = folder / "summary.csv"
    path.write_text(path.read_text().replace("p00,0,", "p00,zero,"))


def empty_cell(folder):
    path = folder / "summary.csv"
    path.write_text(path.read_text().replace("p00,0,", "p00,,"))


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (cut, r"metrics\.parquet cannot be read as parquet: \S+"),
        (lambda folder: (folder / "metrics.parquet").unlink(), r"metrics\.parquet cannot be read as parquet: \S+"),
        (lambda folder: (folder / "summary.csv").unlink(), r"summary\.csv cannot be read as csv: \S+"),
        (lambda folder: (folder / "summary.csv").write_text(""), r"summary\.csv cannot be read as csv: \S+"),
        (drop_metric_column, r"metrics\.parquet lacks the columns seed, step, epoch, split, value$"),
        (drop_column, r"summary\.csv lacks the columns test_score$"),
        (wrong_type, r"summary\.csv has a value of the wrong type: .*zero"),
        (empty_cell, r"summary\.csv has an empty cell in column member$"),
        (lambda folder: (folder / "manifest.json").write_text("{"), r"is not a run folder: "),
        (lambda folder: change_manifest(folder, schema=2), r"manifest\.json is not of schema 1$"),
        (lambda folder: change_manifest(folder, data={}), r"manifest\.json does not name its status and its data set$"),
        (lambda folder: (folder / "models/p00/arrays.npz").write_bytes(b"x"), r"point p00 has no sound model: .*checksum"),
    ],
)
def test_one_sentence_for_every_broken_run(folder, break_it, sentence):
    break_it(folder)
    with pytest.raises(ReportError, match=sentence) as caught:
        report(folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "report.md").exists()
