"""Muon angles from thin-gap-chamber hits, the tracker of arXiv:2405.00645: the paper's configuration, and shortened runs."""

from experiments.earlier import EARLIER
from hgqjax.methods import Hgq, Uniform
from hgqjax.resources import Ebops
from hgqjax.runs.networks import Tracker
from hgqjax.runs.sweep import Sweep
from hgqjax.scores import Resolution
from hgqjax.training.objective import Objective
from hgqjax.training.schedules import LogRamp
from hgqjax.training.train import Config

WINDOW = 30.0
RESOLUTION = Resolution(window=WINDOW)
PAPER_OBJECTIVE = Objective(score=RESOLUTION, gamma=2e-6, cost=Ebops(definition="paper_v1", normalize_gradient=True))
SHORT = Config(epochs=60, epochs_per_check=2, batch_size=1024, objective=Objective(score=RESOLUTION, cost=Ebops()), **EARLIER)


def uniform(bits: int) -> Sweep:
    """The short run with one width for everything."""
    return Sweep(
        data="muon", model=Tracker(method=Uniform(bits=bits)), train=SHORT, betas=(0.0,), learning_rate=1e-2, points=1, within=10.0
    )


CONFIGS = {
    "muon": (
        "Eight penalties, 60 epochs each: a shortened front of the tracker on simulated tracks.",
        Sweep(
            data="muon",
            model=Tracker(method=Hgq(activation_fraction_bits=5.0, weight_bits=5.0)),
            train=SHORT,
            betas=(3e-6, 8e-6, 2e-5, 4e-5, 8e-5, 1.5e-4, 3e-4, 6e-4),
            learning_rate=1e-2,
            points=16,
            within=1.5,
            projects=2,
        ),
    ),
    "muon_luts": (
        "Four penalties on predicted LUTs and three seeds, 32 epochs each, with today's settings.",
        Sweep(
            data="muon",
            model=Tracker(method=Hgq(activation_fraction_bits=5.0, weight_bits=5.0)),
            train=Config(epochs=32, epochs_per_check=2, batch_size=1024, objective=Objective(score=RESOLUTION)),
            betas=(1e-5, 4e-5, 1.2e-4, 3e-4),
            seeds=(0, 1, 2),
            each_seed=True,
            points=8,
            within=1.5,
        ),
    ),
    "muon_18bit": ("18 bits for everything, nothing learned, same steps: what floating point gives.", uniform(18)),
    "muon_8bit": ("Uniform 8 bits, same steps.", uniform(8)),
    "muon_6bit": ("Uniform 6 bits, same steps.", uniform(6)),
    "muon_4bit": ("Uniform 4 bits, same steps.", uniform(4)),
    "muon_ramp": (
        "The paper's run in its published length: 60 000 epochs of batches of 16 384 (for a GPU).",
        Sweep(
            data="muon",
            model=Tracker(batch_norm=False, method=Hgq(weight_bits=8.0, activation_fraction_bits=8.0), squash="tanh"),
            learning_rate=3e-3,
            train=Config(
                epochs=60_000,
                epochs_per_check=100,
                batch_size=16_384,
                width_rate=1.0,
                cycles=600,
                cycle_decay=0.995,
                objective=PAPER_OBJECTIVE,
                penalty=LogRamp(start_ratio=5e-3, warmup_ratio=5e-3, warmup=0.1),
            ),
            betas=(6e-4,),
            points=30,
            within=1.5,
            projects=6,
        ),
    ),
}
