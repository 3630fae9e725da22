"""What the experiment `methods` compares: each method with what its members vary, so that they make a front."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

from hgqjax import methods

Task = Literal["jets", "muon"]
HGQ_OF_LAYERS = methods.Hgq(weight_granularity="tensor", activation_granularity="tensor")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A method: the configurations that make its front together, each a method and fields of `Sweep` that its members vary."""

    label: str
    variants: tuple[tuple[methods.Method, dict[str, Any]], ...]
    warm: bool = False
    """Half of the epochs train the network with 12 bits everywhere, the other half are the method's, from there."""
    post: bool = False
    """Its weights take no gradient step once they have fewer bits: post-training, a table of its own."""


def entries(task: Task) -> dict[str, Entry]:
    """All methods by name, with penalties and targets for the network of `task`."""
    betas = (2e-6, 5e-6, 1.2e-5, 3e-5, 7e-5, 1.6e-4) if task == "jets" else (8e-6, 4e-5, 1.5e-4, 6e-4)
    budgets = (12e3, 20e3, 35e3, 60e3, 100e3, 160e3) if task == "jets" else (30e3, 50e3, 80e3, 130e3)
    few = (2e3, 5e3, 1e4, 2e4, 5e4, 1e5) if task == "jets" else budgets
    ratios = [{"activation_bits": b} for b in (3, 4, 6)]
    sparsities = [{"bits": b, "sparsity": s} for b, s in ((6, 0.5), (6, 0.75), (6, 0.9))]
    far = {} if task == "jets" else {"within": 30.0}  # the looks before a post-training method decides are at many bits
    slow = tuple(beta / 20 for beta in betas) if task == "jets" else betas
    widths_alone = {"betas": slow, "train": {"fixed_weights": True, "width_rate": 1.0}}
    return {
        "hgq": Entry("HGQ, every value", ((methods.Hgq(), {"betas": betas}),)),
        "hgq_post": Entry("HGQ, weights fixed", ((methods.Hgq(), widths_alone),), warm=True, post=True),
        "hgq_layers": Entry("learned widths of layers", ((HGQ_OF_LAYERS, {"betas": betas}),)),
        "hmq": Entry("HMQ", ((methods.Hmq(), {"points_at": budgets}),)),
        "hmq_warm": Entry("HMQ, from a trained network", ((methods.Hmq(), {"points_at": budgets}),), warm=True),
        "ilmpq": Entry("ILMPQ 60:35:5", _points(methods.Ilmpq, ratios)),
        "ilmpq_warm": Entry("ILMPQ, from a trained network", _points(methods.Ilmpq, ratios), warm=True),
        "dqa": Entry("DQA", ((methods.Dqa(), {"points_at": budgets}),)),
        "cpq": Entry("after CPQ + DropBits", ((methods.Cpq(), {"points_at": budgets}),)),
        "sfmp": Entry("SFMP's limit", ((methods.Sfmp(), {"points_at": few} | far),), post=True),
        "sfmp_tuned": Entry("SFMP's limit, tuned", ((methods.Sfmp(after=0.6), {"points_at": few}),)),
        "daq": Entry("after DAQ", _points(methods.Daq, [{"bits": b, "weight_bits": b} for b in (3, 4, 6, 8)], **far), post=True),
        "ohq": Entry("after OHQ", ((methods.Ohq(), {"points_at": budgets[2:]} | far),), post=True),
        "ohq_tuned": Entry("after OHQ, tuned", ((methods.Ohq(after=0.6), {"points_at": budgets[2:]}),)),
        "ptilmpq": Entry("after Ghavami et al.", _points(methods.Ptilmpq, [{"share": s} for s in (0.0, 0.25, 0.5, 1.0)], **far), post=True),
        "amed": Entry("AMED", ((methods.Amed(), {"points_at": budgets[2:]}),)),
        "haq": Entry("HAQ, from a trained network", ((methods.Haq(rounds=10, candidates=16), {"points_at": budgets[2:]}),), warm=True),
        **(_gated(betas) if task == "jets" else {}),  # the tracker has no gates
        "pruning": Entry("pruning, uniform", _points(methods.Pruning, sparsities)),
        "uniform": Entry("uniform", _points(methods.Uniform, [{"bits": b} for b in (3, 4, 6, 8)])),
    }


def _points(made: Callable[..., methods.Method], changes: Sequence[dict[str, Any]], **of_sweep: Any) -> tuple:
    return tuple((made(**change), {"betas": (0.0,)} | of_sweep) for change in changes)


def _gated(betas: tuple[float, ...]) -> dict[str, Entry]:
    return {
        "squeeze": Entry("after Widening and Squeezing", _few_bits(methods.Squeeze, betas)),
        "squeeze_warm": Entry("after Widening and Squeezing, from a trained network", _few_bits(methods.Squeeze, betas), warm=True),
        "nce": Entry("after NCE", _few_bits(methods.Nce, betas)),
    }


def _few_bits(made: Callable[..., methods.Method], betas: tuple[float, ...]) -> tuple:
    return tuple((made(bits=b, weight_bits=b), {"betas": betas[::2]}) for b in (3, 6))
