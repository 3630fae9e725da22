"""Quantizers: how trained parameters become a fixed-point format for every value. One file a method."""

from hgqjax.quantizers._base import AbstractQuantizer, FixedPoint, Format, sample_exponent
from hgqjax.quantizers.binary import Binary
from hgqjax.quantizers.fixed import Fixed
from hgqjax.quantizers.kbi import Kbi
from hgqjax.quantizers.kif import Kif
from hgqjax.quantizers.minifloat import Minifloat
from hgqjax.quantizers.power_of_two import PowerOfTwo
from hgqjax.quantizers.ternary import Ternary

__all__ = ["AbstractQuantizer", "Binary", "Fixed", "FixedPoint", "Format", "Kbi", "Kif", "Minifloat", "PowerOfTwo", "Ternary"]
__all__ += ["sample_exponent"]
