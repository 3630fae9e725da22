"""Effective bit operations (EBOPs): the differentiable resource estimate of the HGQ paper."""

import dataclasses
from typing import ClassVar, get_args

from hgqjax.resources._base import AbstractCost, Costed, Costs, Definition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ebops(AbstractCost):
    r"""Effective bit operations: :math:`\sum b_a b_b` over all multiplications of operands a and b, and what else the definition counts.

    Args:
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

    unit: ClassVar[str] = "EBOPs"
    definition: Definition = "hgq2"
    normalize_gradient: bool = False

    def __post_init__(self):
        if self.definition not in get_args(Definition):
            raise ValueError(f"definition is {self.definition!r}; legal are {', '.join(get_args(Definition))}")

    def operation(self, op):
        return op.ebops(self.definition, self.normalize_gradient)


def ebops(model: Costed, definition: Definition = "hgq2") -> Costs:
    """`Ebops` of each layer of `model` that costs any, and their `total`; see there for the definitions."""
    return Ebops(definition=definition)(model)
