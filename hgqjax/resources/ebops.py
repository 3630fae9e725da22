"""Effective bit operations (EBOPs): the differentiable resource estimate of the HGQ paper."""

from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Float

from hgqjax.quantizers import Format

Definition = Literal["hgq2", "paper_v1"]


class Signal(NamedTuple):
    """One operand: its `format`, which broadcasts to `shape`; whether it is a `constant`, and of a frozen one its `enclosed_bits`."""

    format: Format
    overflow: str
    shape: tuple[int, ...]
    constant: bool = False
    enclosed_bits: Any = None

    def bits(self, definition: str, normalize_gradient: bool) -> Float[ArrayLike, "..."]:
        """Width that counts, in bits, >= 0, of `shape`; see `ebops`."""
        k, i, f = self.format
        xp = f.__array_namespace__()
        if definition == "paper_v1" and self.enclosed_bits is not None:
            return xp.broadcast_to(self.enclosed_bits, self.shape)
        sign = k if (self.overflow == "SAT" if definition == "hgq2" else not self.constant) else 0.0 * k
        width = i + f
        width = width + xp.where(width > 0, sign, 0.0 * sign) if definition == "paper_v1" else width + sign
        width = xp.where(width > 0, width, 0.0 * width)  # not maximum: its gradient at 0 is 1/2
        if normalize_gradient:
            group = _size(self.shape) / _size(f.shape)
            width = width / group**0.5 + lax.stop_gradient(width - width / group**0.5)
        return xp.broadcast_to(width, self.shape)


class Dense(NamedTuple):
    """``input @ kernel + bias``: `input` of shape (..., n), `kernel` (n, m), `bias` (m,) or None."""

    input: Signal
    kernel: Signal
    bias: Signal | None

    def ebops(self, definition: str, normalize_gradient: bool) -> Float[ArrayLike, ""]:
        bits_in = self.input.bits(definition, normalize_gradient)
        total = dense_ebops(bits_in, self.kernel.bits(definition, normalize_gradient))
        if self.bias is None or definition == "paper_v1":
            return total
        positions = _size(self.input.shape[:-1])
        return total + self.bias.bits(definition, normalize_gradient).mean() * (self.kernel.shape[1] * positions)


def _size(shape: tuple[int, ...]) -> int:
    n = 1
    for d in shape:
        n *= d
    return n


def dense_ebops(bits_in: Float[ArrayLike, "*positions n"], bits_kernel: Float[ArrayLike, "n m"]) -> Float[ArrayLike, ""]:
    r"""EBOPs of ``x @ kernel``: :math:`\sum_{p,n,m} b^{in}_{pn} b^{kernel}_{nm}`, bit operations per inference.

    Args:
      bits_in: width of each input, bits, >= 0.
      bits_kernel: width of each weight, bits, >= 0; 0 means that the weight is gone.

    Gradients: exact, in both widths.
    Source: Sun et al. (HGQ), arXiv:2405.00645, Eq. 5.

    >>> import numpy as np
    >>> float(dense_ebops(np.array([3.0, 0.0]), np.array([[2.0], [5.0]])))
    6.0
    """
    return (bits_in @ bits_kernel.sum(axis=1)).sum()


@runtime_checkable
class Costed(Protocol):
    """A model (`hgqjax.layers.Module`) or a model description."""

    def operations_cost(self) -> dict[str, Any]: ...


class Ebops(dict):
    """EBOPs by layer name; `total` is their sum."""

    @property
    def total(self) -> Float[ArrayLike, ""]:
        return sum(self.values())


def ebops(model: Costed, definition: str = "hgq2", normalize_gradient: bool = False) -> Ebops:
    r"""Effective bit operations of each multiplying layer, and their `total`: pure and differentiable in every bit-width.

    Of a model in training the formats are those in force, with the ranges observed so far: an estimate. Of a model description they
    are exact.

    Args:
      model: a `hgqjax.layers.Module` or a `hgqjax.export.ModelDescription`.
      definition: what counts as the width of an operand.
        ``"hgq2"``: magnitude bits i + f, plus the sign for SAT only; a bias adds mean(bits) for each output.
        ``"paper_v1"``: weights count i + f while training and, in a description, the bits enclosed by their outermost non-zero
        bits; inputs count their sign where they have one; biases count nothing.
      normalize_gradient: scale the gradient on a width shared by g elements by 1/sqrt(g), as the paper's first version does.

    Gradients: exact in the widths that are above 0; none for those at or below.
    Raises: ValueError for an unknown definition.
    Source: Sun et al. (HGQ), arXiv:2405.00645, Eq. 5; HGQ2's counting for ``"hgq2"``.
    """
    if definition not in get_args(Definition):
        raise ValueError(f"definition is {definition!r}; legal are {', '.join(get_args(Definition))}")
    return Ebops({name: op.ebops(definition, normalize_gradient) for name, op in model.operations_cost().items()})
