"""Where training starts from, if not from random weights: a frozen network with its bit-widths, or float weights."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
from flax import nnx

from hgqjax.layers import widen
from hgqjax.layers._base import Layer, Module
from hgqjax.layers.calibration import adapt, follow
from hgqjax.layers.float_trace import FloatError
from hgqjax.layers.float_weights import load_weights
from hgqjax.layers.linear import AbstractLinear
from hgqjax.layers.quantize import Quantize, QuantizeWeight, _Quantizer
from hgqjax.quantizers import Format


class Constants(NamedTuple):
    """Trained constants: float values, and the format of each, arrays of one shape."""

    values: np.ndarray
    format: Format


@dataclasses.dataclass(frozen=True, eq=False)
class FloatStart:
    """Float weights to start from, path -> array; see `load_weights`."""

    weights: Mapping[str, np.ndarray]

    def check(self, model: Module) -> None:
        """Raises FloatError, one sentence, where they are not those of `model`."""
        load_weights(nnx.clone(model), self.weights)

    def begin(self, model: Module, x: Any) -> None:
        """Changes `model`: the weights, their widths, and those of activations, which follow the rows `x`."""
        load_weights(model, self.weights)
        adapt(model, x)


@dataclasses.dataclass(frozen=True, eq=False)
class FrozenStart:
    """A frozen network to start from: constants of layers with weights, and formats of activations, by the names of its layers."""

    name: str
    kernels: Mapping[str, Constants]
    biases: Mapping[str, Constants]
    activations: Mapping[str, Format]
    """By the name of the quantizer in the hardware: that of the layer with _input (or _input0, _input1), or of a `Quantize` by itself."""

    def check(self, model: Module) -> None:
        """Raises FloatError, one sentence, where its layers are not those of `model`."""
        self._widened(model)._assigned(model)

    def begin(self, model: Module, x: Any) -> None:
        """Changes `model`: weights and widths of the network; what it has not, such as ranges, follows from the rows `x`.

        A batch norm, which a frozen network has no more, starts as what changes nothing on these rows. Widths carry over where the
        quantizer can be given a format (`AbstractQuantizer.of_format`); else they start from the weights and rows. A network
        as `model` would be without its gates is widened (`hgqjax.layers.widen`).
        """
        self._widened(model)._begin(model, x)

    def _begin(self, model: Module, x: Any) -> None:
        layers = dict(model.named(AbstractLinear))
        names = self._assigned(model)
        for name, layer in layers.items():
            bias = self.biases.get(names[name])
            if layer.bias is not None and bias is None:
                bias = Constants(np.zeros(layer.bias[...].shape, np.float32), Format(*(np.zeros(layer.bias[...].shape),) * 3))
            layer.load(self.kernels[names[name]].values, None if bias is None else bias.values)
            if layer.norm is not None:
                layer.norm.begins = True
            _widths(layer.kernel_quantizer, self.kernels[names[name]].format)
            if names[name] in self.biases and layer.bias_quantizer is not None:
                _widths(layer.bias_quantizer, self.biases[names[name]].format)
        loaded = {name: layer.bias[...] for name, layer in layers.items() if layer.bias is not None}
        adapt(model, x)
        for name, quantizer in _activations(model, names):
            if name in self.activations:
                _widths(quantizer, self.activations[name])
        for name, layer in layers.items():  # norms began on activations of a new network, few bits or none; now on those of the start
            if layer.norm is not None and layer.bias is not None:
                layer.bias[...] = loaded[name]
        follow(model, x)
        for layer in layers.values():
            if layer.norm is not None:
                layer.norm.begins = False

    def _widened(self, model: Module) -> "FrozenStart":
        """The start with as many neurons as `model` has, where its gates explain the difference."""
        kernels, biases, activations = dict(self.kernels), dict(self.biases), dict(self.activations)
        names = self._names(model)
        for name, layer in model.named(AbstractLinear):
            theirs = names[name]
            if theirs not in kernels or not widen.fits(layer, kernels[theirs].values):
                continue
            if theirs in biases and layer.bias_quantizer is not None:
                own = np.zeros(layer.kernel[...].shape[-1], np.float32), *layer.bias_quantizer.format()
                parts = zip((biases[theirs].values, *biases[theirs].format), own, strict=True)
                values, *fmt = (widen.neurons(layer, np.asarray(mine), np.asarray(new)) for mine, new in parts)
                biases[theirs] = Constants(values, Format(*fmt))
            wide = widen.kernel(layer, widen.Values(*kernels[theirs]))
            kernels[theirs] = Constants(wide.values, cast(Format, wide.format))
            if f"{theirs}_input" in activations:
                activations[f"{theirs}_input"] = widen.activations(layer, activations[f"{theirs}_input"])
        return dataclasses.replace(self, kernels=kernels, biases=biases, activations=activations)

    def _names(self, model: Module) -> dict[str, str]:
        """The layer of this network for each of `model`: of the same name, or else in order."""
        layers = dict(model.named(AbstractLinear))
        again = {name for name in self.kernels if name not in layers and re.sub(r"_\d+$", "", name) in layers}  # of a layer called again
        same = set(layers) == set(self.kernels) - again
        if not same and len(layers) != len(self.kernels):
            theirs, ours = ", ".join(self.kernels), ", ".join(layers)
            raise FloatError(
                f"the start {self.name!r} has {len(self.kernels)} layers with weights ({theirs}), this network {len(layers)} ({ours})"
            )
        return {name: name for name in layers} if same else dict(zip(layers, self.kernels, strict=True))

    def _assigned(self, model: Module) -> dict[str, str]:
        """As `_names`; raises FloatError where shapes differ."""
        names = self._names(model)
        for name, layer in model.named(AbstractLinear):
            pairs = [("kernel", layer.kernel, self.kernels.get(names[name])), ("bias", layer.bias, self.biases.get(names[name]))]
            for what, param, constants in pairs:
                if constants is None:
                    continue
                if param is None or constants.values.shape != param[...].shape:
                    where = f"the start {self.name!r} has in layer {names[name]!r} a {what} of shape {constants.values.shape}"
                    raise FloatError(f"{where}, this network {'none' if param is None else f'one of shape {param[...].shape}'}")
        return names


Start = FloatStart | FrozenStart


def _activations(model: Module, names: Mapping[str, str]):
    """(name in the hardware of the start, quantizer of activations)."""
    for name, layer in model.named(Layer):
        inner = getattr(layer, "input_quantizer", None)
        if isinstance(inner, Quantize):
            yield f"{names.get(name, name)}_input", inner
        elif inner is not None:
            yield from ((f"{name}_input{n}", quantizer) for n, quantizer in enumerate(inner))
        elif isinstance(layer, Quantize):
            yield name, layer


def _widths(quantizer: _Quantizer, fmt: Format) -> None:
    """Gives `quantizer` the widths of `fmt`, of each value; values that share a width get the most that one of them has."""
    shape = next((getattr(quantizer, name)[...].shape for name in quantizer.parameter_names), None)
    if shape is None:
        return
    now = quantizer.format()
    k, i, f = (np.asarray(part, np.float32) for part in fmt)
    if not isinstance(quantizer, QuantizeWeight):
        k, i, f = k[None], i[None], f[None]
    if k.shape != quantizer.low[...].shape and k.ndim != len(shape):
        return  # of another shape: a quantizer that hardware has otherwise
    alive = (k + i + f > 0) | isinstance(quantizer, QuantizeWeight)  # a weight of 0 keeps its grid
    axes = tuple(n for n, (own, of) in enumerate(zip(shape, k.shape, strict=True)) if own != of)
    least = np.float32(-60)
    bits, fraction = (np.where(alive, part, least).max(axes, keepdims=True) if axes else np.where(alive, part, least) for part in (i, f))
    dead = fraction == least
    observed = jnp.broadcast_to(now.i, shape) if now.i.shape != shape and np.size(now.i) == 1 else now.i
    observed = observed if observed.shape == shape else jnp.max(observed, axes, keepdims=True)
    wanted = Format(jnp.ones(shape), jnp.where(dead, observed, bits), jnp.where(dead, -1.0 - observed, fraction))
    params = quantizer.quantizer.of_format(wanted)
    if params is not None:
        quantizer.set_params(params)
        quantizer.clip()
