"""What a network costs in hardware. Cost models read formats and nothing else."""

from hgqjax.resources._base import AbstractCost, Costs
from hgqjax.resources.ebops import Definition, Ebops, ebops
from hgqjax.resources.lut import Luts, signed_digits
from hgqjax.resources.operations import Add, Conv, Dense, Einsum, Extreme, Multiply, Pool, Signal, Subtract, Sum, Table

__all__ = ["AbstractCost", "Add", "Conv", "Costs", "Definition", "Dense", "Ebops", "Einsum", "Extreme", "Multiply", "Pool", "Signal"]
__all__ += ["Luts", "Subtract", "Sum", "Table", "ebops", "signed_digits"]
