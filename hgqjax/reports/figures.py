"""Figures of a run folder: `front`, `widths`, `training`, `test`, each as PNG, SVG and PDF in ``<run>/figures``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Linear, Quantize
from hgqjax.reports import front_figure, style, test_rows
from hgqjax.reports import published as published_
from hgqjax.reports.reader import Point, ReportError, RunView, read, require

LINE_POINTS, PANELS = 1000, 5
LINE_OF_LEGEND = 126
"""Signs of a legend that fit side by side into a figure, a patch counting as eight."""


def draw(
    run_folder: Path,
    published: str | None = "same",
    points: Sequence[str] | None = None,
    formats: Sequence[style.Format] = get_args(style.Format),
) -> list[Path]:
    """Draws what the run has so far into ``<run>/figures``, over older files: `front` (test scores of the frozen models, their exact EBOPs
    and predicted LUTs), `widths` (how many weights and activations have how many bits), `training` (loss, score, cost, beta by epoch),
    `test` (confusion matrix and ROC curves, or histograms of residuals, of one model).

    Args:
      run_folder: with manifest.json, metrics.parquet, summary.csv and models, as `hgqjax.runs.folders` writes them; a run need not be done.
      published: whose results stand beside ours: "same": those on the same data set; a name of `hgqjax.reports.published.NAMES`: all
        of that benchmark, which need not compare; None: no one's.
      points: names of the points in `widths`; by default the cheapest, the middle and the dearest. `test` is of the one among them that
        is best on the validation rows, by default of the best of all.
      formats: of the files.

    Returns: the files written.
    Raises: ReportError for a folder that is no sound run, one with nothing to draw yet, or an unknown point; ImportError without
      matplotlib or polars; ValueError for an unknown `published`.
    """
    matplotlib = require("matplotlib")
    run = read(run_folder)
    others = published_.beside(run.dataset, published)
    chosen = _chosen(run, points)
    if not run.points and run.metrics.is_empty():
        raise ReportError(f"{run_folder} has neither metrics nor points to draw yet")
    files: list[Path] = []
    with matplotlib.rc_context(style.STYLE):
        drawings = {"front": front_figure.draw(run, others)}
        if chosen:
            drawings["widths"] = style.Drawing(_widths(run, chosen))
        if not run.metrics.is_empty():
            drawings["training"] = style.Drawing(_training(run))
        if best := test_rows.best_drawn(run, run.points if points is None else chosen):
            drawings["test"] = style.Drawing(test_rows.draw(run, best))
        for stem, drawing in drawings.items():
            files += drawing.write(run.folder / "figures", stem, formats)
    return files


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
    figure = style.figure(0.6 + 3.0 * bands)
    panels = figure.subplots(2 * bands, columns, squeeze=False, sharey="row")
    colors = (
        [style.SKY, style.BLUE, style.NAVY]
        if len(chosen) <= 3
        else require("matplotlib").colormaps["cividis"](np.linspace(0, 0.9, len(chosen)))
    )
    labels = [f"{p.point}: {style.number(p.ebops)} EBOPs, test {run.in_words(p.test_score)}" for p in chosen]
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
                axes.set_title(layers[n], fontweight="bold", color=style.INK)
    patches = [require("matplotlib.patches").Patch(color=c, label=text) for c, text in zip(colors, labels, strict=False)]
    fits = max(1, LINE_OF_LEGEND // (max(map(len, labels)) + 8))  # entries side by side, with their patches
    title = f"{run.dataset}; 0 bits: the value is gone"
    figure.legend(handles=patches, loc="outside lower center", ncols=min(3, fits, len(chosen)), title=title)
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
    figure = style.figure(4.6)
    panels = figure.subplots(2, 2, sharex=True)
    members = run.metrics.group_by("member").agg(pl.col("beta").first()).sort("beta", "member")
    betas = [b for b in members["beta"].to_list() if b > 0]
    mappable = None
    if len(set(betas)) > 1:
        norm = require("matplotlib.colors").LogNorm(min(betas), max(betas))
        dark = require("matplotlib").colormaps["viridis"](np.linspace(0.22, 0.85, 256))  # its ends are lost in the dark and on white
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
            color = style.BLUE if mappable is None else mappable.to_rgba(beta) if beta > 0 else style.GREY
            for split, dashes in (("train", ":"), ("val", "-")):
                x, y = _curve(run, member, split, metric)
                y = run.score.shown(y) if metric == "score" else y
                keep = np.isfinite(y) & ((y > 0) | (not log))
                axes.plot(x[keep], y[keep], linestyle=dashes, color=color, linewidth=1.1, alpha=0.9 if dashes == "-" else 0.7)
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
    handles = [line([], [], color=style.INK, linestyle=s, linewidth=1.1, label=t) for s, t in (("-", "validation"), (":", "training"))]
    if mappable is not None and len(betas) < len(members):
        handles.append(line([], [], color=style.GREY, linewidth=1.1, label="beta = 0"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3, title=f"{run.manifest.get('experiment', '')} on {run.dataset}")
    if mappable is not None:
        label = f"beta of the member (loss per {unit.removesuffix('s')})"
        _log_ticks(figure.colorbar(mappable, ax=panels, label=label, pad=0.015, aspect=40).ax.yaxis)
    return figure


def _log_ticks(axis: Any) -> None:
    """Numbers without mathematics, which `style.STYLE` leaves out; between decades too where there are few."""
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
