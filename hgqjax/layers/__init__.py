"""Quantized layers for flax nnx, and functions on their results: the only modules of the package."""

from hgqjax.layers._base import BitWidth, Draw, FrozenWeight, Layer, Module, Observed, Symbol, SymbolicGraph
from hgqjax.layers.activation import relu
from hgqjax.layers.calibration import adapt, calibrate, clip_widths, regularizer_bits
from hgqjax.layers.conv import (
    BatchNormConv1D,
    BatchNormConv2D,
    BatchNormDepthwiseConv1D,
    BatchNormDepthwiseConv2D,
    Conv1D,
    Conv2D,
    DepthwiseConv1D,
    DepthwiseConv2D,
    SeparableConv1D,
    SeparableConv2D,
)
from hgqjax.layers.dense import BatchNormDense, BatchNormEinsumDense, Dense, EinsumDense
from hgqjax.layers.linear import BatchNorm, Linear
from hgqjax.layers.merge import Add, Multiply, Subtract
from hgqjax.layers.pool import average_pool, global_average_pool, global_max_pool, max_pool
from hgqjax.layers.quantize import Quantize, QuantizeWeight
from hgqjax.layers.search import begin_step, narrowest, reassign, reassigns, row_curvatures, seed
from hgqjax.layers.sequential import Sequential, mlp
from hgqjax.layers.shapes import concatenate, flatten, reshape, select, transpose
from hgqjax.layers.table import HARD_TANH, Table

__all__ = [
    "HARD_TANH",
    "Add",
    "BatchNorm",
    "BatchNormConv1D",
    "BatchNormConv2D",
    "BatchNormDense",
    "BatchNormDepthwiseConv1D",
    "BatchNormDepthwiseConv2D",
    "BatchNormEinsumDense",
    "BitWidth",
    "Conv1D",
    "Conv2D",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "Draw",
    "EinsumDense",
    "FrozenWeight",
    "Layer",
    "Linear",
    "Module",
    "Multiply",
    "Observed",
    "Quantize",
    "QuantizeWeight",
    "SeparableConv1D",
    "SeparableConv2D",
    "Sequential",
    "Subtract",
    "Symbol",
    "SymbolicGraph",
    "Table",
    "adapt",
    "average_pool",
    "begin_step",
    "calibrate",
    "clip_widths",
    "concatenate",
    "flatten",
    "global_average_pool",
    "global_max_pool",
    "max_pool",
    "mlp",
    "narrowest",
    "reassign",
    "reassigns",
    "regularizer_bits",
    "relu",
    "reshape",
    "row_curvatures",
    "seed",
    "select",
    "transpose",
]
