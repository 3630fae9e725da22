"""A trained model becomes a model description: frozen, calibrated, and compared with the JAX model word by word."""

import functools
import inspect
import itertools
import math
import re
from typing import Any

import jax
import numpy as np
from flax import nnx

from hgqjax import layers, scratch
from hgqjax.description import operations as m
from hgqjax.description.model import ModelDescription
from hgqjax.description.outside import refusal
from hgqjax.description.wraps import rounded
from hgqjax.fixed_point import MAX_BITS
from hgqjax.quantizers import Format

SAMPLE_ROWS = 1000
BATCH_ROWS = 20_000


class _Graph:
    """Collects operations while the model is called on symbols; a `hgqjax.layers.SymbolicGraph`."""

    def __init__(self, model: layers.Module):
        self.operations: list[m.Operation] = []
        self.quantizers: dict[str, layers.Quantize] = {}
        self.names = {id(layer): name for name, layer in model.named(layers.Layer)}
        self.called: set[str] = set()
        self.roots: dict[str, str] = {}  # of an operation of no layer: the layer whose result it begins with

    def name_of(self, module: nnx.Module) -> str:
        """Of a layer that is called again its name and a number: in hardware it stands twice."""
        name = self.names[id(module)]
        if name in self.called:
            names = (f"{name}_{n}" for n in itertools.count(2))
            name = next(n for n in names if n not in self.called and n not in self.names.values())
        self.called.add(name)
        return name

    def _add(self, kind: str, name: str, inputs: tuple[layers.Symbol, ...], shape, **fields: Any) -> layers.Symbol:
        name = re.sub(r"\W", "_", name)
        if name in {op.name for op in self.operations}:
            raise m.DescriptionError(f"two layers, or a layer and an input quantizer, come to the name {name!r}; rename an attribute")
        op = m.KINDS[kind](name=name, inputs=tuple(x.name for x in inputs), shape=tuple(shape), **fields)
        self.operations.append(op)
        return layers.Symbol(self, name, op.shape)

    def input(self, name: str, shape) -> layers.Symbol:
        return self._add("input", name, (), shape)

    def quantize(self, x: layers.Symbol, name: str, fmt: Format, layer: Any) -> layers.Symbol:
        k, i, f = (np.asarray(v).astype(np.int64) for v in fmt)
        if k.shape != x.shape:
            raise m.DescriptionError(f"layer {name!r} quantizes shape {k.shape}, but is given {x.shape}")
        if np.any(np.maximum(k + i + f, 0) > MAX_BITS):
            raise m.DescriptionError(f"layer {name!r} has a format of {int((k + i + f).max())} bits; at most {MAX_BITS} are exact")
        alive = k + i + f > 0
        k, i, f = (np.where(alive, v, 0) for v in (k, i, f))
        self.quantizers[re.sub(r"\W", "_", name)] = layer
        modes = {"rounding": layer.quantizer.rounding, "overflow": layer.quantizer.overflow}
        return self._add("quantize", name, (x,), x.shape, k=k, i=i, f=f, **modes)

    def linear(self, kind, x, name, kernel, bias, shape, **settings) -> layers.Symbol:
        if kind == "dense" and x.shape[-1] != kernel.values.shape[0]:
            raise m.DescriptionError(f"layer {name!r} takes {kernel.values.shape[0]} features, but is given shape {x.shape}")
        try:
            kernel = _constant(kernel)
            bias = None if bias is None else _constant(bias)
        except m.DescriptionError as error:
            raise m.DescriptionError(f"layer {name!r}: {error}") from error
        return self._add(kind, name, (x,), shape, kernel=kernel, bias=bias, **settings)

    def affine(self, x: layers.Symbol, scale: np.ndarray, offset: np.ndarray) -> layers.Symbol:
        labels = "abcdefghijklmnopqrstuvwxyz"[: len(x.shape)]
        kernel = m.Constant.exactly(scale)
        bias = m.Constant.from_values(offset, m.Constant.exactly(offset).f) if np.any(offset) else None  # adders, not wires
        word = "plus" if bias is not None else "times"
        equation = f"{labels},{labels}->{labels}"
        return self._anonymous(word, "einsum", (x,), x.shape, kernel=kernel, bias=bias, equation=equation)

    def apply(self, kind, xs, shape, name=None, **settings) -> layers.Symbol:
        return self._anonymous(kind, kind, xs, shape, **settings) if name is None else self._add(kind, name, xs, shape, **settings)

    def _anonymous(self, word: str, kind: str, xs: tuple[layers.Symbol, ...], shape, **settings: Any) -> layers.Symbol:
        """Adds an operation of no layer; it has the name of the layer whose result it begins with, `word`, and where needed a number."""
        root = self.roots.get(xs[0].name, xs[0].name)
        taken, plain = {op.name for op in self.operations} | set(self.names.values()), re.sub(r"\W", "_", f"{root}_{word}")
        name = next(n for n in itertools.chain([plain], (f"{plain}_{number}" for number in itertools.count(2))) if n not in taken)
        self.roots[name] = root
        return self._add(kind, name, xs, shape, **settings)


def _constant(weight: layers.FrozenWeight) -> m.Constant:
    k, i, f = (np.asarray(v).astype(np.int64) for v in weight.format)
    return m.Constant.from_values(np.asarray(weight.values), f, np.maximum(i + f + (k if weight.overflow == "SAT" else 0), 0))


def describe(model: layers.Module, calibration, *, name: str = "model", metadata: dict[str, Any] | None = None) -> ModelDescription:
    """Freezes `model`: ranges those of the rows `calibration` (train and validation), constants on their integer grids.

    The exact evaluator then runs all these rows: where one would wrap after all (float32 sums had hidden it), the range is widened. Last,
    the JAX model and the evaluator are compared on the first 1 000 rows, words with ``==``. Sums that could exceed the 24 bits of float32
    are computed in float64 for that; where even its 53 bits could be exceeded, the layer is refused. These rows stay with the description
    as `sample`, for the gates of the back ends.

    Args:
      model: a `hgqjax.layers.Module` whose `__call__` uses layers, functions of `hgqjax.layers` and plain arithmetic (`layers.Symbol`);
        unchanged. A layer that is called again is another operation with the same weights. The model may have several inputs, which get
        the names of the arguments of `__call__`, and return a tuple of several results.
      calibration: scaled float rows, (rows, *shape), at least one; a tuple of as many for each input where the model has several.

    Raises: DescriptionError, naming the layer, where constants are not finite, a format is wider than 52 bits, sums exceed 53 bits, an
      unsigned quantizer meets negative rows, a layer is not used, the model computes outside layers, or a word differs.
    """
    rows = tuple(np.asanyarray(part, np.float32) for part in (calibration if isinstance(calibration, tuple) else (calibration,)))
    for n, part in enumerate(rows):
        if part.ndim < 2 or not len(part) or not all(np.all(np.isfinite(part[block])) for block in scratch.blocks(part)):
            what = "calibration" if len(rows) == 1 else f"calibration[{n}]"
            raise m.DescriptionError(f"{what} has shape {part.shape}; at least one row of finite numbers is needed")
    _check_finite(model)
    names = _input_names(model, len(rows))
    try:
        frozen = layers.calibrate(model, rows)
    except ValueError as error:
        raise m.DescriptionError(str(error)) from error
    _check_finite(frozen)
    sample = tuple(np.array(part[:SAMPLE_ROWS]) for part in rows)
    about = {"name": name, "sample": sample[0] if len(sample) == 1 else sample, "metadata": metadata or {}}
    shapes = dict(zip(names, (part.shape[1:] for part in rows), strict=True))
    outside: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for _ in range(3):
        graph, description = _trace(frozen, shapes, about)
        widest = _check_sums(description)
        outside = _outside(description, rows)
        if not outside:
            _check_words(frozen, description, widest)
            return description
        for op_name, (low, high) in outside.items():
            graph.quantizers[op_name].widen(low, high)
    op_name, (low, high) = next(iter(outside.items()))
    raise m.DescriptionError(
        f"layer {op_name!r} meets values from {low.min():g} to {high.max():g} on the calibration rows, which its format cannot hold; "
        "with keep_negative=False its input must not be negative"
    )


def _check_finite(model: layers.Module) -> None:
    for layer_name, layer in model.named(layers.Layer):
        if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(nnx.state(layer))):
            raise m.DescriptionError(f"layer {layer_name!r} has a NaN or infinity; the model has diverged")


def _input_names(model: layers.Module, count: int) -> list[str]:
    """Names of `count` inputs: x of a single one, else those of the arguments of the model, unless a layer has them."""
    arguments = inspect.signature(type(model).__call__).parameters.values()
    named = [p.name for p in arguments if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][1:]
    any_number = any(p.kind is p.VAR_POSITIONAL for p in arguments)
    needed = sum(p.default is p.empty for p in arguments if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)) - 1
    if not needed <= count <= (math.inf if any_number else len(named)):
        raise m.DescriptionError(
            f"calibration is rows of {count} inputs, but the model takes {', '.join(map(repr, named)) or 'none'}; "
            "a tuple of rows for each of them is needed"
        )
    found = ["x"] if count == 1 else [*named, *(f"x{n}" for n in range(len(named), count))][:count]
    taken = {name for name, _ in model.named(layers.Layer)}
    return [next(n for n in (name, f"{name}_rows", f"{name}_model_rows") if n not in taken) for name in found]


def _trace(frozen: layers.Module, shapes: dict[str, tuple[int, ...]], about: dict[str, Any]) -> tuple[_Graph, ModelDescription]:
    graph = _Graph(frozen)
    try:
        results = frozen(*(graph.input(name, shape) for name, shape in shapes.items()))
        results = results if isinstance(results, tuple) else (results,)
        if not all(isinstance(r, layers.Symbol) for r in results):
            raise TypeError("it returns something that is neither a layer's result nor a tuple of them")
    except m.DescriptionError:
        raise
    except Exception as error:
        if (why := refusal(error)) is None:
            raise
        raise m.DescriptionError(f"the model computes outside hgqjax.layers, which has no hardware description: {why}") from error
    outputs = tuple(r.name for r in results)
    needed = set(outputs)
    for op in reversed(graph.operations):
        needed |= set(op.inputs) if op.name in needed else set()
    unused = (set(frozen.operations_cost()) | {op.name for op in graph.operations}) - needed - set(graph.roots)
    if unused:
        raise m.DescriptionError(f"layer {min(unused)!r} is part of the model, but no output depends on it; remove it")
    operations = tuple(op for op in graph.operations if op.name in needed)
    return graph, ModelDescription(operations=operations, outputs=outputs, **about)


def _outside(description: ModelDescription, rows: tuple[np.ndarray, ...]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """WRAP quantizers that would wrap on `rows`, with the least and greatest rounded value of each element, by the exact evaluator."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for start in range(0, len(rows[0]), BATCH_ROWS):
        values = description.integers(tuple(part[start : start + BATCH_ROWS] for part in rows))
        scratch.release(*rows)
        for op in description.operations:
            if not isinstance(op, m.Quantize) or op.overflow != "WRAP":
                continue
            x = rounded(op, values[op.inputs[0]], description.grids[op.inputs[0]])
            low, high = op.limits()
            alive = op.bits > 0
            if np.any(alive & ((x.min(0) < low) | (x.max(0) > high))):
                ends = [np.ldexp(v.astype(np.float64), -op.f).astype(np.float32) for v in (x.min(0), x.max(0))]
                before = found.get(op.name, ends)
                found[op.name] = (np.minimum(before[0], ends[0]), np.maximum(before[1], ends[1]))
    return found


def _check_sums(description: ModelDescription) -> int:
    """Bits of the widest value or partial sum; raises DescriptionError where float64 could not hold one."""
    bits: dict[str, int] = {}
    for op in description.operations:
        if op.name not in description.unquantized:
            grid = description.grids[op.name]
            bits[op.name] = max((int(v).bit_length() for v in [*abs(grid.low).ravel(), *abs(grid.high).ravel()]), default=0)
        if isinstance(op, m.Linear | m.Contract):
            bits[op.name] = int(op.accumulator_bits(*(description.grids[name] for name in op.inputs)).max(initial=0))
    widest = max(bits, key=lambda name: bits[name], default=None)
    if widest is not None and bits[widest] > 53:
        raise m.DescriptionError(
            f"layer {widest!r} sums up to {bits[widest]} bits, more than float64 holds; use fewer fractional bits there"
        )
    return max(bits.values(), default=0)


@functools.partial(jax.jit, static_argnums=0)
def _called(graphdef, state, rows):
    """The frozen model's results; what differs between the points of a sweep is an argument, so that it is compiled once for all."""
    return nnx.merge(graphdef, state, copy=True)(*rows)


def _check_words(frozen: layers.Module, description: ModelDescription, widest_sum: int) -> None:
    """Raises DescriptionError unless the JAX model gives the evaluator's words on the sample."""
    wide = widest_sum > 24
    with jax.enable_x64(wide):
        x = tuple(jax.numpy.asarray(part, np.float64 if wide else np.float32) for part in layers.row_arrays(description.sample))
        with jax.default_matmul_precision("float32"):
            results = _called(*nnx.split(frozen), x)
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
