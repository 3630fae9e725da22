"""Allocations on a convolutional network with pooling: within the budget, and down to exported words."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hgqjax import export, layers, methods, resources, scores
from hgqjax.runs import networks
from hgqjax.training.objective import Objective

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(32, 8, 8, 2)).astype(np.float32)
CNN, SHAPE = networks.Cnn(filters=(3,), hidden=(6,)), (8, 8, 2)
METHODS = [methods.Ohq(), methods.Amed(weight_granularity="tensor", activation_granularity="tensor"), methods.Ptilmpq()]


def allocated(method, share):
    """The allocated model, its budget and its cost; the budget is `share` times the least that its quantizers can have."""
    model = dataclasses.replace(CNN, method=method).build(SHAPE, 3)(nnx.Rngs(0))
    rows, y, score = jnp.asarray(IMAGES), jnp.arange(32) % 3, scores.Accuracy()
    layers.adapt(model, rows)
    layers.seed(model, jax.random.key(0))
    objective = Objective(score=score, cost=resources.Ebops())
    least = nnx.clone(model)
    layers.narrowest(least)
    least.set_mode("observe")
    budget = share * objective.costs(least).total
    graphdef, state = nnx.split(model)

    @jax.jit
    def again(state, epoch):
        model = nnx.merge(graphdef, state, copy=True)
        task = layers.Task((rows,), y, None, score.loss, score.divergence, objective.costs, budget)
        layers.reassign(model, epoch, 10, task)
        return nnx.state(model)

    for epoch in (0, 2) if isinstance(method, methods.Amed) else (10,):
        state = again(state, jnp.int32(epoch))
    nnx.update(model, state)
    model.set_mode("observe")
    return model, float(budget), float(objective.costs(model).total)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_allocations_keep_the_budget_and_hardware_has_their_words(method):
    model, budget, cost = allocated(method, 1.4)
    assert 0.6 * budget < cost <= budget
    description = export.describe(model, IMAGES)
    frozen = layers.calibrate(model, IMAGES)
    np.testing.assert_array_equal(description.evaluate(IMAGES), np.asarray(frozen(jnp.asarray(IMAGES)), np.float64))
    assert all(np.any(op.kernel.integers) for op in description.operations if hasattr(op, "kernel"))
