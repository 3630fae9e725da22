"""Searches: agents that propose bits of all tensors and learn from what came of them. One file each; the method is `hgqjax.methods.Haq`."""

from hgqjax.methods.search.ddpg import Ddpg
from hgqjax.methods.search.evolution import Evolution
from hgqjax.methods.search.random import Random

__all__ = ["Ddpg", "Evolution", "Random"]
