"""Fronts of several runs beside each other: one figure, hypervolumes, scores at fixed costs, and in what their configurations differ."""

import dataclasses
import io
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hgqjax.config import to_json
from hgqjax.files import write_atomically
from hgqjax.reports import front_figure, markup, reader, seed_spread, style
from hgqjax.reports.reader import ReportError, RunView, require
from hgqjax.training.front import chosen_within, hypervolume, pareto

COLORS = (style.BLUE, style.VERMILLION, style.GREEN, style.ORANGE, style.PURPLE, style.SKY, style.INK)
MARKERS = ("o", *front_figure.MARKERS)
SUFFIXES = (".png", ".svg", ".pdf")
AT = 4
"""So many budgets are chosen where none is given."""


@dataclasses.dataclass(frozen=True)
class Front:
    """A run under the letters that the tables and the figure give it: frozen points on its front of validation rows, and its seeds' fronts.

    Validation scores and exact costs choose and rise; `scores` are those of the test rows, NaN where they are no finite numbers.
    """

    name: str
    run: RunView
    val_scores: list[float]
    scores: list[float]
    errors: list[float | None]
    costs: list[float]
    by_seed: dict[int, tuple[list[float], list[float]]]

    @property
    def every_cost(self) -> list[float]:
        """Of the points, and of the seeds' fronts."""
        return self.costs + [cost for _, costs in self.by_seed.values() for cost in costs]

    @property
    def shown(self) -> list[int]:
        """The points whose test score is a finite number."""
        return [n for n, score in enumerate(self.scores) if math.isfinite(score)]

    def at(self, budget: float) -> int | None:
        """The point that the validation rows choose within a budget; None where there is none, or its test score is no number."""
        chosen = chosen_within([self.run.score.merit(score) for score in self.val_scores], self.costs, budget)
        return chosen if chosen in self.shown else None


@dataclasses.dataclass(frozen=True)
class Reference:
    """Reference point of the hypervolume; `zero` stands for a cost of 0 on the logarithmic axis."""

    cost: float
    score: float
    zero: float


def compare(
    runs: Sequence[Path],
    output: Path = Path("compare.png"),
    at: Sequence[float] = (),
    reference: tuple[float, float] | None = None,
) -> str:
    """Draws the fronts of `runs` into one figure, over an older one, and returns the tables as Markdown.

    Validation score and exact cost of the frozen models choose the points of a front and the one at a budget; shown is the test score of
    what they choose. Costs are those of the objective (EBOPs, LUTs or bits per weight).

    Args:
      runs: run folders of one task, data set and cost, two or more.
      output: the figure, .png, .svg or .pdf.
      at: budgets of the cost; by default a few of the numbers 1, 2, 5, 10, ... that the fronts have in common.
      reference: cost, and score as people read it (accuracy in %, or resolution), of the hypervolume's reference point; by default
        twice the largest cost of the fronts, and a score below their worst one by a tenth of the span to their best one (where all are
        equal by 1 point of accuracy, or a tenth of the resolution), so that each point counts.

    Raises: ReportError, one sentence, for a folder that is no sound run, one without points, or runs that do not compare; ValueError for
      arguments that are out of range; nothing is written then.
    """
    _check_arguments(runs, output, at, reference)
    fronts = [_front(name, run) for name, run in zip(_names(runs), map(reader.read, runs), strict=True)]
    for front in fronts[1:]:
        check_comparable(fronts[0].run, front.run)
    budgets = sorted(at) or budgets_for([_on_axis(front.costs, _zero(fronts)) for front in fronts])
    corner = _reference(fronts, reference)
    parts = [_head(fronts, corner), _scores(fronts, budgets, corner), _of_seeds(fronts, budgets, corner), _differences(fronts)]
    parts.append(f"Figure: {draw(fronts, output)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def check_comparable(first: RunView, other: RunView) -> None:
    """Raises ReportError, naming what differs, where two runs do not have the same task, data and cost."""
    for what, of in (("task", _task), ("data", _data), ("cost", _cost)):
        a, b = of(first), of(other)
        if a != b:
            key = next(key for key in (*a, *b) if a.get(key) != b.get(key))
            where = f"{what} differs" if key == what else f"{what} differs in {key}"
            raise ReportError(
                f"{other.folder} cannot be compared with {first.folder}: their {where} ({b.get(key, 'none')}, and {a.get(key, 'none')})"
            )


def budgets_for(costs: Sequence[Sequence[float]]) -> list[float]:
    """At most `AT` of the numbers 1, 2, 5, 10, ... from where every front has a point to where the last one ends, or the next one.

    >>> budgets_for([[700.0, 90_000.0], [1_500.0, 40_000.0]]), budgets_for([[0.3], [0.4]])
    ([2000.0, 5000.0, 20000.0, 50000.0], [0.5])
    """
    low, high = max(map(min, costs)), max(map(max, costs))
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    numbers = [number for p in powers for m in (1, 2, 5) if (number := float(f"{m}e{p}")) >= low]
    found = [number for number in numbers if number <= high]
    if len(found) <= AT:
        return found or numbers[:1]
    return [found[round(n * (len(found) - 1) / (AT - 1))] for n in range(AT)]


def differences(configs: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Fields, with dots, in which configurations differ, with the value of each, "" where it has none.

    >>> differences([{"train": {"epochs": 4, "rate": 1}}, {"train": {"epochs": 8, "rate": 1}}])
    {'train.epochs': [4, 8]}
    """
    flat = [_flat(config) for config in configs]
    fields = dict.fromkeys(field for config in flat for field in config)
    values = {field: [config.get(field, "") for config in flat] for field in fields}
    return {field: found for field, found in values.items() if any(value != found[0] for value in found)}


def draw(fronts: Sequence[Front], output: Path) -> Path:
    """One figure: the test scores of each run's front with statistical errors; thin steps: its seeds, on validation rows."""
    matplotlib, run, zero = require("matplotlib"), fronts[0].run, _zero(fronts)
    with matplotlib.rc_context(style.STYLE):
        figure = style.figure(4.4)
        axes, lines = figure.add_subplot(), []
        for n, front in enumerate(fronts):
            color, marker = COLORS[n % len(COLORS)], MARKERS[n % len(MARKERS)]
            points, errors = _on_axis([front.costs[n] for n in front.shown], zero), [front.errors[n] for n in front.shown]
            shown = [float(run.score.shown(front.scores[n])) for n in front.shown]
            lines += axes.plot(points, shown, color=color, marker=marker, markersize=5, linewidth=1.2, zorder=3)
            if None not in errors:
                axes.errorbar(
                    points, shown, [run.score.shown(error) for error in errors], fmt="none", ecolor=color, elinewidth=0.9, capsize=1.8
                )
            for scores, costs in front.by_seed.values() if len(front.by_seed) > 1 else ():
                within = [m for m, cost in enumerate(costs) if min(front.costs) <= cost <= max(front.costs)]
                values = [float(run.score.shown(scores[m])) for m in within]
                axes.step(_on_axis([costs[m] for m in within], zero), values, where="post", color=color, linewidth=0.6, alpha=0.6)
        axes.set_xscale("log")
        ticker = require("matplotlib.ticker")
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: _amount(value)))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        low, high = axes.get_xlim()
        if high < 300 * low:
            axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
        axes.set_xlabel(_cost_label(run))
        axes.set_ylabel(f"test {run.score_label}")
        axes.grid(True)
        thin = "; thin: validation rows of each seed" if any(len(front.by_seed) > 1 for front in fronts) else ""
        names = [front.name for front in fronts]  # given, as a label of a line that begins with _ has no entry
        figure.legend(lines, names, loc="outside upper center", ncols=min(3, len(fronts)), title=run.dataset + thin)
        buffer = io.BytesIO()
        stamp = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[output.suffix.lower()]
        figure.savefig(buffer, format=output.suffix[1:].lower(), dpi=150, metadata=stamp)
    write_atomically(output, buffer.getvalue())
    return output


def _check_arguments(runs: Sequence[Path], output: Path, at: Sequence[float], reference: tuple[float, float] | None) -> None:
    if len(runs) < 2:
        raise ValueError(f"{len(runs)} run folders are given; two or more are needed")
    if len({Path(run).resolve() for run in runs}) < len(runs):
        raise ValueError("a run folder is given twice")
    if output.suffix.lower() not in SUFFIXES:
        raise ValueError(f"the figure is {output}; legal endings are {', '.join(SUFFIXES)}")
    if not output.parent.is_dir():
        raise ValueError(f"there is no folder {output.parent} for the figure")
    if not all(0 < budget < math.inf for budget in at):
        raise ValueError(f"at is {' '.join(f'{budget:g}' for budget in at)}; each must be a finite number above 0")
    if reference is not None and not (0 < reference[0] < math.inf and math.isfinite(reference[1])):
        raise ValueError(f"reference is {reference[0]:g} {reference[1]:g}; a finite cost above 0 and a finite score are needed")


def _names(runs: Sequence[Path]) -> list[str]:
    """The names of the experiments where they differ, else those of the folders, else whole paths."""
    folders = [Path(run).resolve() for run in runs]
    for names in ([f.parent.name for f in folders], [f.name for f in folders], [f"{f.parent.name}/{f.name}" for f in folders]):
        if len(set(names)) == len(names):
            return names
    return [str(run) for run in runs]


def _front(name: str, run: RunView) -> Front:
    if not run.points:
        raise ReportError(f"{run.folder} has no points yet")
    costs = [p.cost for p in run.points]
    kept = [n for n in pareto([run.score.merit(p.val_score) for p in run.points], costs) if math.isfinite(costs[n])]
    points = [run.points[n] for n in kept]
    scores = [p.test_score if math.isfinite(p.test_score) else math.nan for p in points]
    errors = [error if error is not None and math.isfinite(error) else None for error in map(run.error, points)]
    front = Front(name, run, [p.val_score for p in points], scores, errors, [costs[n] for n in kept], seed_spread.seed_fronts(run))
    if not front.shown:
        raise ReportError(f"{run.folder} has no point with a finite score and cost")
    return front


def _reference(fronts: Sequence[Front], given: tuple[float, float] | None) -> Reference:
    score, zero = fronts[0].run.score, _zero(fronts)
    if given is not None:
        return Reference(given[0], given[1] / score.factor, zero)
    merits = [score.merit(front.scores[n]) for front in fronts for n in front.shown]
    worst, best = min(merits), max(merits)
    margin = (best - worst) / 10 or score.margin(worst)
    return Reference(2 * max(cost for front in fronts for cost in _on_axis(front.costs, zero)), score.merit(worst - margin), zero)


def _zero(fronts: Sequence[Front]) -> float:
    """What stands for a cost of 0 on a logarithmic axis: a tenth of the least other cost."""
    return min((cost for front in fronts for cost in front.every_cost if cost > 0), default=10.0) / 10


def _on_axis(costs: Sequence[float], zero: float) -> list[float]:
    return [cost or zero for cost in costs]


def _volume(run: RunView, scores: Sequence[float], costs: Sequence[float], reference: Reference) -> float:
    """Score as people read it (points of accuracy, or units of y) times decades of cost."""
    logs = [math.log10(cost) for cost in _on_axis(costs, reference.zero)]
    *merits, least = (run.score.shown(run.score.merit(score)) for score in (*scores, reference.score))
    return hypervolume(merits, logs, least, math.log10(reference.cost))


def _head(fronts: Sequence[Front], reference: Reference) -> str:
    run = fronts[0].run
    unit, rows = run.score.unit_of_differences(run.unit), run.rows()
    sentences = [
        f"Fronts on {run.dataset}"
        + (f", {markup.whole(rows)} test rows" if rows else "")
        + f": {run.score.plural} of frozen models, exact costs "
        f"({run.cost_unit}).",
        "Validation score and cost choose the points of a front, and the best one at a budget or less; shown is the test score of what "
        "they choose, with its statistical error; nothing is interpolated.",
        "Each error is that of a score by itself: as all scores are of the same test rows, chance moves their differences by less than the "
        "errors suggest.",
        f"Hypervolume: the area that the test scores of a front dominate, in {unit} x decades of {run.cost_unit} (logarithmic axis), up to "
        f"the reference point of {_amount(reference.cost)} {run.cost_unit} and {run.in_words(reference.score)}.",
    ]
    if any(0 in front.every_cost for front in fronts):
        sentences.append(f"On that axis a cost of 0 stands at {_amount(reference.zero)}.")
    return " ".join(sentences)


def _scores(fronts: Sequence[Front], budgets: Sequence[float], reference: Reference) -> str:
    run = fronts[0].run
    heads = ["run", "points", "seeds", "hypervolume", *(f"{run.score_label} at ≤ {_amount(budget)}" for budget in budgets)]
    rows = []
    for front in fronts:
        volume = _volume(run, front.scores, front.costs, reference)
        count = str(len(front.by_seed)) if front.by_seed else ""
        best = [_shown(front, front.at(budget)) for budget in budgets]
        rows.append([front.name, str(len(front.shown)), count, _number(run, volume), *best])
    return markup.markdown(heads, rows, ["run"])


def _of_seeds(fronts: Sequence[Front], budgets: Sequence[float], reference: Reference) -> str:
    """What the seed changes: each seed's own front of validation rows while training, mean and standard deviation."""
    several = [front for front in fronts if len(front.by_seed) > 1]
    groups = _groups(fronts)
    if not several and not groups:
        return ""
    run = fronts[0].run
    heads = ["seeds of", "rows", "hypervolume", *(f"{run.score_label} at ≤ {_amount(budget)}" for budget in budgets)]
    rows = []
    for front in several:
        volumes = [_volume(run, scores, costs, reference) for scores, costs in front.by_seed.values()]
        best = [seed_spread.best_of_each(front.by_seed, budget) for budget in budgets]
        rows.append([front.name, "validation", *_means(run, volumes, best)])
    for group in groups:
        volumes = [_volume(run, front.scores, front.costs, reference) for front in group]
        best = [[f.scores[n] for f in group if (n := f.at(budget)) is not None] for budget in budgets]
        rows.append([", ".join(front.name for front in group), "test", *_means(run, volumes, best)])
    note = (
        "Mean ± standard deviation over seeds, each with a front of its own. Of the seeds of one run that front is of validation rows and "
        "estimated costs of all checks, as summary.csv may keep one front of all seeds together; of runs of one seed and one "
        "commit that differ in the seed only it is the one above."
    )
    return f"{markup.markdown(heads, rows, ['seeds of', 'rows'])}\n\n{note}"


def _groups(fronts: Sequence[Front]) -> list[list[Front]]:
    """Runs of one seed each that differ in nothing else, code included, two or more together; none where a seed is there twice."""
    groups: dict[str, list[tuple[int, Front]]] = {}
    for front in fronts:
        config = dict(front.run.manifest["config"])
        own = config.pop("seeds", [])
        if len(own) == 1:
            groups.setdefault(json.dumps([config, front.run.manifest.get("commit")], sort_keys=True), []).append((own[0], front))
    distinct = [group for group in groups.values() if len({seed for seed, _ in group}) == len(group)]
    return [[front for _, front in group] for group in distinct if len(group) > 1]


def _differences(fronts: Sequence[Front]) -> str:
    manifests = [front.run.manifest for front in fronts]
    found = differences([m["config"] for m in manifests]) | differences([{"commit": (m.get("commit") or "")[:8]} for m in manifests])
    if not found:
        return "The configurations are the same."
    rows = [[field, *map(_text, values)] for field, values in found.items()]
    return "Configurations differ in:\n\n" + markup.markdown(["field", *(front.name for front in fronts)], rows, ["field"])


def _shown(front: Front, point: int | None) -> str:
    if point is None:
        return "none"
    run, error = front.run, front.errors[point]
    return run.score.cell(front.scores[point], error)


def _means(run: RunView, volumes: Sequence[float], best: Sequence[Sequence[float]]) -> list[str]:
    """Mean and standard deviation of hypervolumes and, at each budget, scores; of how many, where some have no score."""
    cells = []
    for values in (volumes, *([run.score.shown(score) for score in scores] for scores in best)):
        spread = f" ± {_number(run, seed_spread.spread(values))}" if len(values) > 1 else ""
        count = f" ({len(values)} of {len(volumes)})" if len(values) < len(volumes) else ""
        cells.append(_number(run, statistics.fmean(values)) + spread + count if values else "none")
    return cells


def _number(run: RunView, value: float) -> str:
    """A score as people read it, its error or a hypervolume, with the digits of their run."""
    return f"{value:.{run.score.digits}f}"


def _amount(cost: float) -> str:
    """A cost, which may be a few bits per weight: a number below 100 with up to three digits, else a whole one."""
    return f"{cost:.3g}" if cost < 100 else markup.whole(cost)


def _cost_label(run: RunView) -> str:
    unit = run.cost_unit
    return {"EBOPs": "effective bit operations per inference (EBOPs)", "LUTs": "predicted LUTs"}.get(unit, unit)


def _task(run: RunView) -> dict[str, Any]:
    return {"task": run.score.name, **to_json(run.score)}


def _data(run: RunView) -> dict[str, Any]:
    data = run.manifest["data"]
    return {"name": data["name"], "sha256": data.get("sha256"), "test rows": data.get("rows", {}).get("test"), "unit": data.get("unit")}


def _cost(run: RunView) -> dict[str, Any]:
    """The objective's cost model, by its fields."""
    return {"model": run.cost_unit, **_flat(to_json(run.train.objective.cost))}


def _flat(value: Any, field: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {key: v for name, inner in value.items() for key, v in _flat(inner, f"{field}.{name}" if field else name).items()}
    return {field: value}


def _text(value: Any) -> str:
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else f"{value:g}" if isinstance(value, float) else str(value)
