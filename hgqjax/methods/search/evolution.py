"""Evolution: the best candidates so far, crossed and mutated."""

import dataclasses

import jax
import jax.numpy as jnp

from hgqjax.quantizers import AbstractPolicy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evolution(AbstractPolicy):
    """The first round is random. Then a child has each site from one of two parents, and each site mutates with a small probability.

    Source: ours, a plain evolution strategy whose parents are the best of all rounds; as a second baseline for `Ddpg`.
    """

    parents: int = 8
    """Best candidates of all rounds, each as likely a parent as the others."""
    mutations: float = 1.0
    """Sites of a child that are drawn anew, on average."""

    def __post_init__(self):
        if self.parents < 1 or not self.mutations >= 0:
            raise ValueError(f"parents is {self.parents}, mutations {self.mutations}; at least 1 and at least 0 are needed")

    def begin(self, problem, key):
        shape = (self.parents, len(problem.sites))
        return {"bits": jnp.zeros(shape, jnp.int32), "gains": jnp.full(self.parents, -jnp.inf)}

    def propose(self, problem, memory, key):
        shape = (problem.candidates, len(problem.sites))
        which, side, where, what = jax.random.split(key, 4)
        fresh = problem.bits(jax.random.randint(what, shape, 0, problem.counts[None]))
        living = jnp.isfinite(memory["gains"])
        pairs = jax.random.randint(which, (2, problem.candidates), 0, jnp.maximum(jnp.sum(living), 1))
        child = jnp.where(jax.random.bernoulli(side, 0.5, shape), *(memory["bits"][parent] for parent in pairs))
        mutates = jax.random.bernoulli(where, min(self.mutations / len(problem.sites), 1.0), shape)
        return jnp.where(mutates | ~jnp.any(living), fresh, child), memory

    def learn(self, problem, memory, key, bits, gains, costs):
        everyone = jnp.concatenate([memory["bits"], bits.astype(jnp.int32)])
        gains = jnp.concatenate([memory["gains"], gains])
        best = jnp.argsort(-gains, stable=True)[: self.parents]  # the living come first
        return {"bits": everyone[best], "gains": gains[best]}
