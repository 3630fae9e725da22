"""The figure `test`: what a model gets right and wrong on the test rows: confusion matrix and ROC curves, or histograms of residuals."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hgqjax.reports import style
from hgqjax.reports.reader import Point, ReportError, RunView, require

COLORS = (style.BLUE, style.VERMILLION, style.GREEN, style.ORANGE, style.PURPLE, style.SKY, style.INK)
ON_PALE, ON_DARK = "#262626", "#fefefe"
"""Ink of numbers in pale and in dark cells: no colour that the page exchanges where it is dark, as the cells stay as they are."""
LEAST = 1e-4
"""Where the axis of the background of a ROC curve begins."""
NAMED = 12
"""Of so many classes, at most, the confusion matrix has numbers in its cells."""


def best_drawn(run: RunView, points: Sequence[Point]) -> Point | None:
    """The one of `points` that is best on the validation rows, of those for which there is something to draw."""
    having = [p for p in points if run.curves(p)]
    return max(having, key=lambda p: run.score.merit(p.val_score), default=None)


def draw(run: RunView, point: Point) -> Any:
    """The figure of one point. Raises: ReportError where what was kept of its test rows is not sound."""
    found = run.curves(point)
    counted = "weight" if found.get("weighted") else "rows"
    try:
        parts: list[Callable[[Any], None]] = []
        if "confusion" in found:
            parts.append(lambda axes: _confusion(axes, np.array(found["confusion"], np.float64), found["classes"], counted))
        if "roc" in found:
            parts.append(lambda axes: _roc(axes, found["roc"]))
        parts += [lambda axes, bars=bars: _residuals(axes, bars, run, counted) for bars in found.get("residuals", [])]
        columns = min(len(parts), 3)
        rows = -(-len(parts) // max(columns, 1))
        figure = style.figure(3.3 * rows)
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for part, axes in zip(parts, panels, strict=False):
            part(axes)
        for axes in panels[len(parts) :]:
            axes.set_axis_off()
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ReportError(f"what was kept of the test rows of point {point.point} cannot be drawn: {error!r}") from error
    score = ", ".join([f"{run.score.name} {run.in_words(point.test_score)}", *run.score.share_texts(point.found("test"))])
    figure.suptitle(f"{point.point} on the test rows of {run.dataset}: {score}", fontsize=8.5)
    return figure


def _confusion(axes: Any, table: np.ndarray, classes: list[str], counted: str) -> None:
    """Percent of the rows (or of their weight) of each class that are taken for each."""
    share = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1e-300)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    names = classes if len(classes) == len(table) else [str(n) for n in range(len(table))]
    for place, setter in (("taken for", axes.set_xlabel), ("class", axes.set_ylabel)):
        setter(place)
    axes.set_xticks(range(len(names)), names, rotation=45 if max(map(len, names)) > 3 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.spines[:].set_visible(True)
    if len(table) <= NAMED:
        for row in range(len(table)):
            for column in range(len(table)):
                color = ON_DARK if share[row, column] > 60 else ON_PALE
                axes.text(column, row, f"{share[row, column]:.1f}", ha="center", va="center", color=color, fontsize=7)
    axes.set_title(f"% of the {counted} of each class")


def _roc(axes: Any, curves: list[dict[str, Any]]) -> None:
    for n, curve in enumerate(curves):
        background, signal = (np.array(curve[name], np.float64) for name in ("background", "signal"))
        shown = background > 0
        x, y = np.append(LEAST, background[shown]), np.append(signal[~shown].max(initial=0.0), signal[shown])
        axes.step(x, y, where="post", color=COLORS[n % len(COLORS)], linewidth=1.2, label=str(curve["name"]))
    axes.set_xscale("log")
    axes.set_xlim(LEAST, 1)
    axes.set_ylim(0, 1.02)
    formatter = require("matplotlib.ticker").FuncFormatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_major_formatter(formatter)
    axes.set_xlabel("share of the background that passes")
    axes.set_ylabel("share of the signal that passes")
    axes.grid(True)
    axes.set_title("ROC" if len(curves) == 1 else "ROC of each")
    if 1 < len(curves) <= NAMED:
        axes.legend(loc="lower right")


def _residuals(axes: Any, bars: dict[str, Any], run: RunView, counted: str) -> None:
    edges, counts = np.array(bars["edges"], np.float64), np.array(bars["counts"], np.float64)
    axes.stairs(counts, edges, fill=True, color=COLORS[0], alpha=0.85)
    if counts.max(initial=0.0) > 30:  # the tails are what hurts
        axes.set_yscale("log")
        ticker = require("matplotlib.ticker")
        axes.yaxis.set_major_formatter(ticker.LogFormatter())  # without mathematics, which figures leave out
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_xlabel(f"residual of {bars['name']}" + (f" ({run.unit})" if run.unit else ""))
    axes.set_ylabel(counted)
    total = counts.sum() + bars["outside"]
    outside = f"{100 * bars['outside'] / total:.2f} % outside" if total else ""
    axes.set_title(outside, loc="right", fontsize=7.5)  # above the bars, which may reach into every corner
    axes.grid(True)
