"""Whole-model functions for quantizers that gradients alone do not train: what they draw, what is reassigned, and by which curvature."""

import functools
import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from hgqjax.layers._base import Module
from hgqjax.layers.allocation import Task, allocate, allocations, weights_of
from hgqjax.layers.backward import AbstractGradients, Exact
from hgqjax.layers.gates import Gate
from hgqjax.layers.linear import AbstractLinear
from hgqjax.layers.mode import Mode
from hgqjax.layers.quantize import Probe, QuantizeWeight, _Quantizer
from hgqjax.layers.ruled import Ruled

ITERATIONS = 8
"""Of the power iteration."""
STREAM = 0x5EED
"""Folded into a run's key: its samples are not those that the weights were drawn with."""


def seed(model: Module, key: Array) -> None:
    """Gives each quantizer that samples, and each layer that quantizes gradients, random numbers of its own.

    Such quantizers of weights start anew, from weights with batch norms folded.
    """
    key = jax.random.fold_in(key, STREAM)
    for n, part in enumerate([*_sampling(model), *_rounding(model)]):
        part.seed[...] = jax.random.key_data(jax.random.fold_in(key, n))
    weights = dict(weights_of(model))
    for name, layer in model.named(QuantizeWeight):
        if layer.quantizer.samples:
            layer.set_params(layer.quantizer.init(layer.widths_shape, key=jax.random.wrap_key_data(layer.seed[...]), sample=weights[name]))


def begin_step(model: Module, step: Array, progress: Float[Array, ""]) -> None:
    """Sets number and temperature of a training step; `progress` is the share of the run that is over."""
    for part in _sampling(model):
        part.step[...] = step.astype(jnp.int32)
        part.temperature[...] = part.rule.temperature(progress)
    for layer in _rounding(model):
        layer.step[...] = step.astype(jnp.int32)


def reassigns(model: Module, epoch: Array, epochs: int) -> Array | bool:
    """Whether anything is to be reassigned or allocated before this epoch, of which number `epochs` is after the last; the constant False
    where nothing ever is."""
    due = [part.rule.reassigns(epoch, epochs) for _, part in model.named(Ruled)]
    due += [allocation.allocates(epoch, epochs) for allocation in allocations(model)]
    return functools.reduce(operator.or_, due, False)


def reassign(model: Module, epoch: Array, epochs: int, task: Task) -> None:
    """Calls `reassign` of the quantizers and gates, and `allocate` of the allocations, that are due before this epoch."""
    progress = jnp.asarray(epoch / epochs, jnp.float32)
    due = {name: layer.quantizer.reassigns(epoch, epochs) for name, layer in model.named(_Quantizer)}
    due = {name: when for name, when in due.items() if when is not False}
    weights = dict(weights_of(model))
    curvatures = functools.cache(lambda: row_curvatures(model, [name for name in due if name in weights], task.of))
    layers = dict(model.named(_Quantizer))
    for name, when in due.items():
        layer = layers[name]
        curvature = functools.partial(lambda name: curvatures()[name], name)
        new = layer.quantizer.reassign(layer.params, weights.get(name), progress=progress, curvature=curvature)
        _set_where(layer, when, new)
    for allocation in allocations(model):
        when = allocation.allocates(epoch, epochs)
        if when is not False:
            for name, new in allocate(model, allocation, epoch, epochs, task).items():
                _set_where(layers[name], when, new)
    for _, gate in model.named(Gate):
        _set_where(gate, gate.rule.reassigns(epoch, epochs), gate.rule.reassign(gate.params, progress=progress))


def _set_where(layer: Ruled, when: Array | bool, new: dict[str, Array]) -> None:
    layer.set_params({key: jnp.where(when, new[key], value) for key, value in layer.params.items()})


def row_curvatures(model: Module, names: Sequence[str], loss: Callable[[Module], Float[Array, ""]]) -> dict[str, Float[Array, "..."]]:
    r"""Largest eigenvalue, in magnitude, of the Hessian of ``loss(model)`` in each row of the weights that the quantizers `names` quantize.

    Rows are slices along the last axis; a result has 1 on all others. Of row r the block :math:`H_{rr}`, by power iteration
    :math:`v \leftarrow H_{rr} v / |H_{rr} v|` (8 times) and :math:`\lambda = v^T H_{rr} v`; a product with H is the derivative, forward, of
    the gradient. Weights and activations are those before quantization, batch norms keep their statistics.
    Source: RMSMP, arXiv:2111.00153, takes rows of greater eigenvalue as the more sensitive ones.
    """
    model = nnx.clone(model)
    model.set_mode(Mode.FLOAT)
    quantizers = dict(model.named(_Quantizer))
    shapes = {name: quantizers[name].shape for name in names}
    for name in names:
        quantizers[name].probe = Probe(jnp.zeros(shapes[name]))
    graphdef, zeros, rest = nnx.split(model, Probe, ...)
    gradient = jax.grad(lambda probes: loss(nnx.merge(graphdef, probes, rest, copy=True)))
    leaves, structure = jax.tree.flatten(zeros)
    ends = np.cumsum([leaf.shape[-1] for leaf in leaves])
    starts = [jax.random.normal(jax.random.key(n), leaf.shape) for n, leaf in enumerate(leaves)]

    def of_row(row):
        own = [
            (jnp.arange(end - leaf.shape[-1], end) == row).astype(jnp.float32).reshape((1,) * (leaf.ndim - 1) + (-1,))
            for end, leaf in zip(ends, leaves, strict=True)
        ]

        def product(v):
            hv = jax.jvp(gradient, (zeros,), (jax.tree.unflatten(structure, v),))[1]
            return [part * mask for part, mask in zip(jax.tree.leaves(hv), own, strict=True)]

        def unit(v):
            norm = jnp.sqrt(sum(jnp.sum(part**2) for part in v))
            return [part / jnp.maximum(norm, 1e-30) for part in v]

        v = unit([part * mask for part, mask in zip(starts, own, strict=True)])
        v = lax.fori_loop(0, ITERATIONS, lambda _, v: unit(product(v)), v)
        return abs(sum(jnp.sum(a * b) for a, b in zip(v, product(v), strict=True)))

    found = lax.map(of_row, jnp.arange(ends[-1]))
    rows = jax.tree.unflatten(structure, [found[end - leaf.shape[-1] : end] for end, leaf in zip(ends, leaves, strict=True)])
    nnx.update(model, rows)
    return {name: quantizers[name].probe[...].reshape((1,) * (len(shape) - 1) + (-1,)) for name, shape in shapes.items()}


def narrowest(model: Module) -> None:
    """Gives every quantizer and gate the parameters of the lowest cost that training can reach."""
    for _, part in model.named(Ruled):
        part.set_params(part.rule.narrowest(part.params))


def _sampling(model: Module) -> list[Ruled]:
    return [part for _, part in model.named(Ruled) if part.rule.samples]


def _rounding(model: Module) -> list[AbstractLinear]:
    return [layer for _, layer in model.named(AbstractLinear) if not isinstance(layer.gradients, Exact)]


def quantized_gradients(build: Callable[[nnx.Rngs], Module], gradients: AbstractGradients) -> Callable[[nnx.Rngs], Module]:
    """As `build`, of models whose layers with a kernel quantize the gradients of their products while they train."""

    def built(rngs: nnx.Rngs) -> Module:
        model = build(rngs)
        for _, layer in model.named(AbstractLinear):
            layer.quantize_gradients(gradients)
        return model

    return build if isinstance(gradients, Exact) else built
