"""Any function of single values as an exact table: tanh, sigmoid, whatever is written in jax.numpy."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hgqjax import fixed_point, resources
from hgqjax.granularity import Granularity
from hgqjax.layers._base import Layer, Observed
from hgqjax.layers._symbol import Symbol
from hgqjax.layers.mode import Mode
from hgqjax.layers.quantize import Quantize
from hgqjax.quantizers import AbstractQuantizer, Kif

FUNCTIONS = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}
MOST_BITS, RESULT_BITS = 16, 24
IN, OUT = Kif(i0=2.0, f0=4.0), Kif(i0=0.0, f0=6.0)
HARD_TANH = Kif(i0=0.0, f0=6.0, i_limits=(0.0, 0.0), overflow="SAT")
"""A quantizer that clips to [-1, 1): give it as the input quantizer of the layer that follows a hard tanh, which then costs nothing."""


class Table(Layer):
    r"""``q_out(function(q_in(x)))`` for each value; in hardware one table that all values look up.

    While training `function` is computed and its gradient taken. When the model is calibrated every word of the input is put through
    `function` in float64 and rounded once: from then on that table is the layer, in JAX too.

    Args:
      function: "tanh", "sigmoid", or a function of jax.numpy that takes and gives an array, element by element: rows while training, all
        words of the input in one axis when the table is made.
      shape: of a row.
      input_quantizer: of at most 16 bits; its width is what the size of the table hangs on. output_quantizer: of the entries; one width for
        all. With WRAP both follow the range: the output's that of the whole table.
      input_granularity: which inputs share a width; the table has the words of the widest and finest.

    Cost: `hgqjax.resources.Table`.
    Raises: ValueError, when the table is made, where a width is too large, where `function` gives something that is not finite for any word
      of the input, seen or not, or depends on more than single values, or where an unsigned output would have negative entries.

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
        input_granularity: Granularity = "tensor",
    ):
        if function not in FUNCTIONS and not callable(function):
            raise ValueError(f"function is {function!r}; a function of arrays, or one of {', '.join(map(repr, FUNCTIONS))}, is needed")
        self.function = FUNCTIONS.get(function, function) if isinstance(function, str) else function
        self.input_quantizer = Quantize(tuple(shape), input_quantizer, input_granularity)
        self.output_quantizer = Quantize(tuple(shape), output_quantizer, "tensor")
        self.entries, self.first, self.f_in = nnx.data(None), 0, 0

    def forward(self, x):
        x = self.input_quantizer(x)
        if self.entries is None or self.mode is not Mode.EVALUATE:
            return self.output_quantizer(self.function(x))
        index = jnp.rint(x * fixed_point.pow2(jnp.full((1,) * x.ndim, self.f_in, x.dtype))).astype(jnp.int32) - self.first
        return self.entries[...][index].astype(x.dtype)

    def thaw(self) -> None:
        self.entries = None

    def tabulate(self, name: str = "table") -> jax.Array:
        """The entries: makes the table for the formats in force, and widens the range of the output to hold it; `name` is for errors."""
        k, i, f = (np.asarray(v) for v in self.input_quantizer.format())
        alive = k + i + f > 0
        k, i, f = (int(np.max(v, where=alive, initial=-60)) if alive.any() else 0 for v in (k, i, f))
        if k + i + f > MOST_BITS:
            raise ValueError(f"layer {name!r} has an input of {k + i + f} bits; at most {MOST_BITS} are legal for a table")
        symmetric = self.input_quantizer.quantizer.overflow == "SAT_SYM"
        words = np.arange(-k * (2 ** (i + f) - symmetric), 2 ** (i + f), dtype=np.int64)
        with jax.enable_x64(True):
            y = self._computed(np.ldexp(words.astype(np.float64), -f), name).reshape((-1,) + (1,) * len(self.output_quantizer.shape))
            ends = (jnp.broadcast_to(v.astype(jnp.float32), self.output_quantizer.shape) for v in (y.min(), y.max()))
            self.output_quantizer.widen(*ends)
            quantizer, params, seen = self.output_quantizer.quantizer, self.output_quantizer.params, self.output_quantizer.range
            entries = quantizer.quantize(y, params, ranges=seen).ravel()
            trained = quantizer.quantize_unwrapped(y, params, ranges=seen).ravel()
        width = int(sum(np.asarray(v).ravel()[0] for v in self.output_quantizer.format()))
        if width > RESULT_BITS or bool(jnp.any(entries != trained)):
            what = f"{width} bits" if width > RESULT_BITS else "no sign (keep_negative=False), but its function gives negative values"
            raise ValueError(f"layer {name!r} has an output of {what}; at most {RESULT_BITS} bits that hold all entries are legal")
        self.entries, self.first, self.f_in = Observed(entries.astype(jnp.float32)), int(words[0]), f
        return self.entries[...]

    def _computed(self, values: np.ndarray, name: str) -> jax.Array:
        """The function of all values, float64; raises ValueError where it is not one of single values, or not finite."""
        y, backwards = (self.function(jnp.asarray(v)).astype(jnp.float64) for v in (values, values[::-1]))
        finite = np.isfinite(y)
        if not finite.all():
            raise ValueError(
                f"layer {name!r}: its function gives {y[~finite][0]} for {values[~finite][0]}; all words of its input need a number"
            )
        part = self.function(jnp.asarray(values[: len(values) // 2])).astype(jnp.float64)
        if not (np.allclose(y, backwards[::-1], rtol=1e-9, atol=1e-12) and np.allclose(y[: len(part)], part, rtol=1e-9, atol=1e-12)):
            raise ValueError(f"layer {name!r}: its function of a value depends on the other values; one of single values is needed")
        return y

    def cost(self):
        return resources.Table(self.input_quantizer.signal(), self.output_quantizer.signal())

    def describe(self, x: Symbol) -> Symbol:
        name = x.graph.name_of(self)
        x = self.input_quantizer.describe(x, f"{name}_input")
        entries = self.tabulate(name)
        k, i, f = (int(np.asarray(v).ravel()[0]) for v in self.output_quantizer.format())
        table = np.ldexp(np.asarray(entries, np.float64), f).astype(np.int64)
        bits = max(i + f + (k if self.output_quantizer.quantizer.overflow == "SAT" else 0), 0)
        return x.graph.apply("table", (x,), x.shape, name=name, table=table, f=f, bits=bits, f_in=self.f_in, low=self.first)
