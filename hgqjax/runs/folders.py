"""Run folders: ``results/<experiment>/<UTC time>-<config hash>/`` with manifest.json, metrics.parquet, summary.csv, models, figures."""

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import importlib.metadata
import io
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import jax

from hgqjax.archives import read_json_file
from hgqjax.config import to_json
from hgqjax.files import MANIFEST, write_atomically

LOCK = ".lock"
LOCK_POLL_SECONDS = 0.5
PACKAGES = ("hgqjax", "jax", "jaxlib", "flax", "optax", "numpy", "hls4ml")


class RunError(ValueError):
    """A folder that is not a run, not one that can be gone on with, or one that another process holds."""


@dataclasses.dataclass
class Run:
    """An open run folder; `manifest` is written to disk by `save`."""

    folder: Path
    manifest: dict[str, Any]

    def __post_init__(self):
        self._watch = Stopwatch(float(self.manifest["seconds"]))

    @property
    def seconds(self) -> float:
        """Of the run until now, those before a resume included."""
        return self._watch.seconds

    @classmethod
    def create(cls, root: Path, experiment: str, config: Any, data: dict[str, Any]) -> "Run":
        """A new folder under ``root/experiment``; raises OSError where it cannot be written."""
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
        config = to_json(config)
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]
        folder = Path(root) / experiment / f"{stamp}-{digest}"
        folder.mkdir(parents=True)
        commit, dirty = _commit()
        manifest = {
            "schema": 1,
            "status": "running",
            "experiment": experiment,
            "config": config,
            "argv": _command(),
            "commit": commit,
            "dirty": dirty,
            "versions": _versions(),
            "device": ", ".join(sorted({d.device_kind for d in jax.devices()})),
            "data": data,
            "seconds": 0.0,
        }
        run = cls(folder, manifest)
        run.save()
        return run

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """An existing run; raises RunError with one sentence where there is none."""
        try:
            manifest = read_json_file(Path(folder) / MANIFEST)
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(_instead_of_run(Path(folder))) from None
        except (OSError, ValueError) as error:
            raise RunError(f"{folder} is not a run folder: {error}") from error
        if not isinstance(manifest, dict) or manifest.get("schema") != 1:
            raise RunError(f"{folder}/manifest.json is not of schema 1")
        missing = {"status", "experiment", "config", "data", "seconds"} - set(manifest)
        if missing:
            raise RunError(f"{folder}/manifest.json has no field {min(missing)!r}")
        kinds = {"status": str, "experiment": str, "config": dict, "data": dict, "seconds": int | float}
        wrong = [name for name, kind in kinds.items() if not isinstance(manifest[name], kind)]
        if wrong:
            raise RunError(f"{folder}/manifest.json has a field {wrong[0]!r} of type {type(manifest[wrong[0]]).__name__}")
        return cls(Path(folder), manifest)

    def save(self, **changes: Any) -> None:
        """Writes the manifest with `changes`."""
        self.manifest |= changes
        write_atomically(self.folder / MANIFEST, json.dumps(self.manifest, indent=1) + "\n")

    def write_metrics(self, rows: Iterable[dict[str, Any]]) -> None:
        """metrics.parquet, one value a row: member, beta, seed, step, epoch, split, metric, value."""
        import polars as pl

        schema = {"member": pl.Int64, "beta": pl.Float64, "seed": pl.Int64, "step": pl.Int64, "epoch": pl.Int64}
        schema |= {"split": pl.String, "metric": pl.String, "value": pl.Float64}
        buffer = io.BytesIO()
        pl.DataFrame(list(rows), schema=schema).write_parquet(buffer)
        write_atomically(self.folder / "metrics.parquet", buffer.getvalue())

    def write_summary(self, rows: list[dict[str, Any]]) -> None:
        """summary.csv, one selected point a row."""
        import polars as pl

        write_atomically(self.folder / "summary.csv", pl.DataFrame(rows, infer_schema_length=None).write_csv())


@contextlib.contextmanager
def hold(path: str | Path) -> Iterator[None]:
    """Keeps other processes from writing into the run folder that `path` is or lies in, as long as the block runs; reading stays free.

    The kernel lets go of the lock when the process ends, however it ends. Where `path` lies in no run there is nothing to keep.
    Raises RunError at once, naming the process, where another one holds the run. An interrupt has a note of how an unfinished run goes on.
    """
    folder = run_of(path)
    if folder is None:
        yield
        return
    with open(folder / LOCK, "a+") as file:  # stays in the folder: a lock file that is removed could be held twice
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise RunError(f"{folder} is being written by {holder}; wait until it ends, or end it") from None
        try:
            _note(file, f"process {os.getpid()} on {socket.gethostname()}\n")
            yield
        except KeyboardInterrupt as stop:
            if Run.open(folder).manifest["status"] != "done":
                stop.add_note(f"the run is not done; go on with: hgqjax resume {shlex.quote(str(folder))}")
            raise
        finally:
            _note(file, "")


def do_once(folder: Path, job: str, work: Callable[[Callable[..., None]], dict[str, Any]]) -> dict[str, Any]:
    """The result of `work`, which is done by one process at a time, and once it is done never again.

    Lock, log and result are one file in the run folder, ``jobs/<job>.jsonl``, so that whoever has the lock reads what the last holder
    wrote, on a shared file system too. Where another process holds it, which may be one believed dead, this one waits for that.

    Args:
      folder: the run folder. job: a file name.
      work: called with ``note(event, **what)``, which adds a line to the log; returns plain JSON values. It must itself go on from what a
        killed process has left of the same job.
    """
    path = Path(folder) / "jobs" / f"{job}.jsonl"
    path.parent.mkdir(exist_ok=True)
    with open(path, "a+b") as file:  # stays in the folder, as the run's lock does
        _wait_for(file)
        log = file.read()
        for line in _lines(log):
            if line["event"] == "done":
                return line["result"]
        if log and not log.endswith(b"\n"):
            file.write(b"\n")  # after what a killed process left of a line

        def note(event: str, **what: Any) -> None:
            file.write(json.dumps({"time": datetime.datetime.now(datetime.UTC).isoformat(), "event": event} | what).encode() + b"\n")
            file.flush()

        note("begun", host=socket.gethostname(), process=os.getpid())
        result = work(note)
        os.fsync(file.fileno())
        note("done", result=result)
        os.fsync(file.fileno())
    return result


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a job's log; none where there is no file."""
    return _lines(path.read_bytes()) if path.exists() else []


def _lines(log: bytes) -> list[dict[str, Any]]:
    lines = []
    for line in log.splitlines():
        with contextlib.suppress(ValueError):  # half a line, of a killed process
            lines.append(json.loads(line))
    return lines


def _wait_for(file: IO[bytes]) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_POLL_SECONDS)
        else:
            file.seek(0)
            return


def curves_path(model: Path) -> Path:
    """The file beside a model of a run with what a report draws of its test rows, as `AbstractScore.curves` gives it."""
    return model.with_name(f"{model.name}_test.json")


def run_of(path: str | Path) -> Path | None:
    """The run folder that `path` is or lies in; None where there is none."""
    path = Path(path).absolute()
    for folder in (path, *path.parents):
        if (folder / MANIFEST).is_file():
            with contextlib.suppress(RunError):
                return Run.open(folder).folder
    return None


def _instead_of_run(folder: Path) -> str:
    """A sentence on a path that is no run folder."""
    if not folder.exists():
        return f"there is no {folder}"
    below = sorted(path.parent for level in ("*", "*/*") for path in folder.glob(f"{level}/{MANIFEST}"))
    return f"{folder} is not a run folder; " + (f"run folders are below it, such as {below[-1]}" if below else f"one has {MANIFEST}")


def _note(file: IO[str], text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()


def remove_leftovers(folder: Path) -> None:
    """Removes what processes that were killed while they wrote have left in a run folder under temporary names."""
    for left in [*folder.rglob(".*.part")]:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def epoch_of(row: dict[str, Any], epochs_per_check: int) -> int:
    """Epochs that were trained until a row of the history; those of a search say so themselves."""
    return row.get("epoch", (row["check"] + 1) * epochs_per_check)


def tidy(history: Iterable[dict[str, Any]], epochs_per_check: int, steps_per_epoch: int) -> Iterable[dict[str, Any]]:
    """The history of a sweep with one value a row, for `Run.write_metrics`."""
    who = ("member", "check", "beta_member", "seed", "dead", "epoch")
    for row in history:
        epoch = epoch_of(row, epochs_per_check)
        head = {"member": row["member"], "beta": row["beta_member"], "seed": row["seed"], "step": epoch * steps_per_epoch, "epoch": epoch}
        for name, value in row.items():
            if name in who:
                continue
            split, _, metric = name.partition("_") if name.startswith(("train_", "val_")) else ("val", "", name)
            yield head | {"split": split, "metric": metric, "value": value}


class Stopwatch:
    """Seconds of a run, those before a resume included."""

    def __init__(self, before: float = 0.0):
        self.start = time.monotonic() - before

    @property
    def seconds(self) -> float:
        """Until now, to a tenth."""
        return round(time.monotonic() - self.start, 1)


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _command() -> list[str]:
    """What was typed: of ``python -m`` the module, else the program without its folder."""
    main = getattr(sys.modules["__main__"], "__spec__", None)
    if main is not None and main.name.endswith("__main__"):
        return ["python", "-m", main.name.removesuffix(".__main__"), *sys.argv[1:]]
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def _commit() -> tuple[str, bool]:
    """Commit of the checkout the package runs from, and whether it has changes; ("", False) for an installed package."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return "", False
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
        status = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "", False
    return commit, bool(status.strip())
