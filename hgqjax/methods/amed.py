"""AMED: bits of each layer by a random walk while the network trains."""

import dataclasses
from typing import Literal

from hgqjax import quantizers as q
from hgqjax.methods._base import AbstractBitsOfLayers
from hgqjax.methods.allocation.walk import Walk


@dataclasses.dataclass(frozen=True, kw_only=True)
class Amed(AbstractBitsOfLayers):
    """Bits of each layer by a random walk over scores that loss and cost have earned (AMED, arXiv:2205.15437); a member is a walk.

    It trains with the bits in force from the first epoch on (`hgqjax.methods.allocation.walk`). With ``points_at`` no step goes beyond a
    member's cost.
    """

    bits: tuple[int, ...] = (2, 3, 4, 8)
    """Magnitude bits that a layer may have, of its weights and its inputs alike; a sign comes on top."""
    temperature: float = 1.0
    """Of the walk: higher ones look less at the scores."""
    loss_weight: float = 1.0
    """Weight of the task's loss in the score."""
    cost_weight: float = 1.0
    """Weight of the cost, relative to that with the most bits, in the score."""
    rate: float = -1.0
    """Share of the score that the newest measurement is; -1: measurements are added up."""
    every: int = 2
    """Epochs between two steps of the walk."""
    until: float = 0.6
    """Share of the run in which it walks; the rest trains with the bits reached."""
    weight_granularity: Literal["channel", "tensor"] = "channel"
    """Which weights share a step; the bits are those of the layer."""
    activation_granularity: Literal["channel", "tensor"] = "channel"
    """Which activations share a step."""

    def __post_init__(self):
        self.weights()  # whose parts refuse what is not legal

    def _quantizer(self, signed: bool):
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(Walk)}
        bits = (min(self.bits), max(self.bits))
        return q.Allocated(allocation=Walk(**fields), overflow="SAT_SYM", bits=bits, signed=signed)

    def weights(self):
        return self._quantizer(True), self.weight_granularity

    def activations(self):
        return self._quantizer(False), self.activation_granularity
