"""Networks made of tables: HGQ-LUT's recipe for jets (arXiv:2604.22293), its muon hybrid, and shortened runs."""

import dataclasses

from experiments.muon import RESOLUTION
from hgqjax.methods import Hgq
from hgqjax.resources import Ebops
from hgqjax.runs.networks import Lut, Tracker
from hgqjax.runs.sweep import Sweep
from hgqjax.training.objective import Objective
from hgqjax.training.schedules import LogRamp
from hgqjax.training.train import Config

SHORT = Sweep(
    rows=100_000,
    model=Lut(),
    train=Config(epochs=36, epochs_per_check=2, objective=Objective(cost=Ebops())),  # as measured: HGQ-LUT's own formula
    betas=(1e-5, 4e-5, 1e-4, 2.5e-4, 5e-4),
    points=8,
    within=0.2,
)

LONG = {
    "rows": None,
    "train": dataclasses.replace(SHORT.train, epochs=160, batch_size=1024),
    "seeds": (0, 1, 2),
    "each_seed": True,
    "within": 0.1,
    "refine": (0.03, 0.06, 0.12),
}

CONFIGS = {
    "jets_lut": ("Five penalties, 36 epochs each: 16-20-5 with perceptrons as edges, shortened.", SHORT),
    "jets_lut_long": (
        "Six penalties and three seeds, 160 epochs in batches of 1 024 on all re-simulated rows, then refined.",
        dataclasses.replace(SHORT, **LONG, betas=(2e-6, 8e-6, 2.5e-5, 8e-5, 2.5e-4, 7e-4)),
    ),
    "jets_lut_spline": (
        "Splines as edges, a Kolmogorov-Arnold network: three penalties and three seeds, 24 epochs in batches of 1 024.",
        dataclasses.replace(
            SHORT,
            **LONG | {"train": dataclasses.replace(LONG["train"], epochs=24), "points": 4},
            model=Lut(function="spline"),
            betas=(1e-5, 5e-5, 2.5e-4),
        ),
    ),
    "jets_lut_ramp": (
        "HGQ-LUT's single run that walks the whole front, in its published length: 200 000 epochs of batches of 33 200 rows (for a GPU).",
        Sweep(
            data="openml",
            model=Lut(word_bits=8.0, method=Hgq(activation_fraction_bits=6.0)),
            learning_rate=5e-3,
            train=Config(
                epochs=200_000,
                epochs_per_check=100,
                batch_size=33_200,
                cycles=50,
                cycle_decay=0.94,
                final_rate=2e-4,
                width_rate=1.0,
                batch_statistics=1.0,
                objective=Objective(gamma=1e-8, cost=Ebops()),
                penalty=LogRamp(start_ratio=5e-4, warmup_ratio=5e-4, warmup=0.02),
            ),
            betas=(1e-3,),
            points=30,
            projects=6,
        ),
    ),
    "muon_hybrid": (
        "Two penalties on predicted LUTs and three seeds, 10 epochs: the tracker with layers of tables behind its maps, shortened.",
        Sweep(
            data="muon",
            model=Tracker(head="tables", hidden=(24, 12), method=Hgq(activation_fraction_bits=5.0, weight_bits=5.0)),
            train=Config(epochs=10, epochs_per_check=2, batch_size=1024, objective=Objective(score=RESOLUTION)),
            betas=(2e-5, 1e-4),
            seeds=(0, 1, 2),
            each_seed=True,
            points=2,
            within=1.5,
        ),
    ),
}
