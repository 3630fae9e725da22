"""Which points of a sweep are frozen and kept, and what is said of a penalty that has none."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from hgqjax import training
from hgqjax.runs import jobs
from hgqjax.runs.reference import near
from hgqjax.scores import AbstractScore


def to_freeze(context: jobs.RunContext, sweep: training.SweepResult, reference: dict[str, Any]) -> list[training.Point]:
    """Points to freeze, with members numbered within the whole sweep: of one front of all, or of one for each seed.

    Each penalty (beta, or cost to reach) that has a point of the front has one here, if `points` has room; beyond `points` come those that
    are near an `accuracy_drop` below the `reference`, where there is one.
    """
    config = context.config
    members, seeds = config.members()
    asked = members.budget if config.points_at else members.beta
    archives = [sweep.archive]
    if config.each_seed:
        archives = [_front([p for p in context.points() if seeds[p.member] == seed]) for seed in config.seeds]
    found: dict[tuple[int, int], training.Point] = {}
    for archive in archives:
        if archive.points:  # none of a seed that diverged
            points = archive.select(config.points, config.within, kind=lambda p: float(asked[p.member]))
            found |= {(p.member, p.check): p for p in [*points, *(near(archive, config, reference) if reference else ())]}
    return list(found.values())


def _front(points: list[training.Point]) -> training.Archive:
    archive = training.Archive()
    archive.add(points)
    return archive


def kept(table: Sequence[dict[str, Any]], score: AbstractScore, each_seed: bool) -> list[int]:
    """Rows that no other dominates by exact cost and validation score, of those of the same seed or of all; by seed, then by cost."""
    of_seeds = sorted({row["seed"] for row in table}) if each_seed else [None]
    numbers = []
    for seed in of_seeds:
        own = [n for n, row in enumerate(table) if seed in (None, row["seed"])]
        numbers += [own[n] for n in training.pareto([score.merit(table[n]["val_score"]) for n in own], [table[n]["cost"] for n in own])]
    return numbers


def missing(
    config: Any, sweep: training.SweepResult, frozen: Sequence[dict[str, Any]], summary: Sequence[dict[str, Any]], rows: int, unit: str
) -> Iterator[str]:
    """A line for each penalty that has no row in `summary`: which point is better than its network, and by how much.

    Its network is its best frozen one, with its exact cost, else the one that it ended with, with the cost that training estimates.

    Args:
      config: the `Sweep`. frozen: rows of all points that were frozen. summary: those that were kept, with `point`. rows: validation rows.
      unit: of y.
    """
    members, _ = config.members()
    name, asked, of = "beta", members.beta, ""
    if config.points_at:
        name, asked, of = "cost to reach", members.budget, config.train.objective.cost.unit
    values = [training.decimal(value) for value in asked]
    ends = [row for row in sweep.history if row["check"] == config.checks - 1 and row["member"] not in sweep.failed]
    for value in dict.fromkeys(values):
        if any(values[row["member"]] == value for row in summary):
            continue
        for cost, found in (("cost", frozen), ("cost_estimate", ends)):
            own = [row for row in found if values[row["member"]] == value]
            if own:
                last = max(own, key=lambda row: config.train.objective.score.merit(row["val_score"]))
                yield f"{name} {value:g} {of}".rstrip() + f" has no point: {_why(config, last, summary, cost, rows, unit)}"
                break  # of a value whose members all diverged, that is said of each


def _why(config: Any, last: dict[str, Any], summary: Sequence[dict[str, Any]], cost: str, rows: int, unit: str) -> str:
    """Why the network `last` is not in `summary`, whose rows have the cost to compare under `cost`."""
    score = config.train.objective.score

    def merit(row: dict[str, Any]) -> float:
        return score.merit(row["val_score"])

    def words(row: dict[str, Any], cost: str) -> str:
        return f"validation {score.name} {score.number(row['val_score'], unit)} at {row[cost]:.4g} {config.train.objective.cost.unit}"

    said = f"its network, {words(last, 'cost')},"
    better = [row for row in summary if merit(row) >= merit(last) and row[cost] <= last["cost"]]
    if better:
        other = max(better, key=merit)
        error = score.error({"score": other["val_score"], "error": other.get("val_error")}, rows)
        of = score.unit_of_differences(unit) if score.unit_of(unit) else ""
        gain = f"{score.shown(merit(other) - merit(last)):.{score.digits}f} {of}".rstrip() + " better"
        gain += "" if error is None else f" (+-{score.shown(error):.{score.digits}f})"
        share = f"{other[cost] / last['cost']:.0%} of the cost" if last["cost"] else "the same cost"
        return f"{said} is dominated by {other['point']}, {words(other, cost)}: {gain}, {share}"
    if merit(last) < max(map(merit, summary), default=-math.inf) - config.within:
        return f"{said} is more than {config.within:g} below the best (--within)"
    return f"{said} is not among the {config.points} points that were asked for (--points)"
