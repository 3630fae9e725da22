"""Quantizers of QKeras on computed values: exact ones of ours, or step functions of the value before them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hgqjax.interop.keras_file import Layer
from hgqjax.interop.qkeras_quantizers import Quantizer, threshold
from hgqjax.interop.qonnx_file import QuantSetting
from hgqjax.interop.qonnx_layers import relu, step
from hgqjax.interop.qonnx_quantizers import quantized
from hgqjax.interop.qonnx_values import Affine, Reading, Value


def activate(layer: Layer, quantizer: Quantizer | None, value: Value, reading: Reading) -> Value:
    """The value behind an activation of QKeras."""
    if quantizer is None or quantizer.name == "linear":
        return value
    if quantizer.name == "relu":
        return relu(layer, value, reading)
    if quantizer.name not in _ACTIVATIONS:
        raise layer.refuse(f"has the activation {quantizer.name}; legal are linear, relu, {', '.join(_ACTIVATIONS)}")
    if isinstance(quantizer.arguments.get("alpha"), str):
        raise layer.refuse(f"has the activation {quantizer.name} with a scale that follows from each batch of data; a number is legal")
    return _ACTIVATIONS[quantizer.name](layer, quantizer, value, reading)


def _grid(layer: Layer, value: Value, scale: float, setting: QuantSetting, reading: Reading) -> Value:
    return quantized(layer, value, np.array(scale), 0, setting, reading)


def _times(value: Value, alpha: Any, reading: Reading) -> Value:
    factor = np.float64(np.float32(1.0 if alpha is None else alpha))
    return value if factor == 1 else step(value, np.array([factor]), np.zeros(1), reading.build)


def _bits_of(layer: Layer, quantizer: Quantizer, value: Value, reading: Reading) -> Value:
    bits, integer, signed = (quantizer[key] for key in ("bits", "integer", "keep_negative"))
    unit = 1.0 if bits == signed else math.ldexp(1.0, integer - bits + signed)
    setting = QuantSetting(bits, signed, signed and quantizer["symmetric"], "ROUND")
    return _times(_grid(layer, value, unit, setting, reading), quantizer["alpha"], reading)


def _words(layer: Layer, value: Value, unit: float, limits: tuple[int, int], word: Callable, reading: Reading) -> Value:
    """A step function of the value, which never falls, in units."""
    value = reading.grounded(value, layer)
    low = max(limits[0], 0)
    name = reading.build.words(value, lambda x: np.clip(word(x), *limits) - low, (limits[0] - low, limits[1] - low), layer)
    ones = np.ones((1,) * len(reading.build.shape(name)))
    return Value(name, value.first, (Affine(unit * ones, unit * low * ones),))


def _relu_of(layer: Layer, quantizer: Quantizer, value: Value, reading: Reading) -> Value:
    bits, integer, slope = quantizer["bits"], quantizer["integer"], quantizer["negative_slope"] or 0.0
    bits -= slope != 0
    unit, top = math.ldexp(1.0, integer - bits), 2**bits
    if quantizer["use_sigmoid"]:
        if slope:
            raise layer.refuse("has a quantized_relu with use_sigmoid and a slope; one of them is legal")

        def sigmoid(x: np.ndarray) -> np.ndarray:
            return 2 * np.rint(np.clip(x / (unit * top) / 2 + 0.5, 0, 1) * top) - top

        return _words(layer, value, unit, (0, top - 1), sigmoid, reading)
    if not slope:
        return _grid(layer, value, unit, QuantSetting(bits, False, False, "ROUND"), reading)
    least = -max(int(slope * top), 1)

    def leaky(x: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(x / unit), 0, top - 1) + np.clip(np.rint(x / unit * slope), -slope * top, 0)

    if slope * top != -least:
        raise layer.refuse(f"has a quantized_relu of {bits + 1} bits with the slope {slope}, whose least value is on no step of it")
    return _words(layer, value, unit, (least, top - 1), leaky, reading)


def _tanh(layer: Layer, quantizer: Quantizer, value: Value, reading: Reading) -> Value:
    bits, symmetric = quantizer["bits"], bool(quantizer["symmetric"])
    half = 2 ** (bits - 1)
    if bits < 2:
        raise layer.refuse("has a quantized_tanh of 1 bit; 2 and more are legal")
    if not quantizer["use_real_tanh"]:  # a hard one, which is the limits
        return _grid(layer, value, 1 / half, QuantSetting(bits, True, symmetric, "ROUND"), reading)
    return _words(layer, value, 1 / half, (-half + symmetric, half - 1), lambda x: np.rint(np.tanh(x) * half), reading)


def _sigmoid(layer: Layer, quantizer: Quantizer, value: Value, reading: Reading) -> Value:
    bits, least = quantizer["bits"], int(bool(quantizer["symmetric"]))
    top = 2**bits
    if not quantizer["use_real_sigmoid"] and not least:
        value = step(reading.grounded(value, layer), np.array([0.5]), np.array([0.5]), reading.build)
        return _grid(layer, value, 1 / top, QuantSetting(bits, False, False, "ROUND"), reading)

    def curve(x: np.ndarray) -> np.ndarray:
        return np.rint((1 / (1 + np.exp(-x)) if quantizer["use_real_sigmoid"] else np.clip(x / 2 + 0.5, 0, 1)) * top)

    return _words(layer, value, 1 / top, (least, top - 1), curve, reading)


def _sign(layer: Layer, quantizer: Quantizer, value: Value, reading: Reading) -> Value:
    if quantizer.arguments.get("use_01"):
        found = _words(layer, value, 1.0, (0, 1), lambda x: np.where(x < 0, 0.0, 1.0), reading)
    else:
        found = _grid(layer, value, 1.0, QuantSetting(1, True, False, "ROUND"), reading)
    return _times(found, quantizer["alpha"], reading)


def _three(layer: Layer, quantizer: Quantizer, value: Value, reading: Reading) -> Value:
    at = np.float64(threshold(quantizer))
    found = _words(layer, value, 1.0, (-1, 1), lambda x: (abs(x) >= at) * np.sign(x), reading)
    return _times(found, quantizer["alpha"], reading)


def _above_0(layer: Layer, quantizer: Quantizer, value: Value, reading: Reading) -> Value:
    """binary_tanh and binary_sigmoid: 1 above 0, else -1 or 0, as a half rounds to an even number."""
    least = -1 if quantizer.name == "binary_tanh" else 0
    return _words(layer, value, 1.0, (least, 1), lambda x: np.where(x > 0, 1.0, least), reading)


_ACTIVATIONS: dict[str, Callable[[Layer, Quantizer, Value, Reading], Value]] = {
    "quantized_bits": _bits_of,
    "quantized_relu": _relu_of,
    "quantized_tanh": _tanh,
    "quantized_sigmoid": _sigmoid,
    "binary": _sign,
    "binary_sigmoid": _above_0,
    "binary_tanh": _above_0,
    "stochastic_binary": _sign,
    "ternary": _three,
    "stochastic_ternary": _three,
}
