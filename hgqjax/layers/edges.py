"""Functions of one number that the edges of a layer of tables have: each edge its own, all of one kind, elementwise in JAX."""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

Parameters = dict[str, Float[Array, "..."]]
BLOCK = 2**16
"""Rows times edges that are computed at a time: what stays in a core's cache."""
KEYS, MOST_KEYS = 16, 1024
"""Keys that functions are computed for at a time, and altogether, where there are at least twice as many rows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractEdge(abc.ABC):
    """Static choices of a kind of function. A new one writes `init`, `value` and `terms`, which know nothing of quantizers.

    The parameters of an edge lie along their *last* axis, the axes before it are the edges: (n_in, n_out, parameters).
    """

    def __call__(self, parameters: Parameters, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The function of each edge at `x`, of shape (rows, ..., *edges); any float type."""
        return self.value({name: v.reshape((1,) * (x.ndim + 1 - v.ndim) + v.shape) for name, v in parameters.items()}, x)

    @abc.abstractmethod
    def init(self, key: Array, edges: tuple[int, ...]) -> Parameters:
        """Parameters of functions whose results have a variance of about 1 for inputs that have."""

    @abc.abstractmethod
    def value(self, parameters: Parameters, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """As a call, with parameters that have an axis more than `x` and broadcast to it without their last."""

    @property
    @abc.abstractmethod
    def terms(self) -> int:
        """Numbers that a value is computed from, for the size of blocks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EdgeMlp(AbstractEdge):
    r""":math:`b + \sum_h w_h \tanh(u_h x + v_h)`: a perceptron of one input, `hidden` neurons and one result.

    Raises: ValueError unless there are 1 .. 64 neurons.
    Source: the edges of HGQ-LUT, arXiv:2604.22293, which have 8.

    >>> edge = EdgeMlp(hidden=4)
    >>> edge(edge.init(jax.random.key(0), (3, 2)), jnp.ones((5, 3, 2))).shape
    (5, 3, 2)
    """

    hidden: int = 8
    """Neurons of each edge."""

    def __post_init__(self):
        if not 1 <= self.hidden <= 64:
            raise ValueError(f"hidden is {self.hidden}; 1 .. 64 neurons of an edge are legal")

    def init(self, key, edges):
        first, shift, last = jax.random.split(key, 3)
        shape = (*edges, self.hidden)
        weights = {"first": jax.random.normal(first, shape), "shift": jax.random.normal(shift, shape)}
        weights["last"] = jax.random.normal(last, shape) * (1.5 / self.hidden**0.5)
        return weights | {"offset": jnp.zeros((*edges, 1))}

    def value(self, parameters, x):
        first, shift, last, offset = (parameters[name] for name in ("first", "shift", "last", "offset"))
        y = offset[..., 0] + 0.0 * x
        for n in range(self.hidden):  # one fused loop; an axis of neurons would be one of arrays in memory
            y = y + last[..., n] * jnp.tanh(first[..., n] * x + shift[..., n])
        return y

    @property
    def terms(self):
        return self.hidden


def _check_range(low: float, high: float) -> None:
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"low is {low}, high {high}; two finite numbers, low < high, are needed")


def bspline(v: Float[Array, "..."], order: int) -> Float[Array, "..."]:
    r"""The B-spline of degree `order` with knots at distance 1 that is centred at 0.

    .. math:: B(v) = \frac{1}{p!} \sum_{j < (p+1)/2} (-1)^j \binom{p+1}{j} \left(\tfrac{p+1}{2} - j - |v|\right)_+^p

    >>> [round(float(v), 4) for v in bspline(jnp.array([0.0, 1.0, -1.5, 2.0]), 3)]
    [0.6667, 0.1667, 0.0208, 0.0]
    """
    distance, total = abs(v), 0.0 * v
    for j in range((order + 2) // 2):
        reach = jnp.maximum((order + 1) / 2 - j - distance, 0.0)
        total = total + (-1) ** j * math.comb(order + 1, j) * reach**order
    return total / math.factorial(order)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EdgeSpline(AbstractEdge):
    r""":math:`w\,\mathrm{silu}(x) + \sum_k c_k B_k(x)` with B-splines on a fixed grid: the edges of a Kolmogorov-Arnold network.

    Beyond the grid the spline keeps its value at the end.

    Raises: ValueError without an interval or with more than 64, for an order that is not 1 .. 5, where low < high does not hold.
    Source: Liu et al. (KAN), arXiv:2404.19756; KANELE, arXiv:2512.12850, has order 10 and 30 .. 40 intervals on [-2, 2].

    >>> edge = EdgeSpline(intervals=6)
    >>> edge(edge.init(jax.random.key(0), (3, 2)), jnp.ones((5, 3, 2))).shape
    (5, 3, 2)
    """

    intervals: int = 8
    """Of the grid, between `low` and `high`."""
    order: int = 3
    """Degree of the polynomials."""
    low: float = -4.0
    high: float = 4.0

    def __post_init__(self):
        _check_range(self.low, self.high)
        if not 1 <= self.intervals <= 64 or not 1 <= self.order <= 5:
            raise ValueError(
                f"intervals is {self.intervals}, order {self.order}; a grid of 1 .. 64 intervals and an order of 1 .. 5 are legal"
            )

    @property
    def terms(self):
        return self.intervals + self.order

    def init(self, key, edges):
        base, spline = jax.random.split(key)
        return {"base": jax.random.normal(base, (*edges, 1)), "spline": jax.random.normal(spline, (*edges, self.terms)) * 0.5}

    def value(self, parameters, x):
        base, spline = parameters["base"], parameters["spline"]
        u = (jnp.clip(x, self.low, self.high) - self.low) * (self.intervals / (self.high - self.low)) + (self.order - 1) / 2
        y = base[..., 0] * jax.nn.silu(x)
        for n in range(self.terms):
            y = y + spline[..., n] * bspline(u - n, self.order)
        return y


@dataclasses.dataclass(frozen=True, kw_only=True)
class EdgeTable(AbstractEdge):
    """``2**bits`` words at equal distances from `low` to `high`, trained themselves; between two words the value is on the line.

    What training changes is smoothed: a word is the mean of the trained numbers around it, with weights 1 2 1, as often as `smooth` says,
    so that a word that no row looks up follows its neighbours. Beyond the ends a value is that of the end.

    Raises: ValueError unless bits are 1 .. 8, smooth at least 0, low < high.
    Source: ours.

    >>> edge = EdgeTable(bits=3, smooth=0)
    >>> words = jnp.arange(8.0).reshape(1, 1, 8)
    >>> edge({"words": words}, jnp.array([[[-9.0]], [[-4.0]], [[0.0]], [[4.0]]])).ravel().tolist()
    [0.0, 0.0, 3.5, 7.0]
    """

    bits: int = 5
    """log2 of the words of an edge."""
    smooth: int = 2
    """Times that neighbours are averaged."""
    low: float = -4.0
    high: float = 4.0

    def __post_init__(self):
        _check_range(self.low, self.high)
        if not (1 <= self.bits <= 8 and self.smooth >= 0):
            raise ValueError(f"bits is {self.bits}, smooth {self.smooth}; 1 .. 8 bits and at least 0 are legal")

    @property
    def terms(self):
        return 2**self.bits

    def init(self, key, edges):
        slope, noise = jax.random.split(key)
        line = jnp.linspace(-2.0, 2.0, self.terms).reshape((1,) * len(edges) + (-1,))
        return {"words": jax.random.normal(slope, (*edges, 1)) * line + jax.random.normal(noise, (*edges, self.terms))}

    def value(self, parameters, x):
        words = parameters["words"]
        for _ in range(self.smooth):
            ends = jnp.concatenate([words[..., :1], words, words[..., -1:]], -1)
            words = (ends[..., :-2] + 2.0 * words + ends[..., 2:]) / 4.0
        u = (jnp.clip(x, self.low, self.high) - self.low) * ((self.terms - 1) / (self.high - self.low))
        y = 0.0 * u
        for n in range(self.terms):
            y = y + words[..., n] * jnp.maximum(1.0 - abs(u - n), 0.0)
        return y


EdgeName = Literal["mlp", "spline", "table"]
FUNCTIONS: dict[str, AbstractEdge] = {"mlp": EdgeMlp(), "spline": EdgeSpline(), "table": EdgeTable()}
"""By name, as they are by default."""


def edge_function(function: str | AbstractEdge) -> AbstractEdge:
    """The kind of function that a layer was given, by name or as it is; raises ValueError for anything else.

    >>> edge_function("spline")
    EdgeSpline(intervals=8, order=3, low=-4.0, high=4.0)
    """
    found = FUNCTIONS.get(function) if isinstance(function, str) else function
    if not isinstance(found, AbstractEdge):
        raise ValueError(
            f"function is {function!r}; one of {', '.join(map(repr, FUNCTIONS))}, or an edge function such as EdgeMlp, is needed"
        )
    return found


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def at_keys(
    function: AbstractEdge, parameters: Parameters, x: Float[Array, "rows ..."], step: Float[Array, "..."]
) -> Float[Array, "rows ..."]:
    """``function(parameters, x)`` at keys `x`, which are multiples of `step`, of the shape of one row.

    Rows share keys: a function of 6 bits has 64 results, however many rows there are. On a CPU all functions are computed for as many
    keys, from the smallest of each on, as the one that has most has between its smallest and its largest, and looked up; the gradients of a
    key's rows are added up before they go through the function. All rows are computed instead where

    - these keys are more than 1024, or more than half the rows,
    - one `x` is no multiple of its step, or not finite,
    - the device is no CPU.

    Either is done a block after the other, and again for the gradient: what is kept between the two is the arguments alone. On a CPU
    members of a sweep are computed one after the other, too: memory does not grow with them, and XLA makes loops of the sums over rows
    that are ten times as fast as those with a member axis. Their last bits can depend on the number of XLA's threads.
    """
    return _by_member(functools.partial(_values, function))(parameters, x, step)


def _values(function: AbstractEdge, parameters: Parameters, x: Array, step: Array) -> Array:
    def computed(parameters, x):
        return _rows_of(lax.map(lambda block: function(parameters, block), _blocks(x)), x)

    def looked_up(keys: Keys, parameters, x):
        def block(n, table):
            return table.at[n].set(function(parameters, keys.values(n)))

        table = lax.fori_loop(0, keys.blocks, block, jnp.zeros(keys.shape, x.dtype))
        return table.ravel()[keys.number].reshape(x.shape)

    return _chosen(computed, looked_up, x, step, (parameters, x))


def _gradients(function: AbstractEdge, parameters: Parameters, x: Array, step: Array, g: Array) -> tuple[Parameters, Array]:
    def computed(parameters, x, g):
        def block(total, inputs):
            part, of_x = jax.vjp(function, parameters, inputs[0])[1](inputs[1])
            return jax.tree.map(jnp.add, total, part), of_x

        total, of_x = lax.scan(block, jax.tree.map(jnp.zeros_like, parameters), (_blocks(x), _blocks(g)))
        return total, _rows_of(of_x, x)

    def looked_up(keys: Keys, parameters, x, g):
        of_keys = jnp.zeros(math.prod(keys.shape), g.dtype).at[keys.number].add(g.ravel()).reshape(keys.shape)

        def block(n, found):
            total, slope = found
            y, back = jax.vjp(function, parameters, keys.values(n))
            return jax.tree.map(jnp.add, total, back(of_keys[n])[0]), slope.at[n].set(back(jnp.ones_like(y))[1])

        nothing = jax.tree.map(jnp.zeros_like, parameters), jnp.zeros(keys.shape, x.dtype)
        total, slope = lax.fori_loop(0, keys.blocks, block, nothing)
        return total, g * slope.ravel()[keys.number].reshape(x.shape)

    return _chosen(computed, looked_up, x, step, (parameters, x, g))


class Keys(NamedTuple):
    """The keys of all functions that rows may have, a block of `KEYS` after the other, and which of them each row has."""

    values: Callable[[Array], Float[Array, "keys ..."]]
    """Those of a block."""
    blocks: Int[Array, ""]
    """How many there are."""
    shape: tuple[int, ...]
    """Of all blocks that there may be: (blocks, keys, ...)."""
    number: Int[Array, "..."]
    """Of the keys of all blocks, flattened, for each element of the rows."""


def _chosen(computed: Callable, looked_up: Callable, x: Array, step: Array, arguments: tuple[Any, ...]) -> Any:
    """``looked_up(keys, *arguments)`` where no function has more keys than `MOST_KEYS` and half the rows, else ``computed(*arguments)``."""
    most = min(MOST_KEYS, len(x) // 2)
    if most < KEYS or jax.default_backend() != "cpu":
        return computed(*arguments)
    first, last, step = x.min(0, keepdims=True), x.max(0, keepdims=True), step[None]
    index = jnp.rint(jnp.clip((x - first) / step, 0, most)).astype(jnp.int32)
    off_grid = abs(first + index.astype(x.dtype) * step - x).max(0) != 0  # over rows first, which is fast
    count = jnp.where(off_grid, jnp.inf, ((last - first) / step)[0]).max() + 1

    def with_table(index, *arguments):
        def values(n):
            number = n * KEYS + jnp.arange(KEYS).reshape(-1, *(1,) * (step.ndim - 1))
            return jnp.minimum(first + step * number.astype(x.dtype), last)  # a function need not be finite where there is no row

        flat = index * step.size + jnp.arange(step.size, dtype=jnp.int32).reshape(step.shape)
        shape = (-(-most // KEYS), KEYS, *step.shape[1:])
        return looked_up(Keys(values, jnp.ceil(count / KEYS).astype(jnp.int32), shape, flat.ravel()), *arguments)

    return lax.cond(count <= most, with_table, lambda index, *arguments: computed(*arguments), index, *arguments)


def _blocks(x: Array) -> Array:
    """Rows as (blocks, rows of a block, ...), the last block filled with zeros.

    There are two blocks, at least: of a loop of one turn XLA makes none, and computes its results anew wherever one is looked up.
    """
    rows = min(2 ** max(int(math.log2(BLOCK / math.prod(x.shape[1:]))), 0), max((len(x) + 1) // 2, 1))
    x = jnp.pad(x, ((0, -len(x) % rows), *((0, 0),) * (x.ndim - 1)))
    return x.reshape(-1, rows, *x.shape[1:])


def _rows_of(blocks: Array, x: Array) -> Array:
    """The reverse, for as many rows as `x` has."""
    return blocks.reshape(-1, *x.shape[1:])[: len(x)]


def _by_member(f: Callable) -> Callable:
    """`f`, which on a CPU computes the members of a vmap one after the other."""
    mapped = jax.custom_batching.custom_vmap(f)

    @mapped.def_vmap
    def rule(size, batched, *arguments):
        whole = jax.tree.map(lambda a, is_batched: a if is_batched else jnp.broadcast_to(a, (size, *a.shape)), arguments, tuple(batched))
        y = lax.map(lambda one: mapped(*one), whole) if jax.default_backend() == "cpu" else jax.vmap(f)(*whole)
        return y, jax.tree.map(lambda _: True, y)

    return mapped


def _forward(function, parameters, x, step):
    return at_keys(function, parameters, x, step), (parameters, x, step)


def _backward(function, kept, g):
    parameters, x = _by_member(functools.partial(_gradients, function))(*kept, g)
    return parameters, x, jnp.zeros_like(kept[2])


at_keys.defvjp(_forward, _backward)
