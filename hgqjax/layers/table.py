"""Any function of single values as an exact table: tanh, sigmoid, whatever is written in jax.numpy."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hgqjax import fixed_point, resources
from hgqjax.layers._base import Layer, Observed, Symbol
from hgqjax.layers.quantize import Quantize
from hgqjax.quantizers import AbstractQuantizer, Kif

FUNCTIONS = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}
MOST_BITS = 16
IN, OUT = Kif(i0=2.0, f0=4.0), Kif(i0=0.0, f0=6.0)
HARD_TANH = Kif(i0=0.0, f0=6.0, i_limits=(0.0, 0.0), overflow="SAT")
"""A quantizer that clips to [-1, 1): give it as the input quantizer of the layer that follows a hard tanh, which then costs nothing."""


class Table(Layer):
    r"""``q_out(function(q_in(x)))`` for each value; in hardware one table that all values look up.

    While training `function` is computed and its gradient taken. When the model is calibrated every word of the input is put through
    `function` in float64 and rounded once: from then on that table is the layer, in JAX too.

    Args:
      function: "tanh", "sigmoid", or a function of jax.numpy that takes and gives an array, element by element.
      shape: of a row.
      input_quantizer: of at most 16 bits; its width is what the size of the table hangs on. output_quantizer: of the entries; one width for
        all. With WRAP both follow the range: the output's that of the whole table.
      input_granularity: which inputs share a width; the table has the words of the widest and finest.

    Cost: `hgqjax.resources.Table`.
    Raises: ValueError, when the table is made, where the input has more than 16 bits or `function` gives something not finite.

    >>> layer = Table("tanh", (2,))
    >>> layer(jnp.array([[0.25, -8.0]])).tolist()
    [[0.25, -1.0]]
    """

    def __init__(
        self,
        function: str | Callable[[jax.Array], jax.Array],
        shape: Sequence[int],
        *,
        input_quantizer: AbstractQuantizer = IN,
        output_quantizer: AbstractQuantizer = OUT,
        input_granularity: str = "tensor",
    ):
        if function not in FUNCTIONS and not callable(function):
            raise ValueError(f"function is {function!r}; a function of arrays, or one of {', '.join(map(repr, FUNCTIONS))}, is needed")
        self.function = FUNCTIONS.get(function, function) if isinstance(function, str) else function
        self.input_quantizer = Quantize(tuple(shape), input_quantizer, input_granularity)
        self.output_quantizer = Quantize(tuple(shape), output_quantizer, "tensor")
        self.entries, self.first, self.f_in = nnx.data(None), 0, 0
        self.observe = True

    def forward(self, x):
        x = self.input_quantizer(x)
        if self.entries is None or self.observe:
            return self.output_quantizer(self.function(x))
        index = jnp.rint(x * fixed_point.pow2(jnp.full((1,) * x.ndim, self.f_in, x.dtype))).astype(jnp.int32) - self.first
        return self.entries[...][index].astype(x.dtype)

    def tabulate(self) -> None:
        """Makes the table for the formats in force, and widens the range of the output to hold it."""
        k, i, f = (np.asarray(v) for v in self.input_quantizer.format())
        alive = k + i + f > 0
        k, i, f = (int(np.max(v, where=alive, initial=-60)) if alive.any() else 0 for v in (k, i, f))
        k = max(k, 0)
        if not 0 <= k + i + f <= MOST_BITS:
            raise ValueError(
                f"the table has an input of {k + i + f} bits; at most {MOST_BITS} are legal; give it a coarser input_quantizer"
            )
        words = np.arange(-k * 2 ** (i + f), 2 ** (i + f), dtype=np.int64)
        with jax.enable_x64(True):
            values = jnp.asarray(np.ldexp(words.astype(np.float64), -f))
            y = self.function(values).reshape((-1,) + (1,) * len(self.output_quantizer.shape))
            if not bool(jnp.all(jnp.isfinite(y))):
                raise ValueError("the table's function gives a NaN or an infinity for a word of its input")
            ends = (jnp.broadcast_to(v.astype(jnp.float32), self.output_quantizer.shape) for v in (y.min(), y.max()))
            self.output_quantizer.widen(*ends)
            quantizer = self.output_quantizer
            entries = quantizer.quantizer.quantize(y, quantizer.params, ranges=quantizer.range).ravel()
        self.entries, self.first, self.f_in = Observed(entries.astype(jnp.float32)), int(words[0]), f

    def cost(self):
        return resources.Table(self.input_quantizer.signal(), self.output_quantizer.signal())

    def describe(self, x: Symbol) -> Symbol:
        name = x.graph.name_of(self)
        x = self.input_quantizer.describe(x, f"{name}_input")
        self.tabulate()
        k, i, f = (int(np.asarray(v).ravel()[0]) for v in self.output_quantizer.format())
        table = np.ldexp(np.asarray(self.entries[...], np.float64), f).astype(np.int64)
        bits = max(i + f + (k if self.output_quantizer.quantizer.overflow == "SAT" else 0), 0)
        return x.graph.apply("table", (x,), x.shape, name=name, table=table, f=f, bits=bits, f_in=self.f_in, low=self.first)
