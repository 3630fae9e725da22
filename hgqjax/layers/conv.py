"""Convolutions of one and two spatial axes."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from hgqjax import resources
from hgqjax.granularity import Granularity
from hgqjax.layers._symbol import FrozenWeight, Symbol
from hgqjax.layers.batch_norm import BatchNorm
from hgqjax.layers.gates import Gate
from hgqjax.layers.linear import AbstractLinear
from hgqjax.layers.quantize import ACTIVATION, WEIGHT
from hgqjax.layers.windows import Padding, each, pads, positions
from hgqjax.quantizers import AbstractGate, AbstractQuantizer
from hgqjax.resources import Signal


class _Conv(AbstractLinear):
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
        neurons: AbstractGate | None = None,
        present: Gate | None = None,
    ):
        input_shape, name = tuple(input_shape), type(self).__name__
        if len(input_shape) != self.rank + 1 or min(input_shape) < 1:
            raise ValueError(f"{name}: input_shape is {input_shape}; {self.rank} spatial axes and channels are needed")
        channels = input_shape[-1]
        if filters < 1 or groups < 1 or channels % groups or filters % groups:
            raise ValueError(f"{name}: filters is {filters}, groups {groups}, channels {channels}; groups must divide both others")
        if groups > 1 and (neurons is not None or present is not None):
            raise ValueError(f"{name}: groups is {groups}, together with neurons or present; gates need groups of 1")
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
        super().__init__(
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
            neurons=neurons,
            present=present,
        )

    def product(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
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

    def operation(self, x: Signal, kernel: Signal, bias: Signal | None) -> resources.Conv:
        return resources.Conv(x, kernel, bias, self.strides, self.padding, self.dilation, self.groups, self.parallelization)

    def symbol(self, x: Symbol, name: str, kernel: FrozenWeight, bias: FrozenWeight | None) -> Symbol:
        settings = {key: getattr(self, key) for key in ("strides", "padding", "dilation", "groups", "parallelization")}
        shape = (*self.output_shape[:-1], kernel.values.shape[-1])
        return x.graph.linear("conv", x, name, kernel, bias, shape, **settings)


class Conv1D(_Conv):
    """``activation(q(x) * q(kernel) + q(bias))`` over rows (length, channels).

    Args:
      input_shape: (length, channels) of a row.
      filters: channels of the result.
      size: elements of a window.
      strides, dilation: steps between windows, and between the elements of one.
      padding: "VALID" (none), "SAME" (as many positions as strides leave of the length, zeros shared by both ends, the odd one behind),
        "CAUSAL" (all zeros before, so that no result sees what comes later), or a pair (before, after).
      groups: shares of the channels that do not mix; must divide channels and filters.
      parallelization: positions that hardware computes at a time, all by default: fewer share multipliers (1 for io_stream).
      further arguments: see `AbstractLinear`.

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
