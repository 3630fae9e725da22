"""Fronts of the experiment `methods`: points of its runs, the front of each seed by each cost, tables and the figure."""

import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hgqjax import export
from hgqjax.files import write_atomically
from hgqjax.reports import seed_spread
from hgqjax.resources import WeightBits
from hgqjax.scores import AbstractScore
from hgqjax.training.front import hypervolume, pareto

COSTS = {"ebops": "EBOPs", "adder_cost": "adder-graph cost", "weight_bits": "bits per weight"}
"""What a point of a front costs: the column, and its name for people."""
COLUMNS = ("point", "seed", "epoch", "ebops", "luts_predicted", "val_score", "test_score", "adder_cost", "weight_bits")
KEPT = "hardware_costs.csv"

Fronts = dict[str, dict[int, pl.DataFrame]]
"""For each cost the front of each seed."""


def measured(folder: Path) -> list[dict[str, Any]]:
    """The points of a run, with adder-graph cost and bits per weight, which are kept beside the run."""
    found = pl.read_csv(folder / "summary.csv")
    schema = {"point": pl.String, "adder_cost": pl.Float64, "weight_bits": pl.Float64}
    if not (folder / KEPT).exists():
        costs = [{"point": point} | _costs(folder / path) for point, path in zip(found["point"], found["model"], strict=True)]
        there = [row for row in costs if row["adder_cost"] is not None]
        write_atomically(folder / KEPT, pl.DataFrame(there, schema=schema).write_csv())
    kept = pl.read_csv(folder / KEPT, schema_overrides=schema)
    return found.join(kept, on="point").select(COLUMNS).with_columns(run=pl.lit(folder.name)).to_dicts()


def _costs(model: Path) -> dict[str, float | None]:
    """Of a saved network; None of one that collapsed to a constant, which has no hardware."""
    description = export.ModelDescription.load(model)
    try:
        adders = float(export.adder_graph(description, max_cost=math.inf).cost)
    except export.ExportError:
        return {"adder_cost": None, "weight_bits": None}
    return {"adder_cost": adders, "weight_bits": float(WeightBits()(description).total)}


def fronts_of(frame: pl.DataFrame, score: AbstractScore) -> Fronts:
    """For each cost the front of each seed, by validation score and rising cost."""
    of_seeds = [(seed, frame.filter(pl.col("seed") == seed)) for seed in sorted(frame["seed"].unique())]
    return {
        cost: {seed: own[pareto(score.merit(own["val_score"]).to_list(), own[cost].to_list())] for seed, own in of_seeds} for cost in COSTS
    }


def best_rate(found: dict[float, list[dict[str, Any]]], score: AbstractScore) -> float:
    """The learning rate whose front of validation rows has the greatest hypervolume over the logarithm of EBOPs; the lowest of equals.

    The reference point is the least merit and twice the greatest EBOPs of all of them.
    """
    points = {
        rate: [
            (float(score.merit(row["val_score"])), math.log10(max(row["ebops"], 1.0))) for row in rows if math.isfinite(row["val_score"])
        ]
        for rate, rows in found.items()
    }
    every = list(itertools.chain(*points.values()))
    if not every:
        raise ValueError("no learning rate gave a network with a finite score")
    merit, cost = min(m for m, _ in every), max(c for _, c in every) + math.log10(2)

    def area(rate: float) -> float:
        return hypervolume([m for m, _ in points[rate]], [c for _, c in points[rate]], merit, cost)

    return max(sorted(points), key=area)


def at(front: pl.DataFrame, cost: str, budget: float) -> float | None:
    """Test score of the point that the validation rows choose within a budget."""
    within = front.filter(pl.col(cost) <= budget)  # of a front by rising cost the last one is the best
    return within["test_score"][-1] if len(within) else None


def budgets(fronts: Iterable[Fronts], cost: str) -> list[float]:
    """Numbers 1, 2 or 5 times a power of ten, from the least to the greatest that any front has; whole bits of weights."""
    values = [v for of_costs in fronts for front in of_costs[cost].values() for v in front[cost]]
    if cost == "weight_bits":
        return [float(n) for n in range(math.ceil(min(values)), math.ceil(max(values)) + 1)]
    low, high = math.floor(math.log10(max(min(values), 1.0))), math.ceil(math.log10(max(values)))
    every = [m * 10.0**n for n in range(low, high + 1) for m in (1, 2, 5)]
    return [b for b in every if min(values) <= b <= 2 * max(values)]


def table(fronts: dict[str, Fronts], score: AbstractScore, seeds: int) -> str:
    """Markdown: the score of each method, by its label, at round costs; mean and standard deviation over the seeds."""
    lines: list[str] = []
    for cost, name in COSTS.items():
        columns = budgets(fronts.values(), cost)
        lines += ["", f"| within {name} | " + " | ".join(f"{b:,.0f}".replace(",", " ") for b in columns) + " |"]
        lines += ["|---|" + "---:|" * len(columns)]
        for label, of_costs in fronts.items():
            cells = (_cell([at(front, cost, budget) for front in of_costs[cost].values()], score, seeds) for budget in columns)
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines[1:]) + "\n"


def _cell(found: Sequence[float | None], score: AbstractScore, seeds: int) -> str:
    """Mean and standard deviation over the seeds, of which none may be without a point."""
    there = [value for value in found if value is not None]
    if len(there) < seeds:
        return "-"
    return f"{score.shown(np.mean(there)):.2f} ± {score.shown(seed_spread.spread(there)):.2f}"


def draw(fronts: dict[str, Fronts], score: AbstractScore, label: str, path: Path) -> None:
    """The fronts: mean over the seeds as a line, least to greatest as a band; points of the seeds as dots."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(COSTS), figsize=(15, 5.2), sharey=True, layout="constrained")
    colors = plt.colormaps["tab20"](range(20))
    for axes, (cost, name) in zip(panels, COSTS.items(), strict=True):
        for (method, of_costs), color in zip(fronts.items(), itertools.cycle(colors), strict=False):
            of_seeds = of_costs[cost].values()
            costs = np.unique(np.concatenate([front[cost].to_numpy() for front in of_seeds]))
            lines = np.array([[at(f, cost, c) if f[cost].min() <= c else np.nan for c in costs] for f in of_seeds], float)
            there = ~np.isnan(lines).any(axis=0)
            shown = score.shown(lines[:, there])
            axes.step(costs[there], shown.mean(axis=0), where="post", color=color, label=method)
            axes.fill_between(costs[there], shown.min(axis=0), shown.max(axis=0), step="post", color=color, alpha=0.15, linewidth=0)
            for front in of_seeds:
                axes.plot(front[cost], score.shown(front["test_score"]), ".", color=color, markersize=3)
        if cost != "weight_bits":
            axes.set_xscale("log")
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"test {label}")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)
