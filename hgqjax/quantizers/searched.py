"""Searched: fixed point whose bits a search gives, one candidate after the other."""

import dataclasses
from typing import ClassVar, Literal

import jax.numpy as jnp
from jax import lax

from hgqjax import fixed_point
from hgqjax.quantizers._base import FixedPoint, Format, as_float32, check_bits, sample_exponent
from hgqjax.quantizers._grid import grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class Searched(FixedPoint):
    r"""Fixed point of `bits` in all, a sign bit included where there is one: one of the legal `choices`, which `with_bits` gives.

    The range follows the largest magnitude M seen. With SAT_SYM the largest level is one step below the power of two above M, where few
    bits clip; with WRAP the range holds M. The bits are an array: another candidate needs no compilation.

    Args:
      choices: legal numbers of bits. signed: a sign bit whatever the range, for weights.
      i0: integer bits without a sample.

    Parameters: `bits`, which starts at the most bits, and `i`. Neither has a gradient. dq/dx = 1, beyond a SAT_SYM range 0.
    Raises: ValueError for choices that are no different whole numbers within 2..16, or another overflow.
    Source: ours; the agents state theirs.

    >>> q = Searched(i0=0.0)
    >>> float(q.quantize(jnp.array([[0.8]]), q.with_bits(q.init((1, 1)), 3))[0, 0])
    0.75
    """

    untrained: ClassVar[frozenset[str]] = frozenset({"bits", "i"})
    overflow: Literal["WRAP", "SAT_SYM"] = "SAT_SYM"
    choices: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    signed: bool = False
    i0: float = 2.0
    i_limits: tuple[float, float] = (-24.0, 24.0)

    def __post_init__(self):
        if self.overflow not in ("WRAP", "SAT_SYM"):
            raise ValueError(f"overflow is {self.overflow!r}; Searched has WRAP (the range holds all values) or SAT_SYM (few bits clip)")
        whole = all(isinstance(b, int) and not isinstance(b, bool) and 2 <= b <= 16 for b in self.choices)
        if not whole or not self.choices or len(set(self.choices)) < len(self.choices):
            raise ValueError(f"choices is {self.choices}; one or more different whole numbers within 2..16, sign included, are needed")
        super().__post_init__()
        check_bits("i0", self.i0)

    def limits(self):
        return {"bits": (float(min(self.choices)), float(max(self.choices))), "i": self.i_limits}

    def init(self, shape, key=None, sample=None):
        i = jnp.full(shape, self.i0, jnp.float32) if sample is None else as_float32(sample_exponent(sample, shape))
        return self.clip({"bits": jnp.full(shape, float(max(self.choices)), jnp.float32), "i": i})

    def with_bits(self, params, bits):
        return params | {"bits": jnp.full_like(params["bits"], bits)}

    def format(self, params, ranges=None):
        bits, i = (jnp.round(lax.stop_gradient(params[name])) for name in ("bits", "i"))
        k = self._sign(i)
        if ranges is not None and self.keep_negative and not self.signed:
            step = fixed_point.pow2(i - max(self.choices))  # ranges that decay in training never come to 0
            k = (as_float32(ranges.low) < -step / 2).astype(i.dtype)
        fmt = grid(self, bits - k, i, ranges)
        return Format(k, fmt.i, fmt.f)
