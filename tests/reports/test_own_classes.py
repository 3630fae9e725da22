"""Reports of runs whose configuration names a user's own classes: read by type, whatever their fields are called."""

import dataclasses
import json
import sys

import pytest
import run_folders

from hgqjax import resources, runs, scores, training
from hgqjax.config import ConfigError, from_json, to_json
from hgqjax.reports import compare, figures, reader
from hgqjax.runs.networks import Network

OWN = """
import dataclasses
from hgqjax import resources, scores
from hgqjax.runs.networks import Network

@dataclasses.dataclass(frozen=True, kw_only=True)
class Mine(Network):
    task: str = "angle"
    cost: str = "cheap"
    window: float = 9.0
    each_seed: bool = True

    def build(self, input_shape, n_out):
        raise NotImplementedError

@dataclasses.dataclass(frozen=True, kw_only=True)
class Bits(resources.AbstractCost):
    unit = "my bits"
    task: str = "cost of mine"

    def operation(self, op):
        return 1.0

@dataclasses.dataclass(frozen=True, kw_only=True)
class Median(scores.Resolution):
    name = "median"
    plural = "medians"
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of the user's own, which lies in a folder of its own."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "my_own_parts.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    import my_own_parts

    yield my_own_parts
    sys.modules.pop("my_own_parts", None)


def forget(monkeypatch):
    """As another process that cannot find the module."""
    sys.modules.pop("my_own_parts", None)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not path.endswith("own")])


def make(folder, mine, **how):
    model = to_json(mine.Mine())
    return run_folders.make_run(folder, checks=1, config={"model": model}, **how)


def test_fields_of_a_network_of_ones_own_are_not_those_of_the_objective(mine, tmp_path, monkeypatch):
    runs_ = [make(tmp_path / name, mine, score=scores.Resolution(window=30.0), name="muons", unit="mrad") for name in "ab"]
    forget(monkeypatch)  # no report needs the network's class
    run = reader.read(runs_[0])
    assert (run.score, run.score_label, run.cost_unit) == (scores.Resolution(window=30.0), "resolution (mrad)", "EBOPs")
    assert run.in_words(1.9) == "1.9 mrad" and not run.each_seed
    figures.draw(runs_[0], formats=("svg",))
    assert "outliers (30 mrad and more)" in (runs_[0] / "figures/front.svg").read_text()
    assert "resolution (mrad)" in compare.compare(runs_, tmp_path / "f.svg")


def test_a_cost_and_a_score_of_ones_own_are_imported(mine, tmp_path, monkeypatch):
    folder = make(tmp_path / "a", mine, cost=mine.Bits(), score=mine.Median(window=3.0))
    run = reader.read(folder)
    assert (run.cost_unit, run.score, run.score_label) == ("my bits", mine.Median(window=3.0), "median")
    forget(monkeypatch)
    with pytest.raises(reader.ReportError) as caught:
        reader.read(folder)
    sentence = "config.train.objective.score is a Median of the module my_own_parts, which cannot be imported"
    assert sentence in str(caught.value) and "PYTHONPATH" in str(caught.value) and "\n" not in str(caught.value)


def test_a_configuration_names_where_its_classes_are(mine):
    sweep = runs.Sweep(model=mine.Mine(), train=training.Config(objective=training.Objective(cost=mine.Bits())))
    data = json.loads(json.dumps(to_json(sweep)))
    assert data["model"]["module"] == "my_own_parts" and "module" not in data["train"]
    assert from_json(runs.Sweep, data) == sweep


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plain:
    """Derives from nothing that a configuration has."""


@pytest.mark.parametrize(
    ("kind", "data", "sentence"),
    [
        (Network, {"type": "Plain", "module": __name__}, "which has no such class, or not a dataclass that derives from Network"),
        (scores.AbstractScore, {"type": "join", "module": "os.path"}, "config is a join of the module os.path, which has no such class"),
        (
            scores.AbstractScore,
            {"type": "X", "module": "a;b"},
            "config has module 'a;b' and type 'X'; the names of a module",
        ),
        (scores.AbstractScore, {"type": "X", "module": 3}, "config has module 3"),
        (resources.AbstractCost, {"type": "Gone", "module": "__main__"}, "must be in a module, not in the script that is run"),
    ],
)
def test_what_is_no_class_of_a_module_is_refused(kind, data, sentence):
    with pytest.raises(ConfigError, match=sentence):
        from_json(kind, data)
