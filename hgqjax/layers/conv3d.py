"""Convolutions of three spatial axes: a choice of elements, and a dense layer over each window."""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx

from hgqjax import resources
from hgqjax.granularity import Granularity
from hgqjax.layers._symbol import FrozenWeight, Symbol
from hgqjax.layers.batch_norm import BatchNorm
from hgqjax.layers.conv import _Conv
from hgqjax.layers.quantize import ACTIVATION, WEIGHT
from hgqjax.layers.shapes import gather, reshape
from hgqjax.layers.windows import Padding
from hgqjax.quantizers import AbstractQuantizer, Format
from hgqjax.resources import Signal


class Conv3D(_Conv):
    """As `Conv1D`, over rows (depth, height, width, channels); `size`, `strides` and `dilation` are one number or three.

    In hardware it is a dense layer over the elements of each window, as no tool for hardware has it otherwise; all windows are computed at
    once, and groups are not there. Its bias counts as a dense layer's.

    Cost: `hgqjax.resources.Dense`, of the windows.

    >>> layer = Conv3D((3, 4, 5, 2), 4, (2, 3, 3), rngs=nnx.Rngs(0), activation="relu")
    >>> layer(jnp.ones((5, 3, 4, 5, 2))).shape
    (5, 2, 2, 3, 4)
    """

    rank = 3

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
        super().__init__(
            input_shape,
            filters,
            size,
            rngs=rngs,
            strides=strides,
            padding=padding,
            dilation=dilation,
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

    def operation(  # pyright: ignore[reportIncompatibleMethodOverride] another operation
        self, x: Signal, kernel: Signal, bias: Signal | None
    ) -> resources.Dense:
        windows = self._windows(x.shape)
        seen = Format(*(gather(jnp.broadcast_to(v, x.shape)[None], windows)[0] for v in x.format))
        flat = _flat(kernel.shape)
        weights = Format(*(jnp.broadcast_to(v, kernel.shape).reshape(flat) for v in kernel.format))
        values = kernel.values
        reshaped = None if values is None else lambda: tuple(v.reshape(flat) for v in values())
        kernel = kernel._replace(format=weights, shape=flat, values=reshaped)
        return resources.Dense(x._replace(format=seen, shape=windows.shape), kernel, bias)

    def symbol(self, x: Symbol, name: str, kernel: FrozenWeight, bias: FrozenWeight | None) -> Symbol:
        windows, flat = gather(x, self._windows(x.shape)), _flat(kernel.values.shape)
        kernel = kernel._replace(values=kernel.values.reshape(flat), format=Format(*(v.reshape(flat) for v in kernel.format)))
        y = x.graph.linear("dense", windows, name, kernel, bias, (windows.shape[0], flat[1]))
        return reshape(y, self.output_shape)

    def _windows(self, shape: tuple[int, ...]) -> np.ndarray:
        """The elements of each window, (positions, elements of a window), in the order of the kernel; -1 in the padding."""
        number = np.pad(np.arange(np.prod(shape)).reshape(shape), (*self.padding, (0, 0)), constant_values=-1)
        counts = self.output_shape[:-1]
        taps = itertools.product(*(range(0, n * d, d) for n, d in zip(self.size, self.dilation, strict=True)))
        steps = [(n - 1) * stride + 1 for n, stride in zip(counts, self.strides, strict=True)]
        found = [number[tuple(slice(a, a + n, s) for a, n, s in zip(tap, steps, self.strides, strict=True))] for tap in taps]
        return np.stack(found, -2).reshape(int(np.prod(counts)), -1)


def _flat(shape: tuple[int, ...]) -> tuple[int, int]:
    """Shape of a kernel (sizes of the window, channels, filters) as that of a dense layer."""
    return int(np.prod(shape[:-1])), shape[-1]
