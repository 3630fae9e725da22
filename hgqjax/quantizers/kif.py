"""Kif: integer bits and fractional bits are trained."""

import dataclasses

import jax.numpy as jnp

from hgqjax import fixed_point
from hgqjax.quantizers._base import FixedPoint, Format, check_bits, sample_exponent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kif(FixedPoint):
    r"""Fixed point with trained integer bits `i` and fractional bits `f`: step :math:`2^{-f}`, range below :math:`2^i`.

    With WRAP only `f` is trained; `i` follows the observed range. Initialisation, for a group with largest sample magnitude M:
    without a sample i = `i0`, f = `f0`; with one i = floor(log2 M) + 1, and f = `f0`, or, where `b0` is given, f = b0 - i: the
    largest of the group starts with `b0` magnitude bits, so that nothing starts dead, however small it is.

    Gradients: of `hgqjax.fixed_point.quantize` in i and f, straight through their rounding to whole numbers.
    Raises: ValueError for unknown modes, limits that are no interval within -60..60, starts beyond -60..60 bits.
    Source: Sun et al. (HGQ), arXiv:2405.00645; the parametrisation `kif` of HGQ2.

    >>> q = Kif(f0=2.0, overflow="SAT")
    >>> float(q.quantize(jnp.array([[0.8]]), q.init((1, 1)))[0, 0])
    0.75
    """

    overflow: fixed_point.Overflow = "WRAP"
    i0: float = 2.0
    f0: float = 6.0
    b0: float | None = None
    i_limits: tuple[float, float] = (-24.0, 24.0)
    f_limits: tuple[float, float] = (-24.0, 24.0)

    def __post_init__(self):
        super().__post_init__()
        for name in ("i0", "f0") + (("b0",) if self.b0 is not None else ()):
            check_bits(name, getattr(self, name))

    def limits(self):
        return {"i": self.i_limits, "f": self.f_limits}

    def init(self, shape, key=None, sample=None):
        i = jnp.full(shape, self.i0, jnp.float32)
        f = jnp.full(shape, self.f0, jnp.float32)
        if sample is not None:
            i = sample_exponent(sample, shape)
            f = f if self.b0 is None else self.b0 - i
        return self.clip({"i": i, "f": f})

    def of_format(self, fmt):
        return self.clip({"i": jnp.asarray(fmt.i), "f": jnp.asarray(fmt.f)})

    def format(self, params, ranges=None):
        f = fixed_point.round_ste(params["f"])
        k, i = self._sign_and_integer_bits(fixed_point.round_ste(params["i"]), f, ranges)
        return Format(k, i, f)
