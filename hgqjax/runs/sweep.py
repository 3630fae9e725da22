"""From a configuration to a run folder: data, sweep, frozen and calibrated points, exact EBOPs, test scores, verified projects."""

import contextlib
import dataclasses
import itertools
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hgqjax import data as data_
from hgqjax import scores, training
from hgqjax.config import ConfigError, check_several, from_json
from hgqjax.data.overview import overview
from hgqjax.errors import sentence
from hgqjax.quantizers import Search
from hgqjax.runs import checks, folders, jobs, phases
from hgqjax.runs import cluster as cluster_
from hgqjax.runs import start as start_
from hgqjax.runs.networks import Mlp, Network
from hgqjax.runs.progress import Progress
from hgqjax.training import devices, schedules

BETAS = (4e-6, 1.5e-5, 5e-5, 1.5e-4, 3.5e-4)
"""Default of `Sweep.betas`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """One sweep: which data, which network, which penalties; everything that its numbers depend on."""

    data: str = "jets"
    """"jets" (embedded, re-simulated), "openml" (OpenML 42468, downloaded), "svhn" or "svhn_extra" (downloaded), "svhn:PATH" (a folder or
    file of SVHN), "muon" (simulated, a regression), "particles:16" (constituents of jets, embedded, re-simulated), "particles150:16x3" (the
    public ones, downloaded), or the path of a csv, parquet, arff, npz, npy, h5, root or mat file."""
    columns: data_.Columns = data_.Columns()
    """What the columns of the file are."""
    rows: int | None = None
    """Use the first so many rows only."""
    model: Network = Mlp()
    models: tuple[str, ...] = ()
    """Several networks in one front: hidden layers of each, as 64-32-32, instead of the model's own. Each is trained with every penalty and
    seed, by a compiled program of its own."""
    start: str = ""
    """Network to continue from, with a fresh optimiser: a model of a run (results/.../models/p03) or a .keras file, with its weights and
    widths, or float weights (.npz, or the folder of an orbax checkpoint)."""
    train: training.Config = training.Config()
    """Length, optimiser and objective. By default the penalty is on predicted LUTs (`training.Objective`)."""
    betas: tuple[float, ...] = BETAS
    """Weights of the penalty, loss per predicted LUT (or EBOP, if that is the objective's cost): one member of the sweep for each. None
    with points_at."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the starting weights: one member of the sweep for each, with every penalty."""
    each_seed: bool = False
    """Keep and freeze a front for each seed, for error bands, and not one of all together; each seed is then a group of its own."""
    points_at: tuple[float, ...] = ()
    """Costs to reach (LUTs, or what the objective's cost counts): one member for each, instead of for each beta, which the penalty schedule
    Budget then finds, unless Target, HMQ's, is given."""
    accuracy_drop: tuple[float, ...] = ()
    """Points of accuracy (of another score, in its unit) that may be lost against the network with 18 bits everywhere, which stands for
    floating point and is then trained once, too: for each the cheapest network within it is frozen and named."""
    learning_rate: float = 1e-2
    """Peak learning rate of the weights."""
    points: int = 12
    """Points of the front, or of each seed's, that are frozen, calibrated, measured and saved, at most."""
    within: float = 0.1
    """Points whose validation score is worse than the best by more are left out: a collapsed network is no choice. In units of the score:
    of an accuracy, 0 .. 1, or of y."""
    refine: tuple[float, ...] = ()
    """Strengths of the penalty with which the tables of each frozen network are refined (`hgqjax.refine`), one after the other, each to a
    network of its own. Networks of `LutDense` only; needs rows in memory."""
    projects: int = 0
    """How many of these, spread over the front, become hls4ml projects, each behind the gate that compares every word."""
    groups: int | None = None
    """Compiled programs that the members are divided among, each trained by itself, on a cluster at the same time. By default one, on a
    cluster as many as it can run at once. On a CPU a member's numbers are the same, whichever group it is in."""
    backend: str = "Vitis"
    """hls4ml back end of the projects: Vitis or Vivado."""
    strategy: str = "latency"
    """latency (multipliers) or distributed_arithmetic (adder graphs)."""
    io_type: str = "io_parallel"
    """io_parallel (all values at once) or io_stream (convolutional networks: one position after the other)."""
    gate_rows: int = 10_000
    """Rows that the gate of a project runs, at least; the C++ of a large convolutional network takes tens of ms for each."""

    def __post_init__(self):
        check_several(self, "models", "betas", "seeds", "points_at", "accuracy_drop", "refine")
        if self.points_at and self.betas not in ((), BETAS):
            raise ValueError(f"points_at is {self.points_at} and betas is {self.betas}; costs to reach need no beta: give one of them")
        if self.points_at:
            object.__setattr__(self, "betas", ())
        elif not self.betas or not all(0 <= beta < math.inf for beta in self.betas):
            raise ValueError(f"betas is {self.betas}; at least one is needed, each a finite number of at least 0")
        if not self.seeds or not all(0 <= seed < 2**32 for seed in self.seeds):
            raise ValueError(f"seeds is {self.seeds}; at least one is needed, each within 0..2**32 - 1")
        if not all(0 < budget < math.inf for budget in self.points_at):
            raise ValueError(f"points_at is {self.points_at}; each must be a finite number above 0")
        if not all(0 <= drop < math.inf for drop in self.accuracy_drop):
            raise ValueError(f"accuracy_drop is {self.accuracy_drop}; each must be a finite number of at least 0")
        if self.points_at and self.train.penalty == schedules.RISE_AND_HOLD:
            object.__setattr__(self, "train", dataclasses.replace(self.train, penalty=schedules.Budget()))
        if self.data == "muon" and not self.columns.target and self.train.objective.score == scores.Accuracy():
            objective = dataclasses.replace(self.train.objective, score=scores.Resolution(window=30.0))  # as published tables have it
            object.__setattr__(self, "train", dataclasses.replace(self.train, objective=objective))
        if bool(self.points_at) != self.train.penalty.steers:
            raise ValueError("points_at and a penalty schedule that steers to them, Budget or Target, go together; give both or none")
        for hidden in self.models:
            if not re.fullmatch(r"[1-9]\d*(-[1-9]\d*)*", hidden) or not hasattr(self.model, "hidden"):
                raise ValueError(f"models has {hidden!r}; hidden layers such as 64-32-32 are needed, and a model that has hidden layers")
        for name in ("models", "betas", "seeds", "points_at", "accuracy_drop", "refine"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; each can be given once")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; a finite number above 0 is needed")
        if not self.within >= 0:
            raise ValueError(f"within is {self.within}; at least 0 is needed")
        for name in ("points", "groups", "gate_rows"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        if not all(0 <= strength < math.inf for strength in self.refine):
            raise ValueError(f"refine is {self.refine}; each must be a finite number of at least 0")
        if not 0 <= self.projects <= self.points:
            raise ValueError(f"projects is {self.projects}; within 0..{self.points} is needed, the number of points")
        if (self.each_seed or self.search) and self.groups not in (None, len(self.division())):
            what = ("a search", "point, seed") if self.search else ("each_seed", "seed")
            fitting = f"leave it out, or give {len(self.division())}, one for each {what[1]} and network"
            raise ValueError(f"groups is {self.groups} with {what[0]}; {fitting}")

    @property
    def search(self) -> Search | None:
        """How the method searches, if it does: then each penalty and seed has as many members as a round has candidates."""
        return self.model.method.searching()

    @property
    def checks(self) -> int:
        """Looks at the validation rows in a run."""
        how = self.search
        return self.train.checks if how is None else sum(training.checks_of(self.train, how, bool(self.start)))

    def networks(self) -> list[Network]:
        """The networks of the front; members are numbered from one to the next."""
        sizes = [tuple(map(int, hidden.split("-"))) for hidden in self.models]
        return [dataclasses.replace(self.model, hidden=hidden) for hidden in sizes] or [self.model]

    def network(self, member: int) -> int:
        """Which of the networks a member is of."""
        return member // (len(self.points_at or self.betas) * len(self.seeds) * self._alike)

    def members(self) -> tuple[training.Member, tuple[int, ...]]:
        """Arrays of what varies, and the seed of each member."""
        grid = list(itertools.product(self.points_at or self.betas, self.seeds))
        if self.each_seed:
            grid.sort(key=lambda pair: self.seeds.index(pair[1]))  # a group has the members of one seed
        grid = [pair for pair in grid for _ in range(self._alike)] * len(self.networks())
        vary = np.array([value for value, _ in grid], np.float32)
        none = np.zeros(len(grid), np.float32)
        beta, budget = (none, vary) if self.points_at else (vary, none)
        rate = np.full(len(grid), self.learning_rate, np.float32)
        return training.Member(*map(jnp.asarray, (beta, rate, budget))), tuple(seed for _, seed in grid)

    @property
    def _alike(self) -> int:
        """Members that differ in nothing that is given."""
        return self.search.candidates if self.search else 1

    def division(self) -> list[slice]:
        """The members of each group, which are of one network; sizes differ by one at most."""
        networks, members = len(self.networks()), len(self.points_at or self.betas) * len(self.seeds) * self._alike
        groups = min(len(self.seeds) if self.each_seed else math.ceil((self.groups or 1) / networks), members)
        groups = members // self._alike if self.search else groups  # a group is a search
        ends = [members * n // groups for n in range(groups + 1)]
        parts = [slice(*pair) for pair in itertools.pairwise(ends)]
        return [slice(n * members + part.start, n * members + part.stop) for n in range(networks) for part in parts]


def run(
    config: Sweep,
    *,
    name: str = "sweep",
    root: Path = Path("results"),
    progress: bool = True,
    cluster: str = "",
    rows_devices: int = 1,
    memory: int | None = None,
) -> Path:
    """Runs `config` into a new folder ``root/name/<time>-<hash>`` and returns it.

    Of several processes (`devices.connect`), each of which calls this alike, the first writes, and the others return after the training.

    Args:
      cluster: where the jobs run, as in `cluster.connect`; "" is this process. Only how, not what: on CPUs of one kind the
        numbers are those of a run without a cluster.
      rows_devices: devices that share the rows of each batch; the members are divided among all devices there are.
      memory: bytes that rows may take, as in `data.load`; not what, too: more rows are read a part at a time, to the same numbers.
    """
    config, dataset = _checked(config, progress, cluster, rows_devices, memory)
    with cluster_.connect(cluster) as workers:
        config = _divided(config, workers)
        with _held(_created(config, dataset, name, root)) as found:
            return _finish(found, config, dataset, workers, progress, rows_devices)


def prepare(config: Sweep, *, name: str = "sweep", root: Path = Path("results"), progress: bool = True) -> Path:
    """A new run folder, as `run` makes it, in which nothing is trained yet. `train_group` trains a group of its members, each in any
    process and at any time; `resume` does the rest. The numbers are those of `run`.

    Raises: as `run`, before there is a folder.
    """
    config, dataset = _checked(config, progress, "", 1, None)
    return _created(_divided(config, cluster_.Cluster()), dataset, name, root)


def train_group(folder: Path, number: int) -> None:
    """Trains group `number` of a run's members, from its last checkpoint, on one device; a group that is trained stays as it is.

    Raises: RunError where the folder is no run; ConfigError where it has no such group.
    """
    config = from_json(Sweep, folders.Run.open(folder).manifest["config"])
    if not 0 <= number < len(config.division()):
        raise ConfigError(f"group is {number}; {folder} has groups 0 to {len(config.division()) - 1}")
    jobs.on_worker(jobs.train_group, str(folder.absolute()), config, number)


def _checked(config: Sweep, progress: bool, cluster: str, rows_devices: int, memory: int | None) -> tuple[Sweep, data_.Dataset]:
    """The configuration, with paths as a resume finds them, and its rows; what cannot work is refused."""
    dataset = data_.load(config.data, config.columns, rows=config.rows, memory=memory)
    if progress and devices.is_first():
        print(overview(dataset), flush=True)  # before what may be refused, as it says why
    if progress and devices.is_first() and (note := start_.scaler_note(config.start, dataset)):
        print(f"  note: {note}", flush=True)
    checks.before_training(config, dataset, cluster, rows_devices)
    paths = {"data": data_.absolute(config.data), "start": str(Path(config.start).absolute()) if config.start else ""}
    return dataclasses.replace(config, **paths, columns=config.columns.absolute()), dataset


def _created(config: Sweep, dataset: data_.Dataset, name: str, root: Path) -> Path:
    """The new run folder, which the first of several processes makes."""
    parts = ("train", "val", "test")
    about: dict[str, Any] = {"name": dataset.name, "source": dataset.source, "sha256": dataset.sha256}
    about["rows"] = {part: len(getattr(dataset, f"x_{part}")) for part in parts}
    if dataset.files:
        about["files"] = list(dataset.files)
    if dataset.unit:
        about["unit"] = dataset.unit
    return Path(devices.first(lambda: _new_folder(root, name, config, about)))


def _new_folder(root: Path, name: str, config: Sweep, about: dict[str, Any]) -> str:
    """A new run folder, with what the run starts from."""
    folder = folders.Run.create(root, name, config, about).folder
    start_.keep(config.start, folder)
    return str(folder)


def _divided(config: Sweep, workers: cluster_.Cluster) -> Sweep:
    """With the number of groups, which the manifest then holds, so that a resume divides alike."""
    if config.each_seed or config.search:
        return dataclasses.replace(config, groups=len(config.division()))
    if not config.groups and not workers.slots:
        raise ConfigError(f"the cluster at {workers.address} has no workers yet; say how many groups of members there shall be (--groups)")
    config = dataclasses.replace(config, groups=config.groups or workers.slots)
    return dataclasses.replace(config, groups=len(config.division()))


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[folders.Run]:
    """The run, which the first process keeps others from writing into."""
    folders.Run.open(folder)
    with contextlib.ExitStack() as stack:
        devices.first(lambda: stack.enter_context(folders.hold(folder)))
        yield folders.Run.open(folder)


def resume(folder: Path, *, progress: bool = True, cluster: str = "", rows_devices: int = 1, memory: int | None = None) -> Path:
    """Goes on with a run that was interrupted, from its last checkpoint, to the same end; a finished run is left as it is.

    Args:
      cluster, rows_devices, memory: as in `run`; they may be others than the run began with.

    Raises: RunError where the folder is no run, or another process is at it.
    """
    with _held(folder) as found:
        return _resume(found, progress, cluster, rows_devices, memory)


def _resume(folder: folders.Run, progress: bool, cluster: str, rows_devices: int, memory: int | None) -> Path:
    if devices.first(lambda: folder.manifest["status"]) == "done":
        if devices.is_first():
            _tidy_up(folder.folder)
        return folder.folder
    config = from_json(Sweep, folder.manifest["config"])
    dataset = data_.load(config.data, config.columns, rows=config.rows, memory=memory)
    devices.first(lambda: start_.keep(config.start, folder.folder))  # which a killed process has not come to
    checks.before_training(config, dataset, cluster, rows_devices, start_.of_run(folder.folder))
    jobs.check_data(dataset, config, folder)
    with cluster_.connect(cluster) as workers:
        return _finish(folder, config, dataset, workers, progress, rows_devices)


def _finish(folder: folders.Run, config: Sweep, dataset, workers: cluster_.Cluster, progress: bool, rows_devices: int) -> Path:
    """The rest of a run, from wherever it is; an error is recorded in the manifest, and `resume` may try again."""
    if not devices.is_first():
        return _attend(folder, config, dataset, rows_devices)
    folders.remove_leftovers(folder.folder)
    stop = folder.folder / jobs.STOP
    stop.unlink(missing_ok=True)
    try:
        context = jobs.RunContext.of(folder.folder.absolute(), config, dataset, 0 if workers.client else rows_devices)
        folder.save(devices=_used(context))
        with Progress(progress) as bar:
            phases.proceed(folder, context, workers, bar)
    except BaseException as error:
        if workers.client is not None:
            stop.parent.mkdir(exist_ok=True)
            stop.touch()  # what runs on workers elsewhere ends at its next check; Dask cannot end it
        if isinstance(error, Exception):
            folder.save(status="failed", error=sentence(error))
        raise
    _tidy_up(folder.folder)
    return folder.folder


def _attend(folder: folders.Run, config: Sweep, dataset: data_.Dataset, rows_devices: int) -> Path:
    """The part of a process that is not the first: of the training, and of nothing else."""
    context = jobs.RunContext.of(folder.folder.absolute(), config, dataset, rows_devices)
    for number in range(len(config.division())):
        jobs.train_group(context, number)
    devices.leave()
    return folder.folder


def _used(context: jobs.RunContext) -> dict[str, int]:
    """For the manifest: devices on the member axis and on the batch axis, and processes that have them."""
    return dict(context.mesh(0).shape) | {"processes": jax.process_count()}


def _tidy_up(folder: Path) -> None:
    """What a finished run needs no more; leftovers again, as a compiler may outlive the process that was killed."""
    for name in ("checkpoints", "frozen"):
        shutil.rmtree(folder / name, ignore_errors=True)
    folders.remove_leftovers(folder)
