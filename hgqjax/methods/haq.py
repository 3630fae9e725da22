"""HAQ: bits of each layer by a search, whose agent learns from short fine-tunings."""

import dataclasses
from typing import Literal

from hgqjax import quantizers as q
from hgqjax.methods._base import AbstractBitsOfLayers
from hgqjax.methods.search import Ddpg, Evolution, Random

AGENTS = {"ddpg": Ddpg(), "evolution": Evolution(), "random": Random()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Haq(AbstractBitsOfLayers):
    """Bits of weights and inputs of each layer, searched by an agent within a budget (HAQ, arXiv:1811.08886; `hgqjax.training.search`).

    A network of the most bits is trained first, unless `--start` gives one; the best candidate is trained again, for as long. Give the
    costs as ``points_at``: a search for each.
    """

    agent: Literal["ddpg", "evolution", "random"] = "ddpg"
    """Who proposes: the agent of the paper (`hgqjax.methods.search.Ddpg`), or one of two baselines."""
    rounds: int = 20
    """Rounds of the search."""
    candidates: int = 32
    """Candidates of a round, trained side by side."""
    tuning: int = 1
    """Epochs of a candidate's fine-tuning."""
    rate: float = 0.1
    """Learning rate of the fine-tuning, relative to that of the run."""
    keep_ends: bool = False
    """First and last layer keep the most bits, as in the paper."""
    weight_bits: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    """Bits that the weights of a layer may have, sign included."""
    activation_bits: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    """Bits that the inputs of a layer may have, a sign included where there is one."""

    def __post_init__(self):
        for name in ("weight_bits", "activation_bits"):
            try:
                q.Searched(choices=getattr(self, name))
            except ValueError as error:
                raise ValueError(str(error).replace("choices is", f"{name} is")) from None
        try:
            self.searching()
        except ValueError as error:
            raise ValueError(str(error).replace("epochs is", "tuning is")) from None

    def searching(self):
        sizes = {"rounds": self.rounds, "candidates": self.candidates, "epochs": self.tuning, "rate": self.rate}
        return q.Search(policy=AGENTS[self.agent], keep_ends=self.keep_ends, **sizes)

    def weights(self):
        return q.Searched(choices=self.weight_bits, signed=True), "tensor"

    def activations(self):
        return q.Searched(choices=self.activation_bits), "tensor"
