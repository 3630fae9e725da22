"""Tasks besides classes and one number, from files to summary.csv and report: one logit with weights, labels at once, several targets,
autoencoders, a loss of one's own that a run folder names; labels and outputs that do not fit."""

import csv
import dataclasses
import json
import os
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import run_folders

from hgqjax import cli, layers, load, resources, runs, scores, training
from hgqjax import data as data_
from hgqjax.config import ConfigError, to_json
from hgqjax.description import ModelDescription
from hgqjax.reports import reader
from hgqjax.reports.page import report
from hgqjax.runs import folders, networks
from hgqjax.training import Objective, schedules

TRAIN = training.Config(epochs=16, epochs_per_check=8, batch_size=50, penalty=schedules.Constant())


def features(n=500, seed=0):
    rng = np.random.default_rng(seed)
    return rng, rng.normal(size=(n, 4)).astype(np.float32)


def write_trigger(path):
    """Signal where one feature is large, with weights, as a table with names."""
    rng, x = features()
    label = (x[:, 0] > 0.5).astype(int)
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["f0", "f1", "f2", "f3", "signal", "w"])
        table.writerows([*map(float, row), y, float(w)] for row, y, w in zip(x, label, rng.integers(1, 4, len(x)), strict=True))
    return str(path)


def finished(path, score, columns=data_.Columns(), epochs=16, **changes):
    train = dataclasses.replace(TRAIN, epochs=epochs, objective=Objective(score=score, cost=resources.Ebops()))
    model = networks.Mlp(hidden=(), batch_norm=False)
    arguments = {"data": str(path), "columns": columns, "model": model, "train": train, "betas": (1e-6,), "points": 1, "within": 10.0}
    folder = runs.run(runs.Sweep(**arguments | changes), root=path.parent / "results", progress=False)
    run = reader.read(folder)
    (point,) = run.points
    return run, point, data_.load(str(path), columns), ModelDescription.load(folder / point.model)


@pytest.mark.slow
def test_a_weighted_trigger_of_one_logit_from_a_table(tmp_path, capsys):
    columns = data_.Columns(target=("signal",), weight="w")
    write_trigger(tmp_path / "rows.csv")
    run, point, dataset, model = finished(tmp_path / "rows.csv", scores.Auc(background_rate=0.1), columns)
    out = model.evaluate(dataset.x_test)
    assert out.shape == (100, 1) and dataset.feature_names == ("f0", "f1", "f2", "f3")  # the weight is no feature
    signal, background = dataset.y_test == 1, dataset.y_test == 0
    pairs = dataset.weight_test[signal][:, None] * dataset.weight_test[background]
    above = out[signal] - out[background].T
    assert point.test_score == pytest.approx(np.sum(pairs * ((above > 0) + 0.5 * (above == 0))) / pairs.sum()) and point.test_score > 0.9
    assert 0.5 < point.shares["test_efficiency"] <= 1 and run.score_label == "AUC" and run.error(point) > 0
    network = load(run.folder / point.model)
    assert network.classes == ("0", "1") and network.targets == ("signal",)
    rows = dataset.x_test * dataset.scaler.scale + dataset.scaler.mean
    assert np.array_equal(network.classify(rows) == "1", network.predict(rows)[:, 0] > 0)
    page = report(run.folder, formats=()).read_text()
    assert "signal efficiency at a background of 10 %" in page and (run.folder / "figures" / "test.svg").exists()
    assert np.sum(run.curves(point)["confusion"]) == pytest.approx(dataset.weight_test.sum())
    capsys.readouterr()
    assert cli.main(["summary", str(run.folder / point.model), "--data", str(tmp_path / "rows.csv")]) == 0
    said = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("on "))
    assert ": AUC 0.9" in said and ", efficiency " in said and "(500 rows, training rows among them)" in said


@pytest.mark.slow
def test_two_targets_labels_at_once_and_an_autoencoder(tmp_path):
    rng, x = features()
    np.savez(tmp_path / "two.npz", x=x, y=x @ rng.normal(size=(4, 2)), unit="mm")
    run, point, dataset, model = finished(tmp_path / "two.npz", scores.Resolution(window=3.0))
    residual = model.evaluate(dataset.x_test) - dataset.y_test
    inside = np.abs(residual) < 3.0
    assert residual.shape == (100, 2) and point.test_score == pytest.approx(np.sqrt(np.mean(residual[inside] ** 2)))
    assert point.shares["test_outliers"] == pytest.approx(np.mean(~inside)) and len(run.curves(point)["residuals"]) == 2
    assert "residual of y1 (mm)" in (report(run.folder, formats=()).parent / "figures" / "test.svg").read_text()

    np.savez(tmp_path / "labels.npz", x=x, y=np.stack([x[:, 0] > 0, x[:, 1] > 0.5, x[:, 2] + x[:, 3] > 0], axis=1).astype(int))
    run, point, dataset, model = finished(tmp_path / "labels.npz", scores.LabelAccuracy())
    right = (model.evaluate(dataset.x_test) > 0) == (dataset.y_test == 1)
    assert point.test_score == pytest.approx(right.mean()) and point.shares["test_exact"] == pytest.approx(right.all(axis=1).mean())
    assert point.test_score > 0.7 and "label accuracy (%)" in report(run.folder, formats=()).read_text()

    np.savez(tmp_path / "rows.npz", x=5 * x + 2, y=np.zeros(500, int))
    run, point, dataset, model = finished(tmp_path / "rows.npz", scores.Reconstruction(), data_.Columns(target=("features",)), epochs=80)
    assert point.test_score == pytest.approx(np.sqrt(np.mean((model.evaluate(dataset.x_test) - dataset.x_test) ** 2)))
    assert point.test_score < 0.8 and run.score_label == "reconstruction error (sigma)"  # 1 is what a constant gives


def test_the_error_of_an_autoencoder_is_a_trigger(tmp_path, capsys):
    rng, x = features(200)
    rows, strange = (tmp_path / name for name in ("rows.npz", "strange.npz"))
    np.savez(rows, x=x, y=np.zeros(200, int))
    np.savez(strange, x=3 * x[:80] + rng.normal(size=(80, 4)).astype(np.float32), y=np.ones(80, int))
    about = {
        "classes": [], "features": list("abcd"), "scaler": {"mean": [0.0] * 4, "scale": [1.0] * 4}, "kind": "regression", "unit": "sigma",
        "columns": to_json(data_.Columns(target=("features",))), "score": to_json(scores.Reconstruction()),
    }  # fmt: skip
    model = dataclasses.replace(run_folders.make_model(5.5, (4, 4)), metadata=about)
    model.save(tmp_path / "m")
    given = [data_.load_rows(str(path), scaler=data_.Scaler(np.zeros(4), np.ones(4)), classes=(),
                             columns=data_.Columns(target=("features",))) for path in (rows, strange)]  # fmt: skip
    sizes = [np.mean((model.evaluate(part.x) - part.y) ** 2, axis=1) for part in given]
    area = np.mean((sizes[1][:, None] > sizes[0]) + 0.5 * (sizes[1][:, None] == sizes[0]))
    passing = np.mean(sizes[1] > np.sort(sizes[0])[-21])  # of 200, at most 20 pass
    argv = ["summary", str(tmp_path / "m"), "--data", str(rows), "--signal", str(strange), "--background-rate", "0.1"]
    assert cli.main(argv) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"{strange} against {rows}: AUC {area:.4g} +- ") and last.endswith(f"efficiency {100 * passing:.2f} %")
    assert cli.main(argv[:2] + argv[4:6]) == 2 and "--signal goes with --data" in capsys.readouterr().err
    dataclasses.replace(model, metadata=about | {"score": to_json(scores.Resolution())}).save(tmp_path / "r")
    assert cli.main(["summary", str(tmp_path / "r"), *argv[2:]]) == 2 and "is no autoencoder" in capsys.readouterr().err


OWN = """
import dataclasses
import jax.numpy as jnp
from hgqjax import scores

@dataclasses.dataclass(frozen=True, kw_only=True)
class Huber(scores.Resolution):
    delta: float = 0.5

    def loss(self, outputs, y, weight=None):
        size = jnp.abs(outputs - y.reshape(outputs.shape))
        return jnp.mean(jnp.where(size < self.delta, size**2 / 2, self.delta * (size - self.delta / 2)))
"""


class Killed(BaseException):
    """As if the process were gone."""


@pytest.mark.slow
def test_a_run_with_a_loss_of_ones_own_goes_on_in_a_process_that_finds_it(tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "my_losses.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    from my_losses import Huber

    _, x = features(300)
    np.savez(tmp_path / "rows.npz", x=x, y=x[:, 0], unit="mm")
    right = folders.Run.write_metrics

    def kill(self, rows):
        raise Killed

    monkeypatch.setattr(folders.Run, "write_metrics", kill)
    with pytest.raises(Killed):
        finished(tmp_path / "rows.npz", Huber(delta=1.0))
    monkeypatch.setattr(folders.Run, "write_metrics", right)
    (folder,) = (tmp_path / "results" / "sweep").iterdir()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["config"]["train"]["objective"]["score"] == {"type": "Huber", "module": "my_losses", "window": None, "delta": 1.0}
    path = list(sys.path)
    sys.modules.pop("my_losses")  # as another process
    monkeypatch.setattr(sys, "path", [place for place in path if not place.startswith(str(tmp_path))])
    with pytest.raises(ConfigError, match="is a Huber of the module my_losses, which cannot be imported .*PYTHONPATH$"):
        runs.resume(folder, progress=False)
    monkeypatch.setattr(sys, "path", path)
    assert runs.resume(folder, progress=False) == folder
    run = reader.read(folder)
    assert run.manifest["status"] == "done" and type(run.score).__name__ == "Huber" and run.score.delta == 1.0
    assert os.path.exists(folder / "models" / "p00")
    sys.modules.pop("my_losses", None)


def members():
    return training.Member(beta=jnp.array([1e-6]), learning_rate=jnp.array([1e-2]), budget=jnp.zeros(1))


@pytest.mark.parametrize(
    ("score", "width", "y", "sentence"),
    [
        (
            scores.Accuracy(),
            1,
            np.array([0, 1]),
            "has 1 output, but a network of classes needs 2 or more, .*labels of y_train run from 0 to 1.*BinaryAccuracy",
        ),
        (scores.Accuracy(), 2, np.array([0, 2]), "labels of y_train run from 0 to 2, but the network has 2 outputs; legal are 0 to 1"),
        (scores.Auc(), 1, np.array([0, 2]), "labels of y_train run from 0 to 2; for a network of one logit legal are 0 and 1"),
        (scores.Resolution(), 1, np.zeros((2, 3), np.float32), "y_train has 3 numbers of type float32 .* but the network has 1 output"),
    ],
    ids=repr,
)
def test_labels_that_do_not_fit_are_no_divergence(score, width, y, sentence):
    y = np.tile(y, (40, *[1] * (y.ndim - 1)))
    data = training.Data(*map(jnp.asarray, (features(80)[1], y, features(80)[1], y)))
    config = training.Config(epochs=1, batch_size=16, objective=Objective(score=score))
    train = training.make_train(config, lambda rngs: layers.mlp((4, width), rngs=rngs))
    with pytest.raises(scores.ScoreError, match=sentence):
        training.sweep(train, data, members(), seeds=[0])


def test_equal_weights_train_as_none_do_and_others_do_not():
    _, x = features(128)
    y = (x[:, 0] > 0.5).astype(np.int32)
    config = training.Config(epochs=2, batch_size=32, objective=Objective(score=scores.BinaryAccuracy()), penalty=schedules.Constant())
    train = training.make_train(config, lambda rngs: layers.mlp((4, 1), rngs=rngs, batch_norm=None))
    rows = training.Data(*map(jnp.asarray, (x, y, x, y)))
    weighted = [rows._replace(weight_train=jnp.asarray(w), weight_val=jnp.asarray(w)) for w in (np.ones(128, "f4"), 1 + y.astype("f4"))]
    plain, ones, heavy = (training.sweep(train, part, members(), seeds=[0]).history[-1]["train_loss"] for part in (rows, *weighted))
    assert plain == pytest.approx(ones, rel=1e-5) and abs(heavy - plain) > 0.01
    of = training.Data.of(_dataset(x, y, 2 + y.astype(np.float32)))
    assert float(of.weight_train.mean()) == pytest.approx(1.0) and of.weight_val is not None


def _dataset(x, y, weight):
    about = {"name": "x", "source": "", "sha256": "", "classes": ("a", "b"), "feature_names": tuple("abcd"), "scaler": data_.Scaler.fit(x)}
    parts = {f"{letter}_{part}": v for part in ("train", "val", "test") for letter, v in (("x", x), ("y", y), ("weight", weight))}
    return data_.Dataset(**about, **parts)
