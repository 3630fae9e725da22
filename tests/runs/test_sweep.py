"""Whole runs, small: folder, exact numbers, resume, the command and its errors."""

import csv
import dataclasses
import json
import re

import numpy as np
import pytest

from hgqjax import cli, export, resources, runs, training
from hgqjax import data as data_
from hgqjax.description import ModelDescription
from hgqjax.evaluation import RowReader
from hgqjax.reports import reader
from hgqjax.runs import folders, jobs, networks
from hgqjax.runs.cluster import JobError
from hgqjax.runs.progress import cells
from hgqjax.scores import Resolution
from hgqjax.training import schedules
from hgqjax.training.objective import Objective

EBOPS = Objective(cost=resources.Ebops())
TRAIN = training.Config(epochs=4, epochs_per_check=2, batch_size=100, objective=EBOPS, penalty=schedules.LogRamp(start_ratio=0.1, hold=0.3))


def write_rows(path, n=800, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32) * [1, 10, 0.1, 3] + [0, 5, 0, -7]
    y = np.argmax((x - x.mean(0)) / x.std(0) @ rng.normal(size=(4, 3)), axis=1)
    np.savez(path, x=x.astype(np.float32), y=y)
    return str(path)


def small(path, **changes):
    arguments = {"data": path, "model": networks.Mlp(hidden=(6,)), "train": TRAIN, "betas": (1e-6, 1e-3), "points": 3, "projects": 1}
    return runs.Sweep(**arguments | changes)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("data") / "rows.npz")


@pytest.fixture(scope="module")
def run(rows, tmp_path_factory):
    return runs.run(small(rows), name="small", root=tmp_path_factory.mktemp("results"), progress=False)


@pytest.mark.slow  # half a minute: a network of its own is compiled
def test_two_weighted_targets_of_a_table_in_parts(tmp_path):
    import polars as pl

    rng = np.random.default_rng(0)
    x, part = rng.normal(size=(900, 3)), np.arange(900) % 3
    table = {"b": x[:, 1], "e1": x[:, 0] + x[:, 1], "a": x[:, 0], "e2": x[:, 2] - 1, "c": x[:, 2], "w": rng.uniform(size=900), "part": part}
    pl.DataFrame(table).write_csv(tmp_path / "t.csv")
    columns = data_.Columns(target=("e1", "e2"), features=("a", "b", "c"), weight="w", split="part", unit="GeV")
    train = dataclasses.replace(TRAIN, objective=Objective(score=Resolution(), cost=resources.Ebops()))
    config = small(str(tmp_path / "t.csv"), columns=columns, train=train, betas=(1e-6,), points=1, gate_rows=500)
    run = runs.run(config, root=tmp_path, progress=False)
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["config"]["columns"]["target"] == ["e1", "e2"] and manifest["data"]["rows"] == {"train": 300, "val": 300, "test": 300}
    (row,) = summary(run)
    assert row["project"] == "projects/p00" and int(row["differing_words"]) == 0 and int(row["rows_checked"]) >= 500
    description = ModelDescription.load(run / "models/p00")
    assert description.metadata["targets"] == ["e1", "e2"] and description.metadata["features"] == ["a", "b", "c"]
    reader = RowReader()
    _, y, weight, unit = reader(description, str(tmp_path / "t.csv"))
    assert y.shape == (900, 2) and unit == "GeV" and np.array_equal(weight, table["w"].astype(np.float32))
    test = part == 2
    x_scaled, *_ = reader(description, str(tmp_path / "t.csv"))
    residual = description.evaluate(x_scaled[test]) - y[test]
    expected = np.sqrt(np.sum(weight[test, None] * residual**2) / (2 * np.sum(weight[test])))
    np.testing.assert_allclose(float(row["test_score"]), expected, rtol=1e-5)
    assert reader.trained_on(description, str(tmp_path / "t.csv"))


def summary(run):
    with open(run / "summary.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_folder_holds_what_it_promises(run):
    import polars as pl

    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "done" and manifest["data"]["name"] == "arrays rows.npz" and manifest["config"]["betas"] == [1e-6, 1e-3]
    assert run.parent.name == "small" and {p.name for p in run.iterdir()} >= {"manifest.json", "metrics.parquet", "summary.csv", "models"}
    metrics = pl.read_parquet(run / "metrics.parquet")
    assert set(metrics["member"]) == {0, 1} and set(metrics["epoch"]) == {2, 4}
    assert {"loss", "score", "cost", "cost/layer_0", "beta"} <= set(metrics["metric"]) and set(metrics["split"]) == {"train", "val"}
    assert not list(run.glob("**/*.part"))


def test_numbers_of_the_summary_are_those_of_the_saved_models(run, rows):
    dataset = data_.load(rows)
    table = summary(run)
    assert [row["point"] for row in table] == [f"p{n:02d}" for n in range(len(table))]
    for row in table:
        model = ModelDescription.load(run / row["model"])
        assert model.name == row["point"] and model.summary().startswith(f"{row['point']}\n")
        assert float(row["ebops"]) == float(resources.ebops(model).total)
        hits = np.argmax(model.evaluate(dataset.x_test), axis=1) == dataset.y_test
        assert float(row["test_score"]) == hits.mean()
        assert np.all(abs(model["layer_0"].kernel.integers) < 2 ** model["layer_0"].kernel.bits)  # no non-zero weight is free
        assert np.allclose(model.metadata["scaler"]["mean"], dataset.scaler.mean) and model.metadata["data"]["name"] == dataset.name
    costs, scores = [float(row["ebops"]) for row in table], [float(row["val_score"]) for row in table]
    assert costs == sorted(costs) and scores == sorted(scores)


def test_projects_passed_the_gate_and_the_yaml_makes_the_same_one(run, tmp_path):
    (row,) = [row for row in summary(run) if row["project"]]
    gate = json.loads((run / row["project"] / "hgqjax_gate.json").read_text())
    assert gate["verified"] and int(row["rows_checked"]) >= 10_000 and row["differing_words"] == "0"
    assert {p.stem for p in (run / "models").glob("*.yml")} == {row["point"] for row in summary(run)}
    assert {float(row["beta"]) for row in summary(run)} <= {1e-6, 1e-3}


def test_a_finished_run_is_left_alone_and_a_killed_one_ends_the_same(run, rows, tmp_path, monkeypatch):
    before = (run / "summary.csv").read_bytes()
    assert runs.resume(run, progress=False) == run and (run / "summary.csv").read_bytes() == before

    class Killed(BaseException):
        pass

    right, saves = folders.Run.save, []

    def kill(self, **changes):
        right(self, **changes)
        saves.append(1)
        if len(saves) == 3:  # created, before the first check, after it
            raise Killed

    monkeypatch.setattr(folders.Run, "save", kill)
    with pytest.raises(Killed):
        runs.run(small(rows), name="small", root=tmp_path, progress=False)
    monkeypatch.setattr(folders.Run, "save", right)
    (folder,) = (tmp_path / "small").iterdir()

    def refuse(*arguments):
        raise export.GateError("3 words\n differ")

    with monkeypatch.context() as gate:
        gate.setattr(jobs, "write_project", refuse)
        with pytest.raises(JobError, match="3 words differ"):
            runs.resume(folder, progress=False)
    assert all(row["project"] == "" for row in summary(folder)) and "3 words differ" in reader.read(folder).manifest["error"]
    runs.resume(folder, progress=False)
    assert (folder / "summary.csv").read_bytes() == before


def test_a_run_that_still_trains_has_the_checks_of_its_checkpoint(run, tmp_path):
    manifest = json.loads((run / "manifest.json").read_text()) | {"status": "running"}
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    check = {"member": 1, "check": 0, "beta_member": 1e-3, "seed": 0, "dead": [], "val_score": 0.5, "cost": 9.0}
    (tmp_path / "checkpoints" / "history.jsonl").write_text(json.dumps(check) + "\n" + json.dumps(check)[:-9])
    found, whole = (reader.read(path).metrics for path in (tmp_path, run))
    steps = whole.filter(epoch=2)["step"].unique().to_list()
    assert found.schema == whole.schema and set(found["epoch"]) == {2} and found["step"].unique().to_list() == steps
    assert dict(found.select("metric", "value").iter_rows()) == {"score": 0.5, "cost": 9.0}


def test_progress_shows_large_costs_and_small_ones():
    row = {"member": 0, "check": 3, "train_loss": 0.5, "val_score": 0.75}
    members = training.Member(beta=np.full(2, 1e-5), learning_rate=np.ones(2), budget=np.array([0.0, 300.0]))
    for cost, shown in ((29_896.0, "29.9k"), (2.5, "2.5")):
        swept = training.SweepResult(training.Archive(), [row | {"cost": cost}, row | {"cost": cost, "member": 1}], {1: "NaN"}, None)
        assert cells(swept, members, (0, 0), EBOPS) == [
            f"beta 1e-05: loss 0.500, accuracy 75.0%, {shown} EBOPs",
            "aims at 300: failed",
        ]
        assert cells(swept, members, (0, 7), EBOPS)[1] == "aims at 300, seed 7: failed"


def hgqjax(capsys, *argv):
    code = cli.main([str(a) for a in argv])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_summary_and_report_and_export(run, rows, tmp_path, capsys):
    point = summary(run)[0]
    model = run / point["model"]
    code, out, _ = hgqjax(capsys, "summary", model, "--data", rows)
    assert code == 0 and f"EBOPs {float(point['ebops']):.0f} (definition hgq2)" in out and ": accuracy " in out
    code, out, _ = hgqjax(capsys, "report", run)
    assert code == 0 and (run / "report.html").exists() and (run / "figures" / "front.png").exists()
    code, out, _ = hgqjax(capsys, "export", model, "--output", tmp_path / "unverified", "--no-verify")
    assert code == 0 and "not verified" in out
    assert not json.loads((tmp_path / "unverified" / "hgqjax_gate.json").read_text())["verified"]


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    """A run on numbers instead of labels, with a window that some residuals are outside of."""
    folder = tmp_path_factory.mktemp("regression")
    rng = np.random.default_rng(1)
    x = rng.normal(size=(800, 4)).astype(np.float32)
    np.savez(folder / "angles.npz", x=x, y=x @ np.array([1.0, -0.5, 0.0, 0.25]), unit="mrad")
    objective = Objective(score=Resolution(window=0.5), cost=resources.Ebops())
    train = dataclasses.replace(TRAIN, objective=objective, penalty=schedules.Budget())
    changes = {"train": train, "points_at": (150.0,), "betas": (), "within": 1.0, "projects": 0}
    config = small(str(folder / "angles.npz"), model=networks.Mlp(hidden=(), batch_norm=False), **changes)
    return runs.run(config, name="angles", root=folder / "results", progress=False)


def test_a_regression_from_rows_to_the_summary(regression):
    import polars as pl

    dataset = data_.load(str(regression.parents[2] / "angles.npz"))
    manifest = json.loads((regression / "manifest.json").read_text())
    assert manifest["data"]["unit"] == "mrad" and manifest["config"]["train"]["objective"]["score"] == {"type": "Resolution", "window": 0.5}
    metrics = pl.read_parquet(regression / "metrics.parquet")
    outliers = metrics.filter((pl.col("metric") == "outliers") & (pl.col("split") == "val"))["value"]
    assert len(outliers) == 2 and outliers.is_between(0, 1).all()
    for row in summary(regression):
        model = ModelDescription.load(regression / row["model"])
        assert model.metadata["classes"] == [] and model.metadata["unit"] == "mrad" and model.metadata["score"]["window"] == 0.5
        residual = model.evaluate(dataset.x_test)[:, 0] - dataset.y_test
        inside = np.abs(residual) < 0.5
        assert float(row["test_outliers"]) == np.mean(~inside) and np.mean(inside) > 0
        assert float(row["test_score"]) == pytest.approx(np.mean(residual[inside] ** 2) ** 0.5, rel=1e-12)


@pytest.mark.slow  # a reference is compiled, too
def test_the_cheapest_network_within_a_drop_is_named(rows, tmp_path):
    config = small(rows, projects=0, points=1, betas=(1e-6,), within=1.0, accuracy_drop=(100.0, 0.0))
    folder = runs.run(config, root=tmp_path, progress=False)
    reference = [json.loads(line) for line in (folder / "jobs" / "reference.jsonl").read_text().splitlines()][-1]["result"]
    first, wide, _ = json.loads((folder / "manifest.json").read_text())["notes"][-3:]
    assert first == (
        f"reference (18 bits everywhere): validation accuracy {100 * reference['val']['score']:.2f} %, "
        f"test {100 * reference['test']['score']:.2f} %"
    )
    cheapest = min(summary(folder), key=lambda row: float(row["cost"]))
    assert wide.startswith(f"within 100 points: {cheapest['point']}, ") and reference["val"]["score"] > 0.4


def test_summary_and_report_of_a_regression(regression, capsys):
    point = summary(regression)[-1]
    code, out, _ = hgqjax(capsys, "summary", regression / point["model"], "--data", regression.parents[2] / "angles.npz")
    said = r"angles.npz: resolution 0\.\d+ \+- 0\.0\d+ mrad, outliers \d+\.\d\d % \(800 rows, training rows among them\)\n"
    assert code == 0 and re.search(said, out) and "accuracy" not in out
    assert float(point["budget"]) == 150.0
    code, _, _ = hgqjax(capsys, "report", regression)
    text = (regression / "report.html").read_text()
    shown = f"{float(point['test_score']):.3f} ± {float(point['test_error']):.3f} <small>(outliers "
    assert code == 0 and "test resolution (mrad)" in text and shown in text
    assert "root mean square of the residuals below 0.5 mrad" in text and "accuracy" not in text.replace("accuracy_drop", "")


def test_the_score_of_a_frozen_model_without_a_residual_in_the_window(regression):
    model = ModelDescription.load(regression / summary(regression)[-1]["model"])
    x, far = np.zeros((3, 4), np.float32), np.full(3, 1e6, np.float32)
    found = jobs.measure(model, x, far, Resolution(window=0.5))
    assert (found["score"], found["outliers"]) == (0.5, 1.0) and np.isnan(found["error"])
    assert np.isnan(jobs.measure(model, x[:1], far[:1], Resolution())["error"])
    whole = jobs.measure(model, x, far, Resolution())
    assert set(whole) == {"score", "error"} and whole["score"] == pytest.approx(1e6, rel=1e-3)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["sweep", "--data", "muon", "--rows", "1000", "--train.objective.score", "labels"],
            "score is labels, but y of muon (simulated) are numbers; make it resolution",
        ),
        (["sweep", "--data", "{rows}", "--train.objective.score", "resolution"], "are labels; make it accuracy"),
        (["sweep", "--data", "svhn:{tmp}"], "has no file train_32x32.mat"),
        (["sweep", "--data", "tops"], "unknown data set 'tops'"),
        (["sweep", "--data", "{broken}"], "broken.npz"),
        (["sweep", "--data", "{flat}"], "flat.npz"),
        (["sweep", "--data", "{labels}"], "labels.npz"),
        (["sweep", "--data", "{nan}"], "nan.npz"),
        (["sweep", "--data", "{rows}", "--train.batch-size", "64", "--results", "{rows}"], "cannot read or write"),
        (["sweep", "--data", "{rows}", "--train.batch-size", "5000"], "batch_size is 5000, but there are only"),
        (["summary", "{tmp}"], "is no model: a folder with description.json"),
        (["report", "{tmp}"], "is not a run folder"),
        (["resume", "{tmp}"], "is not a run folder"),
        (["export"], "give either the folder of a model description or --config FILE"),
        (["export", "{model}", "--backend", "Quartus"], "backend 'Quartus' is not one of"),
        (["export", "{model}", "--output", "{tmp}"], "exists already"),
        (
            ["sweep", "--data", "{rows}", "--train.batch-size", "64", "--projects", "1", "--strategy", "area"],
            "strategy 'area' is not one of",
        ),
        (["export", "--config", "{yaml}"], "is not YAML"),
        (["export", "--config", "{yaml}", "--clock-ns", "2"], "says all about the project; leave out clock_ns"),
        (["export", "{model}", "--clock-ns", "-3"], "clock_ns is -3.0"),
        (["resume", "{halved}"], "manifest.json has no field 'config'"),
        (["export", "{model}", "--data", "tops"], "unknown data set 'tops'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence_and_exit_code_2(argv, message, run, rows, tmp_path, capsys):
    x, y = np.zeros((50, 4), np.float32), np.zeros(50, np.int64)
    (tmp_path / "broken.npz").write_bytes(b"PK not a zip")
    np.savez(tmp_path / "flat.npz", x=x[:, 0], y=y)
    np.savez(tmp_path / "labels.npz", x=x, y=y - 3)
    np.savez(tmp_path / "nan.npz", x=np.where(np.arange(4) == 2, np.nan, x).astype(np.float32), y=y)
    (tmp_path / "broken.yml").write_text("a: [1")
    (tmp_path / "halved").mkdir()
    (tmp_path / "halved" / "manifest.json").write_text('{"schema": 1, "status": "running"}')
    places = {name: tmp_path / f"{name}.npz" for name in ("broken", "flat", "labels", "nan")}
    places |= {"yaml": tmp_path / "broken.yml", "halved": tmp_path / "halved"}
    places |= {"rows": rows, "tmp": tmp_path, "model": run / summary(run)[0]["model"]}
    code, _, err = hgqjax(capsys, *(a.format(**places) for a in argv))
    assert code == 2 and message in err and err.count("\n") == 1 and err.startswith("hgqjax: ")


def test_missing_tools_are_named(run, tmp_path, capsys, monkeypatch):
    model = run / summary(run)[0]["model"]
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = hgqjax(capsys, "export", model, "--output", tmp_path / "project")
    assert code == 2 and "apt install g++" in err and not (tmp_path / "project").exists()
    code, _, err = hgqjax(capsys, "sweep", "--projects", "1", "--results", tmp_path / "results")  # before the training, not after it
    assert code == 2 and "apt install g++" in err and not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "argv",
    [
        ["sweep", "--betas", "-1"],
        ["sweep", "--train.epoch", "3"],
        ["sweep", "model.method:hgq", "--model.method.weight-overflow", "CLIP"],
        ["sweep", "--points", "0"],
        ["sweep", "--seeds", "5000000000"],
        ["sweep", "--betas", "nan"],
        ["nothing"],
    ],
    ids=" ".join,
)
def test_wrong_flags_exit_with_code_2(argv, capsys):
    try:
        code = cli.main(argv)
    except SystemExit as stop:
        code = stop.code
    assert code == 2


@pytest.mark.slow
def test_several_networks_are_one_front(rows, tmp_path):
    train = dataclasses.replace(TRAIN, epochs=2, epochs_per_check=1)
    config = small(rows, models=("6", "3-2"), train=train, betas=(1e-6, 1e-3), seeds=(0, 1), points=40, within=1.0, projects=0)
    found = runs.run(config, name="m", root=tmp_path, progress=False)
    assert [config.network(member) for member in range(8)] == [0] * 4 + [1] * 4 and len(config.division()) == 2
    points = summary(found)
    for row in points:
        assert row["network"] == config.models[config.network(int(row["member"]))]
        sizes = [op.kernel.integers.shape[-1] for op in ModelDescription.load(found / row["model"]).operations if op.kind == "dense"]
        assert "-".join(map(str, sizes[:-1])) == row["network"]
    costs, scores = ([float(row[name]) for row in points] for name in ("cost", "val_score"))
    assert training.pareto(scores, costs) == list(range(len(points)))
    alone = runs.run(dataclasses.replace(config, models=("3-2",)), name="alone", root=tmp_path, progress=False)
    history = [
        reader.read(run).metrics.filter(member=member, metric="score", split="val")["value"] for run, member in ((found, 5), (alone, 1))
    ]
    assert history[0].to_list() == history[1].to_list()  # a member is the same beside another network


def test_each_seed_and_groups_count_for_each_network(rows):
    config = small(rows, models=("6", "3-2"), seeds=(0, 1, 2), each_seed=True)
    assert [(part.start, part.stop) for part in config.division()] == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (10, 12)]
    assert config.members()[1] == (0, 0, 1, 1, 2, 2) * 2
    assert len(dataclasses.replace(config, groups=6).division()) == 6
    assert len(dataclasses.replace(config, each_seed=False, groups=3).division()) == 4
    with pytest.raises(ValueError, match="groups is 3 with each_seed; leave it out, or give 6, one for each seed and network"):
        dataclasses.replace(config, groups=3)
