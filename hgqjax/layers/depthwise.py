"""Convolutions that do not mix channels, and separable ones, which mix them afterwards."""

from collections.abc import Sequence

from flax import nnx

from hgqjax.granularity import Granularity
from hgqjax.layers._base import Module, Value
from hgqjax.layers.batch_norm import BatchNorm
from hgqjax.layers.conv import Conv1D, Conv2D, _Conv
from hgqjax.layers.quantize import ACTIVATION, WEIGHT
from hgqjax.layers.windows import Padding
from hgqjax.quantizers import AbstractQuantizer


class _Depthwise(_Conv):
    """Each channel by itself."""

    def __init__(
        self,
        input_shape: Sequence[int],
        size: int | Sequence[int],
        *,
        rngs: nnx.Rngs,
        multiplier: int = 1,
        strides: int | Sequence[int] = 1,
        padding: Padding = "VALID",
        dilation: int | Sequence[int] = 1,
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
        channels = input_shape[-1]
        super().__init__(
            input_shape,
            channels * multiplier,
            size,
            rngs=rngs,
            groups=channels,
            strides=strides,
            padding=padding,
            dilation=dilation,
            parallelization=parallelization,
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


class DepthwiseConv1D(_Depthwise):
    """`Conv1D` that does not mix channels: `multiplier` filters for each; filter n reads channel n // multiplier.

    >>> import jax.numpy as jnp
    >>> layer = DepthwiseConv1D((8, 3), 3, rngs=nnx.Rngs(0), multiplier=2)
    >>> layer(jnp.ones((5, 8, 3))).shape
    (5, 6, 6)
    """

    rank = 1


class DepthwiseConv2D(_Depthwise):
    """As `DepthwiseConv1D`, over rows (height, width, channels).

    >>> import jax.numpy as jnp
    >>> layer = DepthwiseConv2D((8, 8, 3), 3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 8, 8, 3))).shape
    (5, 6, 6, 3)
    """

    rank = 2


class _Separable(Module):
    """A depthwise convolution, then one of single elements that mixes the channels."""

    depthwise_class: "type[DepthwiseConv1D | DepthwiseConv2D]"
    pointwise_class: type[Conv1D | Conv2D]

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
        self.depthwise = self.depthwise_class(
            input_shape,
            size,
            rngs=rngs,
            multiplier=multiplier,
            use_bias=False,
            strides=strides,
            padding=padding,
            dilation=dilation,
            parallelization=parallelization,
            kernel_factor=kernel_factor,
            input_quantizer=input_quantizer,
            kernel_quantizer=kernel_quantizer,
            bias_quantizer=bias_quantizer,
            input_granularity=input_granularity,
            kernel_granularity=kernel_granularity,
        )
        self.pointwise = self.pointwise_class(
            self.depthwise.output_shape,
            filters,
            1,
            rngs=rngs,
            parallelization=parallelization,
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

    def __call__(self, x: Value) -> Value:
        return self.pointwise(self.depthwise(x))


class SeparableConv1D(_Separable):
    """`DepthwiseConv1D` without bias, then `Conv1D` of size 1; arguments as there.

    Quantizers, granularities, `kernel_factor` and `parallelization` are those of both; activation, bias and batch norm follow the second.

    >>> import jax.numpy as jnp
    >>> layer = SeparableConv1D((8, 3), 4, 3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 8, 3))).shape
    (5, 6, 4)
    """

    depthwise_class, pointwise_class = DepthwiseConv1D, Conv1D


class SeparableConv2D(_Separable):
    """As `SeparableConv1D`, over rows (height, width, channels).

    >>> import jax.numpy as jnp
    >>> layer = SeparableConv2D((8, 8, 3), 4, 3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 8, 8, 3))).shape
    (5, 6, 6, 4)
    """

    depthwise_class, pointwise_class = DepthwiseConv2D, Conv2D
