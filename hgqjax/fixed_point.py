"""Fixed-point arithmetic on floats: exact powers of two, rounding, overflow and `quantize` with its one gradient rule.

A number has `k` sign bits (0 or 1), `i` integer bits without the sign and `f` fractional bits; its step is ``2**-f``. Widths are
arrays of whole numbers, negative ones included, and may be traced: one compilation serves every width.
"""

import functools
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float

Rounding = Literal["RND", "TRN", "RND_CONV", "S_RND"]
Overflow = Literal["WRAP", "SAT", "SAT_SYM"]
LN2 = 0.6931471805599453
MAX_BITS = 52


def one_program(*static: str):
    """Decorator: called outside of compiled code, the function is one program, and not one for each of its operations.

    Compiling these, for every new shape, took most of the time of a model's construction. Inside compiled code nothing changes.
    """

    def decorate(function):
        compiled = jax.jit(function, static_argnames=static)

        @functools.wraps(function)
        def call(*args, **named):
            traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((args, named)))
            return (function if traced else compiled)(*args, **named)

        return call

    return decorate


def check_modes(rounding: str, overflow: str) -> None:
    """Raises ValueError, naming the legal choices, unless both modes exist."""
    for argument, value, legal in (("rounding", rounding, Rounding), ("overflow", overflow, Overflow)):
        if value not in get_args(legal):
            raise ValueError(f"{argument} is {value!r}; legal are {', '.join(get_args(legal))}")


def as_float(x: ArrayLike) -> Array:
    """`x` as a JAX array; raises ValueError unless it holds floats."""
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x has dtype {x.dtype}; a float array is needed")
    return x


def check_format(k: ArrayLike, i: ArrayLike, f: ArrayLike) -> None:
    """Raises ValueError, naming the width, unless k is 0 or 1, i and f are whole and k + i + f is at most 52; skips traced widths."""
    widths = {name: np.asarray(v) for name, v in (("k", k), ("i", i), ("f", f)) if not isinstance(v, Tracer)}
    for name, v in widths.items():
        wrong = ~np.isin(v, (0, 1)) if name == "k" else ~np.isfinite(v) | (np.rint(v) != v)
        if np.any(wrong):
            legal = "0 or 1" if name == "k" else "whole numbers of bits"
            raise ValueError(f"{name} is {v[wrong].flat[0]}; {legal} are needed")
    if len(widths) == 3:
        total = np.max(sum(np.broadcast_arrays(*widths.values())), initial=0)
        if total > MAX_BITS:
            raise ValueError(f"k + i + f is {total:g}; at most {MAX_BITS} bits are exact")


def _layout(dtype) -> tuple[int, int, type]:
    """(fraction bits, exponent bias, integer type) of a float dtype."""
    if dtype == jnp.float32:
        return 23, 127, jnp.int32
    if dtype == jnp.float64:
        return 52, 1023, jnp.int64
    raise ValueError(f"dtype is {dtype}; float32 or float64 is needed")


def pow2(n: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """``2**n`` for whole `n`, exact: the exponent is written into the float's bits. `n` is limited to the normal floats, -126..127.

    (`exp2`, `**` and `jnp.ldexp`, which calls `**`, are correct to rounding only, on some back ends.)

    >>> float(pow2(jnp.float32(-3.0)))
    0.125
    """
    n = jnp.asarray(n)
    fraction, bias, integer = _layout(n.dtype)
    e = jnp.clip(n, 1 - bias, bias).astype(integer) + bias
    return lax.bitcast_convert_type(e << fraction, n.dtype)


def exponent(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Smallest whole `e` with ``|x| < 2**e`` (that is ``floor(log2|x|) + 1``), exact; 0 for 0 and subnormal numbers. No gradient.

    >>> [float(exponent(jnp.float32(v))) for v in (0.5, 0.99, 1.0)]
    [0.0, 0.0, 1.0]
    """
    x = lax.stop_gradient(jnp.asarray(x))
    fraction, bias, integer = _layout(x.dtype)
    e = (lax.bitcast_convert_type(jnp.abs(x), integer) >> fraction) + (1 - bias)
    return jnp.where(jnp.abs(x) > 0, e, 0).astype(x.dtype)


@jax.custom_jvp
def round_ste(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Nearest whole number, ties to even; the gradient passes straight through.

    >>> float(round_ste(jnp.float32(2.6))), float(jax.grad(round_ste)(2.6))
    (3.0, 1.0)
    """
    return jnp.round(x)


@round_ste.defjvp
def _round_ste_jvp(primals, tangents):
    return jnp.round(primals[0]), tangents[0]


@jax.custom_jvp
def materialized(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Finite `x`, read by several loops or broadcast to a large array, computed once.

    XLA's CPU back end would fuse what makes `x` into each of these loops, and repeat it there, unless its last operation is one that it
    holds to be costly, such as this division by 1. (It drops `lax.optimization_barrier` before it fuses.) The gradient passes.

    >>> float(materialized(jnp.float32(0.3))) == float(jnp.float32(0.3))
    True
    """
    return x / (1.0 + 0.0 * x)


@materialized.defjvp
def _once_jvp(primals, tangents):
    return materialized(primals[0]), tangents[0]


@jax.custom_jvp
def straight_through(value: Float[Array, "*s"], surrogate: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """`value`, bit for bit, with the gradient of `surrogate`: how a quantizer states its gradient as a formula.

    (``surrogate + stop_gradient(value - surrogate)`` rounds twice and is not `value`.)

    >>> float(jax.grad(lambda x: straight_through(jnp.round(x), 3.0 * x))(2.6))
    3.0
    """
    del surrogate
    return value


@straight_through.defjvp
def _straight_through_jvp(primals, tangents):
    return primals[0], tangents[1]


def round_to_integer(v: Float[Array, "*s"], rounding: Rounding, key: Array | None = None) -> Float[Array, "*s"]:
    """Rounds `v` to whole numbers: RND half up, TRN down, RND_CONV half to even, S_RND up with probability ``v - floor(v)``.

    RND tests the remainder: ``floor(v + 0.5)`` is wrong one ulp below a tie. S_RND is unbiased to the step of the uniform numbers it
    draws, 2**-23 in float32.

    >>> [float(round_to_integer(jnp.float32(-2.5), mode)) for mode in ("RND", "TRN", "RND_CONV")]
    [-2.0, -3.0, -2.0]
    """
    if rounding == "RND_CONV":
        return jnp.round(v)
    down = jnp.floor(v)
    if rounding == "TRN":
        return down
    if rounding == "RND":
        return down + (v - down >= 0.5).astype(v.dtype)
    if not isinstance(key, jax.Array):
        raise ValueError("rounding S_RND needs key=, a jax.random key")
    return down + (jax.random.uniform(key, v.shape, v.dtype) < v - down).astype(v.dtype)


def limits(k: Float[Array, "..."], i: Float[Array, "..."], f: Float[Array, "..."], overflow: Overflow):
    """Least and greatest value of the format: ``[-k 2**i, 2**i - 2**-f]``; SAT_SYM: ``-k`` times the greatest.

    Where ``i + f < 0`` the limits are those of ``i = -f``, so that the greatest value is never negative.
    """
    top = pow2(jnp.maximum(i, -f))
    high = top - pow2(-f)
    return -k * (high if overflow == "SAT_SYM" else top), high


def _wrap(m: Float[Array, "*s"], k: Float[Array, "..."], bits: Float[Array, "..."]) -> Float[Array, "*s"]:
    """Whole number `m` modulo ``2**bits``, into ``[-k 2**(bits-1), ...)``; each operation here is exact in floating point."""
    modulus = pow2(bits)
    m = m - jnp.trunc(m * pow2(-bits)) * modulus
    half = jnp.where(k > 0, modulus * 0.5, modulus)
    m = jnp.where(m >= half, m - modulus, m)
    return jnp.where(m < half - modulus, m + modulus, m)


def _forward(x, k, i, f, key, rounding, overflow, wrapped):
    if overflow != "WRAP":
        x = jnp.clip(x, *map(materialized, limits(k, i, f, overflow)))
    elif wrapped:  # so large a float is a multiple of the modulus; its shift by f could overflow
        x = jnp.where(jnp.abs(x) >= pow2(k + i + _layout(x.dtype)[0]), x * 0, x)
    up, down = (materialized(pow2(n)) for n in (f, -f))
    v = x * up
    if rounding in ("TRN", "S_RND"):  # a tiny number keeps its sign where the shift underflows: TRN goes down
        v = jnp.where(v == 0, jnp.sign(x) * 2.0**-30, v)
    m = round_to_integer(v, rounding, key)
    if overflow == "WRAP" and not wrapped:
        return m * down
    bits = k + i + f
    if overflow == "WRAP":
        m = _wrap(m, k, jnp.maximum(bits, 0.0))
    return jnp.where(bits <= 0, jnp.zeros_like(m), m * down)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def _quantize(x, k, i, f, key, rounding, overflow, wrapped):
    return _forward(x, k, i, f, key, rounding, overflow, wrapped)


def _quantize_fwd(x, k, i, f, key, rounding, overflow, wrapped):
    q = _forward(x, k, i, f, key, rounding, overflow, wrapped)
    if overflow == "WRAP":  # only the error of rounding is needed, not that of wrapping
        rounded = _forward(x, k, i, f, key, rounding, overflow, False) if wrapped else q
        error = jnp.where(k + i + f <= 0, x, x - rounded) if wrapped else x - rounded
        return q, (error, None, k, i, f)
    return q, (x - q, x, k, i, f)


def _quantize_bwd(rounding, overflow, wrapped, residuals, g):
    error, x, k, i, f = residuals
    if overflow == "WRAP":
        return g, jnp.zeros_like(k), jnp.zeros_like(i), LN2 * _product_sum(error, g, f), None
    g = materialized(g)  # three results read it; each would compute it anew
    g_f = LN2 * error * g
    low, high = map(materialized, limits(k, i, f, overflow))
    above, below = x > high, x < low
    top = materialized(LN2 * pow2(jnp.maximum(i, -f)))  # d high / d i
    step = materialized(LN2 * pow2(-f))  # d high / d f
    zero = jnp.zeros_like(g)
    g_i = jnp.where(above, g * top, jnp.where(below, -g * k * top, zero))
    below_f = -g * k * step if overflow == "SAT_SYM" else zero
    g_f = jnp.where(above, g * step, jnp.where(below, below_f, g_f))
    return jnp.where(above | below, zero, g), jnp.zeros_like(k), _sum_to(g_i, i), _sum_to(g_f, f), None


def _sum_to(g, like):
    """Adjoint of broadcasting `like` to the shape of `g` (equal ranks)."""
    axes = tuple(a for a, (n, m) in enumerate(zip(g.shape, like.shape, strict=True)) if n != m)
    return jnp.sum(g, axis=axes, keepdims=True) if axes else g


def _product_sum(x, g, like):
    """``_sum_to(x * g, like)``; the select keeps XLA's CPU back end from one loop of product and sum, which takes ten times as long."""
    return _sum_to(jnp.where(g == g, x * g, g), like)


@jax.custom_vjp
def product(x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """``x * y`` of equal ranks, whose gradients are fast where axes of size 1 repeat.

    >>> product(jnp.ones((2, 3)), jnp.full((2, 1), 2.0)).tolist()[0]
    [2.0, 2.0, 2.0]
    """
    return x * y


product.defvjp(lambda x, y: (x * y, (x, y)), lambda xy, g: (_product_sum(xy[1], g, xy[0]), _product_sum(xy[0], g, xy[1])))


_quantize.defvjp(_quantize_fwd, _quantize_bwd)
_quantized = one_program("rounding", "overflow", "wrapped")(_quantize)


def quantize(
    x: ArrayLike,
    k: ArrayLike,
    i: ArrayLike,
    f: ArrayLike,
    rounding: Rounding = "RND",
    overflow: Overflow = "WRAP",
    *,
    key: Array | None = None,
) -> Array:
    r"""Rounds `x` to the grid of step :math:`2^{-f}`, then (WRAP) or before (SAT, SAT_SYM) brings it into the range. Bit-exact.

    SAT: :math:`[-k 2^i, 2^i - 2^{-f}]`, SAT_SYM: :math:`\pm(2^i - 2^{-f})`, WRAP: modulo :math:`2^{k+i}` into the SAT range.

    Args:
      x: values, any shape, float32 or float64.
      k: sign bits, 0 or 1. i: integer bits without the sign. f: fractional bits. Whole numbers, any sign, traced or not, that
        broadcast against `x`. Exact while the result fits the float's significand, 24 bits of float32 and 53 of float64.
      rounding: RND half up, TRN toward minus infinity, RND_CONV half to even, S_RND stochastic (needs `key`).
      overflow: WRAP, SAT or SAT_SYM.

    Where ``k + i + f <= 0`` the result is 0, whatever x. NaN stays NaN otherwise; an infinity saturates (SAT, SAT_SYM) or becomes
    NaN (WRAP), so that neither hides in a training run.

    Gradients: dq/dx = 1 in range, 0 where saturated; dq/df = ln2 (x - q) in range; where saturated the gradients of the limit:
    dq/di = ln2 2**i above, -k ln2 2**i below, dq/df = ln2 2**-f above (and -k times that below for SAT_SYM). WRAP has no limit: its
    gradient is the in-range one everywhere, with q as it was before wrapping, and none for i. Widths that were broadcast receive the sum
    over their group.

    Raises: ValueError for an unknown mode, for shapes that do not broadcast to that of `x`, and, where the widths are not traced, for a k
      that is not 0 or 1, for fractions of bits and for formats of more than 52 bits.
    Source: Sun et al. (HGQ), arXiv:2405.00645.

    >>> [float(quantize(v, 1, 1, 1)) for v in (0.75, 1.7, 1.8)]
    [1.0, 1.5, -2.0]
    """
    return _apply(x, k, i, f, rounding, overflow, key, True)


def quantize_unwrapped(
    x: ArrayLike,
    k: ArrayLike,
    i: ArrayLike,
    f: ArrayLike,
    rounding: Rounding = "RND",
    overflow: Overflow = "WRAP",
    *,
    key: Array | None = None,
) -> Array:
    """`quantize` where WRAP leaves out the modulo and the zero of formats that have no bits: what WRAP layers train with.

    While training, the range follows the data (`ranges`), so that a wrap cannot happen on the rows seen; a value too small for its
    grid rounds to 0 and keeps its gradient ln2 x on f, so that a pruned value can come back. SAT and SAT_SYM are as in `quantize`.

    >>> float(quantize_unwrapped(1.8, 1, 1, 1))
    2.0
    """
    return _apply(x, k, i, f, rounding, overflow, key, False)


def _apply(x, k, i, f, rounding, overflow, key, wrapped):
    check_modes(rounding, overflow)
    x = as_float(x)
    widths = [aligned(x, name, width) for name, width in (("k", k), ("i", i), ("f", f))]
    check_format(*widths)
    return _quantized(x, *(jnp.asarray(w).astype(x.dtype) for w in widths), key, rounding=rounding, overflow=overflow, wrapped=wrapped)


def aligned(x: Array, name: str, width: ArrayLike) -> Array | np.ndarray:
    """`width` with the rank of `x`; raises ValueError, with its `name`, unless it then broadcasts to the shape of `x`."""
    width = width if isinstance(width, jax.Array) else np.asarray(width)
    if width.ndim > x.ndim or any(n not in (1, m) for n, m in zip(width.shape[::-1], x.shape[::-1], strict=False)):
        raise ValueError(f"{name} has shape {width.shape}, which does not broadcast to the shape {x.shape} of x")
    return width.reshape((1,) * (x.ndim - width.ndim) + width.shape)
