"""Methods as configurations: what a network does with quantizers, one file a method."""

from hgqjax.methods._base import AbstractMethod, uniform
from hgqjax.methods.amed import Amed
from hgqjax.methods.cpq import Cpq
from hgqjax.methods.daq import Daq
from hgqjax.methods.dqa import Dqa
from hgqjax.methods.haq import Haq
from hgqjax.methods.hgq import Hgq
from hgqjax.methods.hmq import Hmq
from hgqjax.methods.ilmpq import Ilmpq
from hgqjax.methods.nce import Nce
from hgqjax.methods.ohq import Ohq
from hgqjax.methods.pruning import Pruning
from hgqjax.methods.ptilmpq import Ptilmpq
from hgqjax.methods.sfmp import Sfmp
from hgqjax.methods.squeeze import Squeeze
from hgqjax.methods.uniform import Uniform

Method = Hgq | Uniform | Pruning | Hmq | Ilmpq | Cpq | Daq | Dqa | Sfmp | Ohq | Ptilmpq | Amed | Haq | Squeeze | Nce

__all__ = [
    "AbstractMethod",
    "Amed",
    "Cpq",
    "Daq",
    "Dqa",
    "Haq",
    "Hgq",
    "Hmq",
    "Ilmpq",
    "Method",
    "Nce",
    "Ohq",
    "Pruning",
    "Ptilmpq",
    "Sfmp",
    "Squeeze",
    "Uniform",
    "uniform",
]
