"""Training: what a run minimises, a whole run as one function of arrays, and sweeps of many members in one compiled program."""

from hgqjax.training.archive import Archive, DivergedError, Point, SweepResult, TrainingError
from hgqjax.training.devices import device_mesh
from hgqjax.training.front import pareto
from hgqjax.training.objective import Objective
from hgqjax.training.population import decimal, merge, restore, sweep
from hgqjax.training.rows import Data
from hgqjax.training.search import checks_of, restored, search, search_problem
from hgqjax.training.streaming import Stream
from hgqjax.training.train import Config, Member, State, Train, make_train

__all__ = ["Archive", "Config", "Data", "DivergedError", "Member", "Objective", "Point", "State", "Stream", "SweepResult", "Train"]
__all__ += [
    "TrainingError",
    "checks_of",
    "decimal",
    "device_mesh",
    "make_train",
    "merge",
    "pareto",
    "restore",
    "restored",
    "search",
    "search_problem",
    "sweep",
]
