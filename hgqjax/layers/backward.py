"""Quantized gradients of products: what fully quantized training does to the backward pass of a layer, without bias."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

Matrix = Float[Array, "rows columns"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractGradients:
    r"""How the gradient of a layer's product, a matrix g (rows of the batch, everything else), is quantized before it goes further.

    The backward pass of a product of rows x and kernel W has two products: :math:`\partial W` of x and :math:`Q_w(g)`, and
    :math:`\partial x` of :math:`Q_a(g)` and W. The forward pass is unchanged, and so is the network that is exported.
    """

    def of_weights(self, g: Matrix, key: Array) -> Matrix:
        """:math:`Q_w(g)`, from which the gradient of the kernel is computed."""
        raise NotImplementedError(f"{type(self).__name__} leaves gradients as they are")

    def of_rows(self, g: Matrix, key: Array) -> Matrix:
        """:math:`Q_a(g)`, from which the gradient of the layer's input is computed."""
        raise NotImplementedError(f"{type(self).__name__} leaves gradients as they are")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exact(AbstractGradients):
    """Gradients in floats, as they are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerTensor(AbstractGradients):
    r"""One grid for all of a gradient: fully quantized training (arXiv:2010.14298), per-tensor quantizer.

    .. math:: Q(g) = SR(S (g - z)) / S + z, \quad S = (2^b - 1) / (\max g - \min g), \quad z = \min g

    with stochastic rounding SR: up with the probability of the remainder (of 16 random bits), so that the mean over keys is g.
    Raises: ValueError for bits that are no whole numbers within 2..24.

    >>> PerTensor(bits=2).of_rows(jnp.array([[0.0, 1.0, 3.0]]), jax.random.key(0)).tolist()
    [[0.0, 1.0, 3.0]]
    """

    bits: int = 5
    """Of the gradients that go to the layer before."""
    weight_bits: int = 8
    """Of the gradients that the kernel's are computed from."""

    def __post_init__(self):
        for name in ("bits", "weight_bits"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= 24:
                raise ValueError(f"{name} is {value!r}; a whole number of bits within 2..24 is needed for gradients")

    def of_weights(self, g, key):
        return _rounded(g, (0, 1), self.weight_bits, key)

    def of_rows(self, g, key):
        return _rounded(g, (0, 1), self.bits, key)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerRow(PerTensor):
    """A grid for each row of a batch (arXiv:2010.14298, per-sample quantizer); for the kernel's gradient, for each column.

    Rows that are fitted well have small gradients, and with `PerTensor` a step that is that of the largest row.
    """

    def of_weights(self, g, key):
        return _rounded(g, (0,), self.weight_bits, key)

    def of_rows(self, g, key):
        return _rounded(g, (1,), self.bits, key)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockHouseholder(PerRow):
    r"""`PerRow` of rows that are mixed first, so that small rows take part of a large one (arXiv:2010.14298, block Householder quantizer).

    Rows are sorted by range, :math:`m_1 \ge m_2 \ge ...`. The k largest lead a group each; k is the largest number with
    :math:`(N - k) m_k > \sum_{j \le k} m_j`. The others are dealt out in proportion to m of the leaders. In a group of n rows

    .. math:: T = (I - 2 v v^T / v^T v)\, diag(s), \quad v = 1/\sqrt{n} - e_1, \quad Q(g) = T^{-1} Q_{row}(T g)

    with :math:`s_1 = (m_1/\sqrt n)^{-1/3}` for the leader and :math:`s = (m_2 h/(n-1))^{-1/3}` for the others, m_2 the largest range among
    them and h the largest entry of their columns of the reflection. A batch of one row has nothing to mix: it is `PerRow`.
    """

    def of_rows(self, g, key):
        if len(g) == 1:
            return super().of_rows(g, key)
        mixing = _Mixing.of(jnp.max(g, 1) - jnp.min(g, 1))
        return mixing.undo(_rounded(mixing.mix(g), (1,), self.bits, key))


Gradients = Exact | PerTensor | PerRow | BlockHouseholder


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Mixing:
    """The reflections of `BlockHouseholder`, as arrays over the N rows; nothing is of size N x N."""

    order: Array
    """Rows by falling range."""
    group: Array
    """Group of each sorted row."""
    leads: Array
    """1 for the first row of a group."""
    size: Array
    """Rows in the group of each sorted row."""
    scale: Array
    """s of each sorted row."""

    @classmethod
    def of(cls, spread: Float[Array, " rows"]) -> "_Mixing":
        count = len(spread)
        order = jnp.argsort(-spread)
        m, place = spread[order], jnp.arange(count)
        total = jnp.cumsum(m)
        enough = jnp.arange(count - 1, -1, -1).astype(m.dtype) * m > total
        k = jnp.maximum(jnp.max(jnp.where(enough, place + 1, 0)), 1)
        ends = jnp.round(total / jnp.maximum(total[k - 1], 1e-30) * (count - k).astype(m.dtype)).astype(jnp.int32)
        ends = jnp.where(place < k - 1, ends, count)  # of the rows dealt out; the last leader has all that are left
        leads = (place < k).astype(m.dtype)
        group = jnp.where(place < k, place, jnp.searchsorted(ends, place - k, side="right"))
        size = jax.ops.segment_sum(jnp.ones_like(m), group, count)[group]
        second = jnp.maximum(jax.ops.segment_max(m * (1.0 - leads), group, count)[group], 1e-6 * m[group])
        root = jnp.sqrt(size)
        others = 1.0 / jnp.maximum(size - root, 0.5)
        h = jnp.maximum(1.0 / root, jnp.maximum(others, abs(1.0 - others)))
        of_rest = jnp.cbrt(m[group] / root / jnp.maximum(second * h / jnp.maximum(size - 1.0, 1.0), 1e-30))  # over that of the leader
        scale = jnp.where((leads > 0) | (size < 2) | (m[group] <= 0), 1.0, of_rest)
        return cls(order, group, leads, size, scale)

    def mix(self, g: Matrix) -> Matrix:
        return self._reflected(g[self.order] * self.scale[:, None])

    def undo(self, g: Matrix) -> Matrix:
        return jnp.zeros_like(g).at[self.order].set(self._reflected(g) / self.scale[:, None])

    def _reflected(self, g: Matrix) -> Matrix:
        """(I - 2 v v^T / v^T v) g in each group; a group of one row stays."""
        root = jnp.sqrt(self.size)
        v = jnp.where(self.size > 1, 1.0 / root - self.leads, 0.0)[:, None]
        along = jax.ops.segment_sum(v * g, self.group, len(g))[self.group]
        return g - v * along * (2.0 / jnp.where(self.size > 1, 2.0 - 2.0 / root, 1.0))[:, None]


def _rounded(g: Matrix, axes: tuple[int, ...], bits: int, key: Array) -> Matrix:
    """On a grid of 2^bits levels from the least to the largest value along `axes`; rounding is stochastic."""
    low, high = jnp.min(g, axes, keepdims=True), jnp.max(g, axes, keepdims=True)
    step = (high - low) / (2.0**bits - 1.0)
    v = (g - low) / jnp.where(step > 0, step, 1.0)
    down = jnp.floor(v)
    chance = (jax.random.bits(key, g.shape, jnp.uint16).astype(g.dtype) + 0.5) / 2.0**16
    return (down + (chance < v - down).astype(g.dtype)) * step + low


def product(multiply: Callable[[Array, Array], Array], gradients: AbstractGradients, x: Array, kernel: Array, key: Array) -> Array:
    """``multiply(x, kernel)``, linear in both, whose gradients are those of a quantized gradient of its result; `key` is key data."""

    @jax.custom_vjp
    def multiplied(x, kernel, key):
        return multiply(x, kernel)

    def forward(x, kernel, key):
        return multiply(x, kernel), (x, kernel, key)

    def backward(kept, g):
        x, kernel, key = kept
        matrix = g.reshape(len(g), -1)
        of_weights, of_rows = jax.random.split(jax.random.wrap_key_data(key))
        _, to_kernel = jax.vjp(lambda kernel: multiply(x, kernel), kernel)
        _, to_x = jax.vjp(lambda x: multiply(x, kernel), x)
        (for_kernel,) = to_kernel(gradients.of_weights(matrix, of_weights).reshape(g.shape))
        (for_x,) = to_x(gradients.of_rows(matrix, of_rows).reshape(g.shape))
        return for_x, for_kernel, np.zeros(key.shape, jax.dtypes.float0)

    multiplied.defvjp(forward, backward)
    return multiplied(x, kernel, lax.stop_gradient(key))
