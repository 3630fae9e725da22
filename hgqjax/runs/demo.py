"""The demo: a front of small jets networks in about a minute, and two verified projects."""

from hgqjax.runs.networks import Mlp
from hgqjax.runs.sweep import Sweep
from hgqjax.training import Config

DEMO = Sweep(
    rows=100_000,
    model=Mlp(hidden=(32, 16)),
    train=Config(epochs=72, epochs_per_check=2),
    betas=(2.5e-6, 7e-6, 1.6e-5, 3.2e-5, 6.5e-5, 1.3e-4, 2.2e-4, 3.5e-4),
    seeds=(0, 1),
    points=12,
    projects=2,
)
"""A network of hidden layers 32 and 16, eight penalties on predicted LUTs and two seeds, on re-simulated jets."""
