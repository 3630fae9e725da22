"""Figures of the experiment `methods`: for each cost one, in which each method has a panel beside HGQ."""

import math
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib import ticker
from matplotlib.axes import Axes

from experiments.methods_table import COSTS, Fronts, at
from hgqjax.scores import AbstractScore

matplotlib.use("Agg")
ACROSS = 4
"""Panels of a row."""


def draw(fronts: dict[str, Fronts], score: AbstractScore, label: str, folder: Path) -> list[Path]:
    """methods_<cost>.png in `folder`: of each front the mean over the seeds as a line, least to greatest as a band, seeds as dots.

    The first of `fronts` is in every panel, in grey.
    """
    (first, reference), *others = fronts.items()
    paths = []
    for cost, name in COSTS.items():
        rows = max(1, math.ceil(len(others) / ACROSS))
        figure, panels = plt.subplots(
            rows, ACROSS, figsize=(3.4 * ACROSS, 2.5 * rows), sharex=True, sharey=True, squeeze=False, layout="constrained"
        )
        for axes, (method, own) in zip(panels.flat, others or [(first, reference)], strict=False):
            front(axes, reference[cost], cost, score, "0.45")
            if others:
                front(axes, own[cost], cost, score, "C0")
            axes.set_title(method, fontsize=9)
            axes.grid(alpha=0.3)
        for axes in panels.flat[max(0, len(others) - ACROSS) : len(others)]:
            axes.tick_params(labelbottom=True)  # the lowest of its column
        for axes in panels.flat[max(1, len(others)) :]:
            axes.set_visible(False)
        if cost != "weight_bits":
            axis = panels.flat[0].xaxis
            panels.flat[0].set_xscale("log")
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ticker.EngFormatter(sep=""))  # 20k
            axis.set_minor_formatter(ticker.NullFormatter())
        figure.supxlabel(f"{name} (grey: {first})", fontsize=10)
        figure.supylabel(f"test {label}", fontsize=10)
        paths.append(folder / f"methods_{cost}.png")
        figure.savefig(paths[-1], dpi=110)
        plt.close(figure)
    return paths


def front(
    axes: Axes, of_seeds: dict[int, pl.DataFrame], cost: str, score: AbstractScore, color: str, *, label: str = "", style: str = "-"
) -> None:
    """The front of each seed as dots, their mean as a line, least to greatest as a band."""
    costs = np.unique(np.concatenate([front[cost].to_numpy() for front in of_seeds.values()]))
    found = [[at(front, cost, c) for c in costs] for front in of_seeds.values()]
    lines = np.array([[math.nan if value is None else value for value in line] for line in found], float)
    there = ~np.isnan(lines).any(axis=0)
    shown = score.shown(lines[:, there])
    axes.step(costs[there], shown.mean(axis=0), style, where="post", color=color, label=label or None)
    axes.fill_between(costs[there], shown.min(axis=0), shown.max(axis=0), step="post", color=color, alpha=0.2, linewidth=0)
    for front in of_seeds.values():
        axes.plot(front[cost], score.shown(front["test_score"]), ".", color=color, markersize=3)
