"""A float flax network as a list of steps: which of its layers and functions follow each other, found by tracing a call of it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, Literal, Primitive, jaxpr_as_fun

ROWS = 2
"""Rows of the traced call; every step must keep them as its first axis."""
KINDS = (nnx.Linear, nnx.Conv, nnx.BatchNorm, nnx.Dropout)
"""Layers of flax that have a quantized counterpart."""
OTHERS = (nnx.ConvTranspose, nnx.Einsum, nnx.Embed, nnx.GroupNorm, nnx.InstanceNorm, nnx.LayerNorm, nnx.LinearGeneral)
OTHERS += (nnx.MultiHeadAttention, nnx.PReLU, nnx.RMSNorm, nnx.RNN, nnx.RNNCellBase, nnx.SpectralNorm, nnx.WeightNorm)
ELEMENTWISE = ("elu", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu", "log_sigmoid", "relu", "relu6", "selu", "silu", "softplus")
"""Functions of `jax.nn` that are recognised by their name, and compared at some points: parameters may differ from the default ones."""
_POINTS = np.linspace(-7.0, 7.0, 2 * 57, dtype=np.float32)
_layer = Primitive("hgqjax_float_layer")
_layer.def_abstract_eval(lambda x, *, index, shape: ShapedArray(shape, x.dtype))


class FloatError(ValueError):
    """A float network, or float weights, that a quantized network cannot start from; one sentence that names the layer."""


class Step(NamedTuple):
    """One step: `kind` of what happens to the results number `inputs`, which gives the result `output`; `shape` is that of a row of it."""

    kind: str
    inputs: tuple[int, ...]
    output: int
    shape: tuple[int, ...]
    settings: tuple[tuple[str, Any], ...] = ()
    layer: int | None = None


@dataclasses.dataclass(frozen=True)
class Trace:
    """Steps in order; the results numbered 0, 1, ... are the inputs; `shapes` of a row of each result; `uses` of each."""

    layers: tuple[tuple[str, Any], ...]
    """(path, layer) of the float network, as `Step.layer` numbers them."""
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    several: bool
    shapes: dict[int, tuple[int, ...]]
    uses: dict[int, int]


def trace(model: nnx.Module, shapes: Sequence[tuple[int, ...]]) -> Trace:
    """The steps of ``model(*rows)``, in evaluation, for inputs with rows of `shapes`. Raises FloatError, naming what has no counterpart."""
    model = nnx.clone(model)
    model.set_attributes(deterministic=True, use_running_average=True, raise_if_not_found=False)
    layers = []
    for path, node in nnx.iter_graph(model):
        name = "/".join(map(str, path)) or type(node).__name__.lower()
        if isinstance(node, OTHERS):
            legal = ", ".join(kind.__name__ for kind in KINDS)
            raise FloatError(f"layer {name!r} is a {type(node).__name__}, which has no quantized counterpart here; {legal} have")
        if isinstance(node, KINDS):
            layers.append((name, node))
    for index, (_, node) in enumerate(layers):
        node.__class__ = _marked(type(node), index)  # of the clone: whoever holds the layer calls it so, however often
    rows = [jax.ShapeDtypeStruct((ROWS, *shape), jnp.float32) for shape in shapes]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # which flax itself takes for granted
        jaxpr, result = jax.make_jaxpr(model, return_shape=True)(*rows)  # pyright: ignore[reportArgumentType] a module is called
    reader = _Reader()
    outputs = reader.read(jaxpr.jaxpr, jaxpr.consts, [reader.new(shape) for shape in shapes])
    for name, output in zip(map(str, range(len(outputs))), outputs, strict=True):
        if not isinstance(output, int):
            raise FloatError(f"output {name} of the float network is a constant")
    counts = dict.fromkeys(reader.shapes, 0)
    for n in [n for step in reader.steps for n in step.inputs] + list(outputs):
        counts[n] += 1
    return Trace(tuple(layers), tuple(reader.steps), tuple(outputs), isinstance(result, tuple), reader.shapes, counts)


def _marked(kind: type, index: int) -> type:
    def call(self, x, *_: Any, **__: Any):
        shape = jax.eval_shape(lambda x: kind.__call__(self, x), x).shape
        return _layer.bind(x, index=index, shape=shape)

    return type(kind.__name__, (kind,), {"__call__": call})


class _Constant(NamedTuple):
    value: Any


class _Reader:
    """Walks through a jaxpr, and into those that it calls; a value is the number of a result, or a constant."""

    def __init__(self):
        self.steps: list[Step] = []
        self.shapes: dict[int, tuple[int, ...]] = {}

    def new(self, shape) -> int:
        self.shapes[len(self.shapes)] = tuple(shape)
        return len(self.shapes) - 1

    def read(self, jaxpr, consts, arguments) -> list[Any]:
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*map(_Constant, consts), *arguments], strict=True))

        def value(atom):
            return _Constant(atom.val) if isinstance(atom, Literal) else values[atom]

        for equation in jaxpr.eqns:
            found = self._equation(equation, [value(atom) for atom in equation.invars])
            values |= dict(zip(equation.outvars, found, strict=True))
        return [value(atom) for atom in jaxpr.outvars]

    def _equation(self, equation, inputs: list[Any]) -> list[Any]:
        name, params = equation.primitive.name, equation.params
        inner = params.get("jaxpr") or params.get("call_jaxpr")
        if not any(isinstance(v, int) for v in inputs):
            *functions, settings = equation.primitive.get_bind_params(params)
            found = equation.primitive.bind(*functions[0], *(v.value for v in inputs), **settings)
            return [_Constant(v) for v in (found if equation.primitive.multiple_results else [found])]
        if inner is not None:
            inner = inner if hasattr(inner, "consts") else ClosedJaxpr(inner, ())
            if params.get("name") in ELEMENTWISE and sum(isinstance(v, int) for v in inputs) == 1:
                return [self._known(params["name"], inner, inputs)]
            return self.read(inner.jaxpr, inner.consts, inputs)
        if name in ("stop_gradient", "copy", "copy_p", "convert_element_type"):
            return [inputs[0]]
        shape = equation.outvars[0].aval.shape
        if not shape or shape[0] != ROWS:
            raise FloatError(f"the float network has a result of shape {shape} ({name}), which does not keep the rows as its first axis")
        kind = _KINDS.get(name)
        found = kind(self, shape[1:], inputs, params) if kind else None
        if found is None:
            legal = "its layers, relu, other functions of single values, +, -, * of two results, pools, sums, reshapes, slices"
            what = " and a constant" * any(isinstance(v, _Constant) for v in inputs)
            raise FloatError(
                f"the float network computes {name!r} of a layer's result{what}, which has no counterpart here; legal are {legal}"
            )
        return [found]

    def add(self, kind: str, inputs: Sequence[int], shape, layer: int | None = None, **settings: Any) -> int:
        output = self.new(shape)
        self.steps.append(Step(kind, tuple(inputs), output, tuple(shape), tuple(settings.items()), layer))
        return output

    def _known(self, name: str, inner: ClosedJaxpr, inputs: list[Any]) -> int:
        """The function `name` of `jax.nn`, if that is what `inner` computes."""
        (x,) = (v for v in inputs if isinstance(v, int))
        points = np.resize(_POINTS, (ROWS, *self.shapes[x]))
        (found,) = jaxpr_as_fun(inner)(*(points if v is x else v.value for v in inputs))
        if not np.allclose(found, getattr(jax.nn, name)(points), rtol=1e-5, atol=1e-6):
            raise FloatError(f"the float network has a {name} with parameters of its own; those that jax.nn has by default are legal")
        return self.add("relu", [x], self.shapes[x]) if name == "relu" else self.add("table", [x], self.shapes[x], None, function=name)

    def expanded(self, x: int, shape: tuple[int, ...]) -> int:
        """Result `x` with further axes of size 1, where these are all that `shape` adds, or axes that repeat."""
        return x if self.shapes[x] == shape else self.add("reshape", [x], shape)

    def scaled(self, x: int, factor: float) -> int | None:
        """Result `x` times a power of two: a sum or average before it takes that; None where there is none."""
        mantissa, exponent = np.frexp(factor)
        step = next((step for step in self.steps if step.output == x), None)
        if mantissa != 0.5 or step is None or step.kind not in ("sum", "window_sum") or "shift" in dict(step.settings):
            return None
        return self.add(step.kind, step.inputs, step.shape, **dict(step.settings), shift=int(1 - exponent))


def _of_results(kind: str) -> Callable[..., int | None]:
    def read(reader: _Reader, shape, inputs, params):
        if all(isinstance(v, int) for v in inputs):
            return reader.add(kind, inputs, shape)
        x, constant = (inputs[0], inputs[1]) if isinstance(inputs[0], int) else (inputs[1], inputs[0])
        if kind == "multiply" and np.ndim(constant.value) == 0:
            return reader.scaled(x, float(constant.value))
        return None

    return read


def _divide(reader, shape, inputs, params):
    x, by = inputs
    return reader.scaled(x, 1 / float(by.value)) if isinstance(by, _Constant) and np.ndim(by.value) == 0 and by.value else None


def _maximum(reader, shape, inputs, params):
    constant = [v for v in inputs if isinstance(v, _Constant)]
    if len(constant) == 1 and not np.any(constant[0].value):
        return reader.add("relu", [v for v in inputs if isinstance(v, int)], shape)
    return None


def _broadcast(reader, shape, inputs, params):
    """Axes of size 1 are a reshape; those that repeat are left to the step that they are for, which repeats them itself."""
    before, axes = (ROWS, *reader.shapes[inputs[0]]), params["broadcast_dimensions"]
    if not axes or axes[0] != 0:
        return None
    sizes = [1] * (1 + len(shape))
    for axis, size in zip(axes, before, strict=True):
        sizes[axis] = size
    return reader.expanded(inputs[0], tuple(sizes[1:]))


def _slice(reader, shape, inputs, params):
    strides = params["strides"] or (1,) * (1 + len(shape))
    parts = tuple(zip(params["start_indices"], params["limit_indices"], strides, strict=True))
    return reader.add("select", inputs, shape, index=parts[1:]) if parts[0] == (0, ROWS, 1) else None


def _window(kind: str):
    def read(reader, shape, inputs, params):
        sizes, strides, padding = params["window_dimensions"], params["window_strides"], params["padding"]
        dilated = {*params["base_dilation"], *params["window_dilation"]} != {1}
        if dilated or (sizes[0], sizes[-1], strides[0], strides[-1]) != (1, 1, 1, 1) or any(padding[0]) or any(padding[-1]):
            return None
        return reader.add(kind, inputs, shape, size=sizes[1:-1], strides=strides[1:-1], padding=tuple(map(tuple, padding[1:-1])))

    return read


def _over_axes(kind: str):
    def read(reader, shape, inputs, params):
        axes = tuple(n - 1 for n in params["axes"])
        return reader.add(kind, inputs, shape, axes=axes) if axes and min(axes) >= 0 else None

    return read


_KINDS: dict[str, Callable[..., int | None]] = {
    _layer.name: lambda r, shape, inputs, p: r.add("layer", inputs, shape, p["index"]),
    "add": _of_results("add"),
    "sub": _of_results("subtract"),
    "mul": _of_results("multiply"),
    "div": _divide,
    "max": _maximum,
    "tanh": lambda r, shape, inputs, p: r.add("table", inputs, shape, function="tanh"),
    "logistic": lambda r, shape, inputs, p: r.add("table", inputs, shape, function="sigmoid"),
    "reshape": lambda r, shape, inputs, p: r.add("reshape", inputs, shape),
    "squeeze": lambda r, shape, inputs, p: r.add("reshape", inputs, shape),
    "broadcast_in_dim": _broadcast,
    "transpose": lambda r, shape, inputs, p: (
        None if p["permutation"][0] else r.add("transpose", inputs, shape, axes=tuple(n - 1 for n in p["permutation"][1:]))
    ),
    "concatenate": lambda r, shape, inputs, p: (
        r.add("concatenate", inputs, shape, axis=p["dimension"] - 1) if p["dimension"] and all(isinstance(v, int) for v in inputs) else None
    ),
    "slice": _slice,
    "reduce_sum": _over_axes("sum"),
    "reduce_max": _over_axes("max"),
    "reduce_window_sum": _window("window_sum"),
    "reduce_window_max": _window("window_max"),
}
