"""Rival methods on the same network, data, steps and hardware cost, each with the learning rate that a search of equal size chose."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from experiments.methods_entries import Entry, Task, entries
from experiments.methods_table import MOST_EBOPS, best_rate, fronts_of, measured, points, synthesised, table
from hgqjax import runs
from hgqjax.config import ConfigError, from_json
from hgqjax.data import muon
from hgqjax.files import write_atomically
from hgqjax.methods import Method, Uniform
from hgqjax.resources import Ebops
from hgqjax.runs import folders
from hgqjax.runs.networks import Mlp, Tracker
from hgqjax.runs.sweep import Sweep
from hgqjax.scores import AbstractScore, Accuracy, Resolution
from hgqjax.training import devices
from hgqjax.training.objective import Objective
from hgqjax.training.schedules import Target
from hgqjax.training.train import Config as Train

TRIAL_SEED = 1000
"""Of the search for a learning rate: none of those that are compared."""
START_BITS = 12
"""Of weights and activations of the network that a warm method starts from."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Which methods, on what, for how long."""

    task: Task = "jets"
    """jets: 64-32-32-5 on the embedded rows; muon: the tracker on simulated tracks."""
    methods: tuple[str, ...] = ()
    """Their names; by default all of the task."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Initialisations of each; they make the bands."""
    epochs: int = 24
    """Passes over the rows, the same for every method: search and tuning together, and the training of a network to start from."""
    rows: int | None = 60_000
    """Rows of the data set."""
    rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2)
    """Learning rates that are tried for each method, with one further seed and half of the epochs; a single one is taken as it is."""
    synthesize: tuple[float, ...] = (5e3, 20e3)
    """Adder-graph costs; the best network of the first seed within each of them goes through Yosys, method by method. Empty: none."""
    output: Path | None = None
    """Runs, figure and tables, by default results/methods_<task>; methods that are there already are not trained again."""

    def __post_init__(self):
        known = entries(self.task)
        if unknown := set(self.methods) - set(known):
            raise ValueError(f"methods has {sorted(unknown)[0]!r}; legal are {', '.join(known)}")
        if self.epochs < 8 or self.epochs % 8:
            raise ValueError(f"epochs is {self.epochs}; a multiple of 8 is needed, as halves of halves are trained, two epochs a check")
        if not self.rates or not all(0 < rate < 1 for rate in self.rates):
            raise ValueError(f"rates is {self.rates}; at least one is needed, each within 0 and 1")
        if not self.methods:
            object.__setattr__(self, "methods", tuple(known))

    @property
    def score(self) -> AbstractScore:
        """What the networks are compared by."""
        return Accuracy() if self.task == "jets" else Resolution(window=30.0)

    def sweep(self, method: Method, vary: dict[str, Any], rate: float, seeds: tuple[int, ...], epochs: int, start: str = "") -> Sweep:
        """The sweep of a variant; `vary` may hold fields of `Sweep` and, as "train", those of its training."""
        jets = self.task == "jets"
        objective = Objective(score=self.score, cost=Ebops())
        train = Train(epochs=epochs, epochs_per_check=2, batch_size=512 if jets else 1024, objective=objective)
        if "points_at" in vary:
            train = dataclasses.replace(train, penalty=Target())
        train = dataclasses.replace(train, **vary.get("train", {}))
        network = (Mlp if jets else Tracker)(method=method)
        common = {"data": self.task, "rows": self.rows, "model": network, "train": train, "learning_rate": rate, "start": start}
        own = {"within": 0.25 if jets else 3.0} | {name: value for name, value in vary.items() if name != "train"}
        return Sweep(**common, seeds=seeds, each_seed=True, points=8, **own)


def run(config: Config) -> None:
    """Trains what is missing, then writes points.csv, table.md and a figure for each cost, and prints the tables."""
    from experiments.methods_figure import draw

    devices.use_cores()
    devices.use_cache()
    output = config.output or Path("results") / f"methods_{config.task}"
    known = entries(config.task)
    rows, rates = [], {}
    for name in config.methods:
        rates[name] = _rate(config, output, name)
        made = _runs(config, output, name, rates[name], config.seeds, config.epochs)
        found = [row for folder in made for row in measured(folder)]
        if not found:
            raise ConfigError(f"method {name} has no network of at most {MOST_EBOPS:g} EBOPs; leave it out, or give more epochs")
        rows += [row | {"method": name, "model": str(Path(row["model"]).relative_to(output))} for row in found]
    frame = pl.DataFrame(rows)
    write_atomically(output / "points.csv", frame.write_csv())
    fronts = {name: fronts_of(frame.filter(pl.col("method") == name), config.score) for name in config.methods}
    label = config.score.label(muon.UNIT)
    what = f"{len(config.seeds)} seeds, {config.epochs} epochs; test {label}"
    parts = [f"{what}: mean ± standard deviation over the seeds; - where a seed has none.\n"]
    for head, post in (("Trained with their widths", False), ("Post-training", True)):
        if chosen := {known[name].label: front for name, front in fronts.items() if known[name].post is post}:
            parts += [f"{head}:\n", table(chosen, config.score, len(config.seeds))]
    if config.synthesize:
        named = frame.with_columns(label=pl.col("method").replace_strict({name: known[name].label for name in config.methods}))
        parts += ["LUT sites by Yosys, of one seed:\n", synthesised(named, config.score, config.synthesize, output)]
    parts += ["Learning rates: " + ", ".join(f"{known[name].label} {rate:g}" for name, rate in rates.items()) + ".\n"]
    text = "\n".join(parts)
    write_atomically(output / "table.md", text)
    figures = draw({known[name].label: front for name, front in fronts.items()}, config.score, label, output)
    print(f"{text}\n{' '.join(map(str, figures))}")


def _rate(config: Config, output: Path, name: str) -> float:
    """The learning rate of a method: the best of `rates` on validation rows, by one further seed and half of the epochs."""
    if len(config.rates) == 1:
        return config.rates[0]
    found = {}
    for rate in config.rates:
        made = _runs(config, output / "rates", name, rate, (TRIAL_SEED,), config.epochs // 2)
        found[rate] = [row for folder in made for row in points(folder).to_dicts()]
    return best_rate(found, config.score)


def _runs(config: Config, output: Path, name: str, rate: float, seeds: tuple[int, ...], epochs: int) -> list[Path]:
    """The runs of a method at a learning rate: those that are there already, or are made now."""
    sweeps = _sweeps(config, output, entries(config.task)[name], name, rate, seeds, epochs)
    return [_run(output, place, sweep) for place, sweep in sweeps]


def _sweeps(
    config: Config, output: Path, entry: Entry, name: str, rate: float, seeds: tuple[int, ...], epochs: int
) -> Iterator[tuple[str, Sweep]]:
    """Place and configuration of each run of a method; a warm one has a run for each seed, from that seed's trained network."""
    for number, (method, vary) in enumerate(entry.variants):
        place = f"{name}/{number}_{rate:g}"
        if not entry.warm:
            yield place, config.sweep(method, vary, rate, seeds, epochs)
            continue
        for seed in seeds:
            start = _trained(config, output, seed, epochs // 2)
            yield f"{place}_{seed}", config.sweep(method, vary, rate, (seed,), epochs // 2, str(start))


def _trained(config: Config, output: Path, seed: int, epochs: int) -> Path:
    """A network of `START_BITS` bits everywhere, trained with this seed."""
    sweep = config.sweep(Uniform(bits=START_BITS), {"betas": (0.0,)}, 1e-2, (seed,), epochs)
    folder = _run(output, f"start/{epochs}_{seed}", sweep)
    found = pl.read_csv(folder / "summary.csv")
    merits = config.score.merit(found["val_score"].to_numpy())
    return folder / found["model"][int(merits.argmax())]


def _run(output: Path, place: str, sweep: Sweep) -> Path:
    """A finished run of this configuration, or a new one."""
    for folder in sorted((output / place).glob("*")):
        if (folder / "manifest.json").exists():
            manifest = folders.Run.open(folder).manifest
            kept = dataclasses.replace(from_json(Sweep, manifest["config"]), groups=None)
            if manifest["status"] == "done" and kept == dataclasses.replace(sweep, start=kept.start):  # which has become absolute
                return folder
    return runs.run(sweep, name=place, root=output)
