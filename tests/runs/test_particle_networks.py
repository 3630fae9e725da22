"""Networks of particles: shapes, exact descriptions, order of particles, what they refuse, and the way to verified firmware."""

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from flax import nnx

from hgqjax import export, layers, methods, runs
from hgqjax.config import ConfigError
from hgqjax.resources import Ebops
from hgqjax.runs.particle_networks import JediLinear, Mixer, Transformer
from hgqjax.training.objective import Objective
from hgqjax.training.train import Config

SMALL = {
    "jedi": JediLinear(units=3, hidden=(4,)),
    "invariant": JediLinear(units=3, hidden=(4,), method=methods.Hgq(activation_granularity="channel")),
    "mixer": Mixer(units=3, hidden=(4,)),
    "transformer": Transformer(units=2, hidden=(4,), blocks=1),
    "linformer": Transformer(units=2, hidden=(4,), blocks=0, projected_particles=1),
}


def model_and_rows(name):
    x = np.random.default_rng(0).normal(size=(60, 4, 3)).astype(np.float32)
    model = SMALL[name].build((4, 3), 2)(nnx.Rngs(0))
    layers.adapt(model, jnp.asarray(x))
    return model, x


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in ("invariant", "jedi", "mixer", "linformer")])
def test_descriptions_are_exact(name):
    model, x = model_and_rows(name)
    description = export.describe(model, x)
    assert np.array_equal(description.evaluate(x), np.asarray(model(jnp.asarray(x)))) and description.evaluate(x).shape == (60, 2)
    turned = np.ascontiguousarray(x[:, ::-1])
    same = np.array_equal(description.evaluate(turned), description.evaluate(x))
    assert same == (name == "invariant")


def test_parts_are_those_of_the_published_networks():
    """Layers with weights and their units, as the authors' files have them (32 x 16: 64 features inside)."""
    kernels = lambda config, shape: {  # noqa: E731
        name: layer.kernel.shape for name, layer in nnx.eval_shape(lambda: config.build(shape, 5)(nnx.Rngs(0))).named(layers.AbstractLinear)
    }
    found = list(kernels(JediLinear(), (32, 16)).values())
    assert sorted(found) == sorted([(16, 64), (64, 64), (64, 64), (64, 64), (64, 64), (64, 32), (32, 16), (16, 5)])
    found = list(kernels(Mixer(), (64, 16)).values())
    assert sorted(found, key=str) == sorted([(64, 64), (64,), *[(16, 16)] * 7, (16, 5)], key=str)
    found = list(kernels(Transformer(projected_particles=2), (8, 3)).values())
    attention = [(8, 2), (8, 2), (16, 1, 16), (16, 1, 16), (16, 1, 16), (1, 16, 16)]
    assert sorted(found) == sorted([(3, 16), (16, 16), *attention, *[(16, 32), (32, 16)] * 2, (128, 16), (16, 5)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JediLinear().build((16,), 5), r"rows have shape \(16,\); a JediLinear takes particles \(particles, features\)"),
        (lambda: Mixer(units=0), r"units is 0, hidden \(16, 16, 16\); positive numbers"),
        (lambda: Transformer(hidden=(0,)), r"units is 16, hidden \(0,\); positive numbers"),
        (lambda: Transformer(projected_particles=0), "projected_particles 0; at least 1"),
    ],
    ids=range(4),
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises((ConfigError, ValueError), match=message):
        make()


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_particles_to_verified_firmware(name, tmp_path):
    train = Config(epochs=2, epochs_per_check=1, batch_size=128, objective=Objective(cost=Ebops()))
    options = {"betas": (1e-7,), "points": 1, "projects": 1, "within": 1.0, "gate_rows": 500}
    folder = runs.run(runs.Sweep(data="particles:4", rows=2000, model=SMALL[name], train=train, **options), root=tmp_path, progress=False)
    summary = pl.read_csv(folder / "summary.csv")
    assert summary["differing_words"].sum() == 0 and summary["rows_checked"].sum() > 0 and summary["test_score"][0] > 0.2
