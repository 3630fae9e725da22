"""Quantizers: how trained parameters become a fixed-point format for every value. One file a method."""

from hgqjax.quantizers._base import AbstractQuantizer, FixedPoint, Format, sample_exponent
from hgqjax.quantizers.allocated import Allocated
from hgqjax.quantizers.allocation import AbstractAllocation, Moment, Slot
from hgqjax.quantizers.binary import Binary
from hgqjax.quantizers.cpq import Cpq
from hgqjax.quantizers.dqa import Dqa
from hgqjax.quantizers.fixed import Fixed
from hgqjax.quantizers.gate import AbstractGate
from hgqjax.quantizers.hmq import Hmq
from hgqjax.quantizers.kbi import Kbi
from hgqjax.quantizers.kif import Kif
from hgqjax.quantizers.minifloat import Minifloat
from hgqjax.quantizers.policy import AbstractPolicy, Problem, Search, Site
from hgqjax.quantizers.power_of_two import PowerOfTwo
from hgqjax.quantizers.pruned import Pruned
from hgqjax.quantizers.regions import Regions
from hgqjax.quantizers.row_wise import RowWise, row_counts
from hgqjax.quantizers.searched import Searched
from hgqjax.quantizers.ternary import Ternary

__all__ = ["AbstractAllocation", "AbstractQuantizer", "Allocated", "Binary", "Dqa", "Fixed", "FixedPoint", "Format"]
__all__ += ["AbstractGate", "Hmq", "Kbi", "Kif"]
__all__ += ["Cpq", "Minifloat", "Moment", "PowerOfTwo", "Pruned", "Slot"]
__all__ += ["AbstractPolicy", "Problem", "Regions", "RowWise", "Search", "Searched", "Site", "Ternary", "row_counts", "sample_exponent"]
