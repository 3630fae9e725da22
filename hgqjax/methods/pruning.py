"""Uniform widths, and the smallest weights gone."""

import dataclasses

from hgqjax import quantizers as q
from hgqjax.methods._base import AbstractMethod, uniform


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pruning(AbstractMethod):
    """Uniform widths, and the smallest weights of each layer set to zero (`hgqjax.quantizers.Pruned`): a run shrinks to one point."""

    bits: int = 6
    """As of `Uniform`."""
    sparsity: float = 0.5
    """Share of the weights of each layer that is gone in the end."""

    def __post_init__(self):
        self.weights()

    def weights(self):
        return q.Pruned(bits=self.bits, sparsity=self.sparsity), "element"

    def activations(self):
        return uniform(self.bits), "tensor"

    def biases(self):
        return uniform(self.bits - 1)
