"""The contract of a policy: an agent that a search asks for the bits of candidates, and tells what came of them."""

import abc
import dataclasses
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Site(NamedTuple):
    """A tensor whose bits are searched."""

    name: str
    """Of its quantizer in the model."""
    layer: str
    """That it belongs to; the name of its quantizer where there is none."""
    role: Literal["weight", "activation"]
    choices: tuple[int, ...]
    """Legal bits, rising."""
    about: tuple[float, ...]
    """Of its layer: depthwise (1) or not, channels in, channels out, stride (0: no convolution), size of the kernel, weights, positions
    of the input, number of the layer."""


class Problem(NamedTuple):
    """What a policy is asked about: static, hashable."""

    sites: tuple[Site, ...]
    """In the order in which data goes through the layers; of a layer its weights, then its input."""
    candidates: int
    """Of a round."""
    rounds: int

    @property
    def counts(self) -> Int[np.ndarray, " sites"]:
        """How many choices each site has."""
        return np.array([len(site.choices) for site in self.sites])

    def bits(self, levels: Int[Array, "*shape sites"]) -> Int[Array, "*shape sites"]:
        """The choice with the number `levels`, from 0, of each site.

        >>> site = Site("", "", "weight", (2, 4, 8), ())
        >>> Problem((site, site), 1, 1).bits(jnp.array([0, 2])).tolist()
        [2, 8]
        """
        most = max(self.counts)
        table = jnp.array([site.choices + (site.choices[-1],) * (most - len(site.choices)) for site in self.sites])
        return table[jnp.arange(len(self.sites)), levels]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractPolicy(abc.ABC):
    """Static choices of an agent that proposes bits. Hashable, printable, JSON by its fields.

    What it learns is its memory: arrays of fixed shapes in any pytree, which checkpoints keep. All three functions are pure and compiled;
    random numbers are those of `key` alone, which is another one at each call: so a search is decided by its seed.
    """

    @abc.abstractmethod
    def begin(self, problem: Problem, key: Array) -> Any:
        """The memory before the first round."""

    @abc.abstractmethod
    def propose(self, problem: Problem, memory: Any, key: Array) -> tuple[Int[Array, "candidates sites"], Any]:
        """Bits of each site for the candidates of a round, each one of its `choices`; and the memory."""

    def learn(
        self,
        problem: Problem,
        memory: Any,
        key: Array,
        bits: Int[Array, "candidates sites"],
        gains: Float[Array, " candidates"],
        costs: Float[Array, " candidates"],
    ) -> Any:
        """The memory after a round.

        Args:
          bits: those that were proposed, lowered until the budget was met.
          gains: how much better than the network of the most bits a candidate is, on validation rows: a difference of accuracies (0 .. 1),
            for scores with a unit relative to its score. costs: as shares of the budget.
        """
        return memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """A search as a method has it."""

    policy: AbstractPolicy
    rounds: int = 20
    """Rounds of candidates."""
    candidates: int = 32
    """Of a round, trained side by side."""
    epochs: int = 1
    """Fine-tuning of a candidate, from the trained network."""
    rate: float = 0.1
    """Peak learning rate of the fine-tuning, relative to that of the run."""
    keep_ends: bool = False
    """First and last layer stay at their most bits."""

    def __post_init__(self):
        for name in ("rounds", "candidates", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate is {self.rate}; a share within 0..1 of the run's learning rate is needed")
