"""What a network costs in hardware. Cost models read formats and nothing else."""

from hgqjax.resources.costs import Add, Conv, Dense, Einsum, Extreme, Multiply, Pool, Signal, Subtract, Sum
from hgqjax.resources.ebops import Definition, Ebops, ebops

__all__ = ["Add", "Conv", "Definition", "Dense", "Ebops", "Einsum", "Extreme", "Multiply", "Pool", "Signal", "Subtract", "Sum", "ebops"]
