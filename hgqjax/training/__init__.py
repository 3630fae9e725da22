"""Training: what a run minimises, a whole run as one function of arrays, and sweeps of many members in one compiled program."""

from hgqjax.training.archive import Archive, DivergedError, Point, SweepResult, TrainingError
from hgqjax.training.devices import device_mesh
from hgqjax.training.front import pareto
from hgqjax.training.objective import Objective
from hgqjax.training.population import decimal, merge, restore, sweep
from hgqjax.training.train import Config, Data, Member, State, Train, make_train

__all__ = ["Archive", "Config", "Data", "DivergedError", "Member", "Objective", "Point", "State", "SweepResult", "Train", "TrainingError"]
__all__ += ["decimal", "device_mesh", "make_train", "merge", "pareto", "restore", "sweep"]
