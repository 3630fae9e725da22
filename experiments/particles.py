"""Jets by their particles: JEDI-linear, the mixer and the transformer on constituents, published settings and shortened runs.

The shortened runs have 16 constituents of 3 features (`--data particles:32` for others), three penalties on EBOPs, and three seeds, for
error bars. JEDI-linear has 16 features inside where the published one has 64, as its authors' smaller networks do."""

import dataclasses

from hgqjax.methods import Hgq
from hgqjax.resources import Ebops
from hgqjax.runs.particle_networks import JediLinear, Mixer, ParticleNetwork, Transformer
from hgqjax.runs.sweep import Sweep
from hgqjax.training.objective import Objective
from hgqjax.training.schedules import LogRamp
from hgqjax.training.train import Config

SMALL = {"units": 16, "hidden": (16, 16, 16)}


def short(model: ParticleNetwork) -> Sweep:
    """Three penalties and three seeds, each seed a front of its own."""
    train = Config(epochs=16, epochs_per_check=2, batch_size=128, objective=Objective(cost=Ebops()))
    penalties = {"betas": (2e-7, 1e-6, 4e-6), "seeds": (0, 1, 2), "each_seed": True, "points": 4, "within": 0.5}
    return Sweep(data="particles:16", model=model, train=train, **penalties)


def published(model: ParticleNetwork) -> Sweep:
    """The authors' settings for these jets, in their length: one walk over the front in 7 000 epochs of batches of 2 790 rows.

    Their penalty rises linearly to a tenth in the first 2 000 epochs; here it is constant there.
    """
    train = Config(
        epochs=7000,
        epochs_per_check=10,
        batch_size=2790,
        cycles=14,
        cycle_decay=1.0,
        final_rate=3e-4,
        width_rate=1.0,
        batch_statistics=1.0,
        objective=Objective(gamma=1e-8, cost=Ebops()),
        penalty=LogRamp(start_ratio=0.1, warmup_ratio=0.05, warmup=2 / 7),
    )
    method = Hgq(weight_bits=7.0, activation_fraction_bits=7.0)
    fields = {"betas": (3e-6,), "learning_rate": 3e-3, "points": 30, "projects": 6}
    return Sweep(data="particles150:16x3", model=dataclasses.replace(model, method=method), train=train, **fields)


INVARIANT = Hgq(activation_granularity="channel")

CONFIGS = {
    "jedi_linear": ("JEDI-linear with 16 features inside on 16 constituents, shortened.", short(JediLinear(**SMALL))),
    "jedi_linear_invariant": (
        "The same with formats that all particles share, so that their order makes no difference.",
        short(JediLinear(**SMALL, method=INVARIANT)),
    ),
    "mixer": ("The mixer on 16 constituents, shortened.", short(Mixer())),
    "transformer": (
        "The transformer with keys and values projected to two particles (Linformer) on 16 constituents, shortened.",
        short(Transformer(projected_particles=2, batch_norm=True)),
    ),
    "jedi_linear_paper": ("JEDI-linear in the length that its authors trained it (for a GPU).", published(JediLinear())),
    "mixer_paper": ("The mixer in the length that its authors trained it (for a GPU).", published(Mixer())),
}
