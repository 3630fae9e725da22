"""The contract of a gate: which neurons of a layer exist, decided while it trains."""

import abc
import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

Parameters = dict[str, Float[Array, "..."]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractGate(abc.ABC):
    """Static choices of a gate on the neurons of a layer; its trained numbers are the `params` that `init` makes.

    A layer of N neurons has them all from the start, as shapes are static; `keep` says which of them exist. The others have no weights: no
    bits in the costs, and they are not in the exported network. Hooks with the names of a quantizer's do what a quantizer's do.
    """

    samples: ClassVar[bool] = False
    """True: while it trains, results are multiplied with `sample`."""
    copies: ClassVar[bool] = False
    """Of a narrower network that training starts from, whether further neurons are copies of its own, or new ones."""
    untrained: ClassVar[frozenset[str]] = frozenset()
    """Parameters without gradients."""
    expand: int = 2
    """Neurons that are allocated for each of the network's own."""
    search: float = 0.6
    """Share of the run after which it is decided for good which neurons exist."""

    def __post_init__(self):
        if isinstance(self.expand, bool) or not isinstance(self.expand, int) or not 1 <= self.expand <= 16:
            raise ValueError(f"expand is {self.expand!r}; a whole number within 1..16 is needed")
        if not 0 < self.search < 1:
            raise ValueError(f"search is {self.search}; a share between 0 and 1 of the run is needed")

    def allocated(self, neurons: int) -> int:
        """How many a layer has that is to have `neurons`."""
        return neurons * self.expand

    def origins(self, n: int) -> np.ndarray:
        """Of each of n neurons its number in the network without the gate, or -1 for a new one."""
        own = np.arange(n) % (n // self.expand)
        return own if self.copies else np.where(np.arange(n) < n // self.expand, own, -1)

    @abc.abstractmethod
    def limits(self) -> dict[str, tuple[float, float]]:
        """Least and greatest value of each parameter."""

    @abc.abstractmethod
    def init(self, n: int) -> Parameters:
        """Parameters of a layer of n neurons."""

    @abc.abstractmethod
    def keep(self, params: Parameters, n: int) -> Bool[Array, "n"]:
        """The neurons that validation, calibration and export have."""

    def alive(self, params: Parameters, n: int) -> Bool[Array, "n"]:
        """The neurons that a training step may use."""
        return self.keep(params, n)

    def factor(self, params: Parameters, n: int) -> Float[Array, "n"]:
        """What kernel and bias of each neuron are multiplied with before they are quantized."""
        return jnp.ones((n,))

    def unit(self, params: Parameters) -> Parameters:
        """Parameters with the same `keep` and a `factor` of 1: once the factor is folded into the weights."""
        return params

    def sample(self, params: Parameters, n: int, *, key: Array, temperature: Float[Array, ""]) -> Float[Array, "n"]:
        """Of a gate that `samples`: what the results of a training step are multiplied with."""
        raise NotImplementedError(f"{type(self).__name__} does not sample")

    @abc.abstractmethod
    def expected(self, params: Parameters, n: int) -> Float[Array, "n"]:
        """The share of each neuron, smooth in `params`, in [0, 1]: what a cost counts of it while training."""

    def temperature(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        """Of `sample`, when the share `progress` of the run is over, in [0, 1)."""
        return jnp.ones(())

    def reassigns(self, epoch: Array, epochs: int) -> Array | bool:
        """Whether `reassign` is called before epoch number `epoch` (from 0) of a run of `epochs`."""
        return epoch <= math.ceil(round(self.search * epochs, 6))

    @abc.abstractmethod
    def reassign(self, params: Parameters, *, progress: Float[Array, ""]) -> Parameters:
        """Parameters that no gradient finds; at the end of the search which neurons exist, for good."""

    @abc.abstractmethod
    def narrowest(self, params: Parameters) -> Parameters:
        """Parameters of the fewest neurons that training can reach."""

    def clip(self, params: Parameters) -> Parameters:
        """Parameters brought into their `limits`."""
        return {name: jnp.clip(params[name], *bounds) for name, bounds in self.limits().items()}
