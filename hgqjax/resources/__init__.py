"""What a network costs in hardware. Cost models read formats and nothing else."""

from hgqjax.resources._base import AbstractCost, Costs
from hgqjax.resources.boards import BOARDS, Board, row_ratio
from hgqjax.resources.content import table_luts, tables_luts
from hgqjax.resources.ebops import Definition, Ebops, ebops
from hgqjax.resources.lut import Luts, signed_digits
from hgqjax.resources.measured import Measured
from hgqjax.resources.operations import Add, Contract, Conv, Dense, Einsum, Extreme, Lookup, Multiply, Pool, Signal, Subtract, Sum, Table
from hgqjax.resources.weight_bits import WeightBits

__all__ = ["AbstractCost", "Add", "Contract", "Conv", "Costs", "Definition", "Dense", "Ebops", "Einsum", "Extreme", "Lookup", "Multiply"]
__all__ += [
    "BOARDS",
    "Board",
    "Luts",
    "Measured",
    "Pool",
    "Signal",
    "Subtract",
    "Sum",
    "Table",
    "WeightBits",
    "ebops",
    "row_ratio",
    "signed_digits",
]
__all__ += ["Measured", "table_luts", "tables_luts"]
