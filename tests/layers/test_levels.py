"""One layer shared by several levels: a batch norm for each, which stays behind the product, in hardware, too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from any_networks import interpreted, size
from flax import nnx
from hls4ml_networks import verified

from hgqjax import export, layers, resources
from hgqjax.description.operations import Dense, Einsum
from hgqjax.description.start import start_of
from hgqjax.quantizers import Kif

RNG = np.random.default_rng(0)
X = RNG.normal(0.2, 1.5, (300, 3, 4)).astype(np.float32)
WIDE = Kif(i0=6.0, f0=18.0)
PARTS = {"input_quantizer": Kif(f0=3.0), "input_granularity": "tensor"}


class Stations(layers.Module):
    """Three stations that share a layer; their results are side by side."""

    def __init__(self, make, levels=3, **settings):
        self.shared = layers.SharedLevels(make(nnx.Rngs(0)), levels, activation="relu", **settings)

    def __call__(self, x):
        return layers.concatenate([self.shared(layers.select(x, n), n) for n in range(len(self.shared.norms))])


class Copies(layers.Module):
    """The same of layers that only have equal weights."""

    def __init__(self, shared):
        self.copies = nnx.List(nnx.clone(shared) for _ in shared.norms)
        for level, copy in enumerate(self.copies):
            copy.norms = nnx.List([copy.norms[level]])

    def __call__(self, x):
        return layers.concatenate([copy(layers.select(x, n), 0) for n, copy in enumerate(self.copies)])


def dense(rngs):
    return layers.Dense(4, 2, use_bias=False, rngs=rngs, **PARTS)


def adapted(model, rows):
    layers.adapt(model, jnp.asarray(rows))
    for level, norm in enumerate(model.shared.norms):
        norm.norm.scale[...] = norm.norm.scale[...] * (1.0 + level / 2)
        norm.bias[...] = norm.bias[...] + 0.5 * level
    return model


def test_it_is_the_formula():
    layer = layers.SharedLevels(
        layers.Dense(4, 2, use_bias=False, rngs=nnx.Rngs(0), input_quantizer=WIDE, kernel_quantizer=Kif(b0=20.0)),
        2,
        input_quantizer=WIDE,
        kernel_quantizer=Kif(b0=20.0),
    )
    layer.norms[1].norm.scale[...], layer.norms[1].bias[...] = jnp.array([0.5, 3.0]), jnp.array([[1.0, -1.0]]).reshape(-1)
    z = X[:, 1] @ np.asarray(layer.layer.kernel[...])
    expected = np.array([0.5, 3.0]) * (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) + [1.0, -1.0]
    np.testing.assert_allclose(layer(jnp.asarray(X[:, 1]), 1), expected, atol=1e-3)


def test_one_level_with_a_power_of_two_is_the_folded_norm():
    """Scales 2, 1/4: then the grid of the folded kernel is that of the shared one, shifted."""
    octaves = np.array([1.0, -2.0], np.float32)
    norm = layers.BatchNorm(epsilon=2.0**-10)
    folded = layers.Dense(4, 2, rngs=nnx.Rngs(0), batch_norm=norm, activation="relu", **PARTS)
    lossless = {"input_quantizer": Kif(f0=12.0), "kernel_quantizer": Kif(f0=6.0)}
    shared = layers.SharedLevels(dense(nnx.Rngs(0)), 1, batch_norm=norm, activation="relu", **lossless)
    np.testing.assert_array_equal(folded.kernel[...], shared.layer.kernel[...])
    for one in (folded.norm, shared.norms[0].norm):
        one.load(2.0 * 2.0**octaves, np.array([0.3, -0.7]), np.full(2, 4.0 - 2.0**-10, np.float32))
    folded.kernel_quantizer.f[...] = folded.kernel_quantizer.f[...] - octaves[None]
    folded.bias_quantizer.f[...] = shared.norms[0].bias_quantizer.f[...].reshape(-1)

    class Only(layers.Module):
        def __init__(self):
            self.shared = shared

        def __call__(self, x):
            return self.shared(x, 0)

    rows = X[:, 0]
    one, other = export.describe(folded, rows), export.describe(Only(), rows)
    np.testing.assert_array_equal(one.evaluate(rows), other.evaluate(rows))
    assert len({len(np.unique(column)) for column in one.evaluate(rows).T} - {1}) > 0


def test_statistics_follow_the_calls_of_their_level_alone():
    model = Stations(dense)
    before = [jax.tree.map(np.array, nnx.state(norm)) for norm in model.shared.norms]
    model.shared(jnp.asarray(X[:, 0]), 1)
    after = [jax.tree.map(np.array, nnx.state(norm)) for norm in model.shared.norms]
    for level in (0, 2):
        assert all(map(np.array_equal, jax.tree.leaves(before[level]), jax.tree.leaves(after[level])))
    z = X[:, 0] @ np.asarray(model.shared.layer.kernel[...])
    assert np.allclose(model.shared.norms[1].norm.mean[...], z.mean(0), atol=0.3)
    assert float(model.shared.norms[1].norm.calls[...]) == 1.0


def test_hardware_has_one_set_of_weights_and_an_affine_operation_for_each_level(tmp_path):
    model = adapted(Stations(dense), X)
    description = export.describe(model, X)
    products = [op for op in description.operations if isinstance(op, Dense)]
    affine = [op for op in description.operations if isinstance(op, Einsum)]
    assert [op.name for op in affine] == ["shared_norms_0", "shared_norms_1", "shared_norms_2"] and len(products) == 3
    for op in products[1:]:
        np.testing.assert_array_equal(op.kernel.integers, products[0].kernel.integers)
        np.testing.assert_array_equal(op.kernel.f, products[0].kernel.f)
    assert len({op.kernel.integers.tobytes() + op.bias.integers.tobytes() for op in affine}) == 3
    assert float(resources.ebops(layers.calibrate(model, X)).total) == pytest.approx(float(resources.ebops(description).total), rel=1e-6)
    assert interpreted(description) > 600 * size(description)
    verified(description, tmp_path / "p", min_rows=1000)


@pytest.mark.slow
def test_streams_take_it(tmp_path):
    def conv(rngs):
        return layers.Conv1D((4, 2), 2, 2, use_bias=False, rngs=rngs, parallelization=1, **PARTS)

    class Stream(layers.Module):
        def __init__(self):
            self.first = layers.Quantize((4, 2), Kif(f0=3.0), "tensor")
            self.shared = layers.SharedLevels(conv(nnx.Rngs(0)), 2, **PARTS)

        def __call__(self, x):
            x = self.first(x)
            return self.shared(x, 0) + self.shared(x, 1)

    rows = RNG.normal(0, 1.5, (200, 4, 2)).astype(np.float32)
    model = adapted(Stream(), rows)
    verified(export.describe(model, rows), tmp_path / "p", min_rows=500, io_type="io_stream")


@pytest.mark.synth
def test_words_of_simulated_rtl(tmp_path):
    description = export.describe(adapted(Stations(dense), X), X)
    project = export.to_rtl(description, tmp_path / "p", clock_ns=2.0)
    assert project.gate.words == project.gate.rows * size(description)


def test_copies_with_tied_weights_have_the_same_words():
    model = adapted(Stations(dense), X)
    copies = Copies(model.shared)
    np.testing.assert_array_equal(export.describe(model, X).evaluate(X), export.describe(copies, X).evaluate(X))


def test_a_training_goes_on_from_its_frozen_network():
    description = export.describe(adapted(Stations(dense), X), X)
    model = Stations(dense)
    start_of(description).begin(model, jnp.asarray(X))
    frozen = layers.calibrate(model, X)(jnp.asarray(X))
    near = np.asarray(description.evaluate(X))
    assert np.mean(np.abs(frozen - near)) < 0.05 * np.mean(np.abs(near))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: layers.SharedLevels(layers.Dense(2, 2, rngs=nnx.Rngs(0)), 2),
            "layer has use_bias; each level brings its own",
        ),
        (
            lambda: layers.SharedLevels(layers.Dense(2, 2, rngs=nnx.Rngs(0), activation="relu", batch_norm=layers.BatchNorm()), 2),
            "layer has use_bias and activation and batch_norm",
        ),
        (lambda: layers.SharedLevels(layers.Add((2,)), 2), "layer is Add; a layer with a kernel is needed"),
        (lambda: layers.SharedLevels(dense(nnx.Rngs(0)), 0), "levels is 0; at least 1 is needed"),
        (lambda: layers.SharedLevels(dense(nnx.Rngs(0)), 2)(jnp.ones((1, 4)), 2), r"level is 2; 0 .. 1 are legal"),
        (lambda: layers.SharedLevels(dense(nnx.Rngs(0)), 2)(jnp.ones((1, 4)), -1), r"level is -1; 0 .. 1 are legal"),
    ],
)
def test_mistakes_are_named(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
