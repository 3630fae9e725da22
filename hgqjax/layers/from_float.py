"""A trained float network of flax nnx becomes a quantized one: same weights, quantizers chosen by rules on the paths of its layers."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx

from hgqjax.layers import float_trace
from hgqjax.layers._base import Layer, Module, Value
from hgqjax.layers.activation import relu
from hgqjax.layers.batch_norm import BatchNorm
from hgqjax.layers.calibration import adapt, row_arrays
from hgqjax.layers.conv import Conv1D, Conv2D
from hgqjax.layers.dense import Dense
from hgqjax.layers.float_trace import FloatError, Step, Trace
from hgqjax.layers.linear import AbstractLinear
from hgqjax.layers.merge import Add, Multiply, Subtract
from hgqjax.layers.pool import average_pool, global_max_pool, max_pool
from hgqjax.layers.reduce import Sum
from hgqjax.layers.shapes import concatenate, reshape, select, transpose
from hgqjax.layers.table import Table


@runtime_checkable
class Rule(Protocol):
    """What a rule gives a layer: a method of `hgqjax.methods`, such as ``Hgq(weight_bits=6.0)``, or whatever has these functions."""

    def of_layers(self) -> dict[str, Any]: ...

    def of_inputs(self) -> dict[str, Any]: ...

    def tables(self) -> Any: ...


class _Call(NamedTuple):
    """A call of a layer by its attribute, or of a function with settings; results are numbered."""

    function: str
    inputs: tuple[int, ...]
    output: int
    settings: tuple[tuple[str, Any], ...] = ()


class Converted(Module):
    """What `from_float` gives: the layers of the float network under its paths, joined by underscores, called in its order."""

    def __init__(self, layers: Mapping[str, Module], calls: tuple[Any, ...], inputs: int, outputs: tuple[int, ...], several: bool):
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.calls, self.inputs, self.outputs, self.several = calls, inputs, outputs, several

    def __call__(self, *xs: Value) -> Any:
        if len(xs) != self.inputs:
            raise ValueError(f"the network was made for {self.inputs} inputs and is given {len(xs)}")
        values: dict[int, Any] = dict(enumerate(xs))
        for call in self.calls:
            arguments = [values[n] for n in call.inputs]
            function = _FUNCTIONS.get(call.function)
            result = function(*arguments, **dict(call.settings)) if function else getattr(self, call.function)(*arguments)
            values[call.output] = result
        found = tuple(values[n] for n in self.outputs)
        return found if self.several else found[0]


def from_float(model: nnx.Module, rules: Mapping[str, Rule], x: Any) -> Converted:
    """The float network `model` with quantizers: the same weights, batch norms folded into the layers before them, nothing trained.

    A call of `model` is traced, so that any module will do that computes by what has a quantized counterpart: `nnx.Linear`, `nnx.Conv` of
    one and two spatial axes (strides, padding, dilation, groups), `nnx.BatchNorm` directly behind one of these, `nnx.Dropout` (left out);
    relu; tanh, sigmoid, silu and other functions of single values of `jax.nn`, as tables; ``+``, ``-``, ``*`` of two results; max pools and
    average pools; sums and means over axes of a power of two of terms; reshapes, transposes, slices, concatenations.

    Args:
      model: a trained module of flax nnx; unchanged.
      rules: regular expression -> method of `hgqjax.methods`: quantizers, granularity and the bits to start with. A layer follows the first
        expression that is found in its path, as in "encoder/layers/0"; sums, products and tables of functions have the paths "add",
        "add_1", "table", ... Bits of weights start from the weights, bits of activations from the rows that reach them.
      x: rows that the float network takes, at least one; a tuple for a network of several inputs.

    Raises: FloatError, a ValueError, of one sentence, naming the layer: where it has no counterpart, no rule matches it, or a rule is
      followed by no layer.

    >>> from hgqjax.methods import Hgq
    >>> float_model = nnx.Sequential(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(3, 2, rngs=nnx.Rngs(1)))
    >>> model = from_float(float_model, {"layers/0": Hgq(weight_bits=6.0), "": Hgq(weight_bits=8.0)}, jnp.ones((5, 4)))
    >>> [name for name, _ in model.named(AbstractLinear)], model(jnp.ones((5, 4))).shape
    (['layers_0', 'layers_2'], (5, 2))
    """
    rows = tuple(jnp.asarray(part, jnp.float32) for part in row_arrays(x))
    if any(part.ndim < 2 or not len(part) for part in rows):
        raise FloatError(f"x has shape {', '.join(str(part.shape) for part in rows)}; at least one row, (rows, *shape), is needed")
    trace = float_trace.trace(model, [part.shape[1:] for part in rows])
    builder = _Builder(trace, _Rules(rules))
    converted = builder.converted(len(rows))
    statistics = jax.tree.map(jnp.asarray, nnx.state(converted, nnx.BatchStat))
    adapt(converted, rows)
    nnx.update(converted, statistics)  # those of the float network, which a few rows do not move
    return converted


class _Rules:
    """Which rule a path follows, and which rules were followed."""

    def __init__(self, rules: Mapping[str, Rule]):
        try:
            self.rules = [(re.compile(text), rule) for text, rule in rules.items()]
        except re.error as error:
            raise FloatError(f"rule {error.pattern!r} is no regular expression ({error})") from None
        self.followed, self.paths = set(), []

    def of(self, path: str) -> Rule:
        self.paths.append(path)
        for number, (expression, rule) in enumerate(self.rules):
            if expression.search(path):
                self.followed.add(number)
                return rule
        raise FloatError(f"no rule matches layer {path!r}; rules are {', '.join(repr(e.pattern) for e, _ in self.rules) or 'none'}")

    def check(self) -> None:
        for number, (expression, _) in enumerate(self.rules):
            if number not in self.followed:
                paths = ", ".join(self.paths)
                why = " that an earlier rule has not taken" if any(map(expression.search, self.paths)) else ""
                raise FloatError(f"rule {expression.pattern!r} matches no layer{why}; layers are {paths}")


class _Builder:
    """Makes the quantized layers of a trace."""

    def __init__(self, trace: Trace, rules: _Rules):
        self.trace, self.rules = trace, rules
        self.layers: dict[str, Layer] = {}
        self.paths: dict[int, str] = {}
        self.made_for: dict[int, tuple[int, ...]] = {}

    def converted(self, inputs: int) -> Converted:
        calls, skipped = [], {}
        steps = self._needed()
        norms = self._norms(steps)
        for step in steps:
            step = step._replace(inputs=tuple(skipped.get(n, n) for n in step.inputs))
            float_layer = None if step.layer is None else self.trace.layers[step.layer][1]
            if isinstance(float_layer, nnx.BatchNorm | nnx.Dropout):
                skipped[step.output] = step.inputs[0]
            else:
                calls.append(self._call(step, float_layer, norms))
        self.rules.check()
        outputs = tuple(skipped.get(n, n) for n in self.trace.outputs)
        return Converted(self.layers, tuple(calls), inputs, outputs, self.trace.several)

    def _needed(self) -> list[Step]:
        needed, found = set(self.trace.outputs), []
        for step in reversed(self.trace.steps):
            if step.output in needed:
                needed |= set(step.inputs)
                found.append(step)
        return found[::-1]

    def _norms(self, steps: list[Step]) -> dict[int, nnx.BatchNorm]:
        """The batch norm that directly follows a layer with weights, by the number of that layer."""
        found: dict[int, nnx.BatchNorm] = {}
        of_output = {step.output: step for step in steps}
        for step in steps:
            if step.layer is None or not isinstance(norm := self.trace.layers[step.layer][1], nnx.BatchNorm):
                continue
            before, (name, _) = of_output.get(step.inputs[0]), self.trace.layers[step.layer]
            maker = None if before is None or before.layer is None else before.layer
            direct = maker is not None and isinstance(self.trace.layers[maker][1], nnx.Linear | nnx.Conv)
            users = [other for other in steps if step.inputs[0] in other.inputs]
            calls = [other for other in steps if other.layer == maker]
            if maker is None or not direct or len(users) > 1 or len(calls) > 1 or norm.axis not in (-1, len(step.shape)):
                raise FloatError(
                    f"layer {name!r}, a BatchNorm over the last axis, must follow a Linear or Conv whose result nothing else takes"
                )
            found[maker] = norm
        return found

    def _call(self, step: Step, float_layer: Any, norms: dict[int, nnx.BatchNorm]) -> _Call:
        settings = dict(step.settings)
        if step.layer is not None:
            shape = self.trace.shapes[step.inputs[0]]
            if step.layer not in self.paths:
                path = self.trace.layers[step.layer][0]
                layer = _linear(path, float_layer, shape, norms.get(step.layer), self.rules.of(path).of_layers())
                self.paths[step.layer], self.made_for[step.layer] = self._named(path, layer), shape
            name = self.paths[step.layer]
            if (expected := self.made_for[step.layer]) != shape:
                raise FloatError(
                    f"layer {self.trace.layers[step.layer][0]!r} is called on rows of shape {expected} and {shape}; make two layers of it"
                )
            return _Call(name, step.inputs, step.output)
        if step.kind in ("add", "subtract", "multiply"):
            shapes = [self.trace.shapes[n] for n in step.inputs]
            kind = {"add": Add, "subtract": Subtract, "multiply": Multiply}[step.kind]
            rank = max(map(len, shapes))
            return self._own(step, lambda rule: kind([(1,) * (rank - len(s)) + s for s in shapes], **rule.of_inputs()))
        if step.kind == "table":
            function = settings["function"]
            function = function if function in ("tanh", "sigmoid") else getattr(jax.nn, function)
            return self._own(step, lambda rule: Table(function, step.shape, input_quantizer=rule.tables()))
        if step.kind == "sum":
            shape = self.trace.shapes[step.inputs[0]]
            return self._own(step, lambda rule: Sum(shape, settings["axes"], shift=settings.get("shift", 0), **rule.of_inputs()))
        return _Call(*self._function(step, settings))

    def _function(self, step: Step, settings: dict[str, Any]) -> tuple[str, tuple[int, ...], int, tuple[tuple[str, Any], ...]]:
        """A function of rows without quantizers."""
        kind, before = step.kind, self.trace.shapes[step.inputs[0]]
        if kind == "reshape":
            settings = {"shape": step.shape}
        elif kind == "max" and settings["axes"] != tuple(range(len(before) - 1)):
            raise FloatError(
                f"the float network has a maximum over the axes {settings['axes']} of rows {before}; all but the last are legal"
            )
        elif kind == "max":
            settings = {}
        elif kind == "window_sum":
            elements = 1
            for n in settings["size"]:
                elements *= n
            if settings.get("shift", 0) != elements.bit_length() - 1 or elements & (elements - 1) or any(map(any, settings["padding"])):
                raise FloatError(
                    f"the float network has a pool of sums over windows of {settings['size']}; means of 2**n elements are legal"
                )
            settings = {name: settings[name] for name in ("size", "strides")}
        return kind, step.inputs, step.output, tuple(settings.items())

    def _own(self, step: Step, make: Callable[[Rule], Layer]) -> _Call:
        """A layer that the float network has as a function."""
        taken = [name for name in self.layers if re.fullmatch(rf"{step.kind}(_\d+)?", name)]
        path = f"{step.kind}_{len(taken)}" if taken else step.kind
        return _Call(self._named(path, make(self.rules.of(path))), step.inputs, step.output)

    def _named(self, path: str, layer: Layer) -> str:
        name = re.sub(r"\W", "_", path)
        while name in self.layers or hasattr(Converted, name) or name in ("calls", "inputs", "outputs", "several", *_FUNCTIONS):
            name += "_layer"
        self.layers[name] = layer
        return name


def _linear(path: str, layer: Any, shape: tuple[int, ...], norm: nnx.BatchNorm | None, settings: dict[str, Any]) -> AbstractLinear:
    """The counterpart of a `Linear` or `Conv` for rows of `shape`, with its weights."""
    bias = None if layer.bias is None else layer.bias[...]
    folded = None if norm is None else BatchNorm(momentum=min(norm.momentum, 0.999), epsilon=norm.epsilon)
    common = {"rngs": nnx.Rngs(0), "use_bias": bias is not None or norm is not None, "batch_norm": folded} | settings
    kernel = jnp.asarray(layer.kernel[...], jnp.float32)
    if isinstance(layer, nnx.Linear):
        made = Dense(*kernel.shape, input_shape=shape, **common)
    else:
        rank = kernel.ndim - 2
        padding = layer.padding
        if not isinstance(padding, str):
            padding = tuple((p, p) if isinstance(p, int) else tuple(p) for p in _each(padding, rank))
        plain = _each(layer.input_dilation, rank) == (1,) * rank and layer.mask is None
        if rank not in (1, 2) or len(shape) != rank + 1 or (isinstance(padding, str) and padding not in ("SAME", "VALID")) or not plain:
            legal = "one or two spatial axes, and padding SAME, VALID or numbers"
            raise FloatError(f"layer {path!r} is a Conv on rows of shape {shape}, padding {layer.padding!r}; {legal} are legal")
        about = {"strides": _each(layer.strides, rank), "dilation": _each(layer.kernel_dilation, rank), "groups": layer.feature_group_count}
        about["padding"] = padding[0] if rank == 1 and not isinstance(padding, str) else padding
        made = (Conv1D if rank == 1 else Conv2D)(shape, kernel.shape[-1], kernel.shape[:-2], **about, **common)
    statistics = None
    if norm is not None:
        ones = jnp.ones(kernel.shape[-1])
        scale, shift = (default if part is None else part[...] for part, default in ((norm.scale, ones), (norm.bias, 0 * ones)))
        mean = norm.mean[...] - (0.0 if bias is None else bias)  # ours is that of the products, without the bias
        statistics, bias = (scale, mean, norm.var[...]), shift
    made.load(kernel, bias, statistics)
    return made


def _each(value: Any, rank: int) -> tuple[Any, ...]:
    """One entry for each spatial axis."""
    return (1 if value is None else value,) * rank if not isinstance(value, Sequence) else tuple(value)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "relu": relu,
    "reshape": reshape,
    "transpose": transpose,
    "concatenate": lambda *xs, axis: concatenate(xs, axis),
    "select": lambda x, index: select(x, *(slice(*part) for part in index)),
    "window_max": max_pool,
    "window_sum": average_pool,
    "max": global_max_pool,
}
