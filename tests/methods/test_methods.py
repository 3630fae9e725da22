"""The experiment `methods`: fronts of seeds, budgets, tables; a tiny run of it."""

import re

import polars as pl
import pytest

from experiments import methods as experiment
from hgqjax.config import from_json, to_json
from hgqjax.runs.sweep import Sweep

POINTS = pl.DataFrame(
    [  # method, seed, EBOPs, adders, validation, test
        ("hgq", 0, 100.0, 50.0, 0.70, 0.71),
        ("hgq", 0, 400.0, 300.0, 0.75, 0.74),
        ("hgq", 0, 500.0, 200.0, 0.74, 0.99),  # chosen by validation rows: never within EBOPs, but within adders
        ("hgq", 1, 150.0, 60.0, 0.72, 0.73),
        ("uniform", 0, 1000.0, 20.0, 0.6, 0.6),
        ("uniform", 1, 1000.0, 20.0, 0.6, 0.5),
    ],
    schema=["method", "seed", "ebops", "adder_cost", "val_score", "test_score"],
    orient="row",
)
CONFIG = experiment.Config(methods=("hgq", "uniform"), seeds=(0, 1))


@pytest.fixture
def fronts():
    return {name: experiment._fronts(POINTS.filter(pl.col("method") == name), CONFIG.score) for name in CONFIG.methods}


def test_points_are_chosen_by_validation_rows_for_each_cost(fronts):
    front = fronts["hgq"]["ebops"][0]
    assert front["test_score"].to_list() == [0.71, 0.74]
    assert [experiment._at(front, "ebops", budget) for budget in (99.0, 100.0, 450.0, 9e9)] == [None, 0.71, 0.74, 0.74]
    assert experiment._at(fronts["hgq"]["adder_cost"][0], "adder_cost", 250.0) == 0.99


def test_table_and_figure(fronts, tmp_path):
    text = experiment._table(CONFIG, fronts)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == ["within EBOPs", "100", "200", "500", "1 000", "2 000"]
    assert lines[2] == ["HGQ, every value", "-", "72.00 ± 1.41", "73.50 ± 0.71", "73.50 ± 0.71", "73.50 ± 0.71"]
    assert lines[3][-2:] == ["55.00 ± 7.07", "55.00 ± 7.07"]
    assert lines[4] == ["within adder-graph cost", "20", "50", "100", "200", "500"]
    experiment._draw(CONFIG, fronts, tmp_path)
    assert (tmp_path / "methods.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("task", ["jets", "muon"])
def test_configurations_are_sweeps_of_one_length(task):
    config = experiment.Config(task=task)
    names = experiment.entries(task)
    assert set(config.methods) == set(names)
    sweeps = [config.sweep(method, vary) for entry in names.values() for method, vary in entry.variants]
    assert {(s.train.epochs, s.train.batch_size, s.rows, s.seeds, s.each_seed) for s in sweeps} == {
        (config.epochs, 512 if task == "jets" else 1024, config.rows, config.seeds, True)
    }
    assert all(from_json(Sweep, to_json(sweep)) == sweep for sweep in sweeps)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="methods has 'qat'; legal are hgq, hgq_layers, hmq"):
        experiment.Config(methods=("qat",))
    with pytest.raises(ValueError, match="epochs is 3; an even number"):
        experiment.Config(epochs=3)


@pytest.mark.slow
def test_a_run_is_kept_and_not_trained_again(tmp_path, capsys):
    config = experiment.Config(methods=("hgq",), seeds=(0, 1), rows=1500, epochs=2, output=tmp_path)
    experiment.run(config)
    first = capsys.readouterr().out
    points = pl.read_csv(tmp_path / "points.csv")
    assert set(points["seed"]) == {0, 1} and (points["adder_cost"] > 0).all()
    assert re.search(r"\| HGQ, every value \|.*\d ± ", first)
    experiment.run(config)
    assert capsys.readouterr().out.endswith(first[first.index("2 seeds") :])
    assert len(list((tmp_path / "hgq" / "0").iterdir())) == 1
