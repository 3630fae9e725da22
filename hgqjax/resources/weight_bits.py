"""Weight bits: what the weights take in memory, the cost that HMQ aims at."""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
from jax import lax

from hgqjax.resources._base import AbstractCost, Costs


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightBits(AbstractCost):
    r"""Mean bits of a weight: :math:`\sum b / n` over all n weights of the kernels; 0 without magnitude bits, else its sign, too.

    32 over it is the compression rate against 32-bit floats. Of each layer: its share, so that `total` is the mean. Biases do not count,
    masked weights do (0 bits), those of a gate's missing neurons do not. Powers of two count the bits of their values as fixed point (1
    and a sign), not those of their code.

    Gradients: 1 / n in each width that is above 0.
    Source: the weight compression rate of Habi et al. (HMQ), arXiv:2007.09952.

    >>> import jax
    >>> from flax import nnx
    >>> from hgqjax import layers
    >>> from hgqjax.quantizers import Kif
    >>> model = layers.mlp((3, 4, 2), rngs=nnx.Rngs(0), kernel_quantizer=Kif(b0=3.0))
    >>> bool(3.5 < WeightBits()(model).total < 4.5)
    True
    """

    unit: ClassVar[str] = "bits per weight"

    def operation(self, op):
        """Bits of the weights of one operation."""
        if not hasattr(op, "kernel"):
            return 0.0
        _, i, f = op.kernel.format
        xp, width = f.__array_namespace__(), i + f
        return op.kernel.weighted(xp.broadcast_to(xp.where(width > 0, width + 1.0, 0.0 * width), op.kernel.shape)).sum()

    def __call__(self, model):
        operations = model.operations_cost()
        count = sum(_count(op.kernel) for op in operations.values() if hasattr(op, "kernel"))
        return Costs({name: self.operation(op) / (count or 1) for name, op in operations.items()})


def _count(kernel):
    """Weights of a kernel; of a gated one those that are there."""
    if kernel.share is None:
        return math.prod(kernel.shape)
    return lax.stop_gradient(jnp.broadcast_to(kernel.share, kernel.shape).sum())
