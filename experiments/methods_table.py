"""Fronts of the experiment `methods`: points of its runs, the front of each seed by each cost, and tables."""

import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hgqjax import export, synth
from hgqjax.files import write_atomically
from hgqjax.reports import seed_spread
from hgqjax.resources import WeightBits
from hgqjax.scores import AbstractScore
from hgqjax.training.front import hypervolume, pareto

COSTS = {"ebops": "EBOPs", "adder_cost": "adder-graph cost", "weight_bits": "bits per weight"}
"""What a point of a front costs: the column, and its name for people."""
COLUMNS = ("point", "seed", "epoch", "ebops", "luts_predicted", "val_score", "test_score", "adder_cost", "weight_bits", "model", "run")
KEPT = "hardware_costs.csv"
MOST_EBOPS = 3e5
"""Dearer networks are left out: those that allocating methods show before they allocate have 600 000."""

Fronts = dict[str, dict[int, pl.DataFrame]]
"""For each cost the front of each seed."""


def points(folder: Path) -> pl.DataFrame:
    """The points of a run that are compared: those of at most `MOST_EBOPS`."""
    found = pl.read_csv(folder / "summary.csv").filter(pl.col("ebops") <= MOST_EBOPS)
    return found.with_columns(model=pl.lit(f"{folder}/") + pl.col("model"), run=pl.lit(folder.name))


def measured(folder: Path) -> list[dict[str, Any]]:
    """The points of a run, with adder-graph cost and bits per weight, which are kept beside the run."""
    found = points(folder)
    schema = {"point": pl.String, "adder_cost": pl.Float64, "weight_bits": pl.Float64}
    if not (folder / KEPT).exists():
        costs = [{"point": point} | _costs(Path(path)) for point, path in zip(found["point"], found["model"], strict=True)]
        there = [row for row in costs if row["adder_cost"] is not None]
        write_atomically(folder / KEPT, pl.DataFrame(there, schema=schema).write_csv())
    kept = pl.read_csv(folder / KEPT, schema_overrides=schema)
    return found.join(kept, on="point").select(COLUMNS).to_dicts()


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


def synthesised(frame: pl.DataFrame, score: AbstractScore, budgets: Sequence[float], output: Path) -> str:
    """Markdown: of the first seed the network that each method has within each of `budgets` of adder-graph cost, with its LUTs by Yosys.

    Args:
      frame: the points of all methods, with their "label" and with "model", relative to `output`.
      output: where Yosys' results are kept, too, so that a second call finds them.
    """
    of_seed = frame.filter(pl.col("seed") == frame["seed"].min())
    chosen: dict[tuple[str, float], dict[str, Any]] = {}
    for label, own in of_seed.group_by("label", maintain_order=True):
        for front in fronts_of(own, score)["adder_cost"].values():
            for budget in budgets:
                if len(within := front.filter(pl.col("adder_cost") <= budget)):
                    chosen[str(label[0]), budget] = within.row(-1, named=True)
    sources = {_name(row): output / row["model"] for row in chosen.values()}
    sites = {found.point: found.lut_sites for found in synth.synthesize_many(sources, output, jobs=1)}
    lines = ["| within adder-graph cost | " + " | ".join(f"{b:,.0f} | its LUT sites".replace(",", " ") for b in budgets) + " |"]
    lines += ["|---|" + "---:|" * 2 * len(budgets)]
    for label in of_seed["label"].unique(maintain_order=True):
        rows = [chosen.get((label, budget)) for budget in budgets]
        cells = [f"{score.shown(row['test_score']):.2f} | {sites[_name(row)] or '-'}" if row else "- | -" for row in rows]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _name(row: dict[str, Any]) -> str:
    return f"{row['method']}_{row['run']}_{row['point']}"
