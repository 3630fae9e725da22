"""What layers of several inputs share: a quantizer for each, and calls that check their number."""

import jax
from flax import nnx

from hgqjax.layers._base import Layer, Value
from hgqjax.layers._symbol import Symbol
from hgqjax.layers.quantize import Quantize


class AbstractSeveral(Layer):
    """Base of the layers of several inputs: a new one sets `input_quantizer` and writes `forward`, `describe` and `cost` of all of them."""

    input_quantizer: nnx.List[Quantize]
    """Of each input, in order."""

    @property
    def inputs(self) -> int:
        """How many inputs there are."""
        return len(self.input_quantizer)

    def __call__(self, *xs: Value) -> Value:  # pyright: ignore[reportIncompatibleMethodOverride] of several inputs
        if len(xs) != self.inputs:
            raise ValueError(f"{type(self).__name__} was made for {self.inputs} inputs and is given {len(xs)}")
        self.count_use()
        symbols = [x for x in xs if isinstance(x, Symbol)]
        return self.describe(*symbols) if symbols else self.forward(*xs)  # pyright: ignore[reportReturnType, reportArgumentType] one kind

    def forward(self, *xs: jax.Array) -> jax.Array:  # pyright: ignore[reportIncompatibleMethodOverride] of several inputs
        raise NotImplementedError

    def describe(self, *xs: Symbol) -> Symbol:  # pyright: ignore[reportIncompatibleMethodOverride] of several inputs
        raise NotImplementedError

    def quantized(self, xs: tuple[jax.Array, ...]) -> list[jax.Array]:
        """The inputs on their grids."""
        return [quantizer(x) for quantizer, x in zip(self.input_quantizer, xs, strict=True)]

    def described(self, xs: tuple[Symbol, ...]) -> tuple[str, tuple[Symbol, ...]]:
        """The layer's name, and the quantized inputs."""
        name = xs[0].graph.name_of(self)
        pairs = enumerate(zip(self.input_quantizer, xs, strict=True))
        return name, tuple(quantizer.describe(x, f"{name}_input{n}") for n, (quantizer, x) in pairs)
