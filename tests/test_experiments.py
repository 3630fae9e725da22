"""The experiments' command and configurations: they can be asked for, and those of the paper stay as published."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from experiments import jets, lut, lut_front, muon, particles, svhn
from experiments.__main__ import configuration
from experiments.earlier import EARLIER
from hgqjax import data
from hgqjax.config import from_json, to_json
from hgqjax.resources import Ebops, Luts
from hgqjax.scores import Accuracy

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = jets.CONFIGS | svhn.CONFIGS | muon.CONFIGS | particles.CONFIGS | lut.CONFIGS


def test_the_command_shows_an_experiments_options():
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "jets_demo", "--help"], cwd=ROOT, env=os.environ, text=True, capture_output=True
    )
    assert done.returncode == 0 and "--train.objective.cost" in done.stdout, done.stderr


def test_every_configuration_is_kept_whole_in_a_manifest():
    for name, (about, config) in CONFIGS.items():
        assert from_json(type(config), to_json(config), "config") == config, name
        assert about.endswith((".", ")")), name


def test_costs_to_reach_stand_instead_of_an_experiments_betas(capsys):
    assert configuration(["jets_demo"]).betas == jets.CONFIGS["jets_demo"][1].betas
    config = configuration(["jets_demo", "--points-at", "300", "1000", "--seeds", "3"])
    assert (config.points_at, config.betas, config.seeds) == ((300.0, 1000.0), (), (3,))
    with pytest.raises(SystemExit):
        configuration(["jets_demo", "--points-at", "300", "--betas", "1e-5"])
    assert "costs to reach need no beta" in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize("name", ["jets_ramp", "jets_constant", "muon_ramp", "svhn_ramp"])
def test_the_papers_own_train_widths_at_the_rate_of_weights_and_penalise_its_ebops(name):
    train = CONFIGS[name][1].train
    assert train.width_rate == 1.0 and train.objective.cost == Ebops(definition="paper_v1", normalize_gradient=True)


def test_hgq_luts_recipe_is_the_published_one():
    config = lut.CONFIGS["jets_lut_ramp"][1]
    train, (beta,) = config.train, config.betas
    assert (train.epochs, train.batch_size, train.epochs // train.cycles, train.cycle_decay) == (200_000, 33_200, 4000, 0.94)
    rates = config.learning_rate, config.learning_rate * train.final_rate, train.objective.gamma
    assert rates == pytest.approx((5e-3, 1e-6, 1e-8))
    assert (beta, beta * train.penalty.warmup_ratio, train.epochs * train.penalty.warmup) == pytest.approx((1e-3, 5e-7, 4000))
    assert config.model.hidden == (20,) and config.model.function == "mlp" and train.objective.cost == Ebops()


@pytest.mark.slow
def test_the_hybrid_tracker_is_exact():
    import jax.numpy as jnp
    from flax import nnx

    from hgqjax import data, export, layers

    dataset = data.load("muon", rows=400)
    model = lut.CONFIGS["muon_hybrid"][1].model.build(dataset.model_shape, 1)(nnx.Rngs(0))
    rows = dataset.of_model(dataset.x_train)
    layers.adapt(model, tuple(jnp.asarray(part, jnp.float32) for part in rows))
    description = export.describe(model, rows)  # raises when a word differs
    assert sum(op.kind == "lookup" for op in description.operations) == 2


@pytest.mark.parametrize("name", ["jets_ebops", "jets_luts", "jets_early", "muon", "svhn"])
def test_what_was_measured_before_keeps_its_settings(name):
    train = CONFIGS[name][1].train
    assert train.objective.cost == (Luts() if name == "jets_luts" else Ebops())
    assert {key: getattr(train, key) for key in EARLIER} == EARLIER


@pytest.mark.parametrize("name", ["jedi_linear", "jedi_linear_invariant", "mixer", "transformer"])
def test_shortened_runs_of_particles_have_error_bars_and_shortened_penalties(name):
    config = CONFIGS[name][1]
    assert config.data == "particles:16" and config.each_seed and len(config.seeds) >= 3 and isinstance(config.train.objective.cost, Ebops)


@pytest.mark.parametrize("name", ["jedi_linear_paper", "mixer_paper"])
def test_particles_in_published_length(name):
    config = CONFIGS[name][1]
    assert config.train.epochs == 7000 and config.train.batch_size == 2790 and config.data == "particles150:16x3"
    assert config.model.method.weight_bits == config.model.method.activation_fraction_bits == 7.0


def test_the_cost_that_a_front_needs():
    costs, merits = np.array([100.0, 400.0, 500.0, 900.0]), np.array([0.5, 0.7, 0.6, 0.8])
    wanted = {0.4: 100.0, 0.5: 100.0, 0.6: 200.0, 0.7: 400.0, 0.75: (500.0 * 900.0) ** 0.5, 0.8: 900.0}
    assert {merit: lut_front.needed(costs, merits, merit) for merit in wanted} == pytest.approx(wanted)
    assert lut_front.needed(costs, merits, 0.81) is None


def test_released_networks_are_compared_with_the_mean_over_seeds():
    of_runs = [(seed, 100 * 2**seed * n, 0.5 + 0.1 * n) for seed in (0, 1) for n in (1, 2)]
    rows = [{"line": "ours", "network": "p", "seed": seed, "lut_sites": c, "luts": c, "ebops": c, "val_score": s} for seed, c, s in of_runs]
    rows = [row | {"test_score": row["val_score"]} for row in rows]
    released = {"line": "theirs", "network": "a", "seed": None, "lut_sites": None, "luts": 100.0, "ebops": 400.0, "val_score": None}
    frame = pl.DataFrame([*rows, released | {"test_score": 0.7}, released | {"network": "b", "test_score": 0.71}], infer_schema_length=None)
    lines = lut_front._compared(frame, Accuracy(), "accuracy")
    assert lines[2:4] == [
        "| a | 70.00 | `Luts` | 100 | 283 (200 .. 400), x2.83 |",
        "| a | 70.00 | EBOPs | 400 | 283 (200 .. 400), x0.71 |",
    ]
    assert lines[4] == "| b | 71.00 | `Luts` | 100 | 0 of 2 seeds |"
    assert lut_front._compared(frame.filter(pl.col("seed").is_null()), Accuracy(), "accuracy") == []


def _real_rows(folder: Path) -> Path:
    """A file of the raw test rows of the embedded jets."""
    found = data.read("jets")
    test = data.split(len(found.y))[2]
    np.savez(folder / "rows.npz", x=found.x[test], y=found.y[test])
    return folder / "rows.npz"


@pytest.mark.synth
def test_the_front_by_lut_sites_has_runs_and_released_networks(tmp_path, capsys):
    from hgqjax import runs, training

    released = [ROOT / ".." / "shared" / "golden" / "hgq2" / "openml_0.733.keras"]
    if not released[0].exists():
        pytest.skip(f"there is no {released[0].name}")
    train = training.Config(epochs=1, batch_size=4096)
    sweep = runs.Sweep(model=runs.networks.Mlp(hidden=(4,)), train=train, betas=(1e-4,), seeds=(0, 1), each_seed=True, points=1, within=1.0)
    folder = runs.run(sweep, name="small", root=tmp_path, progress=False)
    options = {"files": tuple(released), "real": _real_rows(tmp_path), "output": tmp_path / "front"}
    lut_front.run(lut_front.Config(runs=(folder,), names=("ours",), **options))
    table, compared = capsys.readouterr().out.split("\n\n")[:2]
    assert (tmp_path / "front" / "lut_front.png").stat().st_size > 10_000
    lines = [line.split("|") for line in table.splitlines()[2:]]
    assert [line[1].strip() for line in lines] == ["ours p00", "ours p01", "openml_0.733"] and all(int(line[8]) > 0 for line in lines)
    assert lines[2][3].split() == ["72.45"] and lines[2][8].split() == ["517"]  # docs/hardware.md
    tested = 100 * pl.read_csv(folder / "summary.csv")["test_score"]
    assert [line[3].strip() for line in lines[:2]] == [f"{score:.2f}" for score in tested]  # on the run's own test rows
    assert all(line[4].strip() == line[3].strip() for line in lines[:2])  # the file has the same rows
    assert compared.count("| openml_0.733 | 72.45 |") == compared.count(" 0 of 2 seeds |") == 3  # by each cost
    lut_front.run(lut_front.Config(runs=(folder,), most_luts=0, output=tmp_path / "none"))
    assert all(line.split("|")[8].strip() == "" for line in capsys.readouterr().out.splitlines()[2:4])
    with pytest.raises(ValueError, match="was not trained on all rows of jets"):
        other = runs.run(dataclasses.replace(sweep, rows=6000, seeds=(0,)), name="few", root=tmp_path, progress=False)
        lut_front.run(lut_front.Config(runs=(other,)))
    with pytest.raises(ValueError, match="has one front of all seeds"):
        other = runs.run(dataclasses.replace(sweep, each_seed=False, seeds=(0,)), name="one", root=tmp_path, progress=False)
        lut_front.run(lut_front.Config(runs=(other,)))
    with pytest.raises(ValueError, match="are both called hgq2; name the run otherwise"):
        lut_front.run(lut_front.Config(runs=(folder,), names=("hgq2",), files=tuple(released)))
    with pytest.raises(ValueError, match="p00 is given twice"):
        lut_front.run(lut_front.Config(runs=(folder, folder)))
    with pytest.raises(ValueError, match="runs and files are empty"):
        lut_front.Config()
    with pytest.raises(ValueError, match="one is needed for each of the 1 runs"):
        lut_front.Config(runs=(folder,), names=("a", "b"))
