"""``report.md`` of a run folder: data set, selected points, layers, figures, published points, and how the run was made."""

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from hgqjax import figures
from hgqjax import published as published_
from hgqjax.export.model import ModelDescription
from hgqjax.export.operations import Dense, Quantize
from hgqjax.resources import ebops
from hgqjax.results import write_atomically
from hgqjax.run_tables import Point, ReportError, RunTables, read, synthesis

__all__ = ["ReportError", "report"]

CAPTIONS = {
    "front": "Test score of the frozen models and their exact EBOPs, with statistical errors; grey: validation rows while training.",
    "widths": "Bits of weights (magnitude) and of activations (total), layer by layer.",
    "training": "Loss, score, EBOPs and beta by epoch, a line a member.",
}
REGRESSION_CAPTIONS = {
    "front": "Test resolution of the frozen models, of which less is better, and their exact EBOPs; grey: validation rows while training.",
    "training": "Loss, resolution, EBOPs and beta by epoch, a line a member.",
}


def report(
    run_folder: Path,
    published: str | None = "auto",
    formats: Sequence[figures.Format] = get_args(figures.Format),
) -> Path:
    """Draws the figures (`hgqjax.figures.draw`) and writes ``report.md`` into the run folder, whole or not at all; returns its path.

    A run that is not done is reported as far as it goes, and its report says so.

    Args:
      run_folder: as `hgqjax.results` writes it.
      published, formats: whose results stand beside ours, and the files of the figures, as in `hgqjax.figures.draw`; the report shows the
        first format that it draws and names the others.

    Raises: ReportError, with one sentence, for a folder that is no run, a table or a model that cannot be read, missing columns;
      ImportError without matplotlib or polars; ValueError for an unknown `published`.
    """
    run = read(run_folder)
    name = published_.name_for(run.dataset) if published == "auto" else published
    others = published_.read(name) if name is not None else []
    drawn = figures.draw(run.folder, published, formats=formats) if run.points or not run.metrics.is_empty() else []
    parts = [_head(run), _points(run), _synthesis(run), _figures(run, drawn), _layers(run), _published(others), _origin(run)]
    path = run.folder / "report.md"
    write_atomically(path, "\n\n".join(part for part in parts if part) + "\n")
    return path


def _head(run: RunTables) -> str:
    data, status = run.manifest["data"], run.manifest["status"]
    lines = [f"# {run.manifest.get('experiment', 'run')} on {run.dataset}"]
    if status != "done":
        why = {"running": "is not finished (status: running)", "failed": "failed (status: failed)"}.get(status, f"has status {status}")
        lines.append(f"**This run {why}; what follows is what it has so far.**")
    rows = ", ".join(f"{split} {_number(n)}" for split, n in data.get("rows", {}).items())
    lines.append(f"Data set: **{run.dataset}**. Rows: {rows or 'not recorded'}. Source: {data.get('source') or 'not recorded'}.")
    lines.append(f"SHA-256 of the data: `{data.get('sha256') or 'not recorded'}`.")
    return "\n\n".join(lines)


def _points(run: RunTables) -> str:
    if not run.points:
        return "## Selected models\n\nNone yet."
    what = run.score_label
    heads = ["point", "beta", "seed", "epoch", "EBOPs", "EBOPs (paper_v1)", "LUTs predicted", f"validation {what}", f"test {what}"]
    heads += ["rows checked", "differing words", "project"]
    rows = []
    for p in run.points:
        scores = [_score(run, p.val_score, "val", p.val_outliers), _score(run, p.test_score, "test", p.test_outliers)]
        checked = [_number(n) if n is not None else "" for n in (p.rows_checked, p.differing_words)]
        project = f"[{p.project}]({p.project})" if p.project else "not exported"
        numbers = [f"{p.beta:.3g}", p.seed, p.epoch, _number(p.ebops), _number(p.ebops_paper_v1), _number(p.luts_predicted)]
        rows.append([p.point, *numbers, *scores, *checked, project])
    note = "EBOPs are exact, counted on the frozen models (definition hgq2; beside it paper_v1); LUTs are those of `resources.Luts`. "
    if run.is_accuracy:
        note += "The error of an accuracy a on n rows is sqrt(a(1 - a)/n). "
    else:
        note += _resolution(run)
    note += "Models were selected on the validation rows. Rows checked: rows on which the project's words were compared with the model's."
    return f"## Selected models\n\n{_table(heads, rows, left=('point', 'project'))}\n\n{note}"


def _resolution(run: RunTables) -> str:
    """What the resolution of a regression is."""
    unit = run.manifest["data"].get("unit", "")
    if run.window is None:
        return "The resolution is the root mean square of the residuals; less is better. "
    edge = f"{run.window:g} {unit}".rstrip()
    return f"The resolution is the root mean square of the residuals below {edge}; less is better. Outliers are the other residuals. "


def _synthesis(run: RunTables) -> str:
    """The table of ``hgqjax synth``, where there is one."""
    table = synthesis(run.folder)
    if not table:
        return ""
    heads = ["point", "LUT", "LUT sites", "FF", "CARRY8", "DSP", "BRAM", "cycles", "clock (ns)", "adder cost", "EBOPs", "Fmax (MHz)"]
    heads += ["device"]
    rows = []
    for r in table:
        if r["status"] != "done":
            rows.append([r["point"], r["status"], *[""] * (len(heads) - 2)])
            continue
        counts = [_amount(r[name]) for name in ("lut", "lut_sites", "ff", "carry8", "dsp")]
        counts += ["" if r["bram"] is None else f"{r['bram']:g}", _amount(r["latency_cycles"])]
        clock = "" if r["clock_ns"] is None else f"{r['clock_ns']:g}"
        fmax = "" if r["fmax_mhz"] is None else f"{r['fmax_mhz']:.0f} on {r['fmax_family']}"
        device = f"{r['family']} ({r['tool']} {r['tool_version']})"
        rows.append([r["point"], *counts, clock, *map(_amount, (r["adder_cost"], r["ebops"])), fmax, device])
    note = (
        "LUT is the sum of LUT1 to LUT6. LUT sites are fewer, as two small ones share a site: with Yosys an estimate, with Vivado what "
        "it has placed. A frequency on a Lattice device orders designs, and is no AMD device's. More columns: [synth.csv](synth.csv)."
    )
    return f"## Synthesis\n\n{_table(heads, rows, left=('point', 'device'))}\n\n{note}"


def _figures(run: RunTables, drawn: Sequence[Path]) -> str:
    captions = CAPTIONS if run.is_accuracy else CAPTIONS | REGRESSION_CAPTIONS
    parts = []
    for stem in dict.fromkeys(path.stem for path in drawn):
        first, *others = (f"figures/{path.name}" for path in drawn if path.stem == stem)
        links = ", ".join(f"[{path.rpartition('.')[2].upper()}]({path})" for path in others)
        parts.append(f"![{stem}]({first})\n\n{captions[stem]}" + (f" ({links})" if links else ""))
    return "\n\n".join(["## Figures", *parts]) if parts else ""


def _layers(run: RunTables) -> str:
    tables = [_layer_table(p, model) for p in run.points if (model := run.model(p)) is not None]
    note = "Bits are min / mean / max: magnitude bits of weights, total bits of inputs; an input of 0 bits is the constant 0."
    return "\n\n".join(["## Layers", note, *tables]) if tables else ""


def _layer_table(point: Point, model: ModelDescription) -> str:
    exact, v1 = ebops(model), ebops(model, "paper_v1")
    rows = []
    for op in model.operations:
        if isinstance(op, Dense):
            source = model[op.inputs[0]]
            inputs = source.bits if isinstance(source, Quantize) else None
            kernel = op.kernel
            rows.append(
                [op.name, "x".join(map(str, kernel.integers.shape)), _bits(kernel.bits), f"{np.mean(kernel.integers == 0):.1%}"]
                + ([_bits(inputs), f"{np.mean(inputs == 0):.1%}"] if inputs is not None else ["", ""])
                + [_number(float(exact[op.name])), _number(float(v1[op.name]))]
            )
    rows.append(["total", "", "", "", "", "", _number(float(exact.total)), _number(float(v1.total))])
    heads = ["layer", "weights", "weight bits", "zero weights", "input bits", "dead inputs", "EBOPs", "EBOPs (paper_v1)"]
    return f"### {point.point}\n\n{_table(heads, rows, left=('layer',))}"


def _published(others: Sequence[published_.Published]) -> str:
    others = [p for p in others if p.accuracy is not None]
    if not others:
        return ""
    heads = ["method", "data set", "rows", "accuracy (%)", "EBOPs", "LUT", "DSP", "latency (ns)", "read in"]
    tables = []
    for title, kinds in (
        ("Released networks, measured by this project", ("released network",)),
        ("Published", ("HGQ", "another method")),
    ):
        rows = []
        for p in others:
            if p.kind in kinds:
                digits = 2 if p.kind == "released network" else 1
                lut, dsp = (_amount(n, share) for n, share in ((p.lut, p.lut_percent), (p.dsp, p.dsp_percent)))
                ns = "" if p.latency_ns is None else f"{p.latency_ns:g}"
                rows.append([p.name, p.dataset, p.split, f"{100 * p.accuracy:.{digits}f}", _amount(p.ebops), lut, dsp, ns, p.source])
        if rows:
            tables.append(f"### {title}\n\n{_table(heads, rows, left=('method', 'data set', 'rows', 'read in'))}")
    marks = "; ".join(f"{mark}: {text}" for mark, text in published_.MARKS.items())
    note = "The data sets differ: only rows of one data set compare. An empty cell: no source was found."
    return "\n\n".join(["## Beside published results", f"{note} {marks}.", *tables])


def _origin(run: RunTables) -> str:
    m = run.manifest
    commit = m.get("commit") or "not a checkout"
    changed = " with uncommitted changes" if m.get("dirty") else ""
    versions = ", ".join(f"{name} {version}" for name, version in m.get("versions", {}).items())
    facts = [
        f"- command: `{shlex.join(map(str, m.get('argv', [])))}`",
        f"- commit: `{commit}`{changed}",
        f"- versions: {versions or 'not recorded'}",
        f"- device: {m.get('device') or 'not recorded'}; {_number(m.get('seconds') or 0)} s",
    ]
    config = json.dumps(m.get("config", {}), indent=1)
    return (
        "## How it was made\n\n"
        + "\n".join(facts)
        + f"\n\n<details><summary>Configuration</summary>\n\n```json\n{config}\n```\n\n</details>"
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]], left: Sequence[str] = ()) -> str:
    """A Markdown table; columns in `left` are aligned to the left, the others to the right."""
    rules = [":---" if head in left else "---:" for head in heads]
    lines = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, rules, *lines])


def _score(run: RunTables, score: float, split: str, outliers: float | None) -> str:
    if not run.is_accuracy:
        return f"{run.shown(score):.4g}" + (f" (outliers {100 * outliers:.2f} %)" if outliers is not None else "")
    error = run.error(score, split)
    return f"{100 * score:.2f}" + (f" ± {100 * error:.2f}" if error is not None else "")


def _bits(bits: np.ndarray) -> str:
    return f"{int(bits.min(initial=99))} / {bits.mean():.2f} / {int(bits.max(initial=0))}"


def _amount(number: int | float | None, share: float | None = None) -> str:
    if number is not None:
        return _number(number)
    return "" if share is None else f"{share:.2f} %"


def _number(number: int | float) -> str:
    """A whole number with its thousands apart.

    >>> _number(13285.2)
    '13 285'
    """
    return f"{number:,.0f}".replace(",", " ")
