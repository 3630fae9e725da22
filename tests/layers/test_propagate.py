"""Smoothness-aware propagation: its formula, its limit, its multiplier, permutations, mistakes."""

import jax.numpy as jnp
import numpy as np
import pytest
from any_networks import interpreted, size
from flax import nnx
from hls4ml_networks import verified

from hgqjax import export, layers, resources
from hgqjax.layers.propagate import normalized
from hgqjax.quantizers import Kif

RNG = np.random.default_rng(0)
BLOCKS = np.kron(np.eye(2), np.ones((3, 3)))  # of a stochastic block model with two blocks
EDGES = np.triu(RNG.random((6, 6)) < np.where(BLOCKS > 0, 0.9, 0.2), 1).astype(float)
EDGES = EDGES + EDGES.T
A, X = normalized(EDGES), RNG.normal(size=(4, 6, 2)).astype(np.float32)


def formula(x, steps, pull, rate, lam):
    h = x
    for _ in range(steps):
        y = (1 - (1 + pull) * rate) * h + pull * rate * A @ h + rate * x
        h = y + 2 * rate * lam * A @ (y - h)
    return h


@pytest.mark.parametrize(("pull", "rate", "lam"), [(9.0, 0.1, 0.0), (4.0, 0.15, 0.5)])
def test_floats_are_those_of_the_formula(pull, rate, lam):
    layer = layers.Propagate(EDGES, 2, steps=3, pull=pull, rate=rate)
    layer.spread.multiplier[...] = jnp.float32(lam)
    layer.set_mode("float")
    np.testing.assert_allclose(layer(jnp.asarray(X)), formula(X, 3, pull, rate, lam), rtol=1e-5, atol=1e-5)
    if not lam:
        plain = layers.Propagate(EDGES, 2, steps=3, pull=pull, rate=rate, threshold=None)
        plain.set_mode("float")
        np.testing.assert_array_equal(plain(jnp.asarray(X)), layer(jnp.asarray(X)))


def test_its_limit_is_that_of_personalised_propagation():
    limit = np.linalg.solve(np.eye(6) + 9.0 * (np.eye(6) - A), X)
    np.testing.assert_allclose(formula(X.astype(float), 400, 9.0, 0.1, 0.0), limit, atol=1e-12)
    layer = layers.Propagate(EDGES, 2, steps=40, threshold=None)
    layer.set_mode("float")
    np.testing.assert_allclose(layer(jnp.asarray(X)), formula(X, 40, 9.0, 0.1, 0.0), atol=1e-5)


def test_the_multiplier_follows_training_calls_alone():
    layer = layers.Propagate(EDGES, 2, steps=1, threshold=0.5, input_quantizer=Kif(i0=6.0, f0=12.0), kernel_quantizer=Kif(b0=20.0))
    layer(jnp.asarray(X))
    gap = (0.9 * A @ X + 0.1 * X) - X
    rough = np.mean(np.sum(gap * (gap - A @ gap), (1, 2)))
    change = 1e-5 * (0.5 * EDGES.sum() / 2 - 1e-6 - rough)
    assert float(layer.spread.multiplier[...]) == pytest.approx(1e-3 + change, rel=1e-4)
    assert float(layer.spread.slack[...]) == pytest.approx(1e-3 + 2e-5 * 1e-6, rel=1e-6)
    before = float(layer.spread.multiplier[...])
    for mode in ("settle", "observe", "calibrate", "evaluate"):
        layer.set_mode(mode)
        layer(jnp.asarray(X))
    assert float(layer.spread.multiplier[...]) == before


def test_steps_are_exported_one_after_the_other_at_their_cost():
    layer = layers.Propagate(EDGES[:3, :3], 2, steps=2)
    layers.adapt(layer, jnp.asarray(X[:, :3]))
    frozen, description = layers.calibrate(layer, X[:, :3]), export.describe(layer, X[:, :3])
    np.testing.assert_array_equal(frozen(jnp.asarray(X[:, :3])), description.evaluate(X[:, :3]))
    assert {"mix", "mix_2", "spread", "spread_2"} <= {op.name for op in description.operations}
    assert float(resources.ebops(frozen).total) == pytest.approx(float(resources.ebops(description).total), rel=1e-6)


def smooth():
    """A description of two steps with gaps, of which lambda has a part."""
    layer = layers.Propagate(EDGES[:3, :3], 2, steps=2, input_quantizer=Kif(f0=3.0), kernel_quantizer=Kif(b0=5.0))
    layer.spread.multiplier[...] = jnp.float32(0.5)
    layers.adapt(layer, jnp.asarray(X[:, :3]))
    description = export.describe(layer, X[:, :3])
    assert np.any(description["spread"].kernel.integers)
    return description


def test_words_of_the_adder_graph_and_of_cpp(tmp_path):
    description = smooth()
    assert interpreted(description) > 600 * size(description)
    verified(description, tmp_path / "p", min_rows=1000)


@pytest.mark.synth
@pytest.mark.parametrize("flavor", ["verilog", "vhdl"])
def test_words_of_simulated_rtl(flavor, tmp_path):
    description = smooth()
    project = export.to_rtl(description, tmp_path / "p", flavor=flavor, clock_ns=2.0, simulated_rows=300)
    assert project.gate.words == project.gate.rows * size(description)


def test_permuted_nodes_have_permuted_results():
    order = RNG.permutation(6)
    settings = {"input_granularity": "channel", "kernel_granularity": "tensor", "steps": 2}
    one, other = layers.Propagate(EDGES, 2, **settings), layers.Propagate(EDGES[order][:, order], 2, **settings)
    nnx.update(other, nnx.state(one))
    for layer, x in ((one, X), (other, X[:, order])):
        layers.adapt(layer, jnp.asarray(x))
        layer.set_mode("observe")
    np.testing.assert_array_equal(np.asarray(one(jnp.asarray(X)))[:, order], other(jnp.asarray(X[:, order])))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([[0.0, 1.0], [0.0, 0.0]], 2), r"adjacency has shape \(2, 2\); a symmetric matrix"),
        ((np.ones((2, 3)), 2), r"adjacency has shape \(2, 3\)"),
        ((np.full((2, 2), -1.0), 2), "numbers of at least 0"),
        ((np.eye(2), 0), "features is 0"),
    ],
)
def test_mistakes_are_named(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        layers.Propagate(*arguments)
    with pytest.raises(ValueError, match="rate 0.5; at least"):
        layers.Propagate(np.eye(2), 1, rate=0.5)
    with pytest.raises(ValueError, match="threshold is -1.0"):
        layers.Propagate(np.eye(2), 1, threshold=-1.0)
