"""The experiment `methods`: fronts of seeds, budgets, tables; a tiny run of it."""

import json
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from flax import nnx

from experiments import methods as experiment
from experiments import methods_figure, methods_table
from experiments.methods_entries import Entry, entries
from hgqjax import export, layers
from hgqjax.config import ConfigError, from_json, to_json
from hgqjax.methods import Uniform
from hgqjax.runs.networks import Mlp
from hgqjax.runs.sweep import Sweep

POINTS = pl.DataFrame(
    [  # method, seed, EBOPs, adders, bits, validation, test
        ("hgq", 0, 100.0, 50.0, 0.5, 0.70, 0.71),
        ("hgq", 0, 400.0, 300.0, 1.5, 0.75, 0.74),
        ("hgq", 0, 500.0, 200.0, 1.5, 0.74, 0.99),  # chosen by validation rows: never within EBOPs, but within adders
        ("hgq", 1, 150.0, 60.0, 0.8, 0.72, 0.73),
        ("uniform", 0, 1000.0, 20.0, 3.0, 0.6, 0.6),
        ("uniform", 1, 1000.0, 20.0, 3.0, 0.6, 0.5),
    ],
    schema=["method", "seed", "ebops", "adder_cost", "weight_bits", "val_score", "test_score"],
    orient="row",
)
ACCURACY = experiment.Config().score


@pytest.fixture
def fronts():
    return {name: methods_table.fronts_of(POINTS.filter(pl.col("method") == name), ACCURACY) for name in ("hgq", "uniform")}


def test_points_are_chosen_by_validation_rows_for_each_cost(fronts):
    front = fronts["hgq"]["ebops"][0]
    assert front["test_score"].to_list() == [0.71, 0.74]
    assert [methods_table.at(front, "ebops", budget) for budget in (99.0, 100.0, 450.0, 9e9)] == [None, 0.71, 0.74, 0.74]
    assert methods_table.at(fronts["hgq"]["adder_cost"][0], "adder_cost", 250.0) == 0.99


def test_table_and_figure(fronts, tmp_path):
    text = methods_table.table(fronts, ACCURACY, 2)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == ["within EBOPs", "100", "200", "500", "1 000", "2 000"]
    assert lines[2] == ["hgq", "-", "72.00 ± 1.41", "73.50 ± 0.71", "73.50 ± 0.71", "73.50 ± 0.71"]
    assert lines[3][-2:] == ["55.00 ± 7.07", "55.00 ± 7.07"]
    assert lines[4] == ["within adder-graph cost", "20", "50", "100", "200", "500"]
    assert lines[8] == ["within bits per weight", "1", "2", "3"]
    figures = methods_figure.draw(fronts, ACCURACY, "accuracy", tmp_path)
    assert [path.name for path in figures] == ["methods_ebops.png", "methods_adder_cost.png", "methods_weight_bits.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in figures)


@pytest.mark.synth
def test_the_network_within_a_budget_goes_through_yosys(tmp_path):
    x = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)
    for name in ("a", "b"):
        model = Mlp(hidden=(2,), method=Uniform(bits=4)).build((3,), 2)(nnx.Rngs(0))
        layers.adapt(model, jnp.asarray(x))
        export.describe(model, x).save(tmp_path / name)
    frame = POINTS.filter(pl.col("adder_cost").is_in([20.0, 300.0])).with_columns(
        pl.Series("model", ["a", "b", "b"]), run=pl.lit("1"), point=pl.lit("p0"), label=pl.col("method").str.to_uppercase()
    )
    text = methods_table.synthesised(frame, ACCURACY, (100.0, 400.0), tmp_path)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert lines[0] == ["within adder-graph cost", "100", "its LUT sites", "400", "its LUT sites"]
    assert lines[2][:3] == ["HGQ", "-", "-"] and lines[2][3] == "74.00" and lines[3][1] == lines[3][3] == "60.00"
    assert int(lines[2][4]) == int(lines[3][2]) == int(lines[3][4]) > 0
    assert methods_table.synthesised(frame, ACCURACY, (100.0, 400.0), tmp_path) == text


def test_the_best_rate_is_that_of_the_front_with_the_greatest_hypervolume():
    def points(*pairs):
        return [{"val_score": score, "ebops": ebops} for score, ebops in pairs]

    found = {0.01: points((0.7, 1000.0), (0.5, 100.0)), 0.1: points((0.7, 900.0), (0.65, 120.0)), 1.0: points((float("nan"), 1.0))}
    assert methods_table.best_rate(found, ACCURACY) == 0.1
    assert methods_table.best_rate({0.1: found[0.1], 0.01: found[0.1]}, ACCURACY) == 0.01  # the lowest of equals
    with pytest.raises(ValueError, match="no learning rate gave a network"):
        methods_table.best_rate({0.1: points((float("nan"), 1.0))}, ACCURACY)


@pytest.mark.parametrize("task", ["jets", "muon"])
def test_every_method_has_the_same_steps(task):
    config = experiment.Config(task=task)
    names = entries(task)
    assert config.methods == tuple(names)
    for entry in names.values():
        for method, vary in entry.variants:
            sweep = config.sweep(method, vary, 1e-2, config.seeds, config.epochs)
            assert (sweep.train.epochs, sweep.train.batch_size, sweep.rows) == (config.epochs, 512 if task == "jets" else 1024, config.rows)
            assert from_json(Sweep, to_json(sweep)) == sweep


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"methods": ("qat",)}, "methods has 'qat'; legal are hgq, hgq_post, hgq_layers, hmq"),
        ({"epochs": 12}, "epochs is 12; a multiple of 8"),
        ({"rates": ()}, "rates is .*at least one"),
    ],
)
def test_mistakes_are_named(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        experiment.Config(**fields)


@pytest.mark.slow
def test_a_run_is_kept_and_not_trained_again(tmp_path, capsys, monkeypatch):
    warm = Entry("uniform, from a trained network", ((Uniform(bits=4), {"betas": (0.0,)}),), warm=True)
    monkeypatch.setattr(experiment, "entries", lambda task: {"warm": warm})
    config = experiment.Config(methods=("warm",), seeds=(0,), rows=1500, epochs=8, rates=(1e-2, 3e-2), synthesize=(), output=tmp_path)
    experiment.run(config)
    first = capsys.readouterr().out
    points = pl.read_csv(tmp_path / "points.csv")
    assert set(points["seed"]) == {0} and (points["adder_cost"] > 0).all() and points["weight_bits"].is_between(0.1, 8).all()
    assert re.search(r"\| uniform, from a trained network \|.*\d ± ", first)
    starts = {json.loads(path.read_text())["config"]["start"] for path in tmp_path.glob("warm/*/*/manifest.json")}
    assert len(starts) == 1 and all(Path(start).is_dir() for start in starts)
    experiment.run(config)
    assert capsys.readouterr().out.endswith(first[first.index("1 seeds") :])
    assert all(
        len(list(place.iterdir())) == 1 for place in [*tmp_path.glob("warm/*"), *tmp_path.glob("rates/*/*"), *tmp_path.glob("start/*")]
    )


def test_a_method_without_a_cheap_network_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "_runs", lambda *_: [tmp_path])
    monkeypatch.setattr(experiment, "measured", lambda folder: [])
    config = experiment.Config(methods=("uniform",), rates=(1e-2,), output=tmp_path / "out")
    with pytest.raises(ConfigError, match="method uniform has no network of at most 300000 EBOPs; leave it out"):
        experiment.run(config)
    assert not (tmp_path / "out").exists()
