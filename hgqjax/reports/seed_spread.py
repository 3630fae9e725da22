"""What the seed changes: the front of each seed of a run, from its validation rows."""

import math
import statistics
from collections.abc import Sequence

from hgqjax.reports.reader import RunView, require
from hgqjax.training.front import pareto


def spread(values: Sequence[float]) -> float:
    """Standard deviation of the sample, with n - 1; NaN of fewer than two values.

    >>> spread([1.0, 3.0]) == 2**0.5
    True
    """
    return statistics.stdev(values) if len(values) > 1 else math.nan


def seed_fronts(run: RunView) -> dict[int, tuple[list[float], list[float]]]:
    """Scores and costs of the front of each seed, by rising cost: validation rows and estimated costs of all its checks.

    summary.csv, unless the sweep has `each_seed`, has the front of all seeds together, in which a seed that another one dominates has no
    point; so the checks of metrics.parquet are taken. Empty for a run that has none.
    """
    pl = require("polars")
    rows = run.metrics.filter(pl.col("split") == "val")
    score, cost = (rows.filter(pl.col("metric") == m).select("member", "seed", "step", pl.col("value").alias(m)) for m in ("score", "cost"))
    checks = score.join(cost, on=["member", "seed", "step"]).filter(pl.col("score").is_finite() & pl.col("cost").is_finite())
    fronts = {}
    for seed in sorted(checks["seed"].unique().to_list()):
        scores, costs = (checks.filter(pl.col("seed") == seed)[name].to_list() for name in ("score", "cost"))
        kept = pareto([run.score.merit(score) for score in scores], costs)
        fronts[seed] = [scores[n] for n in kept], [costs[n] for n in kept]
    return fronts


def best_of_each(fronts: dict[int, tuple[list[float], list[float]]], budget: float) -> list[float]:
    """The best score at a cost of `budget` or less, of each seed that has one.

    >>> best_of_each({0: ([0.7, 0.8], [10.0, 20.0]), 1: ([0.6], [30.0])}, 25.0)
    [0.8]
    """
    within = ([score for score, cost in zip(*front, strict=True) if cost <= budget] for front in fronts.values())
    return [scores[-1] for scores in within if scores]  # of a front by rising cost the last one is the best
