"""The tables of the HGQ paper: published rows, networks of its artifact, and beside them what was measured here."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hgqjax import markup, published, run_tables, seeds
from hgqjax.results import write_atomically
from hgqjax.run_tables import RunTables, accuracy_error

NAMES = (*published.NAMES, "artifact")
FACTOR = 1.5
"""Networks whose EBOPs (or LUTs) differ by more than this factor are not compared."""
RULE = (
    f"Each network measured here is compared with the network of HGQ whose EBOPs are nearest, at most a factor {FACTOR:g} away; where none "
    "is, with the one whose LUTs are (ours by Yosys, published by Vivado); among these with one on the same data set where there is one. "
    "Difference: measured minus published. Its error is the statistical one of the measured score, sqrt(a(1 - a)/n) of an accuracy a "
    "on n rows, of a resolution the one that its residuals show; and of the published one where its rows are known, in quadrature; a "
    "published number is rounded beyond that. "
)
SEEDS = "Seeds: standard deviation, over the seeds of a run, of the best validation score at the network's estimated cost or less. "
MISSING = {
    "jets": "LUT counts of Table I and its rows HGQ-c1, HGQ-c2, MetaML, SymbolNet and LogicNets JSC-M were read nowhere.",
    "svhn": "Table II was read nowhere; configurations are named in the authors' code. No row names its EBOPs, so none is compared.",
    "muon": "Table III was read nowhere; what is here is of the third version and of papers that quote others.",
    "plf": "hgqjax has no such data set.",
    "artifact": "Scores are of validation rows, from the names of the checkpoints; the networks that were run here have rows of their own.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One network; None where a number is not known. `score` is shown as people read it, in `unit`: an accuracy in %, or a resolution."""

    origin: str
    """published, artifact (a network that the authors released), or measured here."""
    name: str
    dataset: str
    rows: str
    """Which rows it was measured on."""
    score: int | float | None
    unit: str
    error: int | float | None = None
    """Statistical error of `score`, where the number of rows is known."""
    seed_spread: int | float | None = None
    """Standard deviation of the best validation score over `seed_count` seeds, at the same cost."""
    seed_count: int | None = None
    ebops: int | float | None = None
    lut: int | float | None = None
    dsp: int | float | None = None
    ff: int | float | None = None
    latency_ns: int | float | None = None
    lut_percent: int | float | None = None
    dsp_percent: int | float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    steps: int | None = None
    """Steps of the optimiser."""
    source: str = ""
    comparable: bool = False
    """Whether measured rows may be compared with this one."""
    compared_with: str = ""
    difference: int | float | None = None
    difference_error: int | float | None = None
    cost_ratio: int | float | None = None
    """EBOPs (or LUTs) measured, over those of the row that it is compared with."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows, and what a reader must know of them."""

    caption: str
    rows: list[Row]

    def text(self, format: str = "markdown") -> str:
        """As Markdown or LaTeX, without the columns that are empty, or as csv with all; ValueError for an unknown format."""
        markup.check_format(format)
        if format == "csv":
            names = [f.name for f in dataclasses.fields(Row) if f.name != "comparable"]
            return markup.comma_separated(names, [[_plain(getattr(row, name)) for name in names] for row in self.rows])
        cells = [_cells(row) for row in self.rows]
        heads = [head for head in cells[0] if any(row[head] for row in cells)]
        body = [[row[head] for head in heads] for row in cells]
        if format == "latex":
            return markup.latex(heads, body, _LEFT, self.caption) + "\n"
        return f"{self.caption}\n\n{markup.markdown(heads, body, _LEFT)}\n"


def check(name: str, output: Path | None = None) -> None:
    """Raises ValueError for a table that there is not, naming the legal ones, and for a file whose folder there is not."""
    if name not in NAMES:
        raise ValueError(f"there is no table {name!r}; legal are {', '.join(NAMES)}")
    if output is not None and not output.parent.is_dir():
        raise ValueError(f"there is no folder {output.parent} for {output.name}")


def build(name: str, runs: Iterable[Path] = (), measured: Iterable[Row] = ()) -> Table:
    """The table `name`: published rows, then those of the run folders, point by point, then `measured`.

    Raises: ValueError for an unknown name; ReportError for a folder that is no sound run, one without points, or of another table.

    >>> [(row.name, row.score, row.ebops) for row in build("jets").rows if row.origin == "artifact"][:2]
    [('HGQ v3', 77.1, 13285.0), ('HGQ v3', 76.8, 7229.0)]
    """
    check(name)
    rows = list(_published(name))
    ours = [row for folder in runs for row in of_run(_fitting(name, folder))] + list(measured)
    caption = f"HGQ, table {name!r}: published numbers" + (" and networks measured here. " if ours else ". ") + MISSING[name] + " "
    caption += "An empty cell: no source was found; numbers that are known from memory only are left out. "
    if ours:
        caption += RULE + (SEEDS if any(row.seed_count for row in ours) else "")
    marks = {text for text in published.MARKS if any(text[1:].partition("]")[0].partition(":")[0] in row.source for row in rows)}
    caption += "; ".join(f"{mark}: {text}" for mark, text in published.MARKS.items() if mark in marks) + "."
    return Table(caption, [*rows, *(compared(row, rows) for row in ours)])


def write(text: str, output: Path | None) -> None:
    """Writes the text into a file, whole or not at all, or to standard output where there is none."""
    if output is None:
        print(text, end="")
    else:
        write_atomically(output, text)


def of_run(run: RunTables) -> list[Row]:
    """The points of a run as measured rows: scores of the test rows, exact EBOPs, LUTs where `hgqjax synth` was run."""
    if not run.points:
        raise run_tables.ReportError(f"{run.folder} has no points yet")
    rows, train = run.manifest["data"].get("rows", {}), run.manifest["config"].get("train", {})
    tests, epochs, batch = rows.get("test"), train.get("epochs"), train.get("batch_size")
    steps = epochs * (rows["train"] // batch) if epochs and batch and rows.get("train") else None
    hardware = {r["point"]: r for r in run_tables.synthesis(run.folder) if r["status"] == "done"}
    fronts = seeds.seed_fronts(run)
    found = []
    for p in run.points:
        each = seeds.best_of_each(fronts, p.cost_estimate) if len(fronts) > 1 else []
        spread = {"seed_spread": (100 if run.is_accuracy else 1) * seeds.spread(each), "seed_count": len(each)} if len(each) > 1 else {}
        made = hardware.get(p.point, {})
        cycles = (made.get("latency_cycles"), made.get("clock_ns"))
        row = Row(
            origin="measured here",
            name=f"{run.manifest['experiment']} {p.point}",
            dataset=run.dataset,
            rows=f"test, {markup.whole(tests)} rows" if tests else "test",
            score=float(run.shown(p.test_score)),
            unit="%" if run.is_accuracy else run.manifest["data"].get("unit", ""),
            error=run.error(p),
            ebops=p.ebops,
            latency_ns=None if None in cycles else cycles[0] * cycles[1],
            epochs=epochs,
            batch_size=batch,
            steps=steps,
            source=f"run {run.folder.resolve().name}",
            **{key: made.get(key) for key in ("lut", "dsp", "ff")},
        )
        found.append(dataclasses.replace(row, **spread))
    return found


def of_model(name: str, dataset: str, count: int, score: float, error: float, ebops: int | float, unit: str = "%") -> Row:
    """A model that was measured on all `count` rows of a data set: its `score` as `Objective.score` gives it, and the error."""
    return Row(
        origin="measured here",
        name=name,
        dataset=dataset,
        rows=f"all {markup.whole(count)} rows",
        score=100 * score if unit == "%" else -score,
        unit=unit,
        error=error,
        ebops=ebops,
        source="exact evaluator",
    )


def compared(row: Row, others: Sequence[Row]) -> Row:
    """`row` with its difference from the one of `others` that `RULE` names; as it is where there is none."""
    for resource in ("ebops", "lut"):
        mine = getattr(row, resource)
        near = [o for o in others if o.comparable and o.score is not None and o.unit == row.unit and mine and getattr(o, resource)]
        distance = {n: abs(math.log(mine / getattr(o, resource))) for n, o in enumerate(near)}
        within = [n for n in distance if distance[n] <= math.log(FACTOR)]
        chosen = [n for n in within if near[n].dataset == row.dataset] or within
        if chosen:
            other = near[min(chosen, key=distance.__getitem__)]
            cost = getattr(other, resource)
            unit = "EBOPs" if resource == "ebops" else "LUT"
            return dataclasses.replace(
                row,
                compared_with=f"{other.name}, {other.dataset}, {other.rows}: {_score(other)} {other.unit}, {markup.whole(cost)} {unit}",
                difference=row.score - other.score,
                difference_error=None if row.error is None else math.hypot(row.error, other.error or 0.0),
                cost_ratio=mine / cost,
            )
    return row


def _fitting(name: str, folder: Path) -> RunTables:
    """The run, which is refused where its task is that of another table."""
    run = run_tables.read(folder)
    fits = published.name_for(run.dataset)
    if name != "artifact" and (fits not in (None, name) or run.is_accuracy != (name != "muon")):
        raise run_tables.ReportError(
            f"{folder} is a run on {run.dataset}, which does not belong to table {name}" + (f", but to table {fits}" if fits else "")
        )
    return run


def _published(name: str) -> Iterable[Row]:
    tables = published.NAMES if name == "artifact" else (name,)
    for table in tables:
        for p in published.read(table):
            if name == "artifact" and not p.artifact:
                continue
            recipe = published.recipe(table, p.version, "OpenML 42468" if p.kind == "released network" else p.dataset)
            training: dict[str, Any] = {}
            if recipe is not None:
                steps = recipe.epochs * recipe.steps_per_epoch if recipe.steps_per_epoch else None
                training = {"epochs": recipe.epochs, "batch_size": recipe.batch_size, "steps": steps}
            numbers = ("ebops", "lut", "dsp", "ff", "latency_ns", "lut_percent", "dsp_percent")
            yield Row(
                origin="artifact" if p.artifact else "published",
                name=p.name,
                dataset=p.dataset,
                rows=p.split,
                score=None if p.score is None else round(100 * p.score, 4) if p.score >= 0 else -p.score,
                unit="mrad" if table == "muon" else "%",
                error=None if p.accuracy is None else accuracy_error(p.accuracy, p.test_rows),
                source=f"{p.how}: {p.source}" if p.how != "measured here" else p.source,
                comparable=p.kind in ("HGQ", "released network"),
                **{key: getattr(p, key) for key in numbers},
                **training,
            )


_LEFT = ("from", "network", "data set", "rows", "training", "source", "compared with")


def _cells(row: Row) -> dict[str, str]:
    digits = 2 if row.unit == "%" else 3
    spread = "" if row.seed_spread is None else f" (seeds ± {row.seed_spread:.2g}, n = {row.seed_count})"
    shown = "" if row.score is None else _score(row) + ("" if row.error is None else f" ± {row.error:.{digits}f}") + spread
    training = f"{_whole(row.epochs)} epochs x {_whole(row.batch_size)} rows" if row.epochs else ""
    training += f", {_whole(row.steps)} steps" if row.steps else ""
    difference = "" if row.difference is None else f"{row.difference:+.{digits}f}".replace("-", "−")
    difference += "" if row.difference_error is None else f" ± {row.difference_error:.{digits}f}"
    return {
        "from": row.origin,
        "network": row.name,
        "data set": row.dataset,
        "rows": row.rows,
        "accuracy (%)": shown if row.unit == "%" else "",
        f"resolution ({'mrad' if row.unit in ('%', '') else row.unit})": shown if row.unit != "%" else "",
        "EBOPs": _whole(row.ebops),
        "LUT": _whole(row.lut) if row.lut is not None else "" if row.lut_percent is None else f"{row.lut_percent:.2f} %",
        "DSP": _whole(row.dsp) if row.dsp is not None else "" if row.dsp_percent is None else f"{row.dsp_percent:.2f} %",
        "FF": _whole(row.ff),
        "latency (ns)": "" if row.latency_ns is None else f"{row.latency_ns:g}",
        "training": training,
        "source": row.source,
        "compared with": row.compared_with,
        "difference": difference,
        "cost ratio": "" if row.cost_ratio is None else f"{row.cost_ratio:.2f}",
    }


def _score(row: Row) -> str:
    """With the digits that the number has: two where it was measured here."""
    read = row.source.startswith(("read", "second-hand", "digitised"))
    digits = 1 if row.unit == "%" and read and abs(row.score * 10 - round(row.score * 10)) < 1e-6 else 2
    digits = 3 if row.unit != "%" and (not read or abs(row.score * 100 - round(row.score * 100)) > 1e-6) else digits
    return f"{row.score:.{digits}f}"


def _whole(number: int | float | None) -> str:
    return "" if number is None else markup.whole(number)


def _plain(value: Any) -> str:
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)
