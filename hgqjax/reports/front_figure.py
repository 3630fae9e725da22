"""The figure `front`: scores of the frozen models over EBOPs and over predicted LUTs, and beside them what others have published."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hgqjax.reports import published as published_
from hgqjax.reports import style
from hgqjax.reports.reader import Point, RunView, require
from hgqjax.training.front import pareto

MARKERS = ("s", "^", "v", "P", "X")
DEPTH = 0.15
"""The axis of the front ends this far (of a share) below its best point at the latest; what lies lower is counted in a note."""
TIMES = 3.0
"""The axis of a score of which less is better ends at so many times the best one at the latest; what lies higher is counted in a note."""
CLOUD_POINTS = 20_000
NAME_GAP = 0.05
"""Points nearer than this share of the axis to one that has its name on it have none."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a panel has on its axis: a field of points and of published rows."""

    field: str
    unit: str
    label: str


COSTS = (Cost("ebops", "EBOPs", "effective bit operations (EBOPs)"), Cost("luts_predicted", "LUTs", "predicted LUTs"))


@dataclasses.dataclass(frozen=True)
class Series:
    """Points of one kind with their style. `group` is the title of the legend that names them, unless `label` is "". `titles` are shown
    where a pointer rests on them, one for each point or none at all."""

    group: str
    label: str
    x: np.ndarray
    y: np.ndarray
    style: dict[str, Any]
    titles: tuple[str, ...] = ()


def draw(run: RunView, others: Sequence[published_.Published]) -> style.Drawing:
    """A panel for each of `COSTS` that a point or a published row has, one axis of scores, the legends below."""
    panels = [(cost, list(series(run, others, cost))) for cost in COSTS]
    panels = [(cost, found) for cost, found in panels if any(len(s.x) for s in found)] or panels[:1]
    figure = style.figure(3.9)
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    bounds = _bounds(run, [s for _, found in panels for s in found])
    titles: dict[str, tuple[str, ...]] = {}
    for axes, (cost, found) in zip(row, panels, strict=True):
        _limits(axes, found, run, cost, bounds)
        for n, s in enumerate(found):
            titles |= _plot(axes, s, f"{cost.field}-{n}")
        _error_bars(axes, run, cost)
        _names(axes, run, cost)
        axes.set_xlabel(cost.label)
        axes.grid(True, which="major")
    row[0].set_ylabel(run.score_label)
    _legends(figure, [s for _, found in panels for s in found])
    return style.Drawing(figure, titles)


def series(run: RunView, others: Sequence[published_.Published], cost: Cost) -> Iterable[Series]:
    """All that stands in the panel of `cost`."""
    yield from _ours(run, cost)
    yield from _published(run, others, cost)


def cloud(run: RunView) -> np.ndarray:
    """(n, 2) cost and score of the validation rows of every check; finite ones of some cost, thinned out evenly to `CLOUD_POINTS`."""
    pl = require("polars")
    rows = run.metrics.filter(pl.col("split") == "val")
    cost, score = (rows.filter(pl.col("metric") == m).select("member", "step", pl.col("value").alias(m)) for m in ("cost", "score"))
    found = cost.join(score, on=["member", "step"]).sort("member", "step").select("cost", "score").to_numpy()
    found = found[np.isfinite(found).all(1) & (found[:, 0] > 0)]
    return found[:: -(-len(found) // CLOUD_POINTS) or 1]


def _ours(run: RunView, cost: Cost) -> Iterable[Series]:
    if run.cost_unit == cost.unit and len(points := cloud(run)):
        look: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 2.2, "markeredgewidth": 0, "zorder": 1}
        look |= {"color": style.CLOUD, "rasterized": True}
        label = f"this run, {run.dataset}, in training:\nvalidation rows, estimated {cost.unit}"
        yield Series("Measured by us", label, points[:, 0], run.score.shown(points[:, 1]), look)
    look = {"color": style.BLUE, "marker": "o", "markersize": 5.0, "zorder": 5, "linewidth": 1.2}
    look["linestyle"] = "-" if run.cost_unit == cost.unit else "none"  # a front of another cost is none of this one
    seeds = sorted({p.seed for p in run.points}) if run.each_seed else [None]
    for seed in seeds:
        points = sorted((p for p in run.points if seed in (None, p.seed)), key=lambda p: getattr(p, cost.field))
        if not points:
            continue
        x, y = np.array([(getattr(p, cost.field), run.score.shown(p.test_score)) for p in points]).T
        label = f"this run, {run.dataset}: test rows, frozen models{_shares(run)}" if seed in (None, seeds[0]) else ""
        yield Series("Measured by us", label, x, y, look, tuple(_title(run, p) for p in points))


def _title(run: RunView, p: Point) -> str:
    costs = f"{style.number(p.ebops)} EBOPs, {style.number(p.luts_predicted)} predicted LUTs"
    return f"{p.point}: test {run.score.cell(p.test_score, run.error(p))}{' ' + run.unit if run.unit else ''}, {costs}, seed {p.seed}"


def _shares(run: RunView) -> str:
    """A line of the legend for each further share that our points have: outliers, for instance."""
    lines = ""
    for name in run.score.shares:
        values = [100 * value for p in run.points if (value := p.found().get(name)) is not None]
        lines += f"\n{run.score.share_label(name, run.unit)}: {min(values):.2f} to {max(values):.2f} %" if values else ""
    return lines


def _published(run: RunView, others: Sequence[published_.Published], cost: Cost) -> Iterable[Series]:
    """One series for each method and data set among the results that name this cost."""
    others = [p for p in run.beside(others) if getattr(p, cost.field)]
    datasets = list(dict.fromkeys(p.dataset for p in others if p.kind != "released network"))
    methods = list(dict.fromkeys(p.name for p in others if p.kind != "released network"))
    colors = (style.INK, style.GREEN, style.PURPLE, style.ORANGE, style.SKY)
    keys = list(dict.fromkeys((p.kind == "released network", p.name, p.dataset) for p in others))
    diamonds = dict(zip((key for key in keys if key[0]), itertools.cycle("Ddph")))
    for key in keys:
        rows = [p for p in others if (p.kind == "released network", p.name, p.dataset) == key]
        rows.sort(key=lambda p: getattr(p, cost.field))
        released, name, dataset = key
        splits = ", ".join(dict.fromkeys(p.split for p in rows))
        marks = ", ".join(dict.fromkeys(p.source[: p.source.find("]") + 1] for p in rows))
        look = {"linestyle": "none", "zorder": 4, "markersize": 5.5, "color": style.VERMILLION, "markeredgewidth": 0}
        look["marker"] = diamonds.get(key)
        group, label = "Measured by us", f"released networks ({name}), {dataset}:\n{splits}"
        if not released:
            look |= {"marker": MARKERS[datasets.index(dataset) % 5], "color": colors[methods.index(name) % 5], "markersize": 5.0}
            look |= {"fillstyle": "none", "markeredgewidth": 1.1, "zorder": 3}
            group, label = "Published", f"{name}, {dataset}: {splits} rows {marks}"
        x, y = np.array([getattr(p, cost.field) for p in rows]), run.score.shown(np.array([p.score for p in rows]))
        titles = tuple(f"{name}: {p.shown} on {dataset} ({p.split}), {style.number(c)} {cost.unit}" for p, c in zip(rows, x, strict=True))
        yield Series(group, label, x, y, look, titles)


def _plot(axes: Any, s: Series, name: str) -> dict[str, tuple[str, ...]]:
    """The line, and the marks that lie within the axes, under `name` in the drawing; gives their titles."""
    if s.style["linestyle"] != "none":
        axes.plot(s.x, s.y, **(s.style | {"marker": ""}))
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    inside = np.flatnonzero((s.x >= left) & (s.x <= right) & (s.y >= low) & (s.y <= high))
    axes.plot(s.x[inside], s.y[inside], gid=name, **(s.style | {"linestyle": "none"}))
    return {name: tuple(s.titles[n] for n in inside)} if s.titles else {}


def _error_bars(axes: Any, run: RunView, cost: Cost) -> None:
    errors = [run.error(p) for p in run.points]
    if errors and None not in errors:
        x, y = [getattr(p, cost.field) for p in run.points], [run.score.shown(p.test_score) for p in run.points]
        axes.errorbar(
            x, y, [run.score.shown(error) for error in errors], fmt="none", ecolor=style.BLUE, elinewidth=0.9, capsize=1.8, zorder=5
        )


def _names(axes: Any, run: RunView, cost: Cost) -> None:
    """The names of our points above them, where there is room: the cheapest first."""
    (left, right), (low, high), last = axes.get_xlim(), axes.get_ylim(), -math.inf
    up = 4.5 if run.score.higher_is_better else -4.5
    for p in sorted(run.points, key=lambda p: getattr(p, cost.field)):
        x, y = getattr(p, cost.field), run.score.shown(p.test_score)
        if not (left <= x <= right and low <= y <= high):
            continue
        place = math.log(x / left) / math.log(right / left)
        if place - last >= NAME_GAP:
            last = place
            look = {"ha": "right", "va": "bottom" if up > 0 else "top", "fontsize": 6.5, "color": style.GREY}
            axes.annotate(p.point, (x, y), (-3.0, up), textcoords="offset points", **look)


def _bounds(run: RunView, found: Sequence[Series]) -> tuple[float, float]:
    """Lowest and highest score that are shown: of all that stands there with its errors but for what lies far off, as `DEPTH` says."""
    values = [s.y[s.x > 0] for s in found if "rasterized" not in s.style]
    score, bars = run.score, [(p, error) for p in run.points if p.ebops > 0 and (error := run.error(p)) is not None]
    values += [np.array([score.shown(p.test_score + side * error) for p, error in bars]) for side in (-1, 1)]
    if not run.points:
        values += [s.y[pareto(score.merit(s.y).tolist(), s.x.tolist())] for s in found if "rasterized" in s.style]
    y = np.concatenate([*values, np.empty(0)])
    y = y[np.isfinite(y)]
    if not len(y):
        return 0.0, 1.0
    best = score.shown(max((p.test_score for p in run.points), key=score.merit, default=math.nan))  # is in sight, whatever stands beside it
    if score.higher_is_better:
        low, high = float(np.fmin(max(y.min(), y.max() - score.shown(DEPTH)), best)), float(y.max())
    else:
        low, high = float(y.min()), float(np.fmax(min(y.max(), y.min() * TIMES), best))
    return low, high


def _limits(axes: Any, found: Sequence[Series], run: RunView, cost: Cost, bounds: tuple[float, float]) -> None:
    """Limits that hold the points with their errors, not the whole cloud (without points: its front); says how many of ours are outside."""
    (low, high), ticker = bounds, require("matplotlib.ticker")
    margin = 0.06 * (high - low) or (run.score.shown(0.005) if run.score.higher_is_better else 0.06 * abs(high) or 0.5)
    axes.set_ylim(low - margin, high + margin)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: style.number(v)))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    held = [s.x for s in found if "rasterized" not in s.style]
    if not run.points:
        held += [s.x[pareto(run.score.merit(s.y).tolist(), s.x.tolist())] for s in found if "rasterized" in s.style]
    x = np.concatenate([*held, np.empty(0)])
    x = x[x > 0]
    if len(x):
        axes.set_xlim(x.min() / 1.3, x.max() * 1.3)
        ratio = x.max() / x.min()
        if ratio < 4:  # where a logarithmic locator falls back to many ticks, whose numbers run into each other
            axes.xaxis.set_major_locator(ticker.MaxNLocator(4, steps=[1, 2, 5, 10]))
        elif ratio < 300:
            axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0) if ratio < 40 else (1.0, 3.0)))
    out = sum(not (getattr(p, cost.field) > 0 and low <= run.score.shown(p.test_score) <= high) for p in run.points)
    if out:
        side, place = ("below", {"y": 0.02, "va": "baseline"}) if run.score.higher_is_better else ("above", {"y": 0.98, "va": "top"})
        text = f"{out} of our points {side} the axes"
        axes.text(0.99, s=text, transform=axes.transAxes, ha="right", color=style.BLUE, fontsize=7.5, **place)


def _legends(figure: Any, found: Sequence[Series]) -> None:
    """One legend a group, side by side under the axes; a note says what a mark of the sources means."""
    line = require("matplotlib.lines").Line2D
    blank, named = line([], [], linestyle="none"), {s.label: s for s in found if s.label}
    handles = {label: line([], [], **{k: v for k, v in s.style.items() if k != "rasterized"}) for label, s in named.items()}
    columns = {
        group: [(handles[label], label) for label, s in named.items() if s.group == group] for group in ("Measured by us", "Published")
    }
    if any("[AE]" in label for _, label in columns["Published"]):
        columns["Published"].append((blank, "[AE]: in the names of the authors' checkpoints"))
    lines = {group: sum(1 + label.count("\n") for _, label in entries) for group, entries in columns.items()}
    if not columns["Published"]:  # nothing to stand beside
        entries = columns["Measured by us"]
        figure.legend(*zip(*entries, strict=True), loc="outside lower center", ncols=2) if entries else None
        return
    for (group, entries), place in zip(columns.items(), ("outside lower left", "outside lower right"), strict=True):
        if entries:
            entries += [(blank, " ")] * (max(lines.values()) - lines[group])  # so that the titles stand side by side
            legend = figure.legend(*zip(*entries, strict=True), loc=place, alignment="left", title=group)
            legend.get_title().set(fontweight="bold", fontsize=style.STYLE["legend.fontsize"])
