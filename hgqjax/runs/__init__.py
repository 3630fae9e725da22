"""Runs: from a configuration to a run folder with its front, its models and its verified projects."""

from hgqjax.runs.sweep import Sweep, resume, run

__all__ = ["Sweep", "resume", "run"]
