"""Rival methods on the same network, data, steps and hardware cost: HGQ, learned widths of layers, HMQ, ILMPQ, pruning, uniform widths."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from experiments.earlier import EARLIER
from hgqjax import export, runs
from hgqjax import methods as methods_
from hgqjax.config import from_json
from hgqjax.data import muon
from hgqjax.files import write_atomically
from hgqjax.reports import seed_spread
from hgqjax.runs import folders
from hgqjax.runs.networks import Mlp, Tracker
from hgqjax.runs.sweep import Sweep
from hgqjax.scores import AbstractScore, Accuracy, Resolution
from hgqjax.training import devices
from hgqjax.training.front import pareto
from hgqjax.training.objective import Objective
from hgqjax.training.schedules import Target
from hgqjax.training.train import Config as Train

HGQ_OF_LAYERS = methods_.Hgq(weight_granularity="tensor", activation_granularity="tensor")
JETS_BETAS = (2e-6, 5e-6, 1.2e-5, 3e-5, 7e-5, 1.6e-4)
COLORS = ("#1b6ca8", "#59a5d8", "#c1440e", "#e8a33d", "#4a7c3f", "#8e5ba6", "#6b6b6b")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A method: the configurations that make its front together, each a method and what its members vary."""

    label: str
    variants: tuple[tuple[methods_.Method, dict[str, Any]], ...]


def _points(made: Callable[..., methods_.Method], changes: Sequence[dict[str, Any]]) -> tuple:
    return tuple((made(**change), {"betas": (0.0,)}) for change in changes)


def entries(task: str) -> dict[str, Entry]:
    """All methods by name, with penalties and targets for the network of `task`."""
    betas = JETS_BETAS if task == "jets" else (8e-6, 4e-5, 1.5e-4, 6e-4)
    budgets = (12e3, 20e3, 35e3, 60e3, 100e3, 160e3) if task == "jets" else (30e3, 50e3, 80e3, 130e3)
    ratios = [{"activation_bits": b} for b in (3, 4, 6)]
    sparsities = [{"bits": b, "sparsity": s} for b, s in ((6, 0.5), (6, 0.75), (6, 0.9))]
    return {
        "hgq": Entry("HGQ, every value", ((methods_.Hgq(), {"betas": betas}),)),
        "hgq_layers": Entry("learned widths of layers", ((HGQ_OF_LAYERS, {"betas": betas}),)),
        "hmq": Entry("HMQ", ((methods_.Hmq(), {"points_at": budgets}),)),
        "hmq_channel": Entry("HMQ, each neuron", ((methods_.Hmq(granularity="channel"), {"points_at": budgets}),)),
        "ilmpq": Entry("ILMPQ 60:35:5", _points(methods_.Ilmpq, ratios)),
        "pruning": Entry("pruning, uniform", _points(methods_.Pruning, sparsities)),
        "uniform": Entry("uniform", _points(methods_.Uniform, [{"bits": b} for b in (3, 4, 6, 8)])),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which methods, on what, for how long."""

    task: Literal["jets", "muon"] = "jets"
    """jets: 64-32-32-5 on the embedded rows; muon: the tracker on simulated tracks."""
    methods: tuple[str, ...] = ("hgq", "hgq_layers", "hmq", "hmq_channel", "ilmpq", "pruning", "uniform")
    """Their names."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Initialisations of each; they make the bands."""
    epochs: int = 30
    """Passes over the rows, the same for every method (search and tuning of HMQ together)."""
    rows: int | None = 60_000
    """Rows of the data set."""
    output: Path | None = None
    """Runs, figure and tables, by default results/methods_<task>; methods that are there already are not trained again."""

    def __post_init__(self):
        if unknown := set(self.methods) - set(entries(self.task)):
            raise ValueError(f"methods has {sorted(unknown)[0]!r}; legal are {', '.join(entries(self.task))}")
        if self.epochs < 2 or self.epochs % 2:
            raise ValueError(f"epochs is {self.epochs}; an even number of at least 2 is needed")

    @property
    def score(self) -> AbstractScore:
        """What the networks are compared by."""
        return Accuracy() if self.task == "jets" else Resolution(window=30.0)

    @property
    def label(self) -> str:
        """Name and unit of the score."""
        return self.score.label(muon.UNIT)

    def sweep(self, method: methods_.Method, vary: dict[str, Any]) -> Sweep:
        """The sweep of a variant."""
        jets = self.task == "jets"
        objective = Objective(score=self.score)
        train = Train(epochs=self.epochs, epochs_per_check=2, batch_size=512 if jets else 1024, objective=objective, **EARLIER)
        if "points_at" in vary:
            train = dataclasses.replace(train, penalty=Target())
        network = (Mlp if jets else Tracker)(method=method)
        common = {"data": self.task, "rows": self.rows, "model": network, "train": train, "seeds": self.seeds, "each_seed": True}
        return Sweep(**common, points=8, within=0.25 if jets else 3.0, **vary)


def run(config: Config) -> None:
    """Trains what is missing, then writes points.csv, table.md and methods.png, and prints the table."""
    devices.use_cores()
    output = config.output or Path("results") / f"methods_{config.task}"
    rows = []
    for name in config.methods:
        entry = entries(config.task)[name]
        for number, (method, vary) in enumerate(entry.variants):
            sweep = config.sweep(method, vary)
            folder = _finished(output / name / str(number), sweep) or runs.run(sweep, name=f"{name}/{number}", root=output)
            rows += [row | {"method": name} for row in _measured(folder)]
    frame = pl.DataFrame(rows)
    write_atomically(output / "points.csv", frame.write_csv())
    fronts = {name: _fronts(frame.filter(pl.col("method") == name), config.score) for name in config.methods}
    text = _table(config, fronts)
    write_atomically(output / "table.md", text)
    _draw(config, fronts, output)
    print(f"{text}\n{output}/methods.png")


def _finished(place: Path, sweep: Sweep) -> Path | None:
    """A finished run of this configuration."""
    for folder in sorted(place.glob("*")):
        if (folder / "manifest.json").exists():
            manifest = folders.Run.open(folder).manifest
            if manifest["status"] == "done" and dataclasses.replace(from_json(Sweep, manifest["config"]), groups=None) == sweep:
                return folder
    return None


def _measured(folder: Path) -> list[dict[str, Any]]:
    """The points of a run, with their adder-graph cost, which is kept beside the run."""
    found = pl.read_csv(folder / "summary.csv")
    kept = folder / "adder_costs.csv"
    if not kept.exists():
        costs = {point: _adder_cost(folder / path) for point, path in zip(found["point"], found["model"], strict=True)}
        there = {point: cost for point, cost in costs.items() if cost is not None}
        write_atomically(kept, pl.DataFrame({"point": list(there), "adder_cost": list(there.values())}).write_csv())
    names = ["point", "seed", "epoch", "ebops", "luts_predicted", "val_score", "test_score", "adder_cost"]
    return found.join(pl.read_csv(kept), on="point").select(names).with_columns(run=pl.lit(folder.name)).to_dicts()


def _adder_cost(model: Path) -> float | None:
    """Adder-graph cost; None of a network that collapsed to a constant, which has no hardware."""
    try:
        return float(export.adder_graph(export.ModelDescription.load(model), max_cost=math.inf).cost)
    except export.ExportError:
        return None


def _fronts(frame: pl.DataFrame, score: AbstractScore) -> dict[str, dict[int, pl.DataFrame]]:
    """For each cost the front of each seed, by validation score and rising cost."""
    fronts: dict[str, dict[int, pl.DataFrame]] = {}
    for cost in ("ebops", "adder_cost"):
        of_seeds = ((seed, frame.filter(pl.col("seed") == seed)) for seed in sorted(frame["seed"].unique()))
        fronts[cost] = {seed: own[pareto(score.merit(own["val_score"]).to_list(), own[cost].to_list())] for seed, own in of_seeds}
    return fronts


def _at(front: pl.DataFrame, cost: str, budget: float) -> float | None:
    """Test score of the point that the validation rows choose within a budget."""
    within = front.filter(pl.col(cost) <= budget)  # of a front by rising cost the last one is the best
    return within["test_score"][-1] if len(within) else None


def _budgets(fronts: dict[str, dict], cost: str) -> list[float]:
    """Round costs, 1, 2 or 5 times a power of ten, from the least to the greatest that any front has."""
    values = [v for of_seeds in fronts.values() for front in of_seeds[cost].values() for v in front[cost]]
    low, high = math.floor(math.log10(max(min(values), 1.0))), math.ceil(math.log10(max(values)))
    every = [m * 10.0**n for n in range(low, high + 1) for m in (1, 2, 5)]
    return [b for b in every if min(values) <= b <= 2 * max(values)]


def _table(config: Config, fronts: dict[str, dict]) -> str:
    """Markdown: the score of each method at round costs, mean and standard deviation over the seeds."""
    what = f"{len(config.seeds)} seeds, {config.epochs} epochs; test {config.label}"
    lines = [f"{what}: mean ± standard deviation over the seeds; - where a seed has none."]
    for cost, name in (("ebops", "EBOPs"), ("adder_cost", "adder-graph cost")):
        budgets = _budgets(fronts, cost)
        lines += ["", f"| within {name} | " + " | ".join(f"{b:,.0f}".replace(",", " ") for b in budgets) + " |"]
        lines += ["|---|" + "---:|" * len(budgets)]
        for method, of_seeds in fronts.items():
            cells = []
            for budget in budgets:
                found = [_at(front, cost, budget) for front in of_seeds[cost].values()]
                missing = len(found) < len(config.seeds) or None in found
                cells.append(
                    "-" if missing else f"{config.score.shown(np.mean(found)):.2f} ± {config.score.shown(seed_spread.spread(found)):.2f}"
                )
            lines.append(f"| {entries(config.task)[method].label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _draw(config: Config, fronts: dict[str, dict], output: Path) -> None:
    """The fronts: mean over the seeds as a line, least to greatest as a band; points of the seeds as dots."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
    for axes, (cost, name) in zip(panels, (("ebops", "EBOPs"), ("adder_cost", "adder-graph cost, LUTs")), strict=True):
        for (method, of_seeds), color in zip(fronts.items(), COLORS, strict=False):
            costs = np.unique(np.concatenate([front[cost].to_numpy() for front in of_seeds[cost].values()]))
            lines = np.array([[_at(f, cost, c) if f[cost].min() <= c else np.nan for c in costs] for f in of_seeds[cost].values()], float)
            there = ~np.isnan(lines).any(axis=0)
            shown = config.score.shown(lines[:, there])
            axes.step(costs[there], shown.mean(axis=0), where="post", color=color, label=entries(config.task)[method].label)
            axes.fill_between(costs[there], shown.min(axis=0), shown.max(axis=0), step="post", color=color, alpha=0.2, linewidth=0)
            for front in of_seeds[cost].values():
                axes.plot(front[cost], config.score.shown(front["test_score"]), ".", color=color, markersize=3)
        axes.set_xscale("log")
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"test {config.label}")
    panels[0].legend(fontsize=8)
    figure.savefig(output / "methods.png", dpi=150)
    plt.close(figure)
