"""Slots and moments without a network, whose cost is separable: for tests of allocations against brute force."""

import functools
import types
from typing import Any

import jax
import jax.numpy as jnp

from hgqjax import ranges
from hgqjax.quantizers import Moment, Slot


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

    found: dict[str, Any] = {"loss": None, "divergence": None} | asked
    return Moment(
        progress=jnp.float32(0.5),
        key=jax.random.key(key),
        budget=jnp.float32(budget),
        cost=lambda widths: jnp.asarray(sum(costs(widths).values()), jnp.float32),
        costs=costs,
        marginal=marginal,
        **found,
    )


def compiled(allocation, slots, **asked):
    """``allocate(budget)``, compiled once for all budgets."""
    return jax.jit(functools.partial(_allocated, allocation, slots, types.MappingProxyType(asked)))


def _allocated(allocation, slots, asked, budget):
    return allocation.allocate(slots, moment(slots, budget, **asked))
