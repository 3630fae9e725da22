"""Measured: a cost table that the project's own tools made, of each size of layer at several widths."""

import dataclasses
import math
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
from jaxtyping import Float

from hgqjax.archives import ArchiveError, read_json_file
from hgqjax.resources import operations as o
from hgqjax.resources._base import AbstractCost, Cost, Values
from hgqjax.resources.lut import Luts

Row = tuple[float, float, float, float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured(AbstractCost):
    r"""LUTs of layers by a table: those of a matrix of n inputs and m results, weights of w magnitude bits, inputs of a bits.

    The cost of a layer is :math:`N\,T_{nm}(\bar w, \bar a)`: N such matrices (positions, groups), :math:`\bar w` the mean magnitude bits
    of its weights, :math:`\bar a` the mean bits of its inputs, sign included. Between the widths of the table it is linear in each, below
    the fewest it falls to 0, beyond the most it grows in proportion. Biases are not counted. Other operations cost what `Luts` predicts.

    Args:
      table: rows (n, m, w, a, LUTs); of each n and m all pairs of some widths, above 0. `hgqjax.synth.measure` makes a file of them,
        `Measured.load` reads it; `hgqjax sweep --train.objective.cost measured:FILE`.

    Gradients: those of the linear pieces, in all widths.
    Raises: ValueError for rows that are not such a table, and for a layer whose size it does not have.
    Source: ours; after the tables of measured cycles of OHQ, arXiv:2309.01945.

    >>> cost = Measured(table=((2.0, 1.0, 2.0, 4.0, 10.0), (2.0, 1.0, 4.0, 4.0, 30.0)))
    >>> float(cost.at((2, 1), np.float64(3.0), np.float64(4.0))), float(cost.at((2, 1), np.float64(1.0), np.float64(8.0)))
    (20.0, 10.0)
    """

    unit: ClassVar[str] = "LUTs"
    table: tuple[Row, ...]

    def __post_init__(self):
        rows = self.table
        if not rows or any(not all(0 < v < math.inf for v in row[:4]) or not 0 <= row[4] < math.inf for row in rows):
            raise ValueError(
                "table needs rows (inputs, results, bits of weights, bits of inputs, LUTs), all finite, and only LUTs may be 0"
            )
        object.__setattr__(self, "table", tuple(sorted(rows)))
        for size in sorted({row[:2] for row in rows}):
            self._grid(size)

    @classmethod
    def load(cls, path: str | Path) -> "Measured":
        """The table of a file that `hgqjax.synth.measure` made. Raises: ValueError where it is none."""
        try:
            rows = read_json_file(path)["rows"]
            return cls(table=tuple((float(n), float(m), float(w), float(a), float(luts)) for n, m, w, a, luts in rows))
        except ArchiveError as error:
            raise ValueError(f"{path} is no table of measured costs: it {error}") from error
        except (OSError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no table of measured costs ({type(error).__name__})") from error

    def _grid(self, size: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Widths of weights and of inputs, and LUTs at all pairs; 0 first."""
        found = {row[2:4]: row[4] for row in self.table if row[:2] == size}
        weights, inputs = (sorted({pair[n] for pair in found}) for n in (0, 1))
        if len(found) != len(weights) * len(inputs) or len(found) != sum(row[:2] == size for row in self.table):
            raise ValueError(f"table has {len(found)} pairs of widths for {size[0]:g} x {size[1]:g}; each pair once is needed")
        luts = np.zeros((len(weights) + 1, len(inputs) + 1))
        luts[1:, 1:] = [[found[w, a] for a in inputs] for w in weights]
        return np.array([0.0, *weights]), np.array([0.0, *inputs]), luts

    def at(self, size: tuple[int, int], weights: Cost, inputs: Cost) -> Cost:
        """LUTs of a matrix of this size at these widths."""
        if not any(row[:2] == size for row in self.table):
            known = ", ".join(f"{n:g} x {m:g}" for n, m in sorted({row[:2] for row in self.table}))
            raise ValueError(f"table has no layer of {size[0]} inputs and {size[1]} results, only {known}; measure this network")
        of_weights, of_inputs, luts = self._grid((float(size[0]), float(size[1])))
        left, right = _pieces(weights, of_weights), _pieces(inputs, of_inputs)
        return left @ left.__array_namespace__().asarray(luts, dtype=left.dtype) @ right

    def operation(self, op):
        """LUTs of one operation."""
        if not isinstance(op, o.Dense | o.Einsum | o.Conv):
            return Luts().operation(op)
        n, m, count = matrices(op)
        weights, inputs = op.kernel.bits("hgq2", False), op.input.bits("paper_v1", False)
        return self.at((n, m), weights.mean(), inputs.mean()) * (count * op.share())


def matrices(op: o.Dense | o.Einsum | o.Conv) -> tuple[int, int, int]:
    """(inputs, results, number) of the equal matrices that a layer is in hardware, all positions unrolled."""
    if isinstance(op, o.Conv):
        *window, filters = op.kernel.shape
        return math.prod(window), filters // op.groups, math.prod(op.positions()) * op.groups
    if isinstance(op, o.Dense):
        n, m = op.kernel.shape
        return n, m, math.prod(op.input.shape[:-1])
    x, kernel, y = op.equation.replace("->", ",").split(",")
    sizes = dict(zip(x, op.input.shape, strict=True)) | dict(zip(kernel, op.kernel.shape, strict=True))
    groups = (set(x) - set(y), set(kernel) & set(y) - set(x), set(x) & set(y))
    n, m, count = (math.prod(sizes[label] for label in sorted(labels)) for labels in groups)
    return n, m, count


def _pieces(width: Cost, grid: np.ndarray) -> Float[Values, "widths"]:
    """Shares of the widths of `grid`, whose first is 0, at `width`; beyond the last in proportion to it."""
    width = width if isinstance(width, jax.Array) else np.asarray(width)
    xp = width.__array_namespace__()
    known = xp.asarray(grid, dtype=width.dtype)
    inside = xp.minimum(width, known[-1])
    up = (inside - known[:-1]) / (known[1:] - known[:-1])  # of each piece, how far it is crossed
    up = xp.where(up < 1, xp.where(up > 0, up, 0.0 * up), 0.0 * up + 1.0)
    shares = xp.concatenate([0.0 * up[:1], up]) - xp.concatenate([up, 0.0 * up[:1]])
    return shares * xp.where(width > known[-1], width / known[-1], 1.0)
