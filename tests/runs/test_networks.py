"""The networks of the experiments: widths, shapes, what they refuse; both image and muon task from rows to verified firmware."""

import typing
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from flax import nnx

from experiments import jets, muon, svhn
from hgqjax import data, export, layers, methods, quantizers, resources, runs
from hgqjax.config import ConfigError, from_json, to_json
from hgqjax.runs import networks
from hgqjax.scores import Resolution
from hgqjax.training.objective import Objective
from hgqjax.training.train import Config

SHAPES = {networks.Mlp: ((16,), 5), networks.Cnn: ((32, 32, 3), 10), networks.Tracker: (((50, 3), (50, 2), (50, 2)), 1)}
SVHN = Path(__file__).resolve().parents[3] / "shared" / "data" / "svhn_test10k" / "svhn_test_first10k.npz"


@pytest.mark.parametrize("name", jets.CONFIGS | svhn.CONFIGS | muon.CONFIGS)
def test_configurations_build_and_are_kept_as_json(name):
    _, config = (jets.CONFIGS | svhn.CONFIGS | muon.CONFIGS)[name]
    assert from_json(runs.Sweep, to_json(config)) == config
    model = nnx.eval_shape(lambda: config.model.build(*SHAPES[type(config.model)])(nnx.Rngs(0)))
    assert len(dict(model.named(layers.AbstractLinear))) >= 3


@pytest.mark.parametrize("method", [kind() for kind in typing.get_args(methods.Method)], ids=lambda m: type(m).__name__)
def test_every_method_builds_every_network_that_it_supports_inside_a_trace(method):
    trackers = [networks.Tracker(method=method, squash=squash) for squash in ("hard_tanh", "tanh")] if method.neurons() is None else []
    for network in (networks.Mlp(method=method), networks.Cnn(method=method), *trackers):
        model = nnx.eval_shape(lambda network=network: network.build(*SHAPES[type(network)])(nnx.Rngs(0)))
        assert dict(model.named(layers.AbstractLinear))


@pytest.mark.slow
def test_a_uniform_network_has_one_width_a_layer():
    x = np.random.default_rng(0).uniform(0, 1, (40, 8, 8, 1)).astype(np.float32)
    config = networks.Cnn(method=methods.Uniform(bits=5), filters=(2,), hidden=(3,))
    model = config.build((8, 8, 1), 2)(nnx.Rngs(0))
    layers.adapt(model, jnp.asarray(x))
    description = export.describe(model, x)
    for op in description.operations:
        if op.kind == "quantize":
            assert len(np.unique(op.i + op.f)) == 1 and (op.i + op.f).max() == 5
        if op.kind in ("conv", "dense"):
            assert np.all(op.kernel.bits == 4)
    assert description["conv_0"].parallelization == 1
    cost = resources.ebops(description, "paper_v1")["conv_0"]
    assert cost == 36 * description["conv_0"].kernel.enclosed_bits.sum() * 5 / 36  # one position at a time of 6 x 6


def test_bits_at_the_start_are_those_of_any_quantizer():
    found = [methods.Hgq.largest_bits(q) for q in (quantizers.Fixed(i=2, f=3), quantizers.Kbi(b0=6.0), quantizers.Hmq(bits=(4, 8)))]
    assert found == [5.0, 6.0, 8.0]


def test_a_perceptron_flattens_rows():
    model = networks.Mlp(hidden=(3,)).build((4, 2), 2)(nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(20, 4, 2)).astype(np.float32)
    assert export.describe(model, x).evaluate(x).shape == (20, 2)


REFUSED = [
    (lambda: networks.Cnn().build((16,), 5), "a Cnn takes images"),
    (lambda: networks.Cnn().build((12, 12, 3), 5), "too small for 3 convolutions"),
    (lambda: networks.Cnn(pool=0), "positive numbers"),
    (lambda: networks.Cnn(parallelization=0), "parallelization is 0"),
    (lambda: networks.Tracker().build((50, 7), 1), r"the tracker takes the hits of three stations, \(50, 3\)"),
    (lambda: networks.Tracker(spread=0.0), "a spread above 0"),
    (lambda: methods.Uniform(bits=1), "bits is 1"),
    (lambda: networks.Tracker(method=methods.Uniform(bits=18), squash="tanh"), "tables of 18 bits; at most 15"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises((ConfigError, ValueError), match=message) as info:
        make()
    assert "\n" not in str(info.value)


def finished(config, tmp_path):
    """The table of the front of a run, whose project is verified."""
    folder = runs.run(config, root=tmp_path, progress=False)
    summary = pl.read_csv(folder / "summary.csv")
    assert summary["differing_words"].sum() == 0 and summary["rows_checked"].sum() > 0
    return summary


@pytest.mark.slow
def test_a_tracker_of_three_inputs_passes_both_gates(tmp_path):
    dataset = data.load("muon", rows=3000)
    method = methods.Hgq(weight_bits=1.0, activation_fraction_bits=1.0)
    model = networks.Tracker(hidden=(8, 4), method=method).build(dataset.model_shape, 1)(nnx.Rngs(0))
    rows = dataset.of_model(dataset.calibration())
    layers.adapt(model, tuple(map(jnp.asarray, rows)))
    description = export.describe(model, rows)
    assert {op.name: op.shape for op in description.inputs} == {"station1": (50, 3), "station2": (50, 2), "station3": (50, 2)}
    project = export.to_hls4ml(description, tmp_path / "hls", rows=dataset.of_model(dataset.x_test[:200].astype(float)), min_rows=1000)
    assert project.gate.differing_words == 0 and project.gate.rows >= 1000
    assert export.to_rtl(description, tmp_path / "rtl", min_rows=1000).gate.differing_words == 0


@pytest.mark.slow
def test_muon_tracks_to_verified_firmware(tmp_path):
    train = Config(
        epochs=12, epochs_per_check=6, batch_size=256, objective=Objective(score=Resolution(window=30.0), cost=resources.Ebops())
    )
    model = networks.Tracker(squash="tanh")
    config = runs.Sweep(
        data="muon", rows=20_000, model=model, train=train, betas=(1e-6,), points=1, projects=1, within=20.0, gate_rows=1000
    )
    summary = finished(config, tmp_path)
    assert 1 < summary["test_score"][0] < 8 and summary["test_outliers"][0] < 0.02  # a guess that knows nothing has 17 mrad


@pytest.mark.slow
@pytest.mark.skipif(not SVHN.exists(), reason=f"{SVHN.name} is not beside this checkout")
def test_svhn_images_to_verified_firmware(tmp_path):
    train = Config(epochs=6, epochs_per_check=3, batch_size=128, objective=Objective(cost=resources.Ebops()))
    config = runs.Sweep(
        data=f"svhn:{SVHN}", rows=3000, model=networks.Cnn(), train=train, betas=(1e-7,), learning_rate=5e-3, points=1, projects=1,
        within=1.0, io_type="io_stream", gate_rows=100,
    )  # fmt: skip
    assert finished(config, tmp_path)["test_score"][0] > 0.3  # a guess has 0.1
