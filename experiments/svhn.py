"""SVHN digits, the convolutional network of arXiv:2405.00645: the paper's configuration, and shortened runs that a CPU ends today."""

from experiments.earlier import EARLIER
from hgqjax.methods import Hgq, Uniform
from hgqjax.resources import Ebops
from hgqjax.runs.networks import Cnn
from hgqjax.runs.sweep import Sweep
from hgqjax.training.objective import Objective
from hgqjax.training.schedules import LogRamp
from hgqjax.training.train import Config

PAPER_OBJECTIVE = Objective(gamma=2e-6, cost=Ebops(definition="paper_v1", normalize_gradient=True))
SHORT = Config(epochs=30, epochs_per_check=2, batch_size=256, objective=Objective(cost=Ebops()), **EARLIER)


def uniform(bits: int) -> Sweep:
    """The short run with one width for everything."""
    return Sweep(data="svhn", model=Cnn(method=Uniform(bits=bits)), train=SHORT, betas=(0.0,), learning_rate=5e-3, points=1, within=1.0)


CONFIGS = {
    "svhn": (
        "Five penalties, 30 epochs each: a shortened front of the SVHN network, io_stream (--data svhn:FILE of 10 000 images).",
        Sweep(
            data="svhn",
            model=Cnn(),
            train=SHORT,
            betas=(3e-7, 1e-6, 3e-6, 8e-6, 2e-5),
            learning_rate=5e-3,
            points=12,
            within=0.15,
            projects=2,
            io_type="io_stream",
            gate_rows=300,
        ),
    ),
    "svhn_luts": (
        "Two penalties on predicted LUTs and three seeds, 16 epochs each, with today's settings (--data svhn:FILE of 10 000 images).",
        Sweep(
            data="svhn",
            model=Cnn(),
            train=Config(epochs=16, epochs_per_check=2, batch_size=256),
            betas=(1e-6, 5e-6),
            seeds=(0, 1, 2),
            each_seed=True,
            learning_rate=5e-3,
            points=12,
            within=0.15,
            io_type="io_stream",
            gate_rows=300,
        ),
    ),
    "svhn_18bit": ("18 bits for everything, nothing learned, same steps: what floating point gives.", uniform(18)),
    "svhn_8bit": ("Uniform 8 bits, same steps.", uniform(8)),
    "svhn_6bit": ("Uniform 6 bits, same steps.", uniform(6)),
    "svhn_4bit": ("Uniform 4 bits, same steps.", uniform(4)),
    "svhn_ramp": (
        "The paper's run in its published length: 12 000 epochs of batches of 2 048, with the extra images (for a GPU).",
        Sweep(
            data="svhn_extra",
            model=Cnn(batch_norm=False, method=Hgq(weight_bits=6.0, activation_fraction_bits=6.0, activation_granularity="tensor")),
            learning_rate=1e-3,
            train=Config(
                epochs=12_000,
                epochs_per_check=10,
                batch_size=2048,
                width_rate=1.0,
                cycles=120,
                cycle_decay=1.0,
                final_rate=1.5e-3,
                objective=PAPER_OBJECTIVE,
                penalty=LogRamp(start_ratio=1e-2, warmup_ratio=1e-2, warmup=1 / 30),
            ),
            betas=(1e-5,),
            points=30,
            within=0.1,
            projects=6,
            io_type="io_stream",
            gate_rows=300,
        ),
    ),
}
