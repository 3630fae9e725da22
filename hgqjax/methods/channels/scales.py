"""Scales: a trained factor for each neuron; those of the smallest factors are removed (Widening and Squeezing)."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from hgqjax.quantizers import AbstractGate

SPAN = 8.0
"""Range of the parameter `fall`: a step of training moves it as it moves a number of bits."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scales(AbstractGate):
    r"""A factor :math:`s = 1 - fall / 8` in [0, 1] for each neuron, in its weights before they are quantized; small ones are removed.

    Until the share `search` of the run is over, a cost counts s of each neuron: its gradient is an L1 penalty on s, times what the neuron's
    products cost. The neuron of the largest s in a layer is counted whole, so that one is always left. Before each of these epochs the
    neurons with :math:`s \le threshold \cdot \max s` of the layer are removed for good. After that what is left is counted whole.

    Initialisation: fall = 0, so that the start of a network is not changed.
    Gradients: of the task through the weights, of the cost :math:`-1/8` of what the neuron costs. At beta 0 the cost removes none.
    Raises: ValueError unless `expand` is a power of two, so that the weights of copies lie on a grid, and the threshold is between 0 and 1.
    Source: after Fu et al., Widening and Squeezing, arXiv:2002.00555, whose factor, criterion and schedule are in no public source in
    reach: all of this is ours.

    >>> gate = Scales()
    >>> params = gate.init(3) | {"fall": jnp.array([0.0, 4.0, 7.9])}
    >>> gate.keep(gate.reassign(params, progress=jnp.float32(0.1)), 3).tolist()
    [True, True, False]
    """

    copies: ClassVar[bool] = True
    untrained: ClassVar[frozenset[str]] = frozenset({"keep", "done"})
    threshold: float = 0.05

    def __post_init__(self):
        super().__post_init__()
        if self.expand & (self.expand - 1):
            raise ValueError(f"expand is {self.expand}; a power of two is needed, so that the weights of copies lie on a grid")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}; a share between 0 and 1 of the largest factor is needed")

    def limits(self):
        return {"fall": (0.0, SPAN), "keep": (0.0, 1.0), "done": (0.0, 1.0)}

    def init(self, n):
        return {"fall": jnp.zeros((n,)), "keep": jnp.ones((n,)), "done": jnp.zeros((1,))}

    def keep(self, params, n):
        return params["keep"] >= 0.5

    def _largest(self, params):
        """Whether a neuron is the one of the largest factor of those that are left."""
        scale = jnp.where(params["keep"] >= 0.5, self.factor(params, 0), -1.0)
        return jnp.arange(scale.size) == jnp.argmax(scale)

    def factor(self, params, n):
        return 1.0 - params["fall"] / SPAN

    def unit(self, params):
        return params | {"fall": jnp.zeros_like(params["fall"])}

    def expected(self, params, n):
        whole = (params["done"] >= 0.5) | self._largest(params)
        return jnp.where(self.keep(params, n), jnp.where(whole, 1.0, self.factor(params, n)), 0.0)

    def reassign(self, params, *, progress):
        scale = jnp.where(self.keep(params, 0), self.factor(params, 0), 0.0)
        kept = self._largest(params) | (self.keep(params, 0) & (scale > self.threshold * jnp.max(scale)))
        done = jnp.full_like(params["done"], progress >= self.search, jnp.float32)
        return params | {"keep": kept.astype(jnp.float32), "done": done}

    def narrowest(self, params):
        one = (jnp.arange(params["keep"].size) == 0).astype(jnp.float32)
        return {"fall": jnp.zeros_like(params["fall"]), "keep": one, "done": jnp.ones_like(params["done"])}
