"""Jet tagging with 16 high-level features, network 64-32-32-5: the configurations of arXiv:2405.00645 and the runs of docs/results.md."""

from experiments.earlier import EARLIER
from hgqjax.methods import Hgq
from hgqjax.resources import Ebops, Luts
from hgqjax.runs.demo import DEMO
from hgqjax.runs.networks import Mlp
from hgqjax.runs.sweep import Sweep
from hgqjax.training.objective import Objective
from hgqjax.training.schedules import Constant, LogRamp
from hgqjax.training.train import Config

PAPER_START = Mlp(method=Hgq(weight_bits=2.0, activation_fraction_bits=2.0))
PAPER_OBJECTIVE = Objective(gamma=2e-6, cost=Ebops(definition="paper_v1", normalize_gradient=True))


def cost_compared(cost) -> Sweep:
    """Eight penalties on `cost`, 200 epochs each: two costs compared by the LUTs of their networks at equal accuracy."""
    train = Config(epochs=200, epochs_per_check=5, objective=Objective(cost=cost), **EARLIER)
    return Sweep(train=train, betas=(1.5e-6, 4e-6, 8e-6, 1.5e-5, 3e-5, 6e-5, 1.2e-4, 2.4e-4), points=16)


CONFIGS = {
    "jets_ebops": ("Eight penalties on EBOPs, 200 epochs each: compared with `jets_luts` by synthesis.", cost_compared(Ebops())),
    "jets_luts": ("Eight penalties on predicted LUTs, 200 epochs each: compared with `jets_ebops` by synthesis.", cost_compared(Luts())),
    "jets": (
        "Nine penalties, 600 epochs each, on all re-simulated rows: the front of docs/results.md (23 minutes on 2 cores).",
        Sweep(
            train=Config(
                epochs=600,
                epochs_per_check=5,
                objective=Objective(cost=Ebops()),
                width_rate=1.0,
                batch_statistics=0.7,
                penalty=LogRamp(start_ratio=1e-2, warmup_ratio=1e-3, warmup=0.1, hold=0.4),
            ),
            betas=(4e-6, 7e-6, 1.2e-5, 2e-5, 3.5e-5, 6e-5, 1e-4, 1.7e-4, 2.8e-4),
            points=24,
            within=1.0,
            projects=4,
        ),
    ),
    "jets_early": (
        "The same length with batch statistics kept from 30 % of the run on, and smaller penalties (28 minutes on 2 cores).",
        Sweep(
            train=Config(epochs=600, epochs_per_check=5, objective=Objective(cost=Ebops()), **EARLIER),
            betas=(1.5e-6, 2.8e-6, 5e-6, 9e-6, 1.5e-5, 2.2e-5, 4e-5, 7e-5, 1.15e-4),
            points=30,
            projects=4,
        ),
    ),
    "jets_demo": (
        "A network of hidden layers 32 and 16, eight penalties on predicted LUTs and two seeds: what scripts/demo and `hgqjax demo` run.",
        DEMO,
    ),
    "jets_long": (
        "Hidden layers 48-24 and 64-32-32, six penalties on predicted LUTs and three seeds, 300 epochs on all re-simulated rows.",
        Sweep(
            models=("48-24", "64-32-32"),
            train=Config(epochs=300, epochs_per_check=3),
            betas=(1.5e-6, 4e-6, 1e-5, 2.5e-5, 7e-5, 2e-4),
            seeds=(0, 1, 2),
            each_seed=True,
            points=10,
        ),
    ),
    "jets_ramp": (
        "The paper's single run that walks the whole front, in its published length: 300 000 epochs of batches of 33 200 rows (for a GPU).",
        Sweep(
            data="openml",
            model=PAPER_START,
            learning_rate=5e-3,
            train=Config(
                epochs=300_000,
                epochs_per_check=100,
                batch_size=33_200,
                cycles=120,
                cycle_decay=0.98,
                final_rate=1e-6,
                width_rate=1.0,
                batch_statistics=1.0,
                objective=PAPER_OBJECTIVE,
                penalty=LogRamp(start_ratio=5e-4, warmup_ratio=2.5e-4, warmup=1 / 60),
            ),
            betas=(2e-3,),
            points=30,
            projects=6,
        ),
    ),
    "jets_constant": (
        "The paper's runs with a constant penalty (HGQ-c), in their published length: 5 000 epochs of batches of 33 200 rows.",
        Sweep(
            data="openml",
            model=PAPER_START,
            learning_rate=5e-3,
            train=Config(
                epochs=5000,
                epochs_per_check=10,
                batch_size=33_200,
                final_rate=1e-6,
                width_rate=1.0,
                batch_statistics=1.0,
                objective=PAPER_OBJECTIVE,
                penalty=Constant(),
            ),
            betas=(3e-6, 1.2e-5, 6e-5),
            points=12,
            projects=3,
        ),
    ),
}
