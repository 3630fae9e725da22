"""Effective bit operations (EBOPs): the differentiable resource estimate of the HGQ paper."""

from typing import Any, Literal, Protocol, get_args, runtime_checkable

from jax.typing import ArrayLike
from jaxtyping import Float

Definition = Literal["hgq2", "paper_v1"]


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
    r"""Effective bit operations of each layer that costs any, and their `total`: pure and differentiable in every bit-width.

    Of a model in training the formats are those in force, with the ranges observed so far: an estimate. Of a model description they
    are exact.

    Args:
      model: a `hgqjax.layers.Module` or a `hgqjax.export.ModelDescription`.
      definition: what counts as the width of an operand.
        ``"hgq2"``: magnitude bits i + f, plus the sign for SAT only; a bias adds mean(bits) for each output; adding, subtracting and
        pooling count too (see the operations of `hgqjax.resources`).
        ``"paper_v1"``: weights count i + f while training and, in a description, the bits enclosed by their outermost non-zero
        bits; inputs count their sign where they have one; what is no multiplication counts nothing.
      normalize_gradient: scale the gradient on a width shared by g elements by 1/sqrt(g), as the paper's first version does.

    Gradients: exact in the widths that are above 0; none for those at or below.
    Raises: ValueError for an unknown definition.
    Source: Sun et al. (HGQ), arXiv:2405.00645, Eq. 5; HGQ2's counting for ``"hgq2"``.
    """
    if definition not in get_args(Definition):
        raise ValueError(f"definition is {definition!r}; legal are {', '.join(get_args(Definition))}")
    return Ebops({name: op.ebops(definition, normalize_gradient) for name, op in model.operations_cost().items()})
