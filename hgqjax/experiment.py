"""From a configuration to a run folder: data, sweep, frozen and calibrated points, exact EBOPs, test scores, verified projects."""

import dataclasses
import itertools
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from hgqjax import data as data_
from hgqjax import export, fixed_point, layers, population, resources, results, schedules, training
from hgqjax.config import ConfigError, from_json
from hgqjax.export.hls4ml import check_settings
from hgqjax.export.hls4ml_config import write_config
from hgqjax.granularity import Granularity
from hgqjax.quantizers import Kif


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mlp:
    """A multilayer perceptron with relu and learned bit-widths."""

    hidden: tuple[int, ...] = (64, 32, 32)
    """Neurons of each hidden layer."""
    batch_norm: bool = True
    """Fold a batch norm into every layer."""
    weight_bits: float = 3.0
    """Magnitude bits that each weight starts with."""
    activation_fraction_bits: float = 3.0
    """Fractional bits that each activation starts with."""
    weight_overflow: fixed_point.Overflow = "WRAP"
    """WRAP: integer bits follow each weight's magnitude; SAT, SAT_SYM: they are trained."""
    activation_overflow: fixed_point.Overflow = "WRAP"
    """WRAP: integer bits follow the observed range; SAT, SAT_SYM: they are trained, and the hardware clips."""
    weight_granularity: Granularity = "element"
    """Which weights share a width: element (none), channel (those of a neuron), tensor (all of a layer)."""
    activation_granularity: Granularity = "element"
    """Which activations share a width."""

    def __post_init__(self):
        if any(n < 1 for n in self.hidden):
            raise ValueError(f"hidden is {self.hidden}; positive numbers of neurons are needed")

    def build(self, n_in: int, n_out: int) -> Callable[..., layers.Module]:
        """The function that makes the model from flax random streams."""
        weight = Kif(b0=self.weight_bits, overflow=self.weight_overflow)
        return lambda rngs: layers.mlp(
            (n_in, *self.hidden, n_out),
            rngs=rngs,
            batch_norm=self.batch_norm,
            input_quantizer=Kif(f0=self.activation_fraction_bits, overflow=self.activation_overflow),
            kernel_quantizer=weight,
            bias_quantizer=weight,
            input_granularity=self.activation_granularity,
            kernel_granularity=self.weight_granularity,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """One sweep: which data, which network, which penalties; everything that its numbers depend on."""

    data: str = "jets"
    """"jets" (embedded, re-simulated), "openml" (OpenML 42468, downloaded), or the path of an arff, parquet, csv or npz file."""
    rows: int | None = None
    """Use the first so many rows only."""
    model: Mlp = Mlp()
    train: training.Config = training.Config()
    betas: tuple[float, ...] = (2e-6, 5e-6, 1.2e-5, 3e-5, 8e-5)
    """Penalty weights, loss per EBOP: one member of the sweep for each."""
    seeds: tuple[int, ...] = (0,)
    """Initialisations of each."""
    budgets: tuple[float, ...] = ()
    """EBOPs to reach, with the penalty schedule Budget: one member for each, instead of for each beta."""
    learning_rate: float = 1e-2
    """Peak learning rate of the weights."""
    points: int = 12
    """Points of the front that are frozen, calibrated, measured and saved, at most."""
    within: float = 0.1
    """Points whose validation accuracy is further below the best are left out: a collapsed network is no choice."""
    projects: int = 0
    """How many of these, spread over the front, become hls4ml projects, each checked word for word."""
    backend: str = "Vitis"
    """hls4ml back end of the projects: Vitis or Vivado."""
    strategy: str = "latency"
    """latency (multipliers) or distributed_arithmetic (adder graphs)."""

    def __post_init__(self):
        if not self.betas or not all(0 <= beta < math.inf for beta in self.betas):
            raise ValueError(f"betas is {self.betas}; at least one is needed, each a finite number of at least 0")
        if not self.seeds or not all(0 <= seed < 2**32 for seed in self.seeds):
            raise ValueError(f"seeds is {self.seeds}; at least one is needed, each within 0..2**32 - 1")
        if not all(0 < budget < math.inf for budget in self.budgets):
            raise ValueError(f"budgets is {self.budgets}; each must be a finite number above 0")
        if bool(self.budgets) != isinstance(self.train.penalty, schedules.Budget):
            raise ValueError("budgets and the penalty schedule Budget go together; give both or none")
        if not 0 < self.learning_rate < math.inf or self.points < 1 or not 0 <= self.projects <= self.points or not self.within >= 0:
            raise ValueError("a finite learning_rate > 0, points >= 1, 0 <= projects <= points and within >= 0 are needed")
        if self.train.objective.task != "classification":
            raise ValueError("sweeps on labelled rows are classifications; use hgqjax.population.sweep for other tasks")

    def members(self) -> tuple[training.Member, tuple[int, ...]]:
        """Arrays of what varies, and the seed of each member."""
        grid = list(itertools.product(self.budgets or self.betas, self.seeds))
        vary = np.array([value for value, _ in grid], np.float32)
        beta = np.full(len(grid), self.betas[0], np.float32) if self.budgets else vary
        budget = vary if self.budgets else np.zeros(len(grid), np.float32)
        rate = np.full(len(grid), self.learning_rate, np.float32)
        return training.Member(*map(jnp.asarray, (beta, rate, budget))), tuple(seed for _, seed in grid)


def run(config: Sweep, *, name: str = "sweep", root: Path = Path("results"), progress: bool = True) -> Path:
    """Runs `config` into a new folder ``root/name/<time>-<hash>`` and returns it."""
    dataset = data_.load(config.data, rows=config.rows)
    _check(config, dataset)
    if config.data not in data_.NAMES:
        config = dataclasses.replace(config, data=str(Path(config.data).absolute()))  # so that a resume finds it from anywhere
    parts = ("train", "val", "test")
    about = {"name": dataset.name, "source": dataset.source, "sha256": dataset.sha256}
    about["rows"] = {part: len(getattr(dataset, f"x_{part}")) for part in parts}
    folder = results.Run.create(root, name, config, about)
    with results.hold(folder.folder):
        return _finish(folder, config, dataset, progress)


def resume(folder: Path, *, progress: bool = True) -> Path:
    """Goes on with a run that was interrupted, from its last checkpoint, to the same end; a finished run is left as it is.

    Raises: RunError where the folder is no run, or another process is at it.
    """
    results.Run.open(folder)
    with results.hold(folder):
        return _resume(results.Run.open(folder), progress)


def _resume(folder: results.Run, progress: bool) -> Path:
    if folder.manifest["status"] == "done":
        _tidy_up(folder.folder)
        return folder.folder
    config = from_json(Sweep, folder.manifest["config"])
    dataset = data_.load(config.data, rows=config.rows)
    _check(config, dataset)
    if dataset.sha256 != folder.manifest["data"]["sha256"]:
        raise ConfigError(f"data set {config.data!r} is not the one that {folder.folder} began with (its sha256 differs)")
    return _finish(folder, config, dataset, progress)


def _check(config: Sweep, dataset: data_.Dataset) -> None:
    """What would otherwise fail after the training is refused before it."""
    if config.train.batch_size > len(dataset.x_train):
        raise ConfigError(f"batch_size is {config.train.batch_size}, but there are only {len(dataset.x_train)} training rows")
    if len(dataset.input_shape) != 1:
        raise ConfigError(f"rows of {dataset.name} have shape {dataset.input_shape}; a perceptron takes rows of one axis")
    if config.projects:
        check_settings(config.backend, config.strategy)


def _finish(folder: results.Run, config: Sweep, dataset: data_.Dataset, progress: bool) -> Path:
    """The rest of a run, from wherever it is; an error is recorded in the manifest, and `resume` may try again."""
    results.remove_leftovers(folder.folder)
    try:
        _proceed(folder, config, dataset, progress)
    except Exception as error:
        folder.save(status="failed", error=str(error))
        raise
    _tidy_up(folder.folder)
    return folder.folder


def _tidy_up(folder: Path) -> None:
    """What a finished run needs no more; leftovers again, as a compiler may outlive the process that was killed."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    results.remove_leftovers(folder)


def _proceed(folder: results.Run, config: Sweep, dataset: data_.Dataset, progress: bool) -> None:
    watch = results.Stopwatch(folder.manifest["seconds"])
    train = training.make_train(config.train, config.model.build(dataset.input_shape[0], dataset.n_classes))
    members, seeds = config.members()
    with _Progress(train.config.checks, len(seeds), progress) as bar:

        def report(check: int, sweep: population.Sweep) -> None:
            bar(check, sweep)
            folder.save(seconds=watch.seconds)

        sweep = population.sweep(train, training.Data.of(dataset), members, seeds, checkpoints=folder.folder / "checkpoints", report=report)
    steps = len(dataset.x_train) // config.train.batch_size
    folder.write_metrics(results.tidy(sweep.history, config.train.epochs_per_check, steps))
    summary = _freeze(folder, config, train, sweep, dataset, bar.say)
    _export(folder, config, summary, dataset, bar.say)
    folder.write_summary(summary)
    warnings = {str(member): reason for member, reason in sweep.failed.items()}
    for row in sweep.history[-len(seeds) :]:
        if row["dead"] and row["member"] not in sweep.failed:
            warnings[str(row["member"])] = f"pruned away: layer {', '.join(row['dead'])}"
    folder.save(status="done", seconds=watch.seconds, warnings=warnings, error="")
    for member, reason in warnings.items():
        bar.say(f"member {member}: {reason}")


def _freeze(folder: results.Run, config: Sweep, train: training.Train, sweep: population.Sweep, dataset, say) -> list[dict[str, Any]]:
    """Describes the selected points, and keeps those that no other dominates by exact EBOPs and validation score."""
    calibration, rows = dataset.calibration(), []
    for point in sweep.archive.select(config.points, config.within):
        about = {
            "classes": list(dataset.classes),
            "features": list(dataset.feature_names),
            "data": folder.manifest["data"],
            "scaler": {"mean": dataset.scaler.mean.tolist(), "scale": dataset.scaler.scale.tolist()},
        }
        epoch = (point.check + 1) * config.train.epochs_per_check
        origin = next(row for row in sweep.history if (row["member"], row["check"]) == (point.member, point.check))
        about["trained"] = {"member": point.member, "epoch": epoch, "beta": origin["beta_member"], "seed": origin["seed"]}
        model = train.model(sweep.state(point))
        description = export.describe(model, calibration, name=f"member{point.member}_epoch{epoch}", metadata=about)
        rows.append(
            {
                "description": description,
                "member": point.member,
                "beta": origin["beta_member"],
                "seed": origin["seed"],
                "epoch": epoch,
                "ebops": float(resources.ebops(description).total),
                "ebops_paper_v1": float(resources.ebops(description, "paper_v1").total),
                "ebops_estimate": point.ebops,
                "val_score": accuracy(description, dataset.x_val, dataset.y_val),
                "test_score": accuracy(description, dataset.x_test, dataset.y_test),
            }
        )
    kept = population.pareto([row["val_score"] for row in rows], [row["ebops"] for row in rows])
    summary = []
    for number, n in enumerate(kept):
        name = f"p{number:02d}"
        description, path = rows[n].pop("description"), folder.folder / "models" / name
        if not path.exists():
            description.save(path)
        say(f"{name}: {rows[n]['ebops']:7.0f} EBOPs, test accuracy {rows[n]['test_score']:.4f} ({dataset.name})")
        summary.append({"point": name, **rows[n], "model": f"models/{name}", "project": "", "rows_checked": None, "differing_words": None})
    return summary


def _export(folder: results.Run, config: Sweep, summary: list[dict[str, Any]], dataset, say) -> None:
    """hls4ml projects of points spread over the front; each passes the gate or stops the run."""
    if not config.projects:
        return
    for n in sorted({round(v) for v in np.linspace(0, len(summary) - 1, min(config.projects, len(summary)))}):
        row = summary[n]
        model, path = folder.folder / row["model"], folder.folder / "projects" / row["point"]
        settings = model.parent / f"{row['point']}.yml"
        if path.exists():  # an interrupted run had got this far
            shutil.rmtree(path)
        if not settings.exists():
            relative = Path("..") / "projects" / row["point"]
            write_config(settings, model=row["point"], output_dir=relative, backend=config.backend, strategy=config.strategy)
        description = export.ModelDescription.load(model)
        project = export.to_hls4ml(description, path, backend=config.backend, strategy=config.strategy, rows=dataset.x_test[:2000])
        row |= {"project": f"projects/{row['point']}", "rows_checked": project.gate.rows, "differing_words": project.gate.differing_words}
        say(f"{row['point']}: {project}")


def accuracy(description: export.ModelDescription, x: np.ndarray, y: np.ndarray, batch: int = 20_000) -> float:
    """Share of rows whose largest output (the first of equal ones) is the label, by the exact evaluator."""
    hits = 0
    for start in range(0, len(x), batch):
        hits += int(np.sum(np.argmax(description.evaluate(x[start : start + batch]), axis=-1) == y[start : start + batch]))
    return hits / len(x)


class _Progress:
    """A bar with loss, accuracy and EBOPs of every member; silent where `shown` is False."""

    def __init__(self, total: int, members: int, shown: bool):
        self.total, self.members, self.shown, self.bar = total, members, shown, None

    def __enter__(self):
        if self.shown:
            from tqdm import tqdm

            self.bar = tqdm(total=self.total, unit="check", dynamic_ncols=True)
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()

    def __call__(self, check: int, sweep: population.Sweep) -> None:
        if self.bar is None:
            return
        last = sweep.history[-self.members :]
        cells = [
            f"{row['train_loss']:.3f} {row['val_score']:.1%} {row['ebops'] / 1000:.1f}k" if row["member"] not in sweep.failed else "failed"
            for row in last
        ]
        self.bar.set_postfix_str("loss, accuracy, EBOPs: " + " | ".join(cells) if cells else "compiling", refresh=False)
        self.bar.update(check - self.bar.n)

    def say(self, text: str) -> None:
        """Prints a line."""
        if self.shown:
            print(text, flush=True)
