"""Quantizers of HGQ2 as a file holds them: formats of data, and weights brought onto their grids exactly as HGQ2's float32 does."""

import dataclasses
from typing import Any

import numpy as np

from hgqjax.description.operations import Constant, broadcasts
from hgqjax.fixed_point import MAX_BITS
from hgqjax.interop.keras_file import Layer

ROUNDINGS = {"RND": "RND", "TRN": "TRN", "RND_CONV": "RND_CONV", "S_RND": "RND", "S_RND_CONV": "RND_CONV"}
"""Stochastic rounding is for training; at inference HGQ2 rounds to nearest."""
OVERFLOWS = ("WRAP", "SAT", "SAT_SYM")


@dataclasses.dataclass(frozen=True, eq=False)
class Quantizer:
    """Formats `k`, `i`, `f` (int64, of the shape in the file), `bits` as HGQ2 counts them, and modes.

    `wraps` is False for weights that HGQ2 leaves unwrapped: their range is meant to hold them.
    """

    k: np.ndarray
    i: np.ndarray
    f: np.ndarray
    bits: np.ndarray
    rounding: str
    overflow: str
    wraps: bool

    def data(self, layer: Layer, shape: tuple[int, ...]) -> dict[str, Any]:
        """Formats and modes for values of `shape`, as the operation `Quantize` takes them; the file has a batch axis of 1 before it."""
        if self.k.ndim != len(shape) + 1 or not broadcasts(self.k.shape[1:], shape) or self.k.shape[0] != 1:
            raise layer.refuse(f"quantizes values of shape {shape} with widths of shape {self.k.shape}, which do not broadcast to it")
        alive = self.k + self.i + self.f > 0
        if np.any((self.k + self.i + self.f)[alive] > MAX_BITS):
            raise layer.refuse(f"has a format of {int((self.k + self.i + self.f).max())} bits; at most {MAX_BITS} are exact")
        widths = {name: np.broadcast_to(np.where(alive, getattr(self, name), 0)[0], shape).copy() for name in "kif"}
        return widths | {"rounding": self.rounding, "overflow": self.overflow}

    def constant(self, layer: Layer, values: np.ndarray) -> Constant:
        """The weight `values`, float32, on its grid, by HGQ2's own operations in float32: ``floor(x + 1/2)`` is one, for RND."""
        if self.k.ndim != values.ndim or not broadcasts(self.k.shape, values.shape):
            raise layer.refuse(f"has a weight of shape {values.shape} with widths of shape {self.k.shape}, which do not broadcast to it")
        k, i, f = (np.broadcast_to(v, values.shape) for v in (self.k, self.i, self.f))
        with np.errstate(all="ignore"):  # widths without bits may be absurd; what they make is 0, or found below
            quantized = self._rounded(values, k, i, f)
        if not np.all(np.isfinite(quantized)):
            raise layer.refuse("has a weight that its quantizer makes NaN or infinite")
        integers = np.ldexp(quantized.astype(np.float64), np.where(quantized == 0, 0, f))
        if np.any(integers != np.rint(integers)) or np.any(abs(integers) >= 2.0**MAX_BITS):
            raise layer.refuse(f"has a weight of more than {MAX_BITS} bits, or off its grid")
        bits = np.broadcast_to(self.bits, values.shape).copy()
        return Constant(integers.astype(np.int64), np.where(integers == 0, 0, f), bits)

    def _rounded(self, x: np.ndarray, k: np.ndarray, i: np.ndarray, f: np.ndarray) -> np.ndarray:
        one = np.float32(1)
        scale, top = np.ldexp(one, _exponent(f)), np.ldexp(one, _exponent(np.maximum(i, -f)))
        if self.overflow != "WRAP":
            high = top - one / scale
            x = np.clip(x, -k.astype(np.float32) * (high if self.overflow == "SAT_SYM" else top), high)
        x = x * scale
        x = {"RND": lambda v: np.floor(v + np.float32(0.5)), "TRN": np.floor, "RND_CONV": np.rint}[self.rounding](x) / scale
        if not self.wraps:
            return x
        if self.overflow == "WRAP":
            low = np.where(k > 0, top, np.float32(0))
            x = np.mod(x + low, top + low) - low
        return np.where(k + i + f > 0, x, np.float32(0))


def _exponent(n: np.ndarray) -> np.ndarray:
    return np.clip(n, -10_000, 10_000).astype(np.int32)


def quantizer(layer: Layer, config: Any, under: str, *, scaled: bool = False) -> Quantizer:
    """The quantizer with the configuration `config` whose variables lie `under` the layer; InteropError where it is not fixed-point.

    `scaled`: it may be one of a hard sigmoid, whose scale and offset the caller applies.
    """
    if not isinstance(config, dict) or "config" not in config:
        raise layer.refuse(f"has no quantizer configuration for {under}")
    cls, config = config.get("class_name"), dict(config["config"])
    if cls == "HardTanhConfig" or (scaled and cls == "HardSigmoidConfig"):
        config |= {"overflow_mode": "SAT"}  # not stored; HGQ2 takes this when it loads the file
    elif cls != "QuantizerConfig":
        raise layer.refuse(f"has a quantizer {under} of {cls}, which scales its values; QuantizerConfig and HardTanhConfig are legal")
    kind = config.get("q_type")
    if kind not in ("kif", "kbi"):
        raise layer.refuse(f"has a quantizer {under} of type {kind!r}; the fixed-point types 'kif' and 'kbi' are legal")
    for name in ("scaler", "affine"):
        if config.get(name) is not None:
            raise layer.refuse(f"has a quantizer {under} with {name} {config[name]}; only None keeps values on a grid of powers of two")
    mapper = config.get("bw_mapper")
    if mapper is not None and mapper.get("class_name") != "DefaultBitwidthMapper":
        raise layer.refuse(f"has a quantizer {under} with the bit-width mapper {mapper.get('class_name')!r}; the default one is legal")
    rounding, overflow = str(config.get("round_mode")).upper(), str(config.get("overflow_mode")).upper()
    if rounding not in ROUNDINGS or overflow not in OVERFLOWS:
        raise layer.refuse(
            f"has a quantizer {under} with rounding {rounding} and overflow {overflow}; legal are {', '.join(ROUNDINGS)} and "
            f"{', '.join(OVERFLOWS)}"
        )
    k, i, b_or_f = _widths(layer, under, kind, overflow)
    f = b_or_f - i if kind == "kbi" else b_or_f
    bits = b_or_f if kind == "kbi" else np.maximum(i + f, 0)
    # HGQ2: a weight that wraps is only rounded, for kbi under RND, as long as its quantizer may be trained
    free = overflow == "WRAP" and config.get("is_weight") and config.get("trainable", True) and (kind == "kif" or rounding == "RND")
    return Quantizer(k, i, f, bits + k if overflow == "SAT" else bits, ROUNDINGS[rounding], overflow, not free)


def _widths(layer: Layer, under: str, kind: str, overflow: str) -> list[np.ndarray]:
    """k, i and (kbi) b or (kif) f as whole numbers: trained widths round half to even."""
    order = {"kif": "fki" if overflow == "WRAP" else "ifk", "kbi": "bki" if overflow == "WRAP" else "bik"}[kind]
    found = layer.variables(f"{under}/quantizer".lstrip("/"))
    if len(found) < 3 or len({v.shape for v in found[:3]}) != 1:
        raise layer.refuse(f"has variables of shapes {[v.shape for v in found]} for its quantizer {under}; k, i and f are needed")
    widths = dict(zip(order, found, strict=False))
    if not np.issubdtype(widths["k"].dtype, np.integer) or np.any(widths["k"] > 1):
        raise layer.refuse(f"has signs of type {widths['k'].dtype} for its quantizer {under}; whole numbers 0 and 1 are needed")
    if any(abs(v.astype(np.float64)).max(initial=0) > 2e9 for v in widths.values()):
        raise layer.refuse(f"has widths beyond 2e9 bits for its quantizer {under}")
    return [np.rint(widths[name]).astype(np.int64) for name in ("k", "i", order.replace("k", "").replace("i", ""))]


def weight(layer: Layer, config_key: str, under: str, values: np.ndarray) -> Constant:
    """The weight `values` as the quantizer `under` the layer, configured by ``config_key``, makes it."""
    return quantizer(layer, layer[config_key], under).constant(layer, values.astype(np.float32))
