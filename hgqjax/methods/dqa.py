"""DQA: a mixture of grids whose attention becomes a choice."""

import dataclasses
from typing import Literal

from hgqjax import quantizers as q
from hgqjax.methods._base import AbstractMethod, uniform


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dqa(AbstractMethod):
    """A mixture of grids of several widths, made one by a falling temperature (DQA, arXiv:2103.13322; `hgqjax.quantizers.Dqa`).

    Betas make its front; so does one of ``points_at`` for each member, with the penalty schedule Target or Budget.
    """

    granularity: Literal["tensor", "channel"] = "tensor"
    """Which weights share a choice: all of a layer, as in the paper, or those of a neuron."""
    weight_bits: tuple[int, ...] = (2, 4, 8)
    """Widths that weights choose from, sign included."""
    activation_bits: tuple[int, ...] = (2, 4, 8)
    """Magnitude bits that the activations of a layer choose from; a single one is fixed."""
    clip: bool = True
    """Few bits clip: the largest level is one step below a power of two. Otherwise every grid holds all values, as min-max does."""
    t0: float = 100.0
    """Temperature of the attention at the start of the run."""
    t1: float = 0.03
    """Temperature at its end."""
    choice: float = 0.9
    """Share of the run after which the grid of the largest attention is taken for good."""

    def __post_init__(self):
        if not self.weight_bits or min(self.weight_bits) < 2:
            raise ValueError(f"weight_bits is {self.weight_bits}; one or more numbers of bits within 2..17, sign included, are needed")
        self.weights()  # whose quantizers refuse what is not legal
        self.activations()

    def _of(self, bits: tuple[int, ...]) -> q.Dqa:
        return q.Dqa(bits=bits, t0=self.t0, t1=self.t1, choice=self.choice, overflow="SAT_SYM" if self.clip else "WRAP")

    def weights(self):
        return self._of(tuple(b - 1 for b in self.weight_bits)), self.granularity

    def activations(self):
        return self._of(self.activation_bits), "tensor"

    def biases(self):
        return uniform(7)
