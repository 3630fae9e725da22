"""Fixed: one constant format, nothing is trained."""

import dataclasses

import jax.numpy as jnp

from hgqjax.fixed_point import MAX_BITS, Overflow
from hgqjax.quantizers._base import FixedPoint, Format


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fixed(FixedPoint):
    r"""Fixed point with the constant integer bits `i` and fractional bits `f`: what ``ap_fixed<W, I>`` is with W = k + i + f, I = k + i.

    There are no parameters: `init` gives {}. The format does not follow the data, so that WRAP wraps while training too.

    Gradients: in x, those of `hgqjax.fixed_point.quantize`.
    Raises: ValueError for unknown modes, fractions of bits, formats of no bit or of more than 52.
    Source: uniform quantization-aware training as in QKeras, Coelho et al., arXiv:2006.10159.

    >>> q = Fixed(i=0, f=2)
    >>> q.quantize(jnp.array([0.3, 5.0]), q.init((2,))).tolist()
    [0.25, 0.75]
    """

    overflow: Overflow = "SAT"
    i: int = 2
    f: int = 5

    def __post_init__(self):
        super().__post_init__()
        for name in ("i", "f"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{name} is {value!r}; a whole number of bits is needed")
        if not 1 <= self.keep_negative + self.i + self.f <= MAX_BITS:
            raise ValueError(f"i is {self.i}, f {self.f}; formats of 1 to {MAX_BITS} bits, the sign included, are exact")

    def limits(self):
        return {}

    def init(self, shape, key=None, sample=None):
        return {}

    def format(self, params, ranges=None):
        return Format(*(jnp.float32(v) for v in (self.keep_negative, self.i, self.f)))

    def quantize_unwrapped(self, x, params, *, ranges=None, key=None):
        return self.quantize(x, params, key=key)
