"""What a sweep has found: the points of its front with their parameters, the history of its checks, the members that failed."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hgqjax.training.front import pareto
from hgqjax.training.train import State


class TrainingError(RuntimeError):
    """A sweep that cannot go on: every member diverged, or a checkpoint does not fit."""


class DivergedError(TrainingError):
    """Every member of a sweep diverged."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A candidate of the front: who (`member`), when (`check`), `cost` as training estimates it, and its parameters.

    `merit` is the validation score as `hgqjax.scores` turns it: the greater the better.
    """

    member: int
    check: int
    merit: float
    cost: float
    leaves: list[np.ndarray] = dataclasses.field(repr=False)


@dataclasses.dataclass
class Archive:
    """The points that no other dominates, with their parameters."""

    points: list[Point] = dataclasses.field(default_factory=list)

    def add(self, candidates: Sequence[Point]) -> None:
        """Takes `candidates` in and lets go of what is dominated; a point already held stays when an equal one comes."""
        points = [*self.points, *candidates]
        self.points = [points[n] for n in pareto([p.merit for p in points], [p.cost for p in points])]

    def select(self, count: int, within: float = math.inf, kind: Callable[[Point], Hashable] = lambda point: None) -> list[Point]:
        """At most `count` points, none more than `within` below the best merit: both ends, between them equal steps of log cost.

        Where `count` has room, each `kind` that has a point has one of those chosen: a point of the kind that has most of them gives way.
        """
        points = [p for p in self.points if p.merit >= self.points[-1].merit - within]
        if len(points) <= count or count == 1:
            return points[-count:]
        logs = [math.log(max(p.cost, 1.0)) for p in points]
        chosen: list[int] = []
        for target in np.linspace(logs[0], logs[-1], count):
            free = [n for n in range(len(logs)) if n not in chosen]
            chosen.append(min(free, key=lambda n: abs(logs[n] - target)))
        kinds = [kind(p) for p in points]
        for missed in dict.fromkeys(kinds):
            if missed not in (of_chosen := Counter(kinds[n] for n in chosen)):
                new = max((n for n, found in enumerate(kinds) if found == missed), key=lambda n: points[n].check)  # the most settled
                spare = [n for n in chosen if of_chosen[kinds[n]] > 1 and n not in (0, len(points) - 1)]
                if spare:
                    most = max(of_chosen[kinds[n]] for n in spare)
                    gone = min((n for n in spare if of_chosen[kinds[n]] == most), key=lambda n: abs(logs[n] - logs[new]))
                    chosen[chosen.index(gone)] = new
        return [points[n] for n in sorted(chosen)]


@dataclasses.dataclass
class SweepResult:
    """What a sweep has so far: `archive`, `history` (one dict of metrics for each member and check), `failed` members with the reason."""

    archive: Archive
    history: list[dict[str, Any]]
    failed: dict[int, str]
    treedef: Any = dataclasses.field(repr=False)

    def state(self, point: Point) -> State:
        """The state of `point`, without its optimiser: for `Train.model`."""
        params, observed = jax.tree.unflatten(self.treedef, [jnp.asarray(leaf) for leaf in point.leaves])
        return State(params, observed, None, jnp.zeros(()), jnp.zeros(()), jnp.zeros((), jnp.int32))
