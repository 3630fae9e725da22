"""Configurations: JSON both ways, every mistake named."""

import dataclasses
import json

import pytest

from hgqjax import resources, runs, training
from hgqjax.config import ConfigError, from_json, to_json
from hgqjax.runs import networks
from hgqjax.training import Objective, schedules


def test_a_sweep_survives_json():
    train = training.Config(epochs=4, penalty=schedules.LogRamp(hold=0.25))
    config = runs.Sweep(rows=1000, betas=(1e-6, 2e-5), seeds=(3, 4), train=train, model=networks.Mlp(hidden=(8,)))
    assert from_json(runs.Sweep, json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bta": 1}, "config has the unknown field 'bta'; Sweep has .*betas"),
        ({"train": {"type": "Config", "epoch": 3}}, "config.train has the unknown field 'epoch'"),
        (
            {"train": {"objective": {"type": "Bce"}}},
            """objective has type 'Bce'; legal are Objective, and classes of your own with their "module"$""",
        ),
        ({"train": {"penalty": {"type": "Cosine"}}}, "config.train.penalty has type 'Cosine'; legal are .*LogRamp"),
        ({"betas": 1e-5}, "config.betas is 1e-05; a list is needed"),
        ({"betas": ["a"]}, r"config.betas\[0\] is 'a'; a value of type float"),
        ({"seeds": [True]}, r"config.seeds\[0\] is True; a value of type int"),
        ({"model": {"type": "Mlp", "method": {"type": "Hgq", "weight_overflow": "CLIP"}}}, "config.model.method.weight_overflow is 'CLIP'"),
        ({"model": {"hidden": [3]}}, "config.model has type .Network.; legal are Mlp, Lut, Cnn, Tracker, JediLinear, Mixer, Transformer"),
        ({"betas": []}, r"config: betas is \(\)"),
        ({"models": ["64-"]}, "models has '64-'; hidden layers such as 64-32-32 are needed"),
        ({"models": ["8", "8"]}, r"models is \('8', '8'\); each can be given once"),
        (
            {"points_at": [100.0], "train": {"penalty": {"type": "Constant"}}},
            "points_at and a penalty schedule that steers to them.* go together",
        ),
        (
            {"points_at": [100.0], "betas": [1e-5]},
            r"points_at is \(100.0,\) and betas is \(1e-05,\); costs to reach need no beta: give one of them",
        ),
        ({"accuracy_drop": [-1.0]}, r"accuracy_drop is \(-1.0,\); each must be a finite number of at least 0"),
        ({"train": {"epochs": 5, "epochs_per_check": 2}}, "epochs is 5, which epochs_per_check, 2, does not divide"),
        ({"train": {"batch_statistics": -5.0}}, "batch_statistics is -5.0; a number within 0..1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; a finite number above 0 is needed"),
        ({"projects": 13}, r"projects is 13; within 0\.\.12 is needed"),
        ({"within": float("nan")}, "within is nan; at least 0"),
        ({"points": 0}, "points is 0; at least 1"),
        ({"seeds": [3, 3]}, r"seeds is \(3, 3\); each can be given once"),
        ({"betas": [1e-5, 1e-5]}, "betas is .*; each can be given once"),
        ({"train": {"penalty": {"type": "Budget", "descent": 0.0}}, "points_at": [5.0]}, "Budget has .*descent 0.0"),
        ({"model": 3}, "config.model is 3; an object with the fields of Network"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        from_json(runs.Sweep, change)


def test_costs_to_reach_leave_no_betas():
    config = runs.Sweep(points_at=(100.0, 200.0), seeds=(0, 1))
    members, _ = config.members()
    assert config.betas == () and members.beta.tolist() == [0.0] * 4 and members.budget.tolist() == [100.0, 100.0, 200.0, 200.0]
    assert from_json(runs.Sweep, to_json(config)) == config
    assert config == runs.Sweep(points_at=(100.0, 200.0), seeds=(0, 1), betas=())


def test_the_cost_has_one_default():
    costs = [Objective().cost, training.Config().objective.cost, runs.Sweep().train.objective.cost]
    assert costs == [resources.Luts()] * 3 and runs.Sweep(train=training.Config(epochs=3)).train.objective.cost == resources.Luts()


def test_every_field_of_a_sweep_is_documented_or_plain():
    assert all(field.default is not dataclasses.MISSING for field in dataclasses.fields(runs.Sweep))
