"""What every operation of a model description is: grids, constants, and the contract that the evaluator and the back ends read."""

import abc
import dataclasses
from typing import ClassVar, NamedTuple

import numpy as np

from hgqjax.fixed_point import MAX_BITS
from hgqjax.quantizers import Format
from hgqjax.resources import Signal


class DescriptionError(ValueError):
    """A model that cannot be described, or a folder that is not a sound description."""


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether an array of `shape` broadcasts to the shape `to`.

    >>> broadcasts((1, 3), (2, 3)), broadcasts((2, 3), (3,))
    (True, False)
    """
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(shape[::-1], to[::-1], strict=False))


class Grid(NamedTuple):
    """Values of one operation: whole numbers within ``[low, high]`` (Python ints, exact) in units of ``2**-f``, per element."""

    f: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """Exact constants ``integers * 2**-f``, int64 arrays of one shape, and what EBOPs count: `bits`, those of each format.

    These are magnitude bits, plus the sign where the format saturates to an asymmetric range (SAT), as HGQ2 counts.

    >>> Constant.from_values(np.array([0.75, -4.0, 0.0]), f=np.array([3, 0, 2]))
    Constant(integers=array([ 6, -4,  0]), f=array([3, 0, 2]), bits=array([3, 3, 0]))
    """

    integers: np.ndarray
    f: np.ndarray
    bits: np.ndarray

    @classmethod
    def from_values(cls, values, f, bits=None) -> "Constant":
        """Reads floats that lie on the grids ``2**-f``; `bits` is by default the fewest that hold each magnitude.

        Raises DescriptionError where a value is not finite, not on its grid, or needs more than 52 bits.
        """
        values = np.asarray(values, np.float64)
        f = np.broadcast_to(np.asarray(f, np.int64), values.shape)
        scaled = np.ldexp(values, f)
        if not np.all(np.isfinite(values)):
            raise DescriptionError("a constant is NaN or infinite; the model has diverged")
        if np.any(scaled != np.rint(scaled)) or np.any(abs(scaled) >= 2**MAX_BITS):
            raise DescriptionError(f"a constant is not on its grid, or needs more than {MAX_BITS} bits")
        integers = scaled.astype(np.int64)
        fewest = np.frexp(abs(scaled))[1].astype(np.int64)  # bit length
        bits = fewest if bits is None else np.array(np.broadcast_to(bits, values.shape), np.int64)
        if np.any(abs(scaled) > 2.0**bits) or np.any((integers != 0) & (bits < 1)):
            raise DescriptionError("a constant does not fit the bits of its format")
        return cls(integers, np.array(f), bits)

    @classmethod
    def exactly(cls, values: np.ndarray) -> "Constant":
        """Floats on the coarsest grid of each; a power of two, which is no more than wires, counts no bits, others those of the magnitude.

        >>> Constant.exactly(np.array([0.5, -12.0, 0.0]))
        Constant(integers=array([ 1, -3,  0]), f=array([ 1, -2,  0]), bits=array([0, 2, 0]))
        """
        mantissa, exponent = np.frexp(np.asarray(values, np.float64))
        m = np.ldexp(mantissa, 53).astype(np.int64)
        zeros = np.where(m == 0, 0, np.frexp((m & -m).astype(np.float64))[1] - 1)
        integers, f = m >> zeros, np.where(m == 0, 0, 53 - exponent - zeros)
        bits = np.frexp(abs(integers).astype(np.float64))[1]
        return cls(integers, f.astype(np.int64), np.where(abs(integers) == 1, 0, bits).astype(np.int64))

    @property
    def values(self) -> np.ndarray:
        """The constants as float64, exact."""
        return np.ldexp(self.integers.astype(np.float64), -self.f)

    @property
    def enclosed_bits(self) -> np.ndarray:
        """Bits from the most to the least significant non-zero one; 0 for a zero, and for a power of two that counts no bits."""
        lowest = np.frexp((self.integers & -self.integers).astype(np.float64))[1]
        free = (self.integers == 0) | (self.bits == 0)
        return np.where(free, 0, np.frexp(abs(self.integers).astype(np.float64))[1] - lowest + 1)

    def signal(self) -> Signal:
        """What the cost models read."""
        i = (self.bits - self.f).astype(np.float64)
        fmt = Format(np.ones_like(i), i, self.f.astype(np.float64))
        enclosed = self.enclosed_bits.astype(np.float64)
        return Signal(fmt, "WRAP", self.integers.shape, True, enclosed, values=lambda: (self.values, self.values))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Operation(abc.ABC):
    """One step: `name` is a C identifier, `inputs` name earlier operations, `shape` is that of the result without the batch axis."""

    name: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    kind: ClassVar[str]

    @abc.abstractmethod
    def grid(self, *inputs: Grid) -> Grid:
        """Grid of the result, from those of the inputs."""

    @abc.abstractmethod
    def evaluate(self, values: tuple[np.ndarray, ...], grids: tuple[Grid, ...], grid: Grid) -> np.ndarray:
        """Whole numbers of the result (int64, or Python ints where wider), on `grid`."""
