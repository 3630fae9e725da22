"""Runs: from a configuration to a run folder with its front, its models and its verified projects."""

from hgqjax.runs import networks, particle_networks
from hgqjax.runs.sweep import Sweep, prepare, resume, run, train_group

__all__ = ["Sweep", "networks", "particle_networks", "prepare", "resume", "run", "train_group"]
