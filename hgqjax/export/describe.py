"""A trained model becomes a model description: frozen, calibrated, and compared with the JAX model word by word."""

from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array

from hgqjax import layers
from hgqjax.export import model as m
from hgqjax.quantizers import Format

SAMPLE_ROWS = 1000


class _Graph:
    """Collects operations while the model is called on symbols; a `hgqjax.layers.SymbolicGraph`."""

    def __init__(self, model: layers.Module):
        self.operations: list[m.Operation] = []
        self.names = {id(layer): name for name, layer in model.named(layers.Layer)}

    def name_of(self, module: nnx.Module) -> str:
        return self.names[id(module)]

    def _add(self, op_class: type[m.Operation], name: str, inputs: tuple[layers.Symbol, ...], shape, **fields: Any) -> layers.Symbol:
        taken = {op.name for op in self.operations}
        if name in taken:  # a layer that is used twice has two places in hardware
            name = next(f"{name}_{n}" for n in range(2, 10**6) if f"{name}_{n}" not in taken)
        op = op_class(name=name, inputs=tuple(x.name for x in inputs), shape=tuple(shape), **fields)
        self.operations.append(op)
        return layers.Symbol(self, name, op.shape)

    def input(self, shape) -> layers.Symbol:
        return self._add(m.Input, "x", (), shape)

    def quantize(self, x: layers.Symbol, name: str, fmt: Format, rounding: str, overflow: str) -> layers.Symbol:
        k, i, f = (np.asarray(v).astype(np.int64) for v in fmt)
        if k.shape != x.shape:
            raise m.DescriptionError(f"layer {name!r} quantizes shape {k.shape}, but is given {x.shape}")
        if np.any(np.maximum(k + i + f, 0) > 52):
            raise m.DescriptionError(f"layer {name!r} has a format of {int((k + i + f).max())} bits; at most 52 are exact")
        alive = k + i + f > 0
        k, i, f = (np.where(alive, v, 0) for v in (k, i, f))
        return self._add(m.Quantize, name, (x,), x.shape, k=k, i=i, f=f, rounding=rounding, overflow=overflow)

    def dense(self, x, name, kernel, kernel_format, bias, bias_format) -> layers.Symbol:
        if x.shape[-1] != kernel.shape[0]:
            raise m.DescriptionError(f"layer {name!r} takes {kernel.shape[0]} features, but is given shape {x.shape}")
        try:
            kernel = _constant(kernel, kernel_format)
            bias = None if bias is None else _constant(bias, bias_format)
        except m.DescriptionError as error:
            raise m.DescriptionError(f"layer {name!r}: {error}") from error
        return self._add(m.Dense, name, (x,), (*x.shape[:-1], kernel.integers.shape[1]), kernel=kernel, bias=bias)

    def relu(self, x: layers.Symbol, name: str) -> layers.Symbol:
        return self._add(m.Relu, name, (x,), x.shape)


def _constant(values: Array, fmt: Format) -> m.Constant:
    _, i, f = (np.asarray(v).astype(np.int64) for v in fmt)
    return m.Constant.from_values(np.asarray(values), f, np.maximum(i + f, 0))


def describe(
    model: layers.Module,
    calibration,
    *,
    name: str = "model",
    metadata: dict[str, Any] | None = None,
) -> m.ModelDescription:
    """Freezes `model`: ranges exactly those of the rows `calibration` (train and validation), constants on their integer grids.

    Then the JAX model and the description's exact evaluator are compared on the first 1 000 of these rows, words with ``==``. Sums that
    could exceed the 24 bits of float32 are computed in float64 for that; where even its 53 bits could be exceeded, the layer is refused.
    These rows stay with the description as `sample`, for the gates of the back ends.

    Args:
      model: a `hgqjax.layers.Module` whose `__call__` uses layers only; unchanged.
      calibration: scaled float rows, (rows, *shape), at least one.

    Raises: DescriptionError, naming the layer, where constants are not finite, a format is wider than 52 bits, sums exceed 53 bits, or a
      word differs; also where the model computes outside layers.
    """
    rows = np.asarray(calibration, np.float32)
    if rows.ndim < 2 or not len(rows) or not np.all(np.isfinite(rows)):
        raise m.DescriptionError(f"calibration has shape {rows.shape}; at least one row of finite numbers is needed")
    frozen = layers.calibrate(model, rows)
    for layer_name, layer in frozen.named(layers.Layer):
        if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(nnx.state(layer))):
            raise m.DescriptionError(f"layer {layer_name!r} has a NaN or infinity; the model has diverged")
    graph = _Graph(frozen)
    try:
        results = frozen(graph.input(rows.shape[1:]))
    except TypeError as error:
        raise m.DescriptionError(f"the model computes outside hgqjax.layers, which has no hardware description: {error}") from error
    outputs = tuple(r.name for r in (results if isinstance(results, tuple) else (results,)))
    description = m.ModelDescription(
        name=name,
        operations=tuple(graph.operations),
        outputs=outputs,
        sample=rows[:SAMPLE_ROWS],
        metadata=metadata or {},
    )
    _check_words(frozen, description)
    return description


def _check_words(frozen: layers.Module, description: m.ModelDescription) -> None:
    """Raises DescriptionError unless the JAX model gives the evaluator's words on the sample."""
    bits = {
        op.name: int(op.accumulator_bits(description.grids[op.inputs[0]]).max(initial=0))
        for op in description.operations
        if isinstance(op, m.Dense)
    }
    widest = max(bits, key=bits.get, default=None)
    if widest is not None and bits[widest] > 53:
        raise m.DescriptionError(
            f"layer {widest!r} sums up to {bits[widest]} bits, more than float64 holds; use fewer fractional bits there"
        )
    wide = widest is not None and bits[widest] > 24
    with jax.enable_x64(wide):
        x = jax.numpy.asarray(description.sample, np.float64 if wide else np.float32)
        with jax.default_matmul_precision("float32"):
            results = frozen(x)
        results = [np.asarray(r, np.float64) for r in (results if isinstance(results, tuple) else (results,))]
    expected = description.evaluate(description.sample)
    for name, ours, judge in zip(description.outputs, results, expected if isinstance(expected, tuple) else (expected,), strict=True):
        differing = np.argwhere(ours != judge)
        if len(differing):
            row, *index = differing[0]
            raise m.DescriptionError(
                f"output {name!r}{list(map(int, index))}, row {row}: JAX gives {ours[tuple(differing[0])]!r}, "
                f"the exact evaluator {judge[tuple(differing[0])]!r}; {len(differing)} words differ"
            )
