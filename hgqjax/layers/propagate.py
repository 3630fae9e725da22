"""Propagation over a graph that keeps what nodes know smooth, but not alike: products with constants, sums, and one trained multiplier."""

import abc
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from hgqjax import resources
from hgqjax.granularity import Granularity
from hgqjax.layers._base import Layer, Module, Statistic, Value
from hgqjax.layers._symbol import Symbol
from hgqjax.layers.merge import Add, Subtract
from hgqjax.layers.quantize import ACTIVATION, WEIGHT, Quantize, QuantizeWeight
from hgqjax.quantizers import AbstractQuantizer

MATRIX, SCALE = "mf,nm->nf", "nf,n->nf"
"""Products of rows (nodes, features) with a matrix of pairs of nodes, and with a number for each node."""
LARGEST, STEP = 1.0, 1e-5
"""Of the multiplier."""


def normalized(adjacency: Float[np.ndarray, "nodes nodes"]) -> Float[np.ndarray, "nodes nodes"]:
    r""":math:`D^{-1/2} (A + I) D^{-1/2}`, where D is the diagonal of the sums of the rows of A + I.

    >>> normalized(np.array([[0.0, 1.0], [1.0, 0.0]])).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    whole = adjacency + np.eye(len(adjacency))
    degrees = whole.sum(1)
    return whole / np.sqrt(np.outer(degrees, degrees))


class _Product(Layer):
    """``einsum(equation, q(x), q(constant))``: the constant is no trained weight, but its widths are."""

    def __init__(self, equation: str, constant: np.ndarray, shape: tuple[int, ...], settings: dict[str, Any]):
        self.equation, self.shape = equation, shape
        self.numbers = tuple(map(float, constant.ravel()))
        self.sizes = constant.shape
        self.input_quantizer = Quantize(shape, settings["input_quantizer"], settings["input_granularity"])
        sample = jnp.asarray(constant, jnp.float32)
        self.kernel_quantizer = QuantizeWeight(self.sizes, settings["kernel_quantizer"], settings["kernel_granularity"], sample=sample)

    @abc.abstractmethod
    def constant(self) -> jax.Array:
        """The constant, before it is quantized."""

    def forward(self, x: jax.Array) -> jax.Array:
        kernel = self.kernel_quantizer(self.constant()).astype(x.dtype)
        sources, result = self.equation.split("->")
        return jnp.einsum(f"...{sources}->...{result}", self.input_quantizer(x), kernel)

    def cost(self) -> resources.Einsum:
        return resources.Einsum(self.input_quantizer.signal(), self.kernel_quantizer.signal(self.constant), None, self.equation)

    def describe(self, x: Symbol) -> Symbol:
        name = x.graph.name_of(self)
        x = self.input_quantizer.describe(x, f"{name}_input")
        kernel = self.kernel_quantizer.frozen(self.constant())
        return x.graph.linear("einsum", x, name, kernel, None, self.shape, equation=self.equation, parallelization=None)


class _Fixed(_Product):
    """A product with a constant that stays."""

    def constant(self):
        return jnp.asarray(self.numbers, jnp.float32).reshape(self.sizes)


class _Spread(_Product):
    """``q(2 eta lam A) q(gap)``; the multiplier lam follows the gaps of training rows."""

    def __init__(self, adjacency: np.ndarray, edges: int, rate: float, threshold: float, shape: tuple[int, ...], settings: dict[str, Any]):
        super().__init__(MATRIX, adjacency, shape, settings)
        self.kernel_quantizer.restart(jnp.asarray(2e-3 * rate * adjacency, jnp.float32))  # the constant at the start
        self.allowed, self.rate = threshold * edges, rate
        self.multiplier, self.slack = Statistic(jnp.full((), 1e-3)), Statistic(jnp.full((), 1e-3))

    def constant(self):
        matrix = jnp.asarray(self.numbers, jnp.float32).reshape(self.sizes)
        return 2.0 * self.rate * self.multiplier[...] * matrix

    def forward(self, x):
        y = super().forward(x)
        if self.mode.batch_statistics:
            self._follow(jax.lax.stop_gradient(x))
        return y

    def _follow(self, gap: jax.Array) -> None:
        """One step of multiplier and slack."""
        matrix = jnp.asarray(self.numbers, jnp.float32).reshape(self.sizes)
        rough = jnp.mean(jnp.sum(gap * (gap - jnp.einsum("mn,...nf->...mf", matrix, gap)), (-2, -1)))
        lam, slack = self.multiplier[...], self.slack[...]
        self.multiplier[...] = jnp.clip(lam + STEP * (self.allowed - slack**2 - rough), 0.0, LARGEST)
        self.slack[...] = slack + 2.0 * STEP * lam * slack


class Propagate(Module):
    r"""Personalised propagation that keeps the change of each step smooth over the edges, with quantized messages and gaps.

    With the normalised adjacency A (`normalized`), :math:`H_0 = x`, and `steps` times

    .. math:: Y = (1 - (1 + \mu) \eta) H + \mu \eta A H + \eta H_0, \quad G = Y - H, \quad H \leftarrow Y + 2 \eta \lambda A G

    The multiplier of the bound :math:`tr(G^T L G) + s^2 = threshold \cdot edges`, L = I - A, starts at 0.001, as the slack s does. Each
    step of a training call moves them:

    .. math:: \lambda \leftarrow \lambda + 10^{-5} (threshold \cdot edges - s^2 - tr(G^T L G)), \quad
        s \leftarrow s + 2 \cdot 10^{-5} \lambda s

    with the mean of the trace over the rows. They are kept where batch norms keep their statistics, and are constants of the hardware.

    Args:
      adjacency: (nodes, nodes), symmetric, weights of edges >= 0, 0 for none; what is on its diagonal is ignored.
      features: x and the result are (rows, nodes, features).
      steps: K. pull: mu, how much neighbours count. rate: eta.
      threshold: the roughness that is allowed for each edge; None: lambda is 0, and there are no gaps.
      quantizers and granularities: of each input, and of the constants; see `AbstractLinear`. All steps share their widths.

    The parts, each with its cost: `own` (eta of the input), `mix` (messages), `add`, and with a threshold `gap`, `spread`, `join`.
    Gradients: those of the products and sums; none to lambda.
    Raises: ValueError for an adjacency that is no such matrix, or numbers out of range.
    Source: Low-bit quantization for graph neural networks with smoothness-aware message propagation, arXiv:2308.14949. Ours: learned ranges
    are powers of two, lambda is within 0 .. 1 and follows the mean over rows, one of them for all steps.

    >>> ring = np.roll(np.eye(4), 1, 1) + np.roll(np.eye(4), -1, 1)
    >>> layer = Propagate(ring, 3, steps=2)
    >>> layer(jnp.ones((5, 4, 3))).shape
    (5, 4, 3)
    """

    def __init__(
        self,
        adjacency: np.ndarray | Sequence[Sequence[float]],
        features: int,
        *,
        steps: int = 10,
        pull: float = 9.0,
        rate: float = 0.1,
        threshold: float | None = 1e-4,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        kernel_quantizer: AbstractQuantizer = WEIGHT,
        input_granularity: Granularity = "element",
        kernel_granularity: Granularity = "element",
    ):
        edges = np.asarray(adjacency, np.float64)
        square = edges.ndim == 2 and edges.shape[0] == edges.shape[1] > 0
        if not square or not np.all(np.isfinite(edges)) or edges.min() < 0 or not np.array_equal(edges, edges.T):
            raise ValueError(f"Propagate: adjacency has shape {edges.shape}; a symmetric matrix of finite numbers of at least 0 is needed")
        if features < 1 or steps < 1 or not pull >= 0 or not 0 < rate * (1 + pull) < 2:
            raise ValueError(
                f"Propagate: features is {features}, steps {steps}, pull {pull}, rate {rate}; at least 1, 1, 0, and a rate with "
                "0 < rate * (1 + pull) < 2, are needed"
            )
        if threshold is not None and not threshold >= 0:
            raise ValueError(f"Propagate: threshold is {threshold}; a number of at least 0, or None, is needed")
        edges = edges * (1.0 - np.eye(len(edges)))
        matrix, shape, self.steps = normalized(edges), (len(edges), features), steps
        inputs: dict[str, Any] = {"input_quantizer": input_quantizer, "input_granularity": input_granularity}
        settings = inputs | {"kernel_quantizer": kernel_quantizer, "kernel_granularity": kernel_granularity}
        self.own = _Fixed(SCALE, np.full(len(edges), rate), shape, settings)
        self.mix = _Fixed(MATRIX, (1 - (1 + pull) * rate) * np.eye(len(edges)) + pull * rate * matrix, shape, settings)
        self.add = Add(shape, **inputs)
        smooth = threshold is not None
        self.gap, self.join = (Subtract(shape, **inputs), Add(shape, **inputs)) if smooth else (None, None)
        count = int(np.count_nonzero(np.triu(edges)))
        self.spread = _Spread(matrix, count, rate, threshold, shape, settings) if threshold is not None else None

    def __call__(self, x: Value) -> Value:
        own = self.own(x)
        for _ in range(self.steps):
            y = self.add(self.mix(x), own)
            if self.gap is not None and self.join is not None and self.spread is not None:
                y = self.join(y, self.spread(self.gap(y, x)))
            x = y
        return x
