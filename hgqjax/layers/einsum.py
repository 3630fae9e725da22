"""Products of two results, summed over any axes: the scores of attention, the weighting of values, pairs of particles."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from hgqjax import resources
from hgqjax.granularity import Granularity
from hgqjax.layers._symbol import Symbol
from hgqjax.layers.quantize import ACTIVATION, Quantize
from hgqjax.layers.several import AbstractSeveral
from hgqjax.quantizers import AbstractQuantizer


class Einsum(AbstractSeveral):
    """``einsum(equation, q(a), q(b))`` of two results.

    Args:
      equation: without a label for the batch axis, as "the,she->hts"; every label in two of its three parts, in none twice. A result
        without labels, as of "t,t->", has rows of shape (1,).
      shape_a, shape_b: of a row of each input.
      input_quantizer, input_granularity: of both; see `Quantize`.

    Cost: `hgqjax.resources.Contract`.
    Raises: ValueError, where equation and shapes do not fit.

    >>> layer = Einsum("te,se->ts", (2, 3), (4, 3))
    >>> layer(jnp.ones((5, 2, 3)), jnp.ones((5, 4, 3)))[0].tolist()
    [[3.0, 3.0, 3.0, 3.0], [3.0, 3.0, 3.0, 3.0]]
    """

    def __init__(
        self,
        equation: str,
        shape_a: Sequence[int],
        shape_b: Sequence[int],
        *,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        input_granularity: Granularity = "element",
    ):
        self.equation, shapes = equation.replace(" ", ""), (tuple(shape_a), tuple(shape_b))
        self.output_shape = _result(self.equation, shapes)
        self.input_quantizer = nnx.List([Quantize(shape, input_quantizer, input_granularity) for shape in shapes])

    def forward(self, *xs: jax.Array) -> jax.Array:
        a, b = self.quantized(xs)
        first, second, y = self.equation.replace("->", ",").split(",")
        return jnp.einsum(f"...{first},...{second}->...{y}", a, b).reshape(len(a), *self.output_shape)

    def cost(self) -> resources.Contract:
        a, b = (quantizer.signal() for quantizer in self.input_quantizer)
        return resources.Contract((a, b), self.equation)

    def describe(self, *xs: Symbol) -> Symbol:
        name, quantized = self.described(xs)
        return xs[0].graph.apply("contract", quantized, self.output_shape, name=name, equation=self.equation)


def _result(equation: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[int, ...]:
    """Shape of a row of the result."""
    parts = equation.replace("->", ",").split(",")
    sound = len(parts) == 3 and equation.count("->") == 1 and all(not part or part.isalpha() for part in parts)
    if not sound or any(len(set(part)) < len(part) for part in parts) or any(sum(c in p for p in parts) < 2 for c in "".join(parts)):
        raise ValueError(
            f"equation is {equation!r}; one like 'the,she->hts', every label in two of three parts and in none twice, is needed"
        )
    sizes: dict[str, int] = {}
    for part, shape in zip(parts, shapes, strict=False):
        if len(part) != len(shape) or any(sizes.setdefault(label, n) != n for label, n in zip(part, shape, strict=True)):
            raise ValueError(f"equation is {equation!r}, which does not fit rows of shapes {shapes[0]} and {shapes[1]}")
    return tuple(sizes[label] for label in parts[2]) or (1,)
