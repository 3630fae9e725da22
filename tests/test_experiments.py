"""The experiments' command and configurations: they can be asked for, and those of the paper stay as published."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import jets, muon, particles, svhn
from experiments.earlier import EARLIER
from hgqjax.config import from_json, to_json
from hgqjax.resources import Ebops

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = jets.CONFIGS | svhn.CONFIGS | muon.CONFIGS | particles.CONFIGS


def test_the_command_shows_an_experiments_options():
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "jets_demo", "--help"], cwd=ROOT, env=os.environ, text=True, capture_output=True
    )
    assert done.returncode == 0 and "--train.objective.cost" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["jets_ramp", "jets_constant", "muon_ramp", "svhn_ramp"])
def test_the_papers_own_train_widths_at_the_rate_of_weights_and_penalise_its_ebops(name):
    train = CONFIGS[name][1].train
    assert train.width_rate == 1.0 and train.objective.cost == Ebops(definition="paper_v1", normalize_gradient=True)


@pytest.mark.parametrize("name", ["jets_ebops", "jets_luts", "jets_early", "muon", "svhn"])
def test_what_was_measured_before_keeps_its_settings(name):
    train = CONFIGS[name][1].train
    assert {key: getattr(train, key) for key in EARLIER} == EARLIER


@pytest.mark.parametrize("name", ["jedi_linear", "jedi_linear_invariant", "mixer", "transformer"])
def test_shortened_runs_of_particles_have_error_bars_and_shortened_penalties(name):
    config = CONFIGS[name][1]
    assert config.data == "particles:16" and config.each_seed and len(config.seeds) >= 3 and isinstance(config.train.objective.cost, Ebops)
    assert from_json(type(config), to_json(config), "config") == config


@pytest.mark.parametrize("name", ["jedi_linear_paper", "mixer_paper"])
def test_particles_in_published_length(name):
    config = CONFIGS[name][1]
    assert config.train.epochs == 7000 and config.train.batch_size == 2790 and config.data == "particles150:16x3"
    assert config.model.method.weight_bits == config.model.method.activation_fraction_bits == 7.0
