"""Models of several inputs and outputs: adapted, described, saved, and through the gate of hls4ml."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import export, layers, training
from hgqjax.description import DescriptionError, ModelDescription
from hgqjax.export.gate import ExportError, gate_rows
from hgqjax.export.hls4ml import to_hls4ml
from hgqjax.quantizers import Kif


class Event(layers.Module):
    """Four tracks of three numbers, and three numbers of the whole event; a sum that repeats, and two results."""

    def __init__(self, rngs):
        self.track = layers.Dense(3, 2, rngs=rngs, input_shape=(4, 3), batch_norm=layers.BatchNorm())
        self.whole = layers.Dense(3, 2, rngs=rngs, activation="relu", input_quantizer=Kif(f0=3.0, rounding="RND_CONV"))
        self.sum = layers.Add(((4, 2), (1, 2)))
        self.out = layers.Dense(8, 3, rngs=rngs)

    def __call__(self, tracks, event):
        whole = self.whole(event)
        y = self.sum(self.track(tracks), layers.reshape(whole, (1, 2)))
        return self.out(layers.flatten(layers.relu(y))), whole


def rows(n=300, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(scale=scale, size=(n, *shape)).astype(np.float32) for scale, shape in ((2.0, (4, 3)), (0.5, (3,))))


@pytest.fixture(scope="module")
def model():
    made = Event(nnx.Rngs(0))
    layers.adapt(made, tuple(map(jnp.asarray, rows())))
    return made


@pytest.fixture(scope="module")
def description(model):
    return export.describe(model, rows())


def test_inputs_have_the_names_of_the_arguments(model, description):
    assert [(op.name, op.shape) for op in description.inputs] == [("tracks", (4, 3)), ("event", (3,))]
    frozen, x = layers.calibrate(model, rows()), rows(100, seed=1)
    for ours, exact in zip(frozen(*map(jnp.asarray, x)), description.evaluate(x), strict=True):
        assert np.array_equal(np.asarray(ours, np.float64), exact)


def test_ranges_are_those_of_the_rows_of_each_input(model):
    x = rows()
    frozen = layers.calibrate(model, x, batch=128)
    for quantizer, part in ((frozen.track.input_quantizer, x[0]), (frozen.whole.input_quantizer, x[1])):
        assert np.array_equal(quantizer.high[...][0], np.maximum(part.max(0), 0))


def test_a_saved_one_keeps_the_rows_of_each_input(description, tmp_path):
    description.save(tmp_path / "m")
    again = ModelDescription.load(tmp_path / "m")
    assert isinstance(again.sample, tuple) and all(map(np.array_equal, again.sample, rows()))
    x = gate_rows(again, min_rows=100)
    assert isinstance(x, tuple) and len(x[0]) == len(x[1])
    assert all(np.array_equal(part[:50], given[:50]) for part, given in zip(x, rows(), strict=True))


def test_hls4ml_has_the_same_words(description, tmp_path):
    more = rows(40, seed=2)
    project = to_hls4ml(description, tmp_path / "p", rows=more, min_rows=500)
    assert project.gate.differing_words == 0 and project.gate.words == project.gate.rows * (3 + 2) and project.gate.rows > 500


class Angle(Event):
    def __call__(self, tracks, event):
        return super().__call__(tracks, event)[0]


@pytest.mark.slow
def test_it_is_trained():
    x = rows(512)
    y = jnp.asarray((x[0][:, 0].sum(1) * x[1][:, 0] > 0).astype(np.int32))
    xs = tuple(map(jnp.asarray, x))
    data = training.Data(xs, y, tuple(part[:128] for part in xs), y[:128])
    train = training.make_train(training.Config(epochs=8, batch_size=64), Angle)
    members = training.Member(beta=jnp.array([0.0]), learning_rate=jnp.array([2e-2]), budget=jnp.array([0.0]))
    sweep = training.sweep(train, data, members, [0])
    assert sweep.history[-1]["val_loss"] < sweep.history[0]["val_loss"]
    description = export.describe(train.model(sweep.state(sweep.archive.points[0])), x)
    assert [op.name for op in description.inputs] == ["tracks", "event"]
    with pytest.raises(ValueError, match="^inputs have 512, 511 rows; each input needs as many as the others$"):
        training.sweep(train, data._replace(x_train=(xs[0], xs[1][1:])), members, [0])


def test_what_does_not_fit_is_refused(model, description, tmp_path):
    tracks, event = rows()
    with pytest.raises(DescriptionError, match="^inputs have 300, 299 rows; each input needs as many as the others$"):
        export.describe(model, (tracks, event[1:]))
    with pytest.raises(DescriptionError, match="^calibration is rows of 1 inputs, but the model takes 'tracks', 'event'; a tuple of rows"):
        export.describe(model, tracks)
    with pytest.raises(DescriptionError, match=r"^calibration\[1\] has shape \(0, 3\); at least one row"):
        export.describe(model, (tracks, event[:0]))
    with pytest.raises(ExportError, match="rows for the gate must be a tuple of 2 arrays, one for each input"):
        to_hls4ml(description, tmp_path / "p", rows=tracks)
    with pytest.raises(ValueError, match="^inputs have 300, 299 rows"):
        layers.adapt(model, (jnp.asarray(tracks), jnp.asarray(event[1:])))
    assert not (tmp_path / "p").exists()


def test_a_layer_of_several_inputs_is_a_model():
    _, event = rows()
    description = export.describe(layers.Subtract((3,)), (event, event))
    assert [op.name for op in description.inputs] == ["x0", "x1"] and not description.evaluate((event, event)).any()
