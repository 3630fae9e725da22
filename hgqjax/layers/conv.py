"""Convolutions of one and two spatial axes: plain, depthwise, separable, and with batch norm."""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx

from hgqjax import resources
from hgqjax.layers._base import Module, Symbol
from hgqjax.layers.linear import BatchNorm, Linear
from hgqjax.layers.windows import Padding, each, pads, positions


class _Conv(Linear):
    """A convolution over `rank` spatial axes."""

    rank: int

    def __init__(
        self,
        input_shape: Sequence[int],
        filters: int,
        size: int | Sequence[int],
        *,
        rngs: nnx.Rngs,
        strides: int | Sequence[int] = 1,
        padding: Padding = "VALID",
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        parallelization: int | None = None,
        **linear,
    ):
        input_shape, name = tuple(input_shape), type(self).__name__
        if len(input_shape) != self.rank + 1 or min(input_shape) < 1:
            raise ValueError(f"{name}: input_shape is {input_shape}; {self.rank} spatial axes and channels are needed")
        channels = input_shape[-1]
        if filters < 1 or groups < 1 or channels % groups or filters % groups:
            raise ValueError(f"{name}: filters is {filters}, groups {groups}, channels {channels}; groups must divide both others")
        if parallelization is not None and parallelization < 1:
            raise ValueError(f"{name}: parallelization is {parallelization}; at least 1 is needed")
        self.size, self.strides, self.dilation = (
            each(value, self.rank, f"{name}: {what}") for value, what in ((size, "size"), (strides, "strides"), (dilation, "dilation"))
        )
        self.padding = pads(padding, input_shape[:-1], self.size, self.strides, self.dilation, name)
        self.groups, self.parallelization = groups, parallelization
        spatial = positions(input_shape[:-1], self.size, self.strides, self.padding, self.dilation, name)
        self.output_shape = (*spatial, filters)
        kernel = nnx.initializers.he_normal()(rngs.params(), (*self.size, channels // groups, filters), jnp.float32)
        self._setup(input_shape, kernel, (filters,), **linear)

    def product(self, x, kernel):
        # as one product of matrices: XLA's own convolutions are 7 to 17 times slower on a CPU, with their gradients and inside of a loop
        x = jnp.pad(x, ((0, 0), *self.padding, (0, 0)))
        spatial = self.output_shape[:-1]
        steps = zip(spatial, self.strides, strict=True)
        ends = tuple((n - 1) * stride + 1 for n, stride in steps)
        starts = itertools.product(*(range(0, n * d, d) for n, d in zip(self.size, self.dilation, strict=True)))
        taps = [x[(slice(None), *(slice(n, n + end, s) for n, end, s in zip(start, ends, self.strides, strict=True)))] for start in starts]
        if self.groups == 1:
            return jnp.concatenate(taps, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])
        windows = jnp.stack(taps, axis=-2).reshape(len(x), *spatial, len(taps), self.groups, -1)
        kernel = kernel.reshape(len(taps), -1, self.groups, kernel.shape[-1] // self.groups)
        return jnp.einsum("...tgc,tcgf->...gf", windows, kernel).reshape(len(x), *self.output_shape)

    def operation(self, x, kernel, bias):
        return resources.Conv(x, kernel, bias, self.strides, self.padding, self.dilation, self.groups, self.parallelization)

    def symbol(self, x: Symbol, name, kernel, bias):
        settings = {key: getattr(self, key) for key in ("strides", "padding", "dilation", "groups", "parallelization")}
        return x.graph.linear("conv", x, name, kernel, bias, self.output_shape, **settings)


class Conv1D(_Conv):
    """``activation(q(x) * q(kernel) + q(bias))`` over rows (length, channels).

    Args:
      input_shape: (length, channels) of a row.
      filters: channels of the result.
      size: elements of a window.
      strides, dilation: steps between windows, and between the elements of one.
      padding: "VALID" (none), "SAME" (as many positions as strides leave of the length, zeros shared by both ends, the odd one behind),
        or a pair (before, after).
      groups: shares of the channels that do not mix; must divide channels and filters.
      parallelization: positions that hardware computes at a time, all by default: fewer share multipliers (1 for io_stream).
      linear: see `Linear`.

    Cost: `hgqjax.resources.Conv`. Source: Sun et al. (HGQ), arXiv:2405.00645.

    >>> layer = Conv1D((8, 3), 4, 3, rngs=nnx.Rngs(0), padding="SAME")
    >>> layer(jnp.ones((5, 8, 3))).shape
    (5, 8, 4)
    """

    rank = 1


class Conv2D(_Conv):
    """As `Conv1D`, over rows (height, width, channels); `size`, `strides` and `dilation` are one number or two, `padding` two pairs.

    >>> layer = Conv2D((8, 8, 3), 4, 3, rngs=nnx.Rngs(0), activation="relu")
    >>> layer(jnp.ones((5, 8, 8, 3))).shape
    (5, 6, 6, 4)
    """

    rank = 2


class _Depthwise(_Conv):
    """Each channel by itself."""

    def __init__(self, input_shape: Sequence[int], size: int | Sequence[int], *, rngs: nnx.Rngs, multiplier: int = 1, **conv):
        channels = input_shape[-1]
        super().__init__(input_shape, channels * multiplier, size, rngs=rngs, groups=channels, **conv)


class DepthwiseConv1D(_Depthwise):
    """`Conv1D` that does not mix channels: `multiplier` filters for each; filter n reads channel n // multiplier.

    >>> layer = DepthwiseConv1D((8, 3), 3, rngs=nnx.Rngs(0), multiplier=2)
    >>> layer(jnp.ones((5, 8, 3))).shape
    (5, 6, 6)
    """

    rank = 1


class DepthwiseConv2D(_Depthwise):
    """As `DepthwiseConv1D`, over rows (height, width, channels).

    >>> layer = DepthwiseConv2D((8, 8, 3), 3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 8, 8, 3))).shape
    (5, 6, 6, 3)
    """

    rank = 2


class BatchNormConv1D(BatchNorm, Conv1D):
    """`Conv1D` with a batch norm folded into it; see `BatchNorm` and `Conv1D`.

    >>> layer = BatchNormConv1D((8, 3), 4, 3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 8, 3))).shape
    (5, 6, 4)
    """


class BatchNormConv2D(BatchNorm, Conv2D):
    """`Conv2D` with a batch norm folded into it; see `BatchNorm` and `Conv2D`.

    >>> layer = BatchNormConv2D((8, 8, 3), 4, 3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 8, 8, 3))).shape
    (5, 6, 6, 4)
    """


class BatchNormDepthwiseConv1D(BatchNorm, DepthwiseConv1D):
    """`DepthwiseConv1D` with a batch norm folded into it; see `BatchNorm`.

    >>> layer = BatchNormDepthwiseConv1D((8, 3), 3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 8, 3))).shape
    (5, 6, 3)
    """


class BatchNormDepthwiseConv2D(BatchNorm, DepthwiseConv2D):
    """`DepthwiseConv2D` with a batch norm folded into it; see `BatchNorm`.

    >>> layer = BatchNormDepthwiseConv2D((8, 8, 3), 3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 8, 8, 3))).shape
    (5, 6, 6, 3)
    """


class _Separable(Module):
    """A depthwise convolution, then one of single elements that mixes the channels."""

    depthwise_class: type[_Depthwise]
    pointwise_class: type[_Conv]

    def __init__(
        self,
        input_shape: Sequence[int],
        filters: int,
        size: int | Sequence[int],
        *,
        rngs: nnx.Rngs,
        strides: int | Sequence[int] = 1,
        padding: Padding = "VALID",
        dilation: int | Sequence[int] = 1,
        multiplier: int = 1,
        activation: str | None = None,
        use_bias: bool = True,
        **conv,
    ):
        settings = {"strides": strides, "padding": padding, "dilation": dilation, "multiplier": multiplier}
        self.depthwise = self.depthwise_class(input_shape, size, rngs=rngs, use_bias=False, **settings, **conv)
        between = self.depthwise.output_shape
        self.pointwise = self.pointwise_class(between, filters, 1, rngs=rngs, activation=activation, use_bias=use_bias, **conv)

    def __call__(self, x):
        return self.pointwise(self.depthwise(x))


class SeparableConv1D(_Separable):
    """`DepthwiseConv1D` without bias, then `Conv1D` of size 1; arguments as there, the quantizers and granularities for both.

    >>> layer = SeparableConv1D((8, 3), 4, 3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 8, 3))).shape
    (5, 6, 4)
    """

    depthwise_class, pointwise_class = DepthwiseConv1D, Conv1D


class SeparableConv2D(_Separable):
    """As `SeparableConv1D`, over rows (height, width, channels).

    >>> layer = SeparableConv2D((8, 8, 3), 4, 3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 8, 8, 3))).shape
    (5, 6, 6, 4)
    """

    depthwise_class, pointwise_class = DepthwiseConv2D, Conv2D
