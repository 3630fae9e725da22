"""Whole-model functions on the quantizers: start widths from data, observe ranges, limit and sum widths."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from hgqjax import scratch
from hgqjax.layers._base import Layer, Module, Observed
from hgqjax.layers.linear import AbstractLinear
from hgqjax.layers.lut_dense import LutDense
from hgqjax.layers.mode import Mode
from hgqjax.layers.quantize import Quantize, _Quantizer
from hgqjax.layers.ruled import Ruled
from hgqjax.layers.table import Table


def adapt(model: Module, x: Float[Array, "rows ..."] | tuple[Float[Array, "rows ..."], ...]) -> None:
    """Starts the widths of every activation quantizer from the rows `x` that reach it, layer by layer, in training mode.

    A tuple of rows is for a model of several inputs. A layer that the model calls twice starts from the rows of both calls.

    Changes `model`: widths (by ``quantizer.init(sample=...)``), ranges, which forget what they held, batch statistics, and how often each
    layer is called.
    """
    for _, layer in model.named(Layer):
        if layer.counts_uses:
            layer.uses[...] = jnp.zeros(())
    _follow(model, x, Mode.ADAPT)
    model.set_mode(Mode.TRAIN)


def follow(model: Module, x: Float[Array, "rows ..."] | tuple[Float[Array, "rows ..."], ...]) -> None:
    """Starts ranges and batch statistics from the rows `x`, as `adapt` does, with the widths that are there; leaves training mode."""
    for _, layer in model.named(AbstractLinear):
        if layer.norm is not None:
            layer.norm.calls[...] = jnp.zeros(())
    _follow(model, x, Mode.TRAIN)


def _follow(model: Module, x: Any, mode: Mode) -> None:
    """A call in this mode, which is left; ranges forget what they held."""
    model.set_mode(mode)
    for _, quantizer in model.named(Quantize):
        quantizer.forget()
    graphdef, state = nnx.split(model)
    nnx.update(model, _called(graphdef, state, tuple(map(jnp.asarray, row_arrays(x)))))


def row_arrays(x: Any) -> tuple[Any, ...]:
    """Rows of each input of a model: those of the tuple `x`, else `x` itself; raises ValueError where they differ in number."""
    rows = x if isinstance(x, tuple) else (x,)
    counts = [len(part) for part in rows]
    if len(set(counts)) != 1:
        raise ValueError(f"inputs have {', '.join(map(str, counts)) or 'no'} rows; each input needs as many as the others")
    return rows


@functools.partial(jax.jit, static_argnums=0)
def _called(graphdef, state, rows):
    """The state after a call on `rows`; compiled at once, which takes a fraction of the time of one operation after the other."""
    model = nnx.merge(graphdef, state, copy=True)
    model(*rows)
    for _, layer in model.named(Layer):
        if layer.counts_uses:  # one with a call of its own may not have counted
            layer.uses[...] = jnp.maximum(layer.uses[...], 1.0)
    return nnx.state(model)


def calibrate(model: Module, x, batch: int | None = None) -> Module:
    """A frozen copy of `model` whose ranges are exactly those of the rows `x`: what a WRAP format is then sure to hold.

    Batch norms are folded into the weights, tables are made. The copy is in evaluation mode: calling it changes nothing and is bit-exact.
    A tuple of rows is for a model of several inputs; `batch` of them are computed at a time. Raises ValueError where inputs differ in rows.
    """
    rows = row_arrays(x)
    widest = max([sum(math.prod(part.shape[1:]) for part in rows), *(math.prod(q.shape) for _, q in model.named(Quantize))])
    batch = max(min(65536, 2**22 // widest), 1) if batch is None else batch  # images are large, and the edges of tables many
    model = nnx.clone(model)
    model.set_mode(Mode.CALIBRATE)
    for _, layer in model.named(AbstractLinear):
        layer.fold()
    for _, quantizer in model.named(_Quantizer):
        quantizer.forget()
    graphdef, seen, rest = nnx.split(model, Observed, ...)
    for start in range(0, len(rows[0]), batch):
        with jax.default_matmul_precision("float32"):
            seen = _observe(graphdef, seen, rest, tuple(jnp.asarray(part[start : start + batch]) for part in rows))
        scratch.release(*rows)
    nnx.update(model, seen)
    for name, table in [*model.named(Table), *model.named(LutDense)]:
        table.tabulate(name)
    model.set_mode(Mode.EVALUATE)
    return model


@functools.partial(jax.jit, static_argnums=0)
def _observe(graphdef, seen, rest, rows):
    """The ranges after `rows`; compiled once for all models of one structure."""
    model = nnx.merge(graphdef, seen, rest, copy=True)
    model(*rows)
    return nnx.state(model, Observed)


def clip_widths(model: Module) -> None:
    """Brings every width of `model`, and what its gates train, into their limits; the training step calls it after each update."""
    for _, part in model.named(Ruled):
        part.clip()


def regularizer_bits(model: Module) -> Float[Array, ""]:
    """Sum of the magnitude bits of all trained widths (each shared one once): the gamma term, which keeps unneeded bits from floating.

    Where each value of a group has its own format, its mean is taken; constant formats do not count.
    """
    total = jnp.zeros(())
    for _, quantizer in model.named(_Quantizer):
        fmt = quantizer.format()
        bits = fmt.i + fmt.f
        widths = [value.size for value in quantizer.params.values()]
        if widths:
            total = total + jnp.sum(jnp.where(bits > 0, bits, 0.0)) * (widths[0] / bits.size)
    return total
