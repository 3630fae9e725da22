"""Figures of a run folder: `front`, `widths`, `training`, each as PNG (150 dpi), SVG and PDF in ``<run>/figures``.

Drawn for a page 7 inches wide, in the palette of Okabe and Ito, which colour-blind people can read. No pyplot and no display.
"""

import dataclasses
import functools
import io
import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Linear, Quantize
from hgqjax.files import write_atomically
from hgqjax.reports import markup, test_rows
from hgqjax.reports import published as published_
from hgqjax.reports.reader import Point, ReportError, RunView, read, require
from hgqjax.training.front import pareto

Format = Literal["png", "svg", "pdf"]
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
INK, GREY, CLOUD = "#333333", "#8C8C8C", "#C4C4C4"
MARKERS = ("s", "^", "v", "P", "X")
STYLE = {
    "font.size": 8.5,
    "font.family": "DejaVu Sans",
    "axes.linewidth": 0.7,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8.5,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "hgqjax",
    "pdf.fonttype": 42,
    "text.parse_math": False,  # names of files and classes may have a $
}
WIDTH = 7.0
DEPTH = 0.15
"""The axis of the front ends this far (of a share) below its best point at the latest; what lies lower is counted in a note."""
TIMES = 3.0
"""The axis of a score of which less is better ends at so many times the best one at the latest; what lies higher is counted in a note."""
_number = functools.partial(markup.whole, gap="\u2009")  # a thin space
LINE_POINTS, CLOUD_POINTS, PANELS = 1000, 20_000, 5


def draw(
    run_folder: Path,
    published: str | None = "auto",
    points: Sequence[str] | None = None,
    formats: Sequence[Format] = get_args(Format),
) -> list[Path]:
    """Draws what the run has so far into ``<run>/figures``, over older files: `front` (test accuracy and exact EBOPs of the frozen
    models), `widths` (how many weights and activations have how many bits), `training` (loss, score, EBOPs, beta by epoch), `test`
    (confusion matrix and ROC curves, or histograms of residuals, of the model that is best on the validation rows).

    Args:
      run_folder: with manifest.json, metrics.parquet, summary.csv and models, as `hgqjax.runs.folders` writes them; a run need not be done.
      published: whose results stand beside ours (`hgqjax.reports.published.NAMES`); "auto": those that fit the data set; None: no one's.
      points: names of the points in `widths`; by default the cheapest, the middle and the dearest.
      formats: of the files.

    Returns: the files written.
    Raises: ReportError for a folder that is no sound run, one with nothing to draw yet, or an unknown point; ImportError without
      matplotlib or polars; ValueError for an unknown `published`.
    """
    matplotlib = require("matplotlib")
    run = read(run_folder)
    name = published_.name_for(run.dataset) if published == "auto" else published
    others = published_.read(name) if name is not None else []
    chosen = _chosen(run, points)
    if not run.points and run.metrics.is_empty():
        raise ReportError(f"{run_folder} has neither metrics nor points to draw yet")
    files: list[Path] = []
    with matplotlib.rc_context(STYLE):
        figures = {"front": _front(run, others)}
        if chosen:
            figures["widths"] = _widths(run, chosen)
        if not run.metrics.is_empty():
            figures["training"] = _training(run)
        if best := test_rows.best_drawn(run):
            figures["test"] = test_rows.draw(run, best)
        for stem, figure in figures.items():
            files += _write(figure, run.folder / "figures", stem, formats)
    return files


def _write(figure: Any, folder: Path, stem: str, formats: Sequence[Format]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout stays as it is, and is not worked out again for each format
    files = []
    for kind in formats:
        buffer = io.BytesIO()
        stamp = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
        figure.savefig(buffer, format=kind, dpi=150, metadata=stamp)
        write_atomically(folder / f"{stem}.{kind}", buffer.getvalue())
        files.append(folder / f"{stem}.{kind}")
    return files


def _figure(height: float) -> Any:
    return require("matplotlib.figure").Figure(figsize=(WIDTH, height), layout="constrained")


# front


@dataclasses.dataclass(frozen=True)
class _Series:
    """Points of one kind with their style; `group` is the title of the legend that names them, unless `label` is ""."""

    group: str
    label: str
    x: np.ndarray
    y: np.ndarray
    style: dict[str, Any]


def _front(run: RunView, others: Sequence[published_.Published]) -> Any:
    figure = _figure(4.9)
    axes = figure.add_subplot()
    series = [*_ours(run), *_published_series(run, others)]
    for s in series:
        axes.plot(s.x, s.y, label=s.label, **s.style)
    _error_bars(axes, run)
    ticker = require("matplotlib.ticker")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: _number(v)))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    _front_limits(axes, series, run)
    axes.set_xlabel("effective bit operations per inference (EBOPs)")
    axes.set_ylabel(run.score_label)
    axes.grid(True, which="major")
    _front_legends(figure, axes, series)
    return figure


def _ours(run: RunView) -> Iterable[_Series]:
    cloud = _cloud(run)
    if len(cloud) and run.cost_unit == "EBOPs":
        style: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 2.2, "markeredgewidth": 0, "zorder": 1}
        style |= {"color": CLOUD, "rasterized": True}
        label = f"this run, {run.dataset}, in training:\nvalidation rows, estimated EBOPs"
        yield _Series("Measured by us", label, cloud[:, 0], run.score.shown(cloud[:, 1]), style)
    style = {"color": BLUE, "marker": "o", "markersize": 5.5, "zorder": 5, "linewidth": 1.2}
    style["linestyle"] = "-" if run.cost_unit == "EBOPs" else "none"  # a front of another cost is none of EBOPs
    seeds = sorted({p.seed for p in run.points}) if run.each_seed else [None]
    for seed in seeds if run.points else ():
        x, y = np.array([(p.ebops, run.score.shown(p.test_score)) for p in run.points if seed in (None, p.seed)]).T
        label = f"this run, {run.dataset}: test rows, exact EBOPs{_shares(run)}" if seed in (None, seeds[0]) else ""
        yield _Series("Measured by us", label, x, y, style)


def _shares(run: RunView) -> str:
    """A line of the legend for each further share that our points have: outliers, for instance."""
    lines = ""
    for name in run.score.shares:
        values = [100 * value for p in run.points if (value := p.found().get(name)) is not None]
        lines += f"\n{run.score.share_label(name, run.unit)}: {min(values):.2f} to {max(values):.2f} %" if values else ""
    return lines


def _cloud(run: RunView) -> np.ndarray:
    """(n, 2) EBOPs and score of the validation rows of every check; finite ones with EBOPs, thinned out evenly to `CLOUD_POINTS`."""
    pl = require("polars")
    rows = run.metrics.filter(pl.col("split") == "val")
    cost, score = (rows.filter(pl.col("metric") == m).select("member", "step", pl.col("value").alias(m)) for m in ("cost", "score"))
    cloud = cost.join(score, on=["member", "step"]).sort("member", "step").select("cost", "score").to_numpy()
    cloud = cloud[np.isfinite(cloud).all(1) & (cloud[:, 0] > 0)]
    return cloud[:: -(-len(cloud) // CLOUD_POINTS) or 1]


def _published_series(run: RunView, others: Sequence[published_.Published]) -> Iterable[_Series]:
    """One series for each method and data set among the results that name their EBOPs."""
    others = [p for p in run.beside(others) if p.ebops]
    datasets = list(dict.fromkeys(p.dataset for p in others if p.kind != "released network"))
    methods = list(dict.fromkeys(p.name for p in others if p.kind != "released network"))
    colors = (INK, GREEN, PURPLE, ORANGE, SKY)
    keys = list(dict.fromkeys((p.kind == "released network", p.name, p.dataset) for p in others))
    diamonds = dict(zip((key for key in keys if key[0]), itertools.cycle("Ddph")))
    for key in keys:
        rows = sorted((p for p in others if (p.kind == "released network", p.name, p.dataset) == key), key=lambda p: p.ebops or 0.0)
        released, name, dataset = key
        splits = ", ".join(dict.fromkeys(p.split for p in rows))
        marks = ", ".join(dict.fromkeys(p.source[: p.source.find("]") + 1] for p in rows))
        style = {"linestyle": "none", "zorder": 4, "markersize": 6.0, "color": VERMILLION, "markeredgewidth": 0}
        style["marker"] = diamonds.get(key)
        group, label = "Measured by us", f"released networks ({name}), {dataset}:\n{splits}"
        if not released:
            style |= {"marker": MARKERS[datasets.index(dataset) % 5], "color": colors[methods.index(name) % 5], "markersize": 5.0}
            style |= {"fillstyle": "none", "markeredgewidth": 1.1, "zorder": 3}
            group, label = "Published", f"{name}, {dataset}: {splits} rows {marks}"
        yield _Series(group, label, np.array([p.ebops for p in rows]), run.score.shown(np.array([p.score for p in rows])), style)


def _error_bars(axes: Any, run: RunView) -> None:
    errors = [run.error(p) for p in run.points]
    if errors and None not in errors:
        x, y = [p.ebops for p in run.points], [run.score.shown(p.test_score) for p in run.points]
        axes.errorbar(x, y, [run.score.shown(error) for error in errors], fmt="none", ecolor=BLUE, elinewidth=0.9, capsize=1.8, zorder=5)


def _front_limits(axes: Any, series: Sequence[_Series], run: RunView) -> None:
    """Limits that hold the points with their errors, not the whole cloud (without points: its front); says how many of ours are outside."""
    held = [np.stack([s.x, s.y]) for s in series if "rasterized" not in s.style]
    score, bars = run.score, [(p, error) for p in run.points if (error := run.error(p)) is not None]
    held += [np.array([(p.ebops, score.shown(p.test_score + side * error)) for p, error in bars]).T for side in (-1, 1) if bars]
    if not run.points:
        held += [np.stack([s.x, s.y])[:, pareto(score.merit(s.y).tolist(), s.x.tolist())] for s in series if "rasterized" in s.style]
    x, y = np.concatenate(held, axis=1) if held else np.ones((2, 1))
    x, y = x[(x > 0) & np.isfinite(y)], y[(x > 0) & np.isfinite(y)]
    if not len(x):
        return
    axes.set_xlim(x.min() / 1.3, x.max() * 1.3)
    best = score.shown(max((p.test_score for p in run.points), key=score.merit, default=math.nan))  # is in sight, whatever stands beside it
    if score.higher_is_better:
        depth = score.shown(DEPTH)
        low, high, side, place = float(np.fmin(max(y.min(), y.max() - depth), best)), y.max(), "below", {"y": 0.02, "va": "baseline"}
    else:
        low, high, side, place = y.min(), float(np.fmax(min(y.max(), y.min() * TIMES), best)), "above", {"y": 0.98, "va": "top"}
    margin = 0.06 * (high - low) or (score.shown(0.005) if score.higher_is_better else 0.06 * abs(high) or 0.5)
    axes.set_ylim(low - margin, high + margin)
    out = sum(not (p.ebops > 0 and low <= score.shown(p.test_score) <= high) for p in run.points)
    if out:
        text = f"{out} of our points {side} the axes"
        axes.text(0.99, s=text, transform=axes.transAxes, ha="right", color=BLUE, fontsize=7.5, **place)
    if x.max() / x.min() < 300:
        axes.xaxis.set_major_locator(require("matplotlib.ticker").LogLocator(subs=(1.0, 2.0, 5.0)))


def _front_legends(figure: Any, axes: Any, series: Sequence[_Series]) -> None:
    """One legend a group, side by side under the axes; a note says what a mark of the sources means."""
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    blank = require("matplotlib.lines").Line2D([], [], linestyle="none")
    named = [s for s in series if s.label]
    columns = {group: [(handles[s.label], s.label) for s in named if s.group == group] for group in ("Measured by us", "Published")}
    if any("[AE]" in label for _, label in columns["Published"]):
        columns["Published"].append((blank, "[AE]: in the names of the authors' checkpoints"))
    lines = {group: sum(1 + label.count("\n") for _, label in entries) for group, entries in columns.items()}
    for (group, entries), place in zip(columns.items(), ("outside lower left", "outside lower right"), strict=True):
        if entries:
            entries += [(blank, " ")] * (max(lines.values()) - lines[group])  # so that the titles stand side by side
            legend = figure.legend(*zip(*entries, strict=True), loc=place, alignment="left", title=group)
            legend.get_title().set(fontweight="bold", fontsize=STYLE["legend.fontsize"])


# widths


def _chosen(run: RunView, points: Sequence[str] | None) -> list[Point]:
    """The points of `widths`, by rising EBOPs; each has a model."""
    having = [p for p in run.points if p.model]
    if points is None:
        return [having[n] for n in sorted({0, len(having) // 2, len(having) - 1})] if having else []
    unknown = [name for name in points if name not in {p.point for p in having}]
    if unknown:
        raise ReportError(f"{run.folder} has no point {unknown[0]} with a model; it has {', '.join(p.point for p in having) or 'none'}")
    return [p for p in having if p.point in points]


def layer_bits(model: ModelDescription) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """For each layer with a kernel the magnitude bits of its weights, and the total bits of its inputs (None: not quantized there)."""
    bits: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    for op in model.operations:
        if isinstance(op, Linear):
            source = model[op.inputs[0]]
            bits[op.name] = op.kernel.bits.ravel(), source.bits.ravel() if isinstance(source, Quantize) else None
    return bits


def _widths(run: RunView, chosen: Sequence[Point]) -> Any:
    """Two rows of panels, weights over activations, a column a layer; bars in a group are the points."""
    bits = {p.point: layer_bits(model) for p in chosen if (model := run.model(p)) is not None}
    assert len(bits) == len(chosen), "points that are drawn have models"
    layers = list(dict.fromkeys(name for b in bits.values() for name in b))
    bands = max(1, -(-len(layers) // PANELS))
    columns = max(1, -(-len(layers) // bands))
    figure = _figure(0.6 + 3.0 * bands)
    panels = figure.subplots(2 * bands, columns, squeeze=False, sharey="row")
    colors = [SKY, BLUE, "#08306B"] if len(chosen) <= 3 else require("matplotlib").colormaps["cividis"](np.linspace(0, 0.9, len(chosen)))
    labels = [f"{p.point}: {_number(p.ebops)} EBOPs, test {run.in_words(p.test_score)}" for p in chosen]
    for n in range(bands * columns):
        pair = panels[2 * (n // columns), n % columns], panels[2 * (n // columns) + 1, n % columns]
        for which, axes in enumerate(pair):
            if n >= len(layers):
                axes.set_axis_off()
                continue
            values = [bits[p.point].get(layers[n], (None, None))[which] for p in chosen]
            _bars(axes, values, colors)
            axes.set_xlabel(("bits of weights", "bits of activations")[which])
            if n % columns == 0:
                axes.set_ylabel("share (%)")
            if which == 0:
                axes.set_title(layers[n], fontweight="bold", color=INK)
    patches = [require("matplotlib.patches").Patch(color=c, label=text) for c, text in zip(colors, labels, strict=False)]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(3, len(chosen)), title=f"{run.dataset}; 0 bits: the value is gone")
    return figure


def _bars(axes: Any, values: Sequence[np.ndarray | None], colors: Sequence[Any]) -> None:
    """Share of the values at each number of bits, one bar in each group for each of `values`."""
    top = int(max((v.max(initial=0) for v in values if v is not None), default=0))
    width = 0.84 / len(values)
    for n, v in enumerate(values):
        if v is not None and len(v):
            share = 100 * np.bincount(v.astype(np.int64), minlength=top + 1) / len(v)
            axes.bar(np.arange(top + 1) + (n - (len(values) - 1) / 2) * width, share, width, color=colors[n])
    axes.set_xticks(range(0, top + 1, 1 if top < 7 else 2 if top < 14 else 4))
    axes.grid(True, axis="y")
    axes.set_xlim(-0.6, top + 0.6)


# training


def _training(run: RunView) -> Any:
    """Four panels by epoch: loss and score (solid: validation, dotted: training), cost, beta; a line a member, coloured by beta."""
    pl, cm = require("polars"), require("matplotlib.cm")
    figure = _figure(4.6)
    panels = figure.subplots(2, 2, sharex=True)
    members = run.metrics.group_by("member").agg(pl.col("beta").first()).sort("beta", "member")
    betas = [b for b in members["beta"].to_list() if b > 0]
    mappable = None
    if len(set(betas)) > 1:
        norm = require("matplotlib.colors").LogNorm(min(betas), max(betas))
        dark = require("matplotlib").colormaps["viridis"](np.linspace(0, 0.92, 256))  # its yellow is lost on white
        mappable = cm.ScalarMappable(norm, require("matplotlib.colors").ListedColormap(dark))
    unit = run.cost_unit
    plots = (
        ("loss", "loss of the task", False),
        ("score", "", False),
        ("cost", f"{unit} (estimate)", True),
        ("beta", f"beta (loss per {unit.removesuffix('s')})", True),
    )
    for axes, (metric, label, log) in zip(panels.flat, plots, strict=True):
        for member, beta in members.iter_rows():
            color = BLUE if mappable is None else mappable.to_rgba(beta) if beta > 0 else GREY
            for split, style in (("train", ":"), ("val", "-")):
                x, y = _curve(run, member, split, metric)
                y = run.score.shown(y) if metric == "score" else y
                keep = np.isfinite(y) & ((y > 0) | (not log))
                axes.plot(x[keep], y[keep], linestyle=style, color=color, linewidth=1.1, alpha=0.9 if style == "-" else 0.7)
        positive = any(len(line.get_ydata()) for line in axes.lines)
        if log and positive:
            axes.set_yscale("log")
            _log_ticks(axes.yaxis)
        axes.set_ylabel(label or run.score_label)
        axes.grid(True)
    for axes in panels[1]:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(require("matplotlib.ticker").MaxNLocator(integer=True))
    line = require("matplotlib.lines").Line2D
    handles = [line([], [], color=INK, linestyle=s, linewidth=1.1, label=t) for s, t in (("-", "validation"), (":", "training"))]
    if mappable is not None and len(betas) < len(members):
        handles.append(line([], [], color=GREY, linewidth=1.1, label="beta = 0"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3, title=f"{run.manifest.get('experiment', '')} on {run.dataset}")
    if mappable is not None:
        label = f"beta of the member (loss per {unit.removesuffix('s')})"
        _log_ticks(figure.colorbar(mappable, ax=panels, label=label, pad=0.015, aspect=40).ax.yaxis)
    return figure


def _log_ticks(axis: Any) -> None:
    """Numbers without mathematics, which `STYLE` leaves out; between decades too where there are few."""
    formatter = require("matplotlib.ticker").LogFormatter
    axis.set_major_formatter(formatter())
    axis.set_minor_formatter(formatter(labelOnlyBase=False))


def _curve(run: RunView, member: int, split: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """(epoch, value), thinned out evenly to `LINE_POINTS`, the last kept."""
    pl = require("polars")
    same = (pl.col("member") == member) & (pl.col("split") == split) & (pl.col("metric") == metric)
    rows = run.metrics.filter(same).sort("step").select("epoch", "value").to_numpy()
    kept = np.unique(np.linspace(0, max(len(rows) - 1, 0), min(len(rows), LINE_POINTS)).astype(np.int64))
    return rows[kept, 0], rows[kept, 1]
