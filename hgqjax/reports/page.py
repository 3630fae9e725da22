"""``report.html`` of a run folder, one file for all: front, points, projects, synthesis, layers, training, published results, origin."""

import functools
import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from markupsafe import Markup, escape

from hgqjax.description.layer_table import LayerRow, Widths, layer_rows, shape_text, weight_widths
from hgqjax.files import write_atomically
from hgqjax.reports import figures, html, markup, style
from hgqjax.reports import published as published_
from hgqjax.reports.html import element, section, table
from hgqjax.reports.reader import Point, ReportError, RunView, gates, read, synthesis

__all__ = ["ReportError", "report"]

CAPTIONS = {
    "front": "Test {score} of the frozen models over exact EBOPs and predicted LUTs, with statistical errors; grey: validation rows while "
    "training.",
    "widths": "Bits of weights (magnitude) and of activations (total), layer by layer.",
    "test": "What the model that is best on the validation rows gets right and wrong on the test rows.",
    "training": "Loss, {name}, cost and beta by epoch, a line for each member.",
}
GLOSSARY = (
    "Each value of these networks has a bit-width of its own. EBOPs: effective bit operations per inference, the products of the widths "
    "that meet in multiplications. beta: the weight of the cost in the loss of training; more of it gives a smaller network."
)
_number = functools.partial(markup.whole, gap="\u00a0")  # a space that does not break
EMBEDDED: tuple[style.Format, ...] = ("svg", "png")


def report(
    run_folder: Path,
    published: str | None = "same",
    points: Sequence[str] | None = None,
    formats: Sequence[style.Format] = get_args(style.Format),
) -> Path:
    """Draws the figures (`hgqjax.reports.figures.draw`), writes ``report.html`` into the run folder, whole or not at all, returns its path.

    The file needs nothing else: figures are inside, nothing is fetched, and it can be sent to others as it is. A run that is not done is
    reported as far as it goes, and its report says so.

    Args:
      run_folder: as `hgqjax.runs.folders` writes it.
      published, points: whose results stand beside ours, and which points are drawn, as in `hgqjax.reports.figures.draw`. The page
        lists all results that fit the data set, unless `published` is None.
      formats: of the files in ``figures/``, svg and png always among them.

    Raises: ReportError, with one sentence, for a folder that is no run, a table or a model that cannot be read, missing columns;
      ImportError without matplotlib or polars; ValueError for an unknown `published`.
    """
    run = read(run_folder)
    listed = published_.name_for(run.dataset) if published == "same" else published
    rows = {p.point: layer_rows(model) for p in run.points if (model := run.model(p)) is not None}
    drawn = []
    if run.points or not run.metrics.is_empty():
        drawn = figures.draw(run.folder, published, points, formats=tuple(dict.fromkeys([*EMBEDDED, *formats])))
    plots = {stem: _figure(run, stem) for stem in dict.fromkeys(path.stem for path in drawn)}
    sections = [
        section("Front", plots.get("front", ""), _points(run)),
        section("Test rows", plots["test"]) if "test" in plots else None,
        section("Projects", projects) if (projects := _gates(run)) else None,
        section("Synthesis", synthesised) if (synthesised := _synthesis(run)) else None,
        section("Bit-widths", plots.get("widths", ""), _layers(run, rows)) if rows else None,
        section("Training", plots["training"]) if "training" in plots else None,
        section("Beside published results", beside) if (beside := _published(run, published_.beside(run.dataset, listed))) else None,
        section("How it was made", _origin(run)),
    ]
    title = f"{run.manifest.get('experiment', 'run')} on {run.dataset}"
    text = html.page(title, _head(run), [s for s in sections if s], f"Written by hgqjax report from {run.folder.name}.")
    path = run.folder / "report.html"
    write_atomically(path, text)
    return path


def _head(run: RunView) -> Iterable[Markup]:
    data, status = run.manifest["data"], run.manifest["status"]
    if status != "done":
        why = {"running": "is not finished (status: running)", "failed": "failed (status: failed)"}.get(status, f"has status {status}")
        reason = f" It stopped with: {run.manifest['error']}" if run.manifest.get("error") else ""
        again = f" Where nothing works on it any more, hgqjax resume {shlex.quote(str(run.folder))} goes on."
        yield element("p", f"This run {why}; what follows is what it has so far.{reason}{again}", class_="warning")
    rows = ", ".join(f"{split} {_number(n)}" for split, n in data.get("rows", {}).items())
    yield element("p", f"Rows: {rows or 'not recorded'}. Source: {data.get('source') or 'not recorded'}", class_="soft")
    yield element("p", GLOSSARY, class_="soft")
    yield element("dl", *(element("div", element("dt", what), element("dd", *value)) for what, value in _tiles(run)), class_="tiles")


def _tiles(run: RunView) -> Iterable[tuple[str, Sequence[Any]]]:
    """What people ask first."""
    yield "models of a front of each seed" if run.each_seed else "models of the front", (len(run.points),)
    if run.points:
        best, cheapest = max(run.points, key=lambda p: run.score.merit(p.val_score)), run.points[0]
        for what, p in (("best on validation rows", best), ("cheapest", cheapest)):
            about = ", ".join([p.point, f"{_number(p.ebops)} EBOPs", *run.score.share_texts(p.found())])
            yield what, (f"test {run.in_words(p.test_score)}", element("small", about))
    checked = [p for p in run.points if p.rows_checked is not None]
    if checked:
        differing = sum(p.differing_words or 0 for p in checked)
        rows = sum(p.rows_checked or 0 for p in checked)
        yield "verified projects", (len(checked), element("small", f"{_number(rows)} rows, {_number(differing)} differing words"))
    yield "time", (_time(run.manifest.get("seconds") or 0), element("small", run.manifest.get("device") or "device not recorded"))


def _figure(run: RunView, stem: str) -> Markup:
    name = run.score.name
    caption = CAPTIONS[stem].format(name=name, score=name if run.score.higher_is_better else f"{name} (less is better)")
    alt = caption
    if stem == "front" and run.points:
        ends = (f"{_number(p.ebops)} EBOPs at {run.in_words(p.test_score)}" for p in (run.points[0], run.points[-1]))
        alt = f"Front of {len(run.points)} models, from {' to '.join(ends)}. {caption}"
    folder = run.folder / "figures"
    return html.figure(f"Figure: {stem}", folder / f"{stem}.svg", folder / f"{stem}.png", alt, caption)


def _points(run: RunView) -> Markup:
    if not run.points:
        return element("p", "No models yet.")
    what = run.score_label
    heads = ["point", f"test {what}", f"validation {what}", "EBOPs", "EBOPs (paper_v1)", "LUTs predicted", "rows checked"]
    heads += ["differing words", "beta" if run.points[0].budget is None else "budget", "seed", "epoch"]
    several = any(p.network for p in run.points)
    heads += ["network"] if several else []
    rows = []
    for p in run.points:
        scores = [_score(run, p, "test"), _score(run, p, "val")]
        checked = [_number(n) if n is not None else "" for n in (p.rows_checked, p.differing_words)]
        costs = [_amount(n) for n in (p.ebops, p.ebops_paper_v1, p.luts_predicted)]
        rows.append(
            [
                _place(p.point, p.model),
                *scores,
                *costs,
                *checked,
                f"{p.beta:.3g}" if p.budget is None else f"{p.budget:.6g}",
                p.seed,
                p.epoch,
            ]
        )
        rows[-1] += [p.network or ""] if several else []
        rows[-1] += [_take_over(run, p)]
    heads += ["project"]
    note = "EBOPs are exact, counted on the frozen models by their declared widths (hgq2), and by the bits that the values of weights have "
    note += "(paper_v1); LUTs are predicted from the weights (resources.Luts). "
    note += run.score.explained(run.unit)
    note += "Names lead to the models and projects in the run folder. "
    note += "Models were selected on the validation rows. Rows checked: rows on which the project's words were compared with the model's."
    notes = [note, *run.manifest.get("notes", [])]  # of a run: penalties that have no point, and why
    models = table("Selected models", heads, rows, left=("point", "network", "project"))
    return element("h3", "Selected models") + models + Markup("").join(element("p", text, class_="note") for text in notes)


def _place(name: str, path: str) -> Markup:
    """A name that leads to a path of the run folder, where the page lies in it."""
    return element("a", name, href=path) if path else escape(name)


def _take_over(run: RunView, p: Point) -> Markup:
    """The point's project; where it has none the command that makes it, to be copied."""
    if p.project:
        return _place(p.project, p.project)
    return html.copy_button(f"hgqjax export {shlex.quote(str(run.folder / p.model))}", "copy export command") if p.model else Markup("")


def _gates(run: RunView) -> Markup | None:
    """The projects in the run folder, with what their gates say; where none is there any more, those that the summary names."""
    found = gates(run.folder)
    named = {p.project: p for p in run.points if p.project}
    rows = [[g.project, g.what, *map(_amount, (g.rows, g.words, g.differing_words)), _verdict(g.differing_words)] for g in found]
    there = {g.project for g in found}
    for name, p in named.items():
        if name not in there:
            words = ["" if n is None else _number(n) for n in (p.rows_checked, None, p.differing_words)]
            rows.append([name, "no longer in this folder", *words, _verdict(p.differing_words)])
    if not rows:
        return None
    heads = ["project", "what", "rows", "words", "differing words", ""]
    note = "Each project was run on data and words at and beyond its input limits; each word must be that of the exact integer model."
    return table("Exported projects", heads, rows, left=("project", "what", "")) + element("p", note, class_="note")


def _verdict(differing: int | None) -> Markup:
    if differing is None:
        return element("span", "not verified", class_="bad")
    return element("span", "differs", class_="bad") if differing else element("span", "verified", class_="good")


def _synthesis(run: RunView) -> Markup | None:
    """The table of ``hgqjax synth``, where there is one."""
    rows = []
    heads = ["point", "LUT", "LUT sites", "FF", "SRL", "CARRY8", "DSP", "BRAM", "cycles", "clock (ns)", "adder cost", "EBOPs", "Fmax (MHz)"]
    heads += ["device"]
    for r in synthesis(run.folder):
        if r["status"] != "done":
            rows.append([r["point"], r["status"], *[""] * (len(heads) - 2)])
            continue
        counts = [_amount(r[name]) for name in ("lut", "lut_sites", "ff", "srl", "carry8", "dsp")]
        counts += ["" if r["bram"] is None else f"{r['bram']:g}", _amount(r["latency_cycles"])]
        clock = "" if r["clock_ns"] is None else f"{r['clock_ns']:g}"
        fmax = "" if r["fmax_mhz"] is None else f"{r['fmax_mhz']:.0f} on {r['fmax_family']}"
        device = f"{r['family']} ({r['tool']} {r['tool_version']})"
        rows.append([r["point"], *counts, clock, *map(_amount, (r["adder_cost"], r["ebops"])), fmax, device])
    if not rows:
        return None
    note = (
        "LUT is the sum of LUT1 to LUT6. LUT sites: two small LUTs that share one count once, shift registers (SRL) count too; with Yosys "
        "an estimate, with Vivado what it has placed. "
        "A frequency on a Lattice device orders designs, and is no AMD device's. More columns "
        "are in synth.csv of the run."
    )
    return table("Synthesis", heads, rows, left=("point", "device")) + element("p", note, class_="note")


def _layers(run: RunView, rows: dict[str, list[LayerRow]]) -> Markup:
    note = (
        "Bits are min / mean / max: total bits of what a layer reads, magnitude bits of its weights. Grey bars in histograms are values "
        "of no bits, cut at the height of the highest other. Pruned: weights of 0; dead: inputs of 0 bits. EBOPs are exact, LUTs predicted."
    )
    parts = [element("h3", "Layers of each model"), element("p", note, class_="note")]
    shown = [p for p in run.points if p.point in rows]
    for p in shown:
        words = f" {_number(p.ebops)} EBOPs, test {run.in_words(p.test_score)}"
        parts.append(html.details(escape(p.point) + element("span", words), _layer_table(p, rows[p.point]), opened=p is shown[-1]))
    return Markup("").join(parts)


def _layer_table(point: Point, rows: list[LayerRow]) -> Markup:
    heads = ["layer", "kind", "result", "input bits", "histogram", "dead", "weights", "weight bits", "histogram", "pruned", "EBOPs"]
    heads += ["paper_v1", "LUTs"]
    cells = []
    for r in rows:
        inputs = [_bits(r.inputs), html.histogram(r.inputs, "inputs"), f"{r.inputs.pruned:.1%}" if r.inputs.size else ""]
        weights = [_bits(r.weights), html.histogram(r.weights, "weights"), f"{r.weights.pruned:.1%}" if r.weights.size else ""]
        costs = ["" if n is None else _number(n) for n in (r.ebops, r.ebops_paper_v1, r.luts)]
        cells.append([r.name, r.kind, shape_text(r.shape), *inputs, shape_text(r.kernel_shape), *weights, *costs])
    activations, weights = sum((r.inputs for r in rows), Widths()), weight_widths(rows)
    sums = [_number(sum(getattr(r, name) or 0.0 for r in rows)) for name in ("ebops", "ebops_paper_v1", "luts")]
    last = [_bits(activations), html.histogram(activations, "activations"), f"{activations.pruned:.1%}", ""]
    last += [_bits(weights), html.histogram(weights, "weights"), f"{weights.pruned:.1%}", *sums]
    left = ("layer", "kind", "histogram")
    return table(f"Layers of {point.point}", heads, [*cells, ["total", "", "", *last]], left=left, total=True)


def _published(run: RunView, others: Sequence[published_.Published]) -> Markup | None:
    others = run.beside(others)
    if not others:
        return None
    heads = ["method", "data set", "rows", run.score_label, "EBOPs", "LUT", "DSP", "latency (ns)", "read in"]
    marks = "; ".join(f"{mark}: {text}" for mark, text in published_.MARKS.items())
    note = f"The data sets differ: only rows of one data set compare. An empty cell: no source was found. {marks}. "
    note += "The lengths of the trainings differ, often by orders of magnitude: hgqjax table has them."
    parts = [element("p", note, class_="note")]
    for title, kinds in (
        ("Released networks, measured by this project", ("released network",)),
        ("Published", ("HGQ", "another method")),
    ):
        rows = []
        for p in others:
            if p.kind in kinds:
                lut, dsp = (_amount(n, share) for n, share in ((p.lut, p.lut_percent), (p.dsp, p.dsp_percent)))
                ns = "" if p.latency_ns is None else f"{p.latency_ns:g}"
                rows.append([p.name, p.dataset, p.split, p.shown, _amount(p.ebops), lut, dsp, ns, p.source])
        if rows:
            whole = table(title, heads, rows, left=("method", "data set", "rows", "read in"))
            compares = all(row[1] == run.dataset for row in rows)
            parts.append(html.details(escape(title) + element("span", f" {len(rows)} rows"), whole, opened=compares))
    return Markup("").join(parts)


def _origin(run: RunView) -> Markup:
    m = run.manifest
    versions = ", ".join(f"{name} {version}" for name, version in m.get("versions", {}).items())
    commit = element("code", m.get("commit") or "not a checkout")
    facts = [
        ("command", element("code", shlex.join(map(str, m.get("argv", []))))),
        ("commit", commit + (" with uncommitted changes" if m.get("dirty") else "")),
        ("versions", versions or "not recorded"),
        ("device", m.get("device") or "not recorded"),
        ("seconds", _number(m.get("seconds") or 0)),
        ("SHA-256 of the data", element("code", m["data"].get("sha256") or "not recorded")),
    ]
    listed = element("ul", *(element("li", f"{name}: ", value) for name, value in facts))
    shown = html.details("manifest.json, the whole configuration among it", element("pre", json.dumps(m, indent=1), tabindex="0"))
    return listed + shown


def _score(run: RunView, point: Point, split: str) -> Markup:
    found = point.found(split)
    score = found["score"]
    assert score is not None, "a point has a score on each part"
    shown, shares = run.score.cell(score, run.error(point, split)), run.score.share_texts(found)
    return escape(shown) + (" " + element("small", f"({', '.join(shares)})") if shares else "")


def _bits(widths: Widths) -> str:
    return str(widths).replace("/", " / ")


def _amount(number: int | float | None, share: float | None = None) -> str:
    if number is not None:
        return _number(number)
    return "" if share is None else f"{share:.2f} %"


def _time(seconds: int | float) -> str:
    """
    >>> _time(64.2), _time(1386), _time(9000)
    ('64 s', '23.1 min', '2.5 h')
    """
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
