"""Whole-model functions for allocations: what they may know of each tensor, and what they may ask of the network."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from hgqjax import ranges
from hgqjax.layers._base import Module
from hgqjax.layers.linear import AbstractLinear
from hgqjax.layers.mode import Mode
from hgqjax.layers.quantize import Probe, QuantizeWeight, Seen, _Quantizer
from hgqjax.quantizers import AbstractAllocation, Moment, Slot

AT_ONCE = 32
"""Rows whose gradients are computed side by side."""


class Task(NamedTuple):
    """The rows that a reassignment looks at, and what is wanted of a network there."""

    x: tuple[Array, ...]
    y: Array
    weight: Array | None
    loss: Callable[[Array, Array, Array | None], Float[Array, ""]]
    """Of outputs, y and weights of rows."""
    divergence: Callable[[Array, Array], Float[Array, ""]]
    """Of outputs from those of another network."""
    cost: Callable[[Module], dict[str, Float[Array, ""]]]
    """By layer."""
    budget: Float[Array, ""]
    """The member's."""

    def of(self, model: Module) -> Float[Array, ""]:
        """Loss of `model` on these rows."""
        return self.loss(model(*self.x), self.y, self.weight)


def allocations(model: Module) -> list[AbstractAllocation]:
    """Those of the model's quantizers, each once."""
    return list(dict.fromkeys(q.quantizer.allocation for _, q in model.named(_Quantizer) if q.quantizer.allocation is not None))


def allocate(model: Module, allocation: AbstractAllocation, epoch: Array, epochs: int, task: Task) -> dict[str, dict[str, Array]]:
    """New parameters of the quantizers that have `allocation`, by name; of `model` ranges of weights alone change, to those of today."""
    found = {name: q for name, q in model.named(_Quantizer) if q.quantizer.allocation == allocation}
    names = list(found)
    key = jax.random.fold_in(jax.random.wrap_key_data(found[names[0]].seed[...]), epoch)
    seen = functools.cache(lambda: values(model, names, task))
    squared = functools.cache(lambda: fishers(model, names, task))
    weights = dict(weights_of(model))
    for name in (name for name in found if name in weights):
        found[name]._keep(ranges.observe(weights[name], found[name].low[...].shape))
    layers = sorted(model.operations_cost(), key=len)
    slots = []
    for name, q in found.items():
        role = "activation" if not isinstance(q, QuantizeWeight) else "bias" if name.endswith("bias_quantizer") else "kernel"
        layer = next((other for other in reversed(layers) if name.startswith((f"{other}_", other)) or other == "model"), "")
        get = functools.partial(weights.__getitem__, name) if name in weights else functools.partial(lambda name: seen()[name], name)
        fisher = functools.partial(lambda name: squared()[name], name)
        slots.append(Slot(name, layer, role, q.quantizer, q.params, q.range, get, fisher))
    new = allocation.allocate(slots, _moment(model, names, key, jnp.asarray(epoch / epochs, jnp.float32), task))
    return dict(zip(names, new, strict=True))


def _moment(model: Module, names: list[str], key: Array, progress: Array, task: Task) -> Moment:
    def having(widths: Mapping[str, Any], mode: Mode = Mode.OBSERVE) -> Module:
        copy = nnx.clone(model)
        copy.set_mode(mode)
        quantizers = dict(copy.named(_Quantizer))
        for name, params in widths.items():
            quantizers[name].set_params(params)
        return copy

    def all_of(widths: Sequence[Any]) -> Module:
        return having({name: params for name, params in zip(names, widths, strict=True)})

    def costs(widths: Sequence[Any]) -> dict[str, Array]:
        return task.cost(all_of(widths))

    def marginal(widths: Sequence[Any]) -> list[Array]:
        found = all_of(widths)
        quantizers = dict(found.named(_Quantizer))
        for name in names:
            quantizers[name].shift = Probe(jnp.zeros_like(next(iter(quantizers[name].params.values()))))
        graphdef, shifts, rest = nnx.split(found, Probe, ...)
        slopes = jax.grad(lambda shifts: _total(task.cost(nnx.merge(graphdef, shifts, rest, copy=True))))(shifts)
        nnx.update(found, slopes)
        return [quantizers[name].shift[...] for name in names]

    def divergences(options: Mapping[int, dict[str, Array]]) -> Array:
        quantizers = dict(model.named(_Quantizer))
        today = {n: quantizers[names[n]].params for n in options}
        reference = having({}, Mode.FLOAT)(*task.x)

        def one(number: Array, option: dict[int, dict[str, Array]]) -> Array:
            def of(n: int) -> dict[str, Array]:
                return {name: jnp.where(number == n, value, today[n][name]) for name, value in option[n].items()}

            return task.divergence(having({names[n]: of(n) for n in option})(*task.x), reference)

        every = jax.vmap(one, in_axes=(None, 0))
        return lax.map(lambda number: every(number, dict(options)), jnp.array(list(options)))

    return Moment(
        progress,
        key,
        task.budget,
        lambda widths: task.of(all_of(widths)),
        lambda widths: _total(costs(widths)),
        costs,
        marginal,
        divergences,
    )


def _total(costs: dict[str, Array]) -> Array:
    return jnp.asarray(sum(costs.values()), jnp.float32)


def values(model: Module, names: Sequence[str], task: Task) -> dict[str, Float[Array, "..."]]:
    """What reaches the quantizers `names` of activations in the float network, on all rows; (rows, *shape) each."""
    found = _in_floats(model)
    quantizers = dict(found.named(_Quantizer))
    for name in names:
        quantizers[name].seen = Seen(jnp.zeros((len(task.y), *quantizers[name].shape)))
    found(*task.x)
    return {name: quantizers[name].seen[...] for name in names if not isinstance(quantizers[name], QuantizeWeight)}


def fishers(model: Module, names: Sequence[str], task: Task) -> dict[str, Float[Array, "..."]]:
    r"""Mean over rows of the squared gradient of the row's loss, in each value that the quantizers `names` quantize.

    :math:`s = \frac{1}{R} \sum_r (\partial L_r / \partial v)^2`, of weights (shape) and of activations (1, *shape), of the float network
    with its running statistics: the diagonal of the empirical Fisher matrix, so that an error e costs about :math:`s e^2 / 2`.
    """
    found = _in_floats(model)
    quantizers = dict(found.named(_Quantizer))
    for name in names:
        shape = quantizers[name].shape
        quantizers[name].probe = Probe(jnp.zeros(shape if isinstance(quantizers[name], QuantizeWeight) else (1, *shape)))
    graphdef, zeros, rest = nnx.split(found, Probe, ...)

    def loss(probes: Any, x: tuple[Array, ...], y: Array, weight: Array | None) -> Array:
        row = tuple(part[None] for part in x), y[None], None if weight is None else weight[None]
        return task.loss(nnx.merge(graphdef, probes, rest, copy=True)(*row[0]), *row[1:])

    def part(total: Any, rows: Any) -> tuple[Any, None]:
        slopes = jax.vmap(jax.grad(loss), in_axes=(None, 0, 0, 0))(zeros, *rows)
        return jax.tree.map(lambda s, g: s + jnp.sum(g**2, 0), total, slopes), None

    count = len(task.y)
    size = max(n for n in range(1, min(AT_ONCE, count) + 1) if count % n == 0)
    rows = jax.tree.map(lambda v: v.reshape(-1, size, *v.shape[1:]), (task.x, task.y, task.weight))
    total, _ = lax.scan(part, zeros, rows)
    nnx.update(found, jax.tree.map(lambda s: s / count, total))
    return {name: quantizers[name].probe[...] for name in names}


def _in_floats(model: Module) -> Module:
    found = nnx.clone(model)
    found.set_mode(Mode.FLOAT)
    return found


def weights_of(model: Module) -> Iterator[tuple[str, Array]]:
    """(name of the quantizer, the weight that it quantizes)."""
    named = {id(quantizer): name for name, quantizer in model.named(QuantizeWeight)}
    for _, layer in model.named(AbstractLinear):
        for quantizer, weight in zip((layer.kernel_quantizer, layer.bias_quantizer), layer.weights(), strict=True):
            if quantizer is not None:
                yield named[id(quantizer)], weight
