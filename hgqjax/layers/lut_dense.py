"""Layers of tables: each pair of an input and an output has a function of its own, a table in hardware; an output is their sum."""

import math
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from hgqjax import fixed_point, resources
from hgqjax.layers._base import Layer, Observed
from hgqjax.layers._symbol import Symbol
from hgqjax.layers.batch_norm import BatchNorm, Norm
from hgqjax.layers.edges import BLOCK, AbstractEdge, EdgeMlp, at_keys, edge_function
from hgqjax.layers.mode import Mode
from hgqjax.layers.quantize import Quantize
from hgqjax.quantizers import AbstractQuantizer, Format, Kbi, Kif

KEY = Kif(i0=2.0, f0=4.0, rounding="TRN")
"""Cut off, not rounded: that is free in hardware, and the function of the edge can make up for it."""
WORD = Kbi(b0=6.0, overflow="SAT_SYM")
KEY_BITS, WORD_BITS = 16, 24
MOST_WORDS = 2**24
"""Of all tables of a layer together."""
SPAN_POINTS = 17
"""Of a key's range, at which the span of a function is measured for its cost."""
MOST_VALUES = 2**28
"""Rows times edges of a call: an array of 1 GiB."""


class LutDense(Layer):
    r"""``sum_i q_out(norm(function_io(q_in(x_i))))`` for each output o: every edge (i, o) is a table of its own.

    While training each function is computed once for each key that the rows of a batch may have, and looked up; where this saves nothing
    (few rows, keys of many bits, a GPU), for a block of rows after the other. It is computed again for the gradient, so that memory does
    not grow with what functions compute inside. When the model is calibrated every word of every key is put through its function in
    float64 and rounded once: from then on these tables are the layer, in JAX too.

    Args:
      n_in, n_out: features; x is (rows, *input_shape), whose last axis is n_in; by default (rows, n_in).
      function: of the edges: "mlp", "spline", "table", or an `AbstractEdge` with settings of its own.
      batch_norm: over each output's edges and the rows, then divided by the root of n_in, as HGQ-LUT has it; None: only the latter.
      input_quantizer: of the keys, one for each edge, at most 16 bits each; it is needed, as without it there is no table.
      output_quantizer: of the words, one for each edge, at most 24 bits each.

    Cost: `hgqjax.resources.Lookup`: an edge without word bits costs nothing; one without key bits is a constant, whose addition EBOPs
    count, as HGQ-LUT does, and `hgqjax.resources.Luts` does not.
    Raises: ValueError for what is not legal above; when tables are made, with the layer's name, for too wide a key or word, for more than
      2**24 words together, and for negative words without a sign (WRAP, keep_negative=False); in a call for more than 2**28 values.
    Source: HGQ-LUT, arXiv:2604.22293.

    >>> layer = LutDense(3, 2, rngs=nnx.Rngs(0), function="spline")
    >>> layer(jnp.ones((5, 3))).shape
    (5, 2)
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        rngs: nnx.Rngs,
        function: str | AbstractEdge = EdgeMlp(),
        input_shape: tuple[int, ...] | None = None,
        batch_norm: BatchNorm | None = None,
        input_quantizer: AbstractQuantizer | None = KEY,
        output_quantizer: AbstractQuantizer = WORD,
    ):
        input_shape = (n_in,) if input_shape is None else tuple(input_shape)
        if n_in < 1 or n_out < 1 or input_shape[-1] != n_in:
            sizes = f"n_in is {n_in}, n_out {n_out}, input_shape {input_shape}"
            raise ValueError(f"LutDense: {sizes}; positive sizes are needed and input_shape ends in n_in")
        if input_quantizer is None:
            raise ValueError("LutDense: input_quantizer is None; without a quantizer, such as Kif(), no table has an end")
        self.function, self.edges, self.full = edge_function(function), (n_in, n_out), (*input_shape, n_out)
        parameters = self.function.init(rngs.params(), self.edges)
        self.parameter_names = tuple(sorted(parameters))
        for name, value in parameters.items():
            setattr(self, f"edge_{name}", nnx.Param(value))
        self.norm = None if batch_norm is None else Norm(batch_norm, n_out)
        self.shift = None if batch_norm is None else nnx.Param(jnp.zeros((n_out,)))
        self.input_quantizer = Quantize(self.full, input_quantizer)
        self.output_quantizer = Quantize(self.full, output_quantizer)
        self.entries: Observed | None = nnx.data(None)
        self.first: Observed | None = nnx.data(None)
        self.scale: Observed | None = nnx.data(None)

    @property
    def parameters(self) -> dict[str, jax.Array]:
        """Those of the functions."""
        return {name: getattr(self, f"edge_{name}")[...] for name in self.parameter_names}

    def forward(self, x):
        size = len(x) * math.prod(self.full)
        if size > MOST_VALUES:
            raise ValueError(
                f"{len(x)} rows of a LutDense of {math.prod(self.full)} edges are arrays of {4 * size / 2**30:.1f} GiB; 1 GiB is the most"
            )
        x = self.input_quantizer(jnp.broadcast_to(x[..., None], (len(x), *self.full)))
        entries, first, scale = self.entries, self.first, self.scale
        if entries is None or first is None or scale is None or self.mode is not Mode.EVALUATE:
            return self.output_quantizer(self._normed(self._values(x))).sum(-2)
        index = jnp.rint(x * scale[...].astype(x.dtype)).astype(jnp.int32) + first[...]
        return entries[...][index].astype(x.dtype).sum(-2)

    def _values(self, x: Float[Array, "rows ..."]) -> Float[Array, "rows ..."]:
        """The functions of the edges at the keys `x`."""
        f = lax.stop_gradient(self.input_quantizer.format().f)
        step = fixed_point.pow2(-jnp.broadcast_to(f, (1, *self.full))[0].astype(x.dtype))
        return at_keys(self.function, self.parameters, x, step)

    def _normed(self, y: Float[Array, "..."]) -> Float[Array, "..."]:
        """Results of the functions, their last axis the outputs, with the batch norm; by the root of the inputs."""
        root = 1.0 / math.sqrt(self.edges[0])
        if self.norm is None or self.shift is None:
            return y * root
        mean, variance = self.norm.of_batch(y) if self.mode.batch_statistics else self.norm.running()
        return self._affine(y, mean, variance, self.norm.scale[...], self.shift[...])

    def _affine(self, y, mean, variance, gain, shift):
        """The batch norm with these numbers, of any float type."""
        root, epsilon = 1.0 / math.sqrt(self.edges[0]), 0.0 if self.norm is None else self.norm.epsilon
        scale = gain / jnp.sqrt(variance + epsilon) * root
        offset = shift * root - mean * scale
        scale, offset = (fixed_point.materialized(v.reshape((1,) * (y.ndim - 1) + v.shape)) for v in (scale, offset))
        return y * scale + offset

    def thaw(self) -> None:
        self.entries = self.first = self.scale = None

    def cost(self):
        return resources.Lookup(_signal(self.input_quantizer), _signal(self.output_quantizer), summed=True, span=self._span)

    def _span(self) -> jax.Array:
        """How far the results of each function are apart over the range of its key, by points at equal distances."""
        k, i, f = (jnp.broadcast_to(v, (1, *self.full)) for v in map(lax.stop_gradient, self.input_quantizer.format()))
        low, high = fixed_point.limits(k, i, f, cast(fixed_point.Overflow, self.input_quantizer.quantizer.overflow))
        alive = k + i + f > 0
        at = jnp.linspace(0.0, 1.0, SPAN_POINTS).reshape(-1, *(1,) * len(self.full))
        x = jnp.where(alive, low + (high - low) * at, 0.0)
        y = self._values(x)
        if self.norm is None or self.shift is None:
            y = y * (1.0 / math.sqrt(self.edges[0]))
        else:
            y = self._affine(y, *self.norm.running(), self.norm.scale[...], self.shift[...])
        return jnp.where(alive[0], y.max(0) - y.min(0), 0.0)

    def tabulate(self, name: str = "lut_dense") -> dict[str, np.ndarray]:
        """Makes the tables for the formats in force and widens the range of the words to hold them; `name` is for errors.

        The result: the fields of `hgqjax.description.operations.Lookup`.
        """
        low, high, f_in = _keys(self.input_quantizer, name)
        sizes = (high - low + 1).ravel()
        if sizes.sum() > MOST_WORDS:
            raise ValueError(f"layer {name!r} has tables of {sizes.sum()} words together; {MOST_WORDS} are the most")
        start = np.r_[0, np.cumsum(sizes)]
        element = np.repeat(np.arange(sizes.size), sizes)
        with jax.enable_x64(True):
            y = np.asarray(self._tables(low.ravel(), f_in.ravel(), start, element))
            if not np.all(np.isfinite(y)):
                where = tuple(int(n) for n in np.unravel_index(element[np.argmax(~np.isfinite(y))], self.full))
                raise ValueError(f"layer {name!r} has a NaN or infinity in its table at {where}; the model has diverged")
            ends = (ufunc.reduceat(y, start[:-1]).astype(np.float32).reshape(self.full) for ufunc in (np.minimum, np.maximum))
            self.output_quantizer.widen(*ends)
            fmt = Format(*(np.broadcast_to(np.asarray(v)[0], self.full).astype(np.int64) for v in self.output_quantizer.format()))
            self._check_words(fmt, name)
            quantizer = self.output_quantizer.quantizer
            rounding, overflow = cast(fixed_point.Rounding, quantizer.rounding), cast(fixed_point.Overflow, quantizer.overflow)
            k, i, f = (jnp.asarray(v.ravel()[element], jnp.float64) for v in fmt)
            entries = np.asarray(fixed_point.quantize(jnp.asarray(y), k, i, f, rounding, overflow))
            unwrapped = np.asarray(fixed_point.quantize_unwrapped(jnp.asarray(y), k, i, f, rounding, overflow))
        magnitude = fmt.i + fmt.f
        alive = (magnitude > 0) if overflow != "SAT" else magnitude + fmt.k > 0
        if np.any((entries != unwrapped) & alive.ravel()[element]):
            raise ValueError(f"layer {name!r} has words without a sign (keep_negative=False), but its functions give negative values")
        entries, f = np.where(alive.ravel()[element], entries, 0.0), np.where(alive, fmt.f, 0)
        unused = 2 ** len(entries).bit_length() - len(entries)  # so that models of one structure seldom differ in shape, and compile anew
        self.entries = Observed(jnp.asarray(np.pad(entries.astype(np.float32), (0, unused))))
        self.first = Observed(jnp.asarray((start[:-1].reshape(self.full) - low)[None], jnp.int32))
        self.scale = Observed(jnp.asarray(np.ldexp(1.0, f_in)[None], jnp.float32))
        words = np.ldexp(entries, f.ravel()[element]).astype(np.int64)
        return {"words": words, "start": start, "low": low, "f_in": f_in, "f": f, "bits": np.where(alive, magnitude + fmt.k, 0)}

    def _tables(self, low: np.ndarray, f_in: np.ndarray, start: np.ndarray, element: np.ndarray) -> np.ndarray:
        """What the functions give for all words of all keys, float64, one table after the other."""
        y = np.empty(start[-1])
        flat = {name: jnp.asarray(v, jnp.float64).reshape(math.prod(self.edges), -1) for name, v in self.parameters.items()}
        norm = None
        if self.norm is not None and self.shift is not None:
            norm = [jnp.asarray(v, jnp.float64) for v in (*self.norm.running(), self.norm.scale[...], self.shift[...])]
        rows = BLOCK // self.function.terms * 16
        for begin in range(0, len(y), rows):
            n = element[begin : begin + rows]
            x = np.ldexp((low[n] + np.arange(begin, begin + len(n)) - start[n]).astype(np.float64), -f_in[n])
            edge = n % math.prod(self.edges)
            value = self.function({key: v[edge] for key, v in flat.items()}, jnp.asarray(x))
            if norm is None:
                value = value / math.sqrt(self.edges[0])
            else:
                mean, variance, gain, shift = (v[edge % self.edges[1]] for v in norm)
                value = self._affine(value, mean, variance, gain, shift)
            y[begin : begin + rows] = value
        return y

    def _check_words(self, fmt: Format, name: str) -> None:
        bits = fmt.k + fmt.i + fmt.f
        if np.any(bits > WORD_BITS):
            where = tuple(int(n) for n in np.unravel_index(bits.argmax(), self.full))
            raise ValueError(f"layer {name!r} has a table with words of {bits.max()} bits at {where}; {WORD_BITS} bits are the most")

    def describe(self, x: Symbol) -> Symbol:
        name, (n_in, _) = x.graph.name_of(self), self.edges
        index = np.arange(math.prod(self.full[:-1])).reshape(*self.full[:-1], 1)
        index = np.broadcast_to(index, self.full).astype(np.int64)
        if x.shape != self.full[:-1]:
            raise ValueError(
                f"layer {name!r} takes rows of shape {self.full[:-1]}, but is given {x.shape}; its last axis is {n_in} features"
            )
        copies = x.graph.apply("gather", (x,), self.full, name=f"{name}_copies", index=index)
        keys = self.input_quantizer.describe(copies, f"{name}_input")
        tables = x.graph.apply("lookup", (keys,), self.full, name=name, **self.tabulate(name))
        return x.graph.apply("sum", (tables,), (*self.full[:-2], self.full[-1]), name=f"{name}_sum", axes=(len(self.full) - 2,))


def _signal(quantizer: Quantize) -> resources.Signal:
    """What the cost models read, where a sign without magnitude bits is nothing: a symmetric format of it is the constant 0."""
    signal = quantizer.signal()
    k, i, f = signal.format
    if quantizer.quantizer.overflow != "SAT_SYM":
        return signal
    return signal._replace(format=Format(jnp.where(i + f > 0, k, 0.0), i, f))


def _keys(quantizer: Quantize, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least and greatest word of each key, and its fractional bits; 0 where the key is the constant 0."""
    k, i, f = (np.broadcast_to(np.asarray(v)[0], quantizer.shape).astype(np.int64) for v in quantizer.format())
    symmetric = quantizer.quantizer.overflow == "SAT_SYM"
    alive = (i + f > 0) if symmetric else (k + i + f > 0)
    bits = np.where(alive, k + i + f, 0)
    if np.any(bits > KEY_BITS):
        where = tuple(int(n) for n in np.unravel_index(bits.argmax(), bits.shape))
        raise ValueError(f"layer {name!r} has a table with a key of {bits.max()} bits at {where}; {KEY_BITS} bits are the most")
    magnitude = np.where(alive, 2 ** np.maximum(bits - k, 0), 1)
    return -k * np.where(alive, magnitude - symmetric, 0), magnitude - 1, np.where(alive, f, 0)
