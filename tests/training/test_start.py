"""Training that starts from a network: a frozen one, float weights, with frozen layers or widths."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import export, layers, training
from hgqjax.description.start import start_of
from hgqjax.quantizers import Kbi, Kif

X = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
Y = (X.sum(1) > 0).astype(np.int32)
DATA = training.Data(*map(jnp.asarray, (X, Y, X, Y)))
MEMBER = training.Member(*(jnp.asarray(v, jnp.float32) for v in (1e-4, 3e-2, 0.0)))
CONFIG = training.Config(epochs=2, batch_size=64)


def build(rngs, sizes=(3, 4, 2), **settings):
    settings = {"kernel_quantizer": Kif(b0=5.0), "input_quantizer": Kif(f0=3.0)} | settings
    return layers.mlp(sizes, rngs=rngs, **settings)


@pytest.fixture(scope="module")
def frozen():
    model = build(nnx.Rngs(3))
    layers.adapt(model, jnp.asarray(X))
    kernel = model.layer[0].kernel
    kernel[...] = kernel[...].at[0, 0].set(1e-9)  # a weight that is cut
    return export.describe(model, X, name="p03")


@pytest.mark.parametrize(
    "settings", [{}, {"kernel_quantizer": Kbi(b0=3.0, overflow="WRAP"), "input_quantizer": Kbi(b0=4.0, overflow="WRAP")}]
)
def test_it_begins_as_the_very_same_network(frozen, settings):
    model = build(nnx.Rngs(8), **settings)
    start_of(frozen).begin(model, jnp.asarray(X))
    again = export.describe(model, X)
    assert again["layer_0"].kernel.integers[0, 0] == 0
    np.testing.assert_array_equal(again.evaluate(X), frozen.evaluate(X))


def test_norms_begin_on_the_activations_of_the_start():
    """A new network's activations have so few bits here that all of them are 0, and a norm of zeros would have no scale."""
    sizes = (3, 8, 8, 2)
    wide = build(nnx.Rngs(3), sizes, input_quantizer=Kif(f0=10.0), kernel_quantizer=Kif(b0=10.0))
    layers.adapt(wide, jnp.asarray(X))
    fine = export.describe(wide, X)
    model = build(nnx.Rngs(8), sizes, input_quantizer=Kif(f0=-4.0))
    start_of(fine).begin(model, jnp.asarray(X))
    assert all(np.all(layer.norm.scale[...] > 0.05) for layer in model.layer)
    np.testing.assert_allclose(model(jnp.asarray(X)), fine.evaluate(X), atol=2**-6)


def test_other_quantizers_take_the_weights_alone(frozen):
    model = build(nnx.Rngs(8), kernel_quantizer=Kbi(b0=2.0, b_limits=(2.0, 2.0)), kernel_granularity="tensor")
    start_of(frozen).begin(model, jnp.asarray(X))
    np.testing.assert_array_equal(model.layer[1].kernel[...], frozen["layer_1"].kernel.values.astype(np.float32))
    assert model.layer[1].kernel_quantizer.b[...].item() == 2.0


@pytest.fixture(scope="module")
def runs(frozen):
    """First and last state of a run that starts from the network, by its configuration."""

    def run(**settings):
        train = training.make_train(training.Config(epochs=2, batch_size=64, **settings), build, start_of(frozen))
        state = jax.jit(train.init)(jax.random.key(1), MEMBER, DATA)
        return state, jax.jit(train)(jax.random.key(1), MEMBER, DATA)[0]

    return run


@pytest.mark.slow
def test_layers_and_widths_stay_where_they_are_frozen(runs):
    first, last = runs(freeze=("layer_0",), fixed_widths=True)

    def changed(kind):
        pairs = zip(nnx.to_flat_state(first.params[kind]), nnx.to_flat_state(last.params[kind]), strict=True)
        return {path[:3] for (path, a), (_, b) in pairs if np.any(a[...] != b[...])}

    assert changed("widths") == set()
    assert {path[:2] for path in changed("weights")} == {("layer", 1)}
    before, after = (nnx.to_flat_state(state.observed) for state in (first, last))
    norms = {path for (path, a), (_, b) in zip(before, after, strict=True) if "norm" in path and np.any(a[...] != b[...])}
    assert norms and all(path[:2] == ("layer", 1) for path in norms)


@pytest.mark.slow
def test_widths_are_trained_alone_where_weights_are_fixed(runs):
    first, last = runs(fixed_weights=True)
    moved = {kind: jax.tree.map(lambda a, b: bool(jnp.any(a != b)), first.params[kind], last.params[kind]) for kind in first.params}
    assert not any(jax.tree.leaves(moved["weights"])) and any(jax.tree.leaves(moved["widths"]))


@pytest.mark.slow
def test_a_state_goes_on_with_a_fresh_optimiser(runs, frozen):
    _, last = runs()
    train = training.make_train(CONFIG, build)
    state = train.start(last.params, last.observed, MEMBER, DATA)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(state.optimizer))
    assert jax.tree.structure(state) == jax.tree.structure(jax.eval_shape(train.init, jax.random.key(0), MEMBER, DATA))
    assert float(state.cost) > 0


@pytest.mark.parametrize(
    ("config", "sizes", "message"),
    [
        ({}, (3, 5, 2), "the start 'p03' has in layer 'layer_0' a kernel of shape (3, 4), this network one of shape (3, 5)"),
        ({}, (3, 2), "the start 'p03' has 2 layers with weights (layer_0, layer_1), this network 1 (layer_0)"),
        ({"freeze": ("head",)}, (3, 4, 2), "freeze has 'head', which is found in no layer; layers are layer_0, layer_1"),
        ({"freeze": ("(",)}, (3, 4, 2), "freeze has '(', which is no regular expression"),
    ],
)
def test_a_start_of_other_shapes_is_refused(frozen, config, sizes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        training.make_train(training.Config(epochs=1, **config), lambda rngs: build(rngs, sizes), start_of(frozen))


def test_float_weights_as_a_start():
    kernels = [np.full(shape, 0.5, np.float32) for shape in ((3, 4), (4, 2))]
    start = layers.FloatStart({f"fc{n}/kernel": kernel for n, kernel in enumerate(kernels)})
    plain = lambda rngs: build(rngs, batch_norm=None)  # noqa: E731
    state = jax.jit(training.make_train(CONFIG, plain, start).init)(jax.random.key(1), MEMBER, DATA)
    values = [leaf[...] for path, leaf in nnx.to_flat_state(state.params["weights"]) if path[-1] == "kernel"]
    assert [np.unique(v).tolist() for v in values] == [[0.5], [0.5]]
