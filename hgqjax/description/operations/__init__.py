"""Operations of a model description, each with its exact grid and its exact evaluation. Nothing here knows JAX.

A value is a whole number times ``2**-f`` with a known `f` for every element; `Grid` carries `f` and the exact interval of the whole
numbers, so that the evaluator knows before it starts which integer type cannot overflow.
"""

from hgqjax.description.operations._base import Constant, DescriptionError, Grid, Operation, broadcasts
from hgqjax.description.operations.elementwise import Input, Quantize, Relu, Table
from hgqjax.description.operations.linear import Conv, Dense, Einsum, Linear
from hgqjax.description.operations.merge import Add, Concatenate, Maximum, Minimum, Multiply, Subtract
from hgqjax.description.operations.pool import AveragePool, MaxPool, Pool, Sum
from hgqjax.description.operations.shapes import Reshape, Slice, Transpose
from hgqjax.description.operations.windows import Windows

_ALL = [Input, Quantize, Relu, Table, Dense, Einsum, Conv, Add, Subtract, Multiply, Maximum, Minimum, Concatenate]
_ALL += [Reshape, Transpose, Slice, MaxPool, AveragePool, Sum]
KINDS: dict[str, type[Operation]] = {cls.kind: cls for cls in _ALL}

__all__ = [
    "KINDS",
    "Add",
    "AveragePool",
    "Concatenate",
    "Constant",
    "Conv",
    "Dense",
    "DescriptionError",
    "Einsum",
    "Grid",
    "Input",
    "Linear",
    "MaxPool",
    "Maximum",
    "Minimum",
    "Multiply",
    "Operation",
    "Pool",
    "Quantize",
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
