"""Kbi: magnitude bits and integer bits are trained."""

import dataclasses

import jax.numpy as jnp
from jax import lax

from hgqjax import fixed_point
from hgqjax import ranges as ranges_
from hgqjax.quantizers._base import FixedPoint, Format, as_float32, check_bits, sample_exponent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kbi(FixedPoint):
    r"""Fixed point with trained magnitude bits ``b = i + f`` and integer bits `i`: step :math:`2^{i-b}`, range below :math:`2^i`.

    With WRAP only `b` is trained and `i` follows the largest magnitude M seen: the least i with ``M <= 2**i - 2**(i-b)``.
    Initialisation: b = `b0`; i = `i0`, or from the sample floor(log2 M) + 1 for the largest magnitude M of each group.

    Gradients: as `Kif` with f = b - i.
    Raises: as `Kif`; magnitude bits below 0 are not legal limits.
    Source: the parametrisation `kbi` of HGQ2, its default for weights; arXiv:2405.00645.

    >>> q = Kbi(b0=3.0, i0=1.0, overflow="SAT_SYM")
    >>> float(q.quantize(jnp.array([[0.8]]), q.init((1, 1)))[0, 0])
    0.75
    """

    overflow: fixed_point.Overflow = "SAT_SYM"
    b0: float = 8.0
    i0: float = 2.0
    b_limits: tuple[float, float] = (0.0, 23.0)
    i_limits: tuple[float, float] = (-24.0, 24.0)

    def __post_init__(self):
        super().__post_init__()
        if self.b_limits[0] < 0:
            raise ValueError(f"b_limits is {self.b_limits}; magnitude bits are at least 0")
        if self.overflow == "WRAP" and self.rounding == "TRN":
            raise ValueError("rounding is 'TRN' with overflow WRAP; Kbi's range is then that of rounded magnitudes, take RND or RND_CONV")
        for name in ("b0", "i0"):
            check_bits(name, getattr(self, name))

    def limits(self):
        return {"b": self.b_limits, "i": self.i_limits}

    def init(self, shape, key=None, sample=None):
        i = jnp.full(shape, self.i0, jnp.float32) if sample is None else sample_exponent(sample, shape)
        return self.clip({"b": jnp.full(shape, self.b0, jnp.float32), "i": i})

    def of_format(self, fmt):
        return self.clip({"b": jnp.asarray(fmt.i) + jnp.asarray(fmt.f), "i": jnp.asarray(fmt.i)})

    def format(self, params, ranges=None):
        b = fixed_point.round_ste(params["b"])
        i = fixed_point.round_ste(params["i"])
        if self.overflow == "WRAP" and ranges is not None:
            ranges = ranges_.Range(*as_float32(ranges))
            largest = jnp.maximum(-ranges.low, ranges.high) if self.keep_negative else ranges.high
            i = fixed_point.exponent(largest)
            rounds_up = largest > fixed_point.pow2(i) * (1.0 - fixed_point.pow2(-jnp.maximum(b, 0.0)))
            i = lax.stop_gradient(i + rounds_up.astype(i.dtype))
            k, _ = ranges_.integer_bits(ranges, b - i, self.rounding)
            return Format(k * float(self.keep_negative), i, b - i)
        return Format(self._sign(i), i, b - i)
