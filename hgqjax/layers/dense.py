"""Dense layers: over the last axis, with a fixed pattern of zeros, or along any axes of an einsum."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hgqjax import resources
from hgqjax.granularity import Granularity
from hgqjax.layers._symbol import FrozenWeight, Symbol
from hgqjax.layers.batch_norm import BatchNorm
from hgqjax.layers.gates import Gate
from hgqjax.layers.linear import AbstractLinear
from hgqjax.layers.quantize import ACTIVATION, WEIGHT
from hgqjax.quantizers import AbstractGate, AbstractQuantizer
from hgqjax.resources import Signal


@dataclasses.dataclass(frozen=True)
class _Mask:
    """A fixed pattern of zeros; hashable, as it is part of a layer's structure and not of its state."""

    shape: tuple[int, ...]
    bits: bytes

    @classmethod
    def of(cls, mask) -> "_Mask":
        mask = np.asarray(mask)
        return cls(mask.shape, np.packbits(mask.astype(bool)).tobytes())

    @property
    def array(self) -> np.ndarray:
        size = int(np.prod(self.shape))
        return np.unpackbits(np.frombuffer(self.bits, np.uint8), count=size).astype(bool).reshape(self.shape)


class Dense(AbstractLinear):
    r"""``activation(q(x) @ q(kernel) + q(bias))``: every input, weight and bias has its own width.

    Args:
      n_in, n_out: features; x is (rows, *input_shape), whose last axis is n_in; by default (rows, n_in).
      mask: (n_in, n_out) of 0 and 1: weights where it is 0 are not there, and cost nothing.
      further arguments: see `AbstractLinear`.

    Cost: `hgqjax.resources.Dense`. Source: Sun et al. (HGQ), arXiv:2405.00645.

    >>> layer = Dense(3, 2, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 3))).shape
    (5, 2)
    >>> layer = Dense(3, 2, rngs=nnx.Rngs(0), activation="relu", batch_norm=BatchNorm())
    >>> layer(jax.random.normal(jax.random.key(0), (8, 3))).shape
    (8, 2)
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        rngs: nnx.Rngs,
        input_shape: tuple[int, ...] | None = None,
        mask: np.ndarray | None = None,
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
        input_shape = (n_in,) if input_shape is None else tuple(input_shape)
        if n_in < 1 or n_out < 1 or input_shape[-1] != n_in:
            raise ValueError(
                f"Dense: n_in is {n_in}, n_out {n_out}, input_shape {input_shape}; positive sizes are needed and input_shape ends in n_in"
            )
        if mask is not None and (np.shape(mask) != (n_in, n_out) or not np.all(np.isin(mask, (0, 1)))):
            raise ValueError(f"Dense: mask has shape {np.shape(mask)}; {n_in} x {n_out} values, each 0 or 1, are needed")
        if mask is not None and (neurons is not None or present is not None):
            raise ValueError("Dense: mask is given together with neurons or present; a layer has fixed zeros or a gate, not both")
        self.mask = None if mask is None else _Mask.of(mask)
        kernel = nnx.initializers.he_normal()(rngs.params(), (n_in, n_out), jnp.float32)
        super().__init__(
            input_shape,
            kernel,
            (n_out,),
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

    def _kernel(self):
        return self._present(self.kernel[...])

    def _present(self, kernel):
        return kernel if self.mask is None else jnp.where(self.mask.array, kernel, 0.0)

    def product(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        # one matrix of all rows: over several axes XLA's CPU back end takes 2 to 5 times as long for the gradient of the kernel
        return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])

    def operation(self, x: Signal, kernel: Signal, bias: Signal | None) -> resources.Dense:
        return resources.Dense(x, self._masked(kernel, kernel.shape), bias)

    def symbol(self, x: Symbol, name: str, kernel: FrozenWeight, bias: FrozenWeight | None) -> Symbol:
        kernel = self._masked(kernel._replace(values=self._present(kernel.values)), kernel.values.shape)
        return x.graph.linear("dense", x, name, kernel, bias, (*x.shape[:-1], kernel.values.shape[1]))

    def _masked(self, kernel, shape):
        """A signal or frozen weight, without bits where the mask is 0."""
        if self.mask is None:
            return kernel
        k, i, f = (jnp.broadcast_to(v, shape) for v in kernel.format)
        return kernel._replace(format=type(kernel.format)(jnp.where(self.mask.array, k, 0.0), jnp.where(self.mask.array, i, -f), f))


class EinsumDense(AbstractLinear):
    """``activation(einsum(equation, q(x), q(kernel)) + q(bias))``.

    Args:
      equation: like "tc,cd->td", labels of x, kernel and result without the batch axis; each in two or all three, none twice in one.
      input_shape, output_shape: of a row.
      bias_axes: labels of the result that have biases of their own; by default the last.
      parallelization: positions (labels of x that the kernel has not) that hardware computes at a time; all by default.
      further arguments: see `AbstractLinear`.

    Cost: `hgqjax.resources.Einsum`.

    >>> layer = EinsumDense("tc,cd->td", (4, 3), (4, 2), rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 4, 3))).shape
    (5, 4, 2)
    """

    def __init__(
        self,
        equation: str,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
        *,
        rngs: nnx.Rngs,
        bias_axes: str | None = None,
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
        x, kernel, y = labels_of(equation, tuple(input_shape), tuple(output_shape))
        if (bias_axes is not None and not set(bias_axes) <= set(y)) or (parallelization is not None and parallelization < 1):
            raise ValueError(f"bias_axes is {bias_axes!r}, parallelization {parallelization}; labels of {y!r} and at least 1 are needed")
        self.equation, self.output_shape, self.parallelization = f"{x},{kernel}->{y}", tuple(output_shape), parallelization
        self.neuron_axis = kernel.index(y[-1]) if y[-1] in kernel else None
        sizes = dict(zip(x + y, (*input_shape, *output_shape), strict=True))
        terms, neurons = (tuple(n for n, label in enumerate(kernel) if label not in part) for part in (y, x))
        batch = tuple(n for n, label in enumerate(kernel) if label in x and label in y)
        start = jax.nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal", terms, neurons, batch_axis=batch)
        kernel = start(rngs.params(), tuple(sizes[n] for n in kernel), jnp.float32)
        bias_axes = y[-1] if bias_axes is None else bias_axes
        bias_shape = tuple(sizes[n] if n in bias_axes else 1 for n in y)
        super().__init__(
            tuple(input_shape),
            kernel,
            bias_shape,
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
        sources, y = self.equation.split("->")
        return jnp.einsum(f"...{sources}->...{y}", x, kernel)

    def operation(self, x: Signal, kernel: Signal, bias: Signal | None) -> resources.Einsum:
        return resources.Einsum(x, kernel, bias, self.equation, self.parallelization)

    def symbol(self, x: Symbol, name: str, kernel: FrozenWeight, bias: FrozenWeight | None) -> Symbol:
        settings = {"equation": self.equation, "parallelization": self.parallelization}
        return x.graph.linear("einsum", x, name, kernel, bias, self.output_shape, **settings)


def labels_of(equation: str, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> tuple[str, str, str]:
    """Labels of x, kernel and result; raises ValueError where they are not one for each axis, or sizes disagree."""
    parts = equation.replace(" ", "").replace("->", ",").split(",")
    fits = len(parts) == 3 and equation.count("->") == 1 and all(len(set(part)) == len(part) and part.isalpha() for part in parts)
    x, kernel, y = parts if fits else ("", "", "")
    if fits:
        sizes = dict(zip(x, input_shape, strict=False)) | dict(zip(y, output_shape, strict=False))
        fits = all(sum(label in part for part in parts) >= 2 for label in set("".join(parts)))
        fits = fits and len(y) == len(output_shape) and tuple(sizes.get(label) for label in x) == input_shape
    if not fits:
        raise ValueError(
            f"equation is {equation!r} for {input_shape} -> {output_shape}; one like 'tc,cd->td' is needed, with a label for each axis, "
            "each label in two of its three parts or in all, and sizes that agree"
        )
    return x, kernel, y
