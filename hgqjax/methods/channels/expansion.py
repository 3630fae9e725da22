"""Expansion: one of several numbers of neurons for a layer, of which more are offered as the largest is liked (NCE)."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hgqjax.quantizers import AbstractGate

CHOSEN = 30.0
"""Logit of the number that is chosen, and minus that of the others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expansion(AbstractGate):
    r"""A distribution over numbers of neurons :math:`C_j = round(C (j+1) / J)`, j = 0 .. J expand - 1, of a layer whose own number is C.

    The first :math:`C_j` neurons exist. With logits l of the numbers on offer (the first J at the start), Gumbel noise g and temperature T

    .. math:: p = softmax(l), \qquad m_c = \sum_j softmax((\log p + g) / T)_j \, [c < C_j]

    is what a training step multiplies the results of neuron c with; a cost counts :math:`\sum_j p_j [c < C_j]` of it. T falls linearly
    from `t0` to `t1` until the share `search` of the run is over. Before each epoch until then, where the largest number on offer has a
    probability above `threshold`, the next one is offered, with the same logit. Then the likeliest number is taken for good.

    Initialisation: logits are 0.
    Gradients: those of both softmaxes; the cost's in the logit of a larger number is positive where the mean number is smaller.
    Raises: ValueError for fewer than one choice, a threshold outside 0..1, temperatures that do not fall or are not above 0.
    Source: after Park et al., neural channel expansion, arXiv:2212.10878, and TAS, arXiv:1905.09717 (temperatures 10 to 0.1). Ours: masks
    instead of interpolated channels, all numbers instead of two that are sampled, the threshold (not public), the linear fall, the choice
    before the end, the penalty on the cost of the network instead of losses for operations and parameters, one set of rows.

    >>> gate = Expansion(choices=2)
    >>> gate.numbers(8).tolist()  # of 4 neurons, twice as many allocated
    [2, 4, 6, 8]
    >>> gate.expected(gate.init(8), 8).tolist()
    [1.0, 1.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0]
    """

    samples: ClassVar[bool] = True
    untrained: ClassVar[frozenset[str]] = frozenset({"offered"})
    choices: int = 8
    """J."""
    threshold: float = 0.3
    t0: float = 10.0
    t1: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.choices, bool) or not isinstance(self.choices, int) or not 1 <= self.choices <= 64:
            raise ValueError(f"choices is {self.choices!r}; a whole number within 1..64 is needed")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}; a probability between 0 and 1 is needed")
        if not 0 < self.t1 < self.t0 < math.inf:
            raise ValueError(f"t0 is {self.t0}, t1 {self.t1}; temperatures above 0 that fall from t0 to t1 are needed")

    def numbers(self, n: int) -> np.ndarray:
        """The numbers of neurons that a layer of n may have, in rising order."""
        own = n // self.expand
        exact = np.arange(1, self.choices * self.expand + 1) * own / self.choices
        return np.maximum(np.floor(exact + 0.5), 1).astype(int)

    def _there(self, n: int) -> Float[Array, "J n"]:
        return jnp.asarray(np.arange(n)[None, :] < self.numbers(n)[:, None], jnp.float32)

    def _logits(self, params) -> Float[Array, "J"]:
        logits = params["logits"]
        return jnp.where(jnp.arange(logits.size, dtype=jnp.float32) < params["offered"], logits, -1e9)

    def limits(self):
        return {"logits": (-CHOSEN, CHOSEN), "offered": (1.0, float(self.choices * self.expand))}

    def init(self, n):
        return {"logits": jnp.zeros((self.choices * self.expand,)), "offered": jnp.full((1,), float(self.choices))}

    def keep(self, params, n):
        return jnp.arange(n) < jnp.asarray(self.numbers(n))[jnp.argmax(self._logits(params))]

    def alive(self, params, n):
        return self.expected(params, n) > 1e-6

    def sample(self, params, n, *, key, temperature):
        noise = jax.random.gumbel(key, params["logits"].shape)
        return jax.nn.softmax((jax.nn.log_softmax(self._logits(params)) + noise) / temperature) @ self._there(n)

    def expected(self, params, n):
        return jax.nn.softmax(self._logits(params)) @ self._there(n)

    def temperature(self, progress):
        return self.t0 + (self.t1 - self.t0) * jnp.minimum(progress / self.search, 1.0)

    def reassign(self, params, *, progress):
        numbers = jnp.arange(params["logits"].size, dtype=jnp.float32)
        likely = jax.nn.softmax(self._logits(params))
        last = params["offered"] - 1.0
        liked = jnp.sum(jnp.where(numbers == last, likely, 0.0)) > self.threshold
        more = liked & (params["offered"] < numbers.size) & (progress > 0)
        level = jnp.sum(jnp.where(numbers == last, params["logits"], 0.0))
        grown = jnp.where(more & (numbers == params["offered"]), level, params["logits"])
        chosen = jnp.where(jnp.arange(numbers.size) == jnp.argmax(likely), CHOSEN, -CHOSEN)
        over = progress >= self.search
        return {"logits": jnp.where(over, chosen, grown), "offered": params["offered"] + (more & ~over).astype(jnp.float32)}

    def narrowest(self, params):
        return params | {"logits": jnp.where(jnp.arange(params["logits"].size) == 0, CHOSEN, -CHOSEN)}
