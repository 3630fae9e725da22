"""Quantizers of QKeras: what a file says of one, and what it makes of weights."""

import ast
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hgqjax.interop.keras_file import Layer
from hgqjax.interop.qonnx_file import Constant

EPSILON = np.float32(1e-7)
"""Keras's, which QKeras adds to divisors and logarithms."""
_BITS = {"bits": 8, "integer": 0, "symmetric": 0, "keep_negative": True, "alpha": None, "use_stochastic_rounding": False}
_RELU = {"bits": 8, "integer": 0, "use_sigmoid": 0, "negative_slope": 0.0, "use_stochastic_rounding": False, "relu_upper_bound": None}
_PO2 = {"use_stochastic_rounding": False, "quadratic_approximation": False, "log2_rounding": "rnd", "qnoise_factor": 1.0}
_TERNARY = {"alpha": None, "threshold": None, "use_stochastic_rounding": False, "number_of_unrolls": 5}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "quantized_bits": _BITS | {"scale_axis": None, "qnoise_factor": 1.0},
    "quantized_relu": _RELU | {"is_quantized_clip": True, "qnoise_factor": 1.0},
    "quantized_po2": {"bits": 8, "max_value": None} | _PO2,
    "quantized_relu_po2": {"bits": 8, "max_value": None, "negative_slope": 0} | _PO2,
    "quantized_tanh": {"bits": 8, "use_stochastic_rounding": False, "symmetric": False, "use_real_tanh": False},
    "quantized_sigmoid": {"bits": 8, "symmetric": False, "use_real_sigmoid": False, "use_stochastic_rounding": False},
    "binary": {"use_01": False, "alpha": None, "use_stochastic_rounding": False},
    "stochastic_binary": {"alpha": None, "temperature": 6.0, "use_real_sigmoid": True},
    "ternary": _TERNARY,
    "stochastic_ternary": {"alpha": None, "threshold": None, "temperature": 8.0, "use_real_sigmoid": True, "number_of_unrolls": 5},
    "binary_tanh": {},
    "binary_sigmoid": {},
    "linear": {},
    "relu": {},
}
"""By name: what QKeras takes, in its order, and what it takes where nothing is said."""
MOST_BITS = 32
_IGNORED = ("name", "var_name", "use_ste", "use_variables")
"""What only training reads, or names its variables."""
_NEWER = ("post_training_scale", "scale_axis", "elements_per_scale", "min_po2_exponent", "max_po2_exponent")
"""Of versions after 0.9, where they are None."""


@dataclasses.dataclass(frozen=True)
class Quantizer:
    """A quantizer or activation by its name, with all its arguments."""

    name: str
    arguments: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.arguments[key]


def read(layer: Layer, config: Any, what: str) -> Quantizer | None:
    """What a file says of the quantizer `what` of a layer: an object with its configuration, or text such as "quantized_relu(6, 2)"."""
    if config is None:
        return None
    if isinstance(config, str):
        name, given = _of_text(layer, config, what)
    elif isinstance(config, dict) and isinstance(config.get("config"), dict):
        name, given = str(config.get("class_name")), dict(config["config"])
    elif isinstance(config, dict) and isinstance(config.get("config"), str):  # a function
        name, given = config["config"], {}
    else:
        raise layer.refuse(f"has the {what} {str(config)[:60]!r}, which is no quantizer")
    if name not in ARGUMENTS:
        raise layer.refuse(f"has the {what} {name[:60]!r}; legal are {', '.join(ARGUMENTS)}")
    known = ARGUMENTS[name]
    odd = [key for key, value in given.items() if key not in known and key not in _IGNORED and not (key in _NEWER and value is None)]
    if odd:
        raise layer.refuse(f"has the {what} {name} with {odd[0][:60]!r}, which is none of {', '.join(known)}")
    found = Quantizer(name, known | {key: value for key, value in given.items() if key in known})
    _check(layer, found, what)
    return found


def _of_text(layer: Layer, text: str, what: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of "quantized_relu(6, 2)", of "quantized_bits(4, 0, alpha=1)", or of a bare name."""
    refused = layer.refuse(f"has the {what} {text[:60]!r}, which is no quantizer of QKeras with plain arguments")
    if len(text) > 500:
        raise refused
    try:
        call = ast.parse(text, mode="eval").body
        if isinstance(call, ast.Name):
            return call.id, {}
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise refused
        name, values = call.func.id, [ast.literal_eval(part) for part in call.args]
        named = {str(part.arg): ast.literal_eval(part.value) for part in call.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise refused from None
    order = list(ARGUMENTS.get(name, {}))
    if name in ARGUMENTS and len(values) > len(order):
        raise layer.refuse(f"has the {what} {text[:60]!r} with {len(values)} arguments; {len(order)} are the most")
    return name, dict(zip(order, values, strict=False)) | named


def _check(layer: Layer, found: Quantizer, what: str) -> None:
    """Numbers that are numbers, widths that fit, and no noise."""
    for key, value in found.arguments.items():
        number = isinstance(value, int | float) and math.isfinite(value)
        positive = isinstance(value, int | float) and math.isfinite(value) and value >= 0
        has = f"has the {what} {found.name} with {key} {str(value)[:60]}"
        if key in ("bits", "integer", "number_of_unrolls"):
            low, high = {"bits": (1, MOST_BITS), "integer": (-64, 64), "number_of_unrolls": (0, 100)}[key]
            if not number or value != int(value) or not low <= value <= high:
                raise layer.refuse(f"{has}; whole numbers from {low} to {high} are legal")
            found.arguments[key] = int(value)
        elif key == "alpha" and not (value is None or value in ("auto", "auto_po2") or (number and value > 0)):
            raise layer.refuse(f"{has}; None, 'auto', 'auto_po2' and numbers above 0 are legal")
        elif key == "qnoise_factor" and (not number or value != 1):
            raise layer.refuse(f"{has}, which mixes floats in; 1 is legal")
        elif key == "log2_rounding" and value not in ("rnd", "floor"):
            raise layer.refuse(f"{has}; 'rnd' and 'floor' are legal")
        elif key in ("threshold", "negative_slope", "max_value") and not (value is None or positive):
            raise layer.refuse(f"{has}; a number from 0 on is legal")
        elif key in ("keep_negative", "symmetric"):
            found.arguments[key] = bool(value)
    slope = found.arguments.get("negative_slope") or 0
    if slope and math.frexp(slope)[0] != 0.5:
        raise layer.refuse(f"has the {what} {found.name} with negative_slope {slope}; powers of two are legal")


# ---- weights ----


def constant(layer: Layer, quantizer: Quantizer | None, values: np.ndarray, what: str, *, trained_scale: bool = False) -> Constant:
    """The weights `values` as their quantizer makes them, in float32 like QKeras.

    `trained_scale`: of a kernel, for which QKeras takes alpha "auto_po2" (and symmetric) where none is given.
    """
    values = values.astype(np.float32)
    if quantizer is None:
        return Constant(values.astype(np.float64))
    if trained_scale and "alpha" in quantizer.arguments and quantizer["alpha"] is None:
        symmetric = {"symmetric": True} if quantizer.name == "quantized_bits" else {}
        quantizer = Quantizer(quantizer.name, quantizer.arguments | {"alpha": "auto_po2"} | symmetric)
    if quantizer.name not in _WEIGHTS:
        raise layer.refuse(f"has the {what} {quantizer.name}, which is none of weights; legal are {', '.join(_WEIGHTS)}")
    axis = quantizer.arguments.get("scale_axis")
    if axis is not None and axis not in (-1, values.ndim - 1):
        raise layer.refuse(f"has the {what} {quantizer.name} with scale_axis {str(axis)[:60]}; the last one is legal")
    with np.errstate(all="ignore"):  # a channel of zeros
        found = _WEIGHTS[quantizer.name](layer, quantizer, values)
    if not np.all(np.isfinite(found.values)):
        raise layer.refuse(f"has weights that its {what} makes NaN or infinite")
    return found


def _scaled(integers: np.ndarray, scale: np.ndarray | float, bits: int, narrow: bool) -> Constant:
    integers, scale = integers.astype(np.int64), np.broadcast_to(scale, integers.shape).astype(np.float64)
    return Constant(integers * scale, integers, scale, bits, narrow)


def _channels(values: np.ndarray) -> tuple[int, ...]:
    """The axes that share a scale: all but the last one. Each number of a vector has its own."""
    return tuple(range(values.ndim - 1))


def _fitted(x: np.ndarray, words: np.ndarray, po2: bool) -> np.ndarray:
    """The scale with which `words` are nearest to `x`, by least squares; a power of two where that is asked for."""
    products, squares = (np.asarray(np.mean(v, _channels(x), np.float32, keepdims=True)) for v in (x * words, words * words))
    scale = products / (squares + EPSILON)
    return _power(scale) if po2 else scale


def _power(scale: np.ndarray) -> np.ndarray:
    """The power of two next to the scale, by its logarithm."""
    exponent = np.rint(np.log(scale + EPSILON) / np.float32(np.log(2.0)))
    return np.where(np.isnan(exponent), np.float32(np.nan), np.ldexp(np.float32(1), np.nan_to_num(exponent).astype(np.int32)))


def _bits(layer: Layer, quantizer: Quantizer, x: np.ndarray) -> Constant:
    bits, integer, signed, alpha = (quantizer[key] for key in ("bits", "integer", "keep_negative", "alpha"))
    if isinstance(alpha, str):
        return _bits_with_scale(layer, quantizer, x)
    scale = float(np.float32(1.0 if alpha is None else alpha))
    if bits == signed:
        return _scaled(np.where(x < 0, -1, 1), scale, 2, True)
    unit = math.ldexp(1.0, integer - bits + signed)
    low, high = signed * (-(2 ** (bits - signed)) + quantizer["symmetric"]), 2 ** (bits - signed) - 1
    return _scaled(np.clip(np.rint(x.astype(np.float64) / unit), low, high), scale * unit, bits, quantizer["symmetric"])


def _bits_with_scale(layer: Layer, quantizer: Quantizer, x: np.ndarray) -> Constant:
    """alpha "auto" and "auto_po2": the scale follows from the weights, by channel."""
    bits, po2 = quantizer["bits"], quantizer["alpha"] == "auto_po2"
    if not quantizer["symmetric"] or bits < 2:
        raise layer.refuse("has quantized_bits with an alpha of text; QKeras has that for symmetric quantizers of 2 bits and more")
    unit = np.ldexp(np.float32(1), quantizer["integer"])
    x = x / unit
    most = 2 ** (bits - 1) - 1
    axes = _channels(x) or (0,)
    scale = np.max(abs(x), axes, keepdims=True) * np.float32(2) / np.float32(2 * most)

    def words() -> np.ndarray:
        steps = np.floor(abs(x) / scale + np.float32(0.5))
        return np.sign(x) * np.where(steps < most, steps, np.float32(most))

    if not po2:
        return _scaled(words(), scale * unit, bits, True)
    scale, integers = _power(scale), x
    for _ in range(5):
        integers = words()
        scale = _fitted(x, integers, True)
    return _scaled(integers, scale * unit, bits, True)


def _relu_weights(layer: Layer, quantizer: Quantizer, x: np.ndarray) -> Constant:
    bits, integer = quantizer["bits"], quantizer["integer"]
    if quantizer["negative_slope"] or quantizer["use_sigmoid"]:
        raise layer.refuse("has weights with a quantized_relu with a slope or a sigmoid; one without is legal")
    unit = math.ldexp(1.0, integer - bits)
    return _scaled(np.clip(np.rint(x.astype(np.float64) / unit), 0, 2**bits - 1), unit, bits, False)


def _scale_of(x: np.ndarray, words: np.ndarray, alpha: Any) -> np.ndarray:
    if isinstance(alpha, str):
        return _fitted(x, words.astype(np.float32), alpha == "auto_po2")
    return np.float32(1.0 if alpha is None else alpha) * np.ones((1,) * x.ndim, np.float32)


def _binary(layer: Layer, quantizer: Quantizer, x: np.ndarray) -> Constant:
    words = np.where(x < 0, 0 if quantizer.arguments.get("use_01") else -1, 1)
    return _scaled(words, _scale_of(x, words, quantizer["alpha"]), 2, True)


def _ternary(layer: Layer, quantizer: Quantizer, x: np.ndarray) -> Constant:
    alpha = quantizer["alpha"]
    if not isinstance(alpha, str):
        words = (abs(x) >= threshold(quantizer)) * np.sign(x)
        return _scaled(words, _scale_of(x, words, alpha), 2, True)
    if quantizer["threshold"] is not None:
        raise layer.refuse("has weights with a ternary with an alpha of text and a threshold; one of them is legal")
    po2 = alpha == "auto_po2"
    scale = np.float32(2) * np.max(abs(x), _channels(x) or (0,), keepdims=True) / np.float32(3)
    scale = _power(scale) if po2 else scale
    words = np.zeros_like(x)
    for _ in range(quantizer["number_of_unrolls"]):
        rounded = scale * np.rint(x / scale)
        words = (abs(rounded) >= scale / np.float32(2)) * np.sign(x)
        scale = _fitted(x, words, po2)
    return _scaled(words, scale, 2, True)


def threshold(quantizer: Quantizer) -> np.float32:
    """Where a ternary quantizer leaves 0."""
    return np.float32(0.33 if quantizer["threshold"] is None else quantizer["threshold"])


def _po2(layer: Layer, quantizer: Quantizer, x: np.ndarray) -> Constant:
    """Powers of two with a sign: the exponents are rounded and clipped."""
    signs = np.where(x < 0, -1.0, 1.0)
    if quantizer.name == "quantized_relu_po2":
        if quantizer["negative_slope"]:
            raise layer.refuse("has weights with a quantized_relu_po2 with a slope; one without is legal")
        x, signs = np.maximum(x, 0), np.ones(x.shape)
    top, square = quantizer["max_value"], bool(quantizer["quadratic_approximation"])
    bits = quantizer["bits"] - (quantizer.name == "quantized_po2") - (1 if top is None or top > 1 else 0)
    low, high = -(2.0**bits), 2.0**bits - 1
    if square:
        high = 2 * (high // 2)
    size = np.maximum(abs(x), EPSILON)
    size = size if top is None else np.minimum(size, np.float32(top))
    logarithm = np.log(np.sqrt(size) if square else size) / np.float32(np.log(2.0))
    exponents = np.clip((np.floor if quantizer["log2_rounding"] == "floor" else np.rint)(logarithm), low, high) * (2 if square else 1)
    exponents = np.where(abs(x) < EPSILON, low, exponents)
    return Constant(signs * np.ldexp(1.0, np.clip(exponents, -1100, 1100).astype(np.int64)))


_WEIGHTS: dict[str, Callable[[Layer, Quantizer, np.ndarray], Constant]] = {
    "quantized_bits": _bits,
    "quantized_relu": _relu_weights,
    "quantized_po2": _po2,
    "quantized_relu_po2": _po2,
    "binary": _binary,
    "stochastic_binary": _binary,
    "ternary": _ternary,
    "stochastic_ternary": _ternary,
}
