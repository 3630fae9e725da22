"""For tests of allocations: slots and moments without a network, whose cost is separable; and small runs down to exported words."""

import functools
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hgqjax import export, layers, ranges, training
from hgqjax.quantizers import Moment, Slot
from hgqjax.runs import networks
from hgqjax.training import schedules
from hgqjax.training.objective import Objective


def slot(quantizer, x, fisher=None, role="kernel", name="a", layer="layer", shape=None):
    """A tensor with the weights, or rows of activations, `x`; by default each value has a width of its own."""
    x = jnp.asarray(x, jnp.float32)
    shape = shape or (x.shape if role != "activation" else (1, *x.shape[1:]))
    params, seen = quantizer.init(shape, sample=x), ranges.observe(x, shape)
    whole = x.shape if role != "activation" else (1, *x.shape[1:])
    squares = jnp.ones(whole) if fisher is None else jnp.asarray(fisher, jnp.float32).reshape(whole)
    return Slot(name, layer, role, quantizer, params, seen, lambda: x, lambda: squares)


def bits(slots, widths):
    """Magnitude bits of each width, >= 0."""
    formats = [s.quantizer.format(params, s.range) for s, params in zip(slots, widths, strict=True)]
    return [jnp.maximum(fmt.i + fmt.f, 0.0) for fmt in formats]


def moment(slots, budget=0.0, prices=None, key=0, **asked):
    """A cost of `prices` for each bit (1 by default), each of `slots` by its layer."""
    prices = prices or [1.0] * len(slots)

    def costs(widths):
        total = {s.layer: 0.0 for s in slots}
        for s, b, price in zip(slots, bits(slots, widths), prices, strict=True):
            total[s.layer] += jnp.sum(price * b)
        return total

    def marginal(widths):
        return [jnp.broadcast_to(jnp.float32(price), next(iter(w.values())).shape) for w, price in zip(widths, prices, strict=True)]

    found: dict[str, Any] = {"loss": None, "divergences": None} | asked
    return Moment(
        progress=jnp.float32(0.5),
        key=jax.random.key(key),
        budget=jnp.float32(budget),
        cost=lambda widths: jnp.asarray(sum(costs(widths).values()), jnp.float32),
        costs=costs,
        marginal=marginal,
        **found,
    )


def divergences(of_slot):
    """`Moment.divergences` made of the divergence of one slot by its number and parameters."""
    return lambda options: jnp.stack([jax.vmap(functools.partial(of_slot, n))(params) for n, params in options.items()])


def compiled(allocation, slots, **asked):
    """``allocate(budget)``, compiled once for all budgets."""
    return jax.jit(functools.partial(_allocated, allocation, slots, types.MappingProxyType(asked)))


def _allocated(allocation, slots, asked, budget):
    return allocation.allocate(slots, moment(slots, budget, **asked))


ROWS = np.random.default_rng(0).normal(size=(700, 4)).astype(np.float32)
LABELS = np.argmax(ROWS[:, :3] + 0.3 * ROWS[:, 1:], axis=1).astype(np.int32)
DATA = training.Data(*(jnp.asarray(v) for v in (ROWS[:512], LABELS[:512], ROWS[512:], LABELS[512:])))


def front_of(method, budgets, cost, epochs=6, check=None, seeds=None):
    """Of a small network: the last metrics of each member, one for each of `budgets` (0: none), and its model."""
    steers: Any = {"penalty": schedules.Budget()} if any(budgets) else {}
    config = training.Config(epochs=epochs, epochs_per_check=check or epochs, batch_size=64, objective=Objective(cost=cost), **steers)
    train = training.make_train(config, networks.Mlp(method=method, hidden=(8,)).build((4,), 3))
    count = len(budgets)
    members = training.Member(*(jnp.full(count, v, jnp.float32) for v in (0.0, 1e-2)), jnp.asarray(budgets, jnp.float32))
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds or (0,) * count, jnp.uint32))
    states, metrics = jax.jit(jax.vmap(train, (0, 0, None)))(keys, members, DATA)
    last = [{"member": n} | {name: float(values[n, -1]) for name, values in metrics.items()} for n in range(count)]
    return last, [train.model(jax.tree.map(lambda leaf, n=n: leaf[n], states)) for n in range(count)]


def words(model):
    """The exported network, whose evaluator agrees with the model bit for bit."""
    description = export.describe(model, ROWS)
    frozen = layers.calibrate(model, ROWS)
    np.testing.assert_array_equal(description.evaluate(ROWS), np.asarray(frozen(jnp.asarray(ROWS)), np.float64))
    return description
