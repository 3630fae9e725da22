"""Random: what every agent has to beat."""

import dataclasses

import jax

from hgqjax.quantizers import AbstractPolicy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Random(AbstractPolicy):
    """Each choice of each site equally likely, in every round; nothing is learned."""

    def begin(self, problem, key):
        return ()

    def propose(self, problem, memory, key):
        levels = jax.random.randint(key, (problem.candidates, len(problem.sites)), 0, problem.counts[None])
        return problem.bits(levels), memory
