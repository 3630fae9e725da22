"""Quantized layers as flax nnx modules, and functions (pooling, reshaping) on their results. Nothing else in the package defines layers."""

from hgqjax.layers._base import BitWidth, Draw, Layer, Module, Observed
from hgqjax.layers._symbol import FrozenWeight, Symbol, SymbolicGraph
from hgqjax.layers.activation import relu
from hgqjax.layers.allocation import Task, allocations, fishers
from hgqjax.layers.attention import MultiHeadAttention
from hgqjax.layers.backward import AbstractGradients, BlockHouseholder, Exact, Gradients, PerRow, PerTensor
from hgqjax.layers.batch_norm import BatchNorm
from hgqjax.layers.calibration import adapt, calibrate, clip_widths, regularizer_bits, row_arrays
from hgqjax.layers.conv import Conv1D, Conv2D
from hgqjax.layers.conv3d import Conv3D
from hgqjax.layers.dense import Dense, EinsumDense
from hgqjax.layers.depthwise import DepthwiseConv1D, DepthwiseConv2D, SeparableConv1D, SeparableConv2D
from hgqjax.layers.edges import AbstractEdge, EdgeMlp, EdgeSpline, EdgeTable
from hgqjax.layers.einsum import Einsum
from hgqjax.layers.embedding import Embedding
from hgqjax.layers.float_trace import FloatError
from hgqjax.layers.float_weights import load_weights
from hgqjax.layers.from_float import from_float
from hgqjax.layers.graph import Aggregate, InteractionNetwork, all_pairs
from hgqjax.layers.levels import SharedLevels
from hgqjax.layers.linear import AbstractLinear
from hgqjax.layers.lut_conv import LutConv1D, LutConv2D
from hgqjax.layers.lut_dense import LutDense
from hgqjax.layers.lut_einsum import LutEinsum
from hgqjax.layers.mask import Mask, Masked, MaskedMean
from hgqjax.layers.merge import Add, Multiply, Subtract
from hgqjax.layers.mode import Mode
from hgqjax.layers.norm import LayerNorm, RMSNorm, SumOfSquares
from hgqjax.layers.particles import JediLinear, MlpMixer
from hgqjax.layers.pool import average_pool, global_average_pool, global_max_pool, max_pool
from hgqjax.layers.propagate import Propagate
from hgqjax.layers.quantize import Quantize, QuantizeWeight
from hgqjax.layers.recurrent import GRU, LSTM, AbstractRecurrent, SimpleRNN
from hgqjax.layers.reduce import Sum, max, mean, sum
from hgqjax.layers.search import begin_step, narrowest, quantized_gradients, reassign, reassigns, row_curvatures, seed
from hgqjax.layers.sequential import Sequential, mlp
from hgqjax.layers.shapes import concatenate, flatten, gather, reshape, select, transpose, upsample, zero_pad
from hgqjax.layers.sites import assign, sites
from hgqjax.layers.softmax import Below, Softmax
from hgqjax.layers.start import Constants, FloatStart, FrozenStart, Start
from hgqjax.layers.table import HARD_TANH, Table
from hgqjax.layers.transposed import ConvTranspose1D, ConvTranspose2D

__all__ = [
    "GRU",
    "HARD_TANH",
    "LSTM",
    "AbstractEdge",
    "AbstractGradients",
    "AbstractLinear",
    "AbstractRecurrent",
    "Add",
    "Aggregate",
    "BatchNorm",
    "Below",
    "BitWidth",
    "BlockHouseholder",
    "Constants",
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "ConvTranspose1D",
    "ConvTranspose2D",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "Draw",
    "EdgeMlp",
    "EdgeSpline",
    "EdgeTable",
    "Einsum",
    "EinsumDense",
    "Embedding",
    "Exact",
    "FloatError",
    "FloatStart",
    "FrozenStart",
    "FrozenWeight",
    "Gradients",
    "InteractionNetwork",
    "JediLinear",
    "Layer",
    "LayerNorm",
    "LutConv1D",
    "LutConv2D",
    "LutDense",
    "LutEinsum",
    "Mask",
    "Masked",
    "MaskedMean",
    "MlpMixer",
    "Mode",
    "Module",
    "MultiHeadAttention",
    "Multiply",
    "Observed",
    "PerRow",
    "PerTensor",
    "Propagate",
    "Quantize",
    "QuantizeWeight",
    "RMSNorm",
    "SeparableConv1D",
    "SeparableConv2D",
    "Sequential",
    "SharedLevels",
    "SimpleRNN",
    "Softmax",
    "Start",
    "Subtract",
    "Sum",
    "SumOfSquares",
    "Symbol",
    "SymbolicGraph",
    "Table",
    "Task",
    "adapt",
    "all_pairs",
    "allocations",
    "assign",
    "average_pool",
    "begin_step",
    "calibrate",
    "clip_widths",
    "concatenate",
    "fishers",
    "flatten",
    "from_float",
    "gather",
    "global_average_pool",
    "global_max_pool",
    "load_weights",
    "max",
    "max_pool",
    "mean",
    "mlp",
    "narrowest",
    "quantized_gradients",
    "reassign",
    "reassigns",
    "regularizer_bits",
    "relu",
    "reshape",
    "row_arrays",
    "row_curvatures",
    "seed",
    "select",
    "sites",
    "sum",
    "transpose",
    "upsample",
    "zero_pad",
]
