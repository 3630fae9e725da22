"""Operations of a model description, each with its exact grid and its exact evaluation. Nothing here knows JAX.

A value is a whole number times ``2**-f`` with a known `f` for every element; `Grid` carries `f` and the exact interval of the whole
numbers, so that the evaluator knows before it starts which integer type cannot overflow.
"""

from hgqjax.description.operations._base import Constant, DescriptionError, Grid, Operation, broadcasts
from hgqjax.description.operations.contract import Contract
from hgqjax.description.operations.elementwise import Input, Quantize, Relu, Table
from hgqjax.description.operations.linear import Conv, Dense, Einsum, Linear
from hgqjax.description.operations.merge import Add, Concatenate, Elementwise, Maximum, Minimum, Multiply, Subtract
from hgqjax.description.operations.pool import AveragePool, MaxPool, Pool, Sum
from hgqjax.description.operations.shapes import Gather, Rearrange, Reshape, Slice, Transpose
from hgqjax.description.operations.tables import KEY_BITS, Lookup
from hgqjax.description.operations.windows import Windows

_ALL = [Input, Quantize, Relu, Table, Dense, Einsum, Conv, Add, Subtract, Multiply, Maximum, Minimum, Concatenate]
_ALL += [Reshape, Transpose, Slice, MaxPool, AveragePool, Sum, Contract, Gather, Lookup]
KINDS: dict[str, type[Operation]] = {cls.kind: cls for cls in _ALL}

__all__ = [
    "KEY_BITS",
    "KINDS",
    "Add",
    "AveragePool",
    "Concatenate",
    "Constant",
    "Contract",
    "Conv",
    "Dense",
    "DescriptionError",
    "Einsum",
    "Elementwise",
    "Gather",
    "Grid",
    "Input",
    "Linear",
    "Lookup",
    "MaxPool",
    "Maximum",
    "Minimum",
    "Multiply",
    "Operation",
    "Pool",
    "Quantize",
    "Rearrange",
    "Relu",
    "Reshape",
    "Slice",
    "Subtract",
    "Sum",
    "Table",
    "Transpose",
    "Windows",
    "broadcasts",
]
