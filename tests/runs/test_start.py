"""Runs that continue from a network: what they keep, and what they refuse."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from run_folders import make_model

from hgqjax import data, runs, training
from hgqjax.description import ModelDescription
from hgqjax.runs import folders, networks

TRAIN = training.Config(epochs=2, batch_size=64)


@pytest.fixture
def rows(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=x, y=(x.sum(1) > 0).astype(np.int32))
    return str(tmp_path / "rows.npz")


def small(rows, **changes):
    return runs.Sweep(**{"data": rows, "model": networks.Mlp(hidden=(3,)), "train": TRAIN, "betas": (1e-6,), "points": 2} | changes)


@pytest.mark.slow
def test_a_run_continues_from_a_model_and_after_an_interrupt(rows, tmp_path, monkeypatch):
    first = runs.run(small(rows), root=tmp_path / "results", progress=False)
    start = str(first / "models/p00")
    frozen = training.Config(epochs=2, batch_size=64, freeze=("layer_0",), fixed_widths=True)
    config = small(rows, start=start, train=frozen, betas=(1e-5,))
    whole = runs.run(config, name="whole", root=tmp_path / "results", progress=False)
    manifest = json.loads((whole / "manifest.json").read_text())
    assert manifest["config"]["start"] == start
    model, before = ModelDescription.load(whole / "models/p00"), ModelDescription.load(start)
    assert model.metadata["trained"]["start"] == start
    kernel, old = model["layer_0"].kernel, before["layer_0"].kernel
    np.testing.assert_array_equal(kernel.values, old.values)
    assert np.any(model["layer_1"].kernel.values != before["layer_1"].kernel.values)

    class Killed(BaseException):
        pass

    right, saves = folders.Run.save, []

    def kill(self, **changes):
        right(self, **changes)
        saves.append(1)
        if len(saves) == 3:
            raise Killed

    monkeypatch.setattr(folders.Run, "save", kill)
    with pytest.raises(Killed):
        runs.run(config, name="killed", root=tmp_path / "results", progress=False)
    monkeypatch.undo()
    shutil.rmtree(first)  # the run has its own copy of what it started from
    (killed,) = (tmp_path / "results/killed").iterdir()
    runs.resume(killed, progress=False)
    assert list(csv.reader((killed / "summary.csv").open())) == list(csv.reader((whole / "summary.csv").open()))


def test_a_start_that_is_none_or_has_other_shapes(rows, tmp_path):
    make_model(4.0, (4, 5, 2)).save(tmp_path / "other")
    make_model(4.0, (4, 2)).save(tmp_path / "short")
    np.savez(tmp_path / "w.npz", **{"fc.weight": np.ones((3, 4)), "out.weight": np.ones((2, 5))})
    cases = {
        "nowhere": "start: there is no nowhere",
        str(tmp_path / "other"): "the start 'made_up' has in layer 'layers_0' a kernel of shape (4, 5), this network one of shape (4, 3)",
        str(tmp_path / "short"): "the start 'made_up' has 1 layers with weights (layers_0), this network 2 (layer_0, layer_1)",
        str(tmp_path / "w.npz"): "layer 'layer_1' has a kernel of shape (3, 2), the float weights of 'out' one of (5, 2)",
    }
    network = networks.Mlp(hidden=(3,), batch_norm=False)
    for start, message in cases.items():
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            runs.run(small(rows, start=start, model=network), root=tmp_path / "results", progress=False)
    assert not (tmp_path / "results").exists()


def test_rows_that_were_scaled_otherwise_are_noted(rows, tmp_path):
    from hgqjax.runs import start

    dataset = data.load(rows)
    model = make_model(4.0, (4, 2))
    scaler = {"mean": dataset.scaler.mean.tolist(), "scale": dataset.scaler.scale.tolist()}
    model.metadata["scaler"] = scaler
    model.save(tmp_path / "same")
    model.metadata["scaler"] = scaler | {"mean": [0.5] * 4}
    model.save(tmp_path / "other")
    assert start.scaler_note(str(tmp_path / "same"), dataset) == ""
    assert "was trained on rows with another scaling than those of arrays rows.npz" in start.scaler_note(str(tmp_path / "other"), dataset)
