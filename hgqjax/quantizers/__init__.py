"""Quantizers: how trained parameters become a fixed-point format for every value. One file a method."""

from hgqjax.quantizers._base import AbstractQuantizer, Format
from hgqjax.quantizers.kbi import Kbi
from hgqjax.quantizers.kif import Kif

__all__ = ["AbstractQuantizer", "Format", "Kbi", "Kif"]
