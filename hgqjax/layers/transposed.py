"""Transposed convolutions: a convolution over an input with zeros between its elements."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hgqjax import resources
from hgqjax.granularity import Granularity
from hgqjax.layers._symbol import FrozenWeight, Symbol
from hgqjax.layers.batch_norm import BatchNorm
from hgqjax.layers.conv import _Conv
from hgqjax.layers.linear import AbstractLinear
from hgqjax.layers.quantize import ACTIVATION, WEIGHT
from hgqjax.layers.windows import Padding, each, pads
from hgqjax.quantizers import AbstractQuantizer, Format
from hgqjax.resources import Signal


class _ConvTranspose(_Conv):
    """A transposed convolution over `rank` spatial axes: `steps` are its strides; those of the convolution that it becomes are 1."""

    def __init__(
        self,
        input_shape: Sequence[int],
        filters: int,
        size: int | Sequence[int],
        *,
        rngs: nnx.Rngs,
        strides: int | Sequence[int] = 1,
        padding: Padding = "VALID",
        parallelization: int | None = None,
        activation: str | None = None,
        use_bias: bool = True,
        batch_norm: BatchNorm | None = None,
        bias_start: float = 0.0,
        kernel_factor: float = 1.0,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        kernel_quantizer: AbstractQuantizer = WEIGHT,
        bias_quantizer: AbstractQuantizer = WEIGHT,
        input_granularity: Granularity = "element",
        kernel_granularity: Granularity = "element",
    ):
        input_shape, name = tuple(input_shape), type(self).__name__
        if len(input_shape) != self.rank + 1 or min(input_shape) < 1:
            raise ValueError(f"{name}: input_shape is {input_shape}; {self.rank} spatial axes and channels are needed")
        if filters < 1 or (parallelization is not None and parallelization < 1):
            raise ValueError(f"{name}: filters is {filters}, parallelization {parallelization}; at least 1 is needed")
        self.size, self.steps = each(size, self.rank, f"{name}: size"), each(strides, self.rank, f"{name}: strides")
        self.strides = self.dilation = (1,) * self.rank
        self.groups, self.parallelization = 1, parallelization
        self.padding = _ends(padding, self.size, self.steps, name)
        self.index = _Between(input_shape, self.steps)
        counts = [n + sum(pad) - k + 1 for n, pad, k in zip(self.index.shape, self.padding, self.size, strict=False)]
        self.output_shape = (*counts, filters)
        fan = self.size[0] if self.rank == 1 else self.size[0] * self.size[1]
        terms = max(fan * input_shape[-1] / max(np.prod(self.steps), 1), 1.0)  # of a result; the others are zeros
        kernel = jax.random.normal(rngs.params(), (*self.size, input_shape[-1], filters), jnp.float32) * (2 / terms) ** 0.5
        AbstractLinear.__init__(
            self,
            input_shape,
            kernel,
            (filters,),
            activation=activation,
            use_bias=use_bias,
            batch_norm=batch_norm,
            bias_start=bias_start,
            kernel_factor=kernel_factor,
            input_quantizer=input_quantizer,
            kernel_quantizer=kernel_quantizer,
            bias_quantizer=bias_quantizer,
            input_granularity=input_granularity,
            kernel_granularity=kernel_granularity,
        )

    def product(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return super().product(self.index.spread(x), kernel)

    def operation(self, x: Signal, kernel: Signal, bias: Signal | None) -> resources.Conv:
        spread = (self.index.spread(jnp.broadcast_to(v, x.shape)[None])[0] for v in x.format)
        return super().operation(x._replace(format=Format(*spread), shape=self.index.shape), kernel, bias)

    def symbol(self, x: Symbol, name: str, kernel: FrozenWeight, bias: FrozenWeight | None) -> Symbol:
        if self.index.shape != x.shape:
            x = x.graph.apply("gather", (x,), self.index.shape, index=self.index.positions)
        return super().symbol(x, name, kernel, bias)


class _Between:
    """Zeros between the elements of rows of `shape`, so that they are `steps` apart; hashable, as it is part of a layer's structure."""

    def __init__(self, shape: tuple[int, ...], steps: tuple[int, ...]):
        self.source, self.steps = shape, steps
        self.shape = (*((n - 1) * step + 1 for n, step in zip(shape, steps, strict=False)), shape[-1])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Between) and (self.source, self.steps) == (other.source, other.steps)

    def __hash__(self) -> int:
        return hash((self.source, self.steps))

    def spread(self, x: jax.Array) -> jax.Array:
        """Rows (rows, *source) as (rows, *shape)."""
        for axis, step in enumerate(self.steps, start=1):
            if step > 1:
                wide = jnp.stack([x, *[jnp.zeros_like(x)] * (step - 1)], axis=axis + 1)
                shape = (*x.shape[:axis], x.shape[axis] * step, *x.shape[axis + 1 :])
                x = jax.lax.slice_in_dim(wide.reshape(shape), 0, shape[axis] - step + 1, axis=axis)
        return x

    @property
    def positions(self) -> np.ndarray:
        """Of each element of `shape`, the one of a flat row of the source, -1 for a zero."""
        index = np.full(self.shape, -1, np.int64)
        index[tuple(slice(None, None, step) for step in self.steps)] = np.arange(np.prod(self.source)).reshape(self.source)
        return index


def _ends(padding: Padding, size: tuple[int, ...], steps: tuple[int, ...], name: str) -> tuple[tuple[int, int], ...]:
    """Zeros before and behind each axis of the spread input, as Keras and JAX count them.

    VALID: the result has all positions that an element reaches, and ``steps`` for each element at least; SAME: exactly ``steps`` for each.
    Pairs (before, after): these are cut off from the ends of what VALID gives.
    """
    pairs = tuple((k - 1, max(k, step) - 1) for k, step in zip(size, steps, strict=True))
    if padding == "VALID":
        return pairs
    if padding == "SAME":
        before = (k - 1 - max(k - step, 0) // 2 for k, step in zip(size, steps, strict=True))
        return tuple((first, k + step - 2 - first) for first, k, step in zip(before, size, steps, strict=True))
    cut = pads(padding, size, size, steps, steps, name)
    left = tuple((a - first, b - last) for (a, b), (first, last) in zip(pairs, cut, strict=True))
    if padding == "CAUSAL" or any(min(pair) < 0 for pair in left):
        raise ValueError(f"{name}: padding is {padding!r}; 'VALID', 'SAME', or pairs of at most {pairs} to cut off are needed")
    return left


class ConvTranspose1D(_ConvTranspose):
    """The transposed convolution ``y[o] = sum x[i] kernel[k] over o = strides i - k'`` over rows (length, channels), for decoders.

    The input gets ``strides - 1`` zeros between its elements and is then convolved as in `Conv1D`; products with zeros are not there.

    Args:
      input_shape: (length, channels) of a row.
      filters: channels of the result. size: elements of a window. strides: positions of the result for an element of the input.
      padding: "VALID": length ``(n - 1) strides + max(size, strides)``; "SAME": ``n strides``; or a pair: so much is cut off from both ends
        of the former.
      parallelization, further arguments: as of `Conv1D`.

    The kernel is (window sizes..., channels, filters), as in ``jax.lax.conv_transpose``; Keras mirrors it, and has filters before channels.
    Cost: `hgqjax.resources.Conv`; zeros count nothing.

    >>> layer = ConvTranspose1D((4, 3), 2, 3, rngs=nnx.Rngs(0), strides=2, padding="SAME")
    >>> layer(jnp.ones((5, 4, 3))).shape
    (5, 8, 2)
    """

    rank = 1


class ConvTranspose2D(_ConvTranspose):
    """As `ConvTranspose1D`, over rows (height, width, channels).

    >>> layer = ConvTranspose2D((2, 3, 3), 2, 2, rngs=nnx.Rngs(0), strides=(2, 1), activation="relu")
    >>> layer(jnp.ones((5, 2, 3, 3))).shape
    (5, 4, 4, 2)
    """

    rank = 2
