"""What a network costs in hardware. Cost models read formats and nothing else."""

from hgqjax.resources.ebops import Dense, Ebops, Signal, ebops

__all__ = ["Dense", "Ebops", "Signal", "ebops"]
