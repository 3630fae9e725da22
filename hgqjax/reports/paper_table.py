"""The tables of the HGQ paper: published rows, networks of its artifact, and beside them what was measured here."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hgqjax.evaluation import Measured
from hgqjax.files import write_atomically
from hgqjax.reports import markup, published, reader, seed_spread
from hgqjax.reports.reader import RunView
from hgqjax.scores import AbstractScore

NAMES = (*published.NAMES, "artifact")
FACTOR = 1.5
"""Networks whose EBOPs (or LUTs) differ by more than this factor are not compared."""
RULE = (
    f"Each network measured here stands beside the network of HGQ whose EBOPs are nearest, at most a factor {FACTOR:g} away; where none "
    "is, the one whose LUTs are (LUT sites of ours by the tool that the source names, CLB LUTs by Vivado of published ones); among these "
    "one on the same data set where there is one. Difference: measured minus published, on the same data set only, of resolutions with the "
    "same window only, and not where rows that the network was trained on are among those measured. Its error is the statistical one of "
    "the measured score, sqrt(a(1 - a)/n) of an accuracy a on n rows, of a resolution the one that its residuals show; and of the "
    "published one where its rows are known, in quadrature: that of independent rows, too large where both have rows in common. A "
    "published number is rounded beyond that. "
)
SEEDS = "Seeds: standard deviation, over the seeds of a run, of the best validation score at the network's estimated cost or less. "
MISSING = {
    "jets": "LUT counts of Table I and its rows HGQ-c1, HGQ-c2, MetaML, SymbolNet and LogicNets JSC-M were read nowhere.",
    "svhn": "Table II was read nowhere; configurations are named in the authors' code. No row names its EBOPs, so none is compared.",
    "muon": "Table III was read nowhere; what is here is of the third version and of papers that quote others. Published resolutions of "
    f"HGQ are of residuals below {published.WINDOW_MRAD:g} mrad.",
    "plf": "hgqjax has no such data set.",
    "artifact": "Scores are of validation rows, from the names of the checkpoints, in da4ml's artifact of test rows, from its result "
    "files; the networks that were run here have rows of their own.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One network; None where a number is not known. `score` is as people read it, in `unit`: an accuracy in %, or a resolution."""

    origin: str
    """published, artifact (a network that the authors released), or measured here."""
    name: str
    dataset: str
    rows: str
    """Which rows it was measured on."""
    kind: str
    """What the score is: accuracy, resolution, ..."""
    score: int | float | None
    unit: str
    error: int | float | None = None
    """Statistical error of `score`, where the number of rows is known."""
    window: int | float | None = None
    """Of a resolution: residuals of this size and more are outliers, left out of it."""
    shares: dict[str, float] = dataclasses.field(default_factory=dict)
    """Further shares, 0 .. 1, such as that of outliers."""
    digits: int = 3
    """Of a score that is measured here, behind the point."""
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
    shown: str = ""
    """`score` with the digits of its source; "" where it is measured here, which is rounded."""
    comparable: bool = False
    """Of a published row, whether it is of HGQ, so that measured ones stand beside it."""
    training_rows: bool = False
    """Whether rows that the network was trained on are among those measured: then there is no difference."""
    compared_with: str = ""
    difference: int | float | None = None
    difference_error: int | float | None = None
    cost_ratio: int | float | None = None
    """EBOPs (or LUTs) measured, over those of the row that it is compared with."""

    @property
    def head(self) -> str:
        """Of the column of its score."""
        return f"{self.kind} ({self.unit})" if self.unit else self.kind


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows, and what a reader must know of them."""

    caption: str
    rows: list[Row]

    def text(self, format: str = "markdown") -> str:
        """As Markdown or LaTeX, without the columns that are empty, or as csv with all; ValueError for an unknown format."""
        markup.check_format(format)
        if format == "csv":
            names = [f.name for f in dataclasses.fields(Row) if f.name not in ("shown", "shares", "digits") and f.type is not bool]
            shares = list(dict.fromkeys(name for row in self.rows for name in row.shares))
            lines = [[getattr(row, name) for name in names] + [row.shares.get(name) for name in shares] for row in self.rows]
            return markup.comma_separated([*names, *shares], [[_plain(value) for value in line] for line in lines])
        scores = sorted({row.head for row in self.rows})
        shares = list(dict.fromkeys(name for row in self.rows for name in row.shares))
        cells = [_cells(row, scores, shares) for row in self.rows]
        heads = [head for head in cells[0] if any(row[head] for row in cells)]
        body = [[row[head] for head in heads] for row in cells]
        if format == "latex":
            return markup.latex(heads, body, _LEFT, self.caption) + "\n"
        return f"{self.caption}\n\n{markup.markdown(heads, body, _LEFT)}\n"


def check(name: str, output: Path | None = None) -> None:
    """Raises ValueError for a table that there is not, naming the legal ones, and for a file that cannot be where it is wanted."""
    if name not in NAMES:
        raise ValueError(f"there is no table {name!r}; legal are {', '.join(NAMES)}")
    if output is not None and not output.parent.is_dir():
        raise ValueError(f"there is no folder {output.parent} for {output.name}")
    if output is not None and output.is_dir():
        raise ValueError(f"--output is {output}, which is a folder; a file is needed")


def build(name: str, runs: Iterable[Path] = (), measured: Iterable[Row] = ()) -> Table:
    """The table `name`: published rows, then those of the run folders, point by point, then `measured`.

    Raises: ValueError for an unknown name, and a row that is not of this table; ReportError for a folder that is no sound run, or without
    points.

    >>> [(row.name, row.score, row.ebops) for row in build("jets").rows if row.origin == "artifact"][:2]
    [('HGQ v3', 77.1, 13285.0), ('HGQ v3', 76.8, 7229.0)]
    """
    check(name)
    rows = list(_published(name))
    ours = [_fitting(name, row) for row in itertools.chain(*(of_run(reader.read(folder)) for folder in runs), measured)]
    caption = f"HGQ, table {name!r}: published numbers" + (" and networks measured here. " if ours else ". ") + MISSING[name] + " "
    caption += "An empty cell: no source was found; numbers that are known from memory only are left out. "
    if ours:
        caption += RULE + (SEEDS if any(row.seed_count for row in ours) else "")
    caption += "; ".join(f"{mark}: {text}" for mark, text in published.marks(row.source for row in rows).items()) + "."
    return Table(caption, [*rows, *(compared(row, rows) for row in ours)])


def write(text: str, output: Path | None) -> None:
    """Writes the text into a file, whole or not at all, or to standard output, on a terminal with aligned columns, where there is none."""
    if output is None:
        markup.say(text)
    else:
        write_atomically(output, text)


def of_run(run: RunView) -> list[Row]:
    """The points of a run as measured rows: scores of the test rows, exact EBOPs; a row for each design that `hgqjax synth` made of one."""
    if not run.points:
        raise reader.ReportError(f"{run.folder} has no points yet")
    tests, epochs, batch = run.rows(), run.train.epochs, run.train.batch_size
    steps = epochs * (found // batch) if (found := run.rows("train")) else None
    fronts, designs = seed_spread.seed_fronts(run), reader.synthesis(run.folder)
    found = []
    for p in run.points:
        each = seed_spread.best_of_each(fronts, p.cost_estimate) if len(fronts) > 1 else []
        row = Row(
            origin="measured here",
            name=f"{run.manifest['experiment']} {p.point}",
            dataset=run.dataset,
            rows=f"test, {markup.whole(tests)} rows" if tests else "test",
            **_scored(run.score, p.found(), tests, run.unit),
            seed_spread=run.score.shown(seed_spread.spread(each)) if len(each) > 1 else None,
            seed_count=len(each) if len(each) > 1 else None,
            ebops=p.ebops,
            epochs=epochs,
            batch_size=batch,
            steps=steps,
            source=f"run {run.folder.resolve().name}",
        )
        found += _synthesised(row, [design for design in designs if design["point"] == p.point and design["status"] == "done"])
    return found


def _synthesised(row: Row, designs: Sequence[dict[str, Any]]) -> list[Row]:
    """`row` with the counts of each design (LUT sites, as Vivado counts), tool and clock in its source; alone where there is none."""
    found = []
    for design in designs:
        cycles, clock, cutoff = (design[name] for name in ("latency_cycles", "clock_ns", "latency_cutoff"))
        source = f"{row.source}; {design['tool']} {design['tool_version']}".rstrip()
        source += ("" if clock is None else f", {clock:g} ns") + ("" if cutoff is None else f", latency cut-off {cutoff:g}")
        numbers = {"lut": design["lut"] if design["lut_sites"] is None else design["lut_sites"], "ff": design["ff"], "dsp": design["dsp"]}
        latency_ns = None if None in (cycles, clock) else cycles * clock
        found.append(dataclasses.replace(row, source=source, latency_ns=latency_ns, **numbers))
    return found or [row]


def of_model(name: str, dataset: str, found: Measured, ebops: int | float) -> Row:
    """A model that was measured on all rows of a data set."""
    return Row(
        origin="measured here",
        name=name,
        dataset=dataset,
        rows=f"all {markup.whole(found.rows)} rows" + (", training rows among them" if found.training_rows else ""),
        **_scored(found.score, found.found, found.rows, found.unit),
        ebops=ebops,
        source="exact evaluator",
        training_rows=found.training_rows,
    )


def _scored(score: AbstractScore, found: Mapping[str, float | None], rows: int | None, unit: str) -> dict[str, Any]:
    """What a row says of a score that was measured here."""
    return {
        "kind": score.name,
        "score": _number(score.shown(found["score"])),
        "unit": score.unit_of(unit),
        "error": _number(None if (error := score.error(found, rows)) is None else score.shown(error)),
        "window": score.window,
        "shares": {name: found[name] for name in score.shares if found.get(name) is not None},
        "digits": score.digits,
    }


def compared(row: Row, others: Sequence[Row]) -> Row:
    """`row` beside the one of `others` that `RULE` names, with its difference where `RULE` has one; as it is where there is none."""
    for resource, unit in (("ebops", "EBOPs"), ("lut", "LUT")):
        mine = getattr(row, resource)
        near = [o for o in others if o.comparable and o.score is not None and o.head == row.head and mine and getattr(o, resource)]
        distance = {n: abs(math.log(mine / getattr(o, resource))) for n, o in enumerate(near)}
        within = [n for n in distance if distance[n] <= math.log(FACTOR)]
        chosen = [n for n in within if near[n].dataset == row.dataset] or within
        if chosen:
            other = near[min(chosen, key=distance.__getitem__)]
            cost = getattr(other, resource)
            beside = f"{other.name}, {other.dataset}, {other.rows}: {_score(other)} {other.unit}, {markup.whole(cost)} {unit}"
            row = dataclasses.replace(row, compared_with=beside, cost_ratio=mine / cost)
            if row.score is None or other.score is None or row.training_rows or (row.dataset, row.window) != (other.dataset, other.window):
                return row
            error = None if row.error is None else math.hypot(row.error, other.error or 0.0)
            return dataclasses.replace(row, difference=row.score - other.score, difference_error=error)
    return row


def _fitting(name: str, row: Row) -> Row:
    """The measured row, which is refused where its score is of another kind or unit than the table's, or its data set of another table."""
    labels = {p.label for table in (published.NAMES if name == "artifact" else (name,)) for p in published.read(table)}
    fits = published.name_for(row.dataset)
    if row.head in labels and (name == "artifact" or fits in (None, name)):
        return row
    other = f", but to table {fits}" if fits not in (None, name) else ""
    raise ValueError(f"{row.name} ({row.source}) has its {row.head} on {row.dataset}, which does not belong to table {name}{other}")


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
            source = f"{p.how}: {p.source}" if p.how != "measured here" else p.source
            score = published.scored(p)
            numbers = ("ebops", "lut", "dsp", "ff", "latency_ns", "lut_percent", "dsp_percent")
            yield Row(
                origin="artifact" if p.artifact else "published",
                name=p.name,
                dataset=p.dataset,
                rows=p.split,
                kind=score.name,
                score=float(p.shown) if p.shown else None,
                unit=score.unit_of("mrad"),
                error=None if (error := score.error({"score": p.score}, p.test_rows)) is None else score.shown(error),
                window=score.window,
                source=source if recipe is None else f"{source}; training: {recipe.mark}",
                shown=p.shown,
                comparable=p.kind in ("HGQ", "released network"),
                **{key: getattr(p, key) for key in numbers},
                **training,
            )


_LEFT = ("from", "network", "data set", "rows", "training", "source", "compared with")


def _cells(row: Row, scores: Sequence[str], shares: Sequence[str]) -> dict[str, str]:
    """By their heads; `scores` are those of the scores of all rows, `shares` names of their further shares."""
    digits = row.digits
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
        **{head: shown if head == row.head else "" for head in scores},
        **{f"{name} (%)": f"{100 * row.shares[name]:.2f}" if name in row.shares else "" for name in shares},
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
    return row.shown or f"{row.score:.{row.digits}f}"


def _number(value: int | float | None) -> float | None:
    """None of a value that is no number, too: what diverged has an empty cell."""
    return float(value) if value is not None and math.isfinite(value) else None


def _whole(number: int | float | None) -> str:
    return "" if number is None else markup.whole(number)


def _plain(value: Any) -> str:
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)
