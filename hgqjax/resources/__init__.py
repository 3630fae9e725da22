"""What a network costs in hardware. Cost models read formats and nothing else."""

from hgqjax.resources.ebops import Definition, Dense, Ebops, Signal, ebops

__all__ = ["Definition", "Dense", "Ebops", "Signal", "ebops"]
