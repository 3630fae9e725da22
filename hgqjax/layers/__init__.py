"""Quantized layers for flax nnx: the only flax code of the package."""

from hgqjax.layers._base import BitWidth, FrozenWeight, Layer, Module, Observed, Symbol, SymbolicGraph
from hgqjax.layers.activation import relu
from hgqjax.layers.calibration import adapt, calibrate, clip_widths, regularizer_bits
from hgqjax.layers.dense import BatchNormDense, Dense
from hgqjax.layers.quantize import Quantize, QuantizeWeight
from hgqjax.layers.sequential import Sequential, mlp

__all__ = [
    "BatchNormDense",
    "BitWidth",
    "Dense",
    "FrozenWeight",
    "Layer",
    "Module",
    "Observed",
    "Quantize",
    "QuantizeWeight",
    "Sequential",
    "Symbol",
    "SymbolicGraph",
    "adapt",
    "calibrate",
    "clip_widths",
    "mlp",
    "regularizer_bits",
    "relu",
]
