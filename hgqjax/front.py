"""The accuracy/resource front: which members no other dominates, with their parameters, and what a sweep keeps of its checks."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hgqjax.training import State


class TrainingError(RuntimeError):
    """A sweep that cannot go on: every member diverged, or a checkpoint does not fit."""


class DivergedError(TrainingError):
    """Every member of a sweep diverged."""


def pareto(scores: Sequence[float], costs: Sequence[float]) -> list[int]:
    """Indices of the members that no other dominates, by rising cost.

    One dominates another when it is at least as good in both (greater score, lower cost) and better in one; of equals the first is kept.
    A NaN dominates nothing and is never kept.

    >>> pareto([0.7, 0.8, 0.7, 0.6, 0.8], [10.0, 20.0, 10.0, 15.0, 30.0])
    [0, 1]
    """
    kept, best = [], -math.inf
    order = sorted((n for n in range(len(scores)) if not math.isnan(scores[n] + costs[n])), key=lambda n: (costs[n], -scores[n], n))
    for n in order:
        if scores[n] > best:
            kept.append(n)
            best = scores[n]
    return kept


def hypervolume(scores: Sequence[float], costs: Sequence[float], reference_score: float, reference_cost: float) -> float:
    r"""Area that the front dominates within the reference point, exactly: :math:`\int_{c < c_{ref}} (\max_{c_n \le c} s_n - s_{ref})^+ dc`.

    Args:
      scores, costs: one of each point, greater and lower is better; a point that is not better than the reference in both adds nothing.
        For an axis of decades give the logarithms of the costs and of `reference_cost`.

    Returns: in units of score times cost, at least 0.

    >>> hypervolume([0.7, 0.8], [10.0, 20.0], 0.5, 30.0) == (0.7 - 0.5) * 10 + (0.8 - 0.5) * 10
    True
    """
    area, lowest = 0.0, reference_score
    for n in pareto(scores, costs):
        if costs[n] < reference_cost and scores[n] > lowest:
            area += (scores[n] - lowest) * (reference_cost - costs[n])
            lowest = scores[n]
    return area


def chosen_within(scores: Sequence[float], costs: Sequence[float], budget: float) -> int | None:
    """Index of the point of the front with the best score at a cost of `budget` or less; None where there is none.

    Choose by scores of validation rows, and show another score of what was chosen: the best of test scores is better than its network.

    >>> chosen_within([0.7, 0.8], [10.0, 20.0], 15.0), chosen_within([0.7, 0.8], [10.0, 20.0], 5.0)
    (0, None)
    """
    return next((n for n in reversed(pareto(scores, costs)) if costs[n] <= budget), None)


@dataclasses.dataclass(frozen=True)
class Point:
    """A candidate of the front: who (`member`), when (`check`), validation `score`, `cost` as training estimates it, and its parameters."""

    member: int
    check: int
    score: float
    cost: float
    leaves: list[np.ndarray] = dataclasses.field(repr=False)


@dataclasses.dataclass
class Archive:
    """The points that no other dominates, with their parameters."""

    points: list[Point] = dataclasses.field(default_factory=list)

    def add(self, candidates: Sequence[Point]) -> None:
        """Takes `candidates` in and lets go of what is dominated; a point already held stays when an equal one comes."""
        points = [*self.points, *candidates]
        self.points = [points[n] for n in pareto([p.score for p in points], [p.cost for p in points])]

    def select(self, count: int, within: float = math.inf) -> list[Point]:
        """At most `count` points, none more than `within` below the best score: both ends, between them equal steps of log cost."""
        points = [p for p in self.points if p.score >= self.points[-1].score - within]
        if len(points) <= count or count == 1:
            return points[-count:]
        logs = [math.log(max(p.cost, 1.0)) for p in points]
        chosen: list[int] = []
        for target in np.linspace(logs[0], logs[-1], count):
            free = [n for n in range(len(logs)) if n not in chosen]
            chosen.append(min(free, key=lambda n: abs(logs[n] - target)))
        return [points[n] for n in sorted(chosen)]


@dataclasses.dataclass
class Swept:
    """What a sweep has so far: `archive`, `history` (one dict of metrics for each member and check), `failed` members with the reason."""

    archive: Archive
    history: list[dict[str, Any]]
    failed: dict[int, str]
    treedef: Any = dataclasses.field(repr=False)

    def state(self, point: Point) -> State:
        """The state of `point`, without its optimiser: for `Train.model`."""
        params, observed = jax.tree.unflatten(self.treedef, [jnp.asarray(leaf) for leaf in point.leaves])
        return State(params, observed, None, jnp.zeros(()), jnp.zeros(()), jnp.zeros((), jnp.int32))
