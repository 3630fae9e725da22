"""A sweep on disk: its last states by Orbax, its history and the points of its front beside them."""

import contextlib
import dataclasses
import io
import json
import os
import signal
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hgqjax.training import devices
from hgqjax.training.archive import Point, SweepResult, TrainingError

LEAF = "leaf_{:04d}"
CHECKPOINT_FORMAT = 4


class Checkpoints:
    """A sweep on disk. Its last states are Orbax's, which writes under a temporary name and renames.

    What a check adds to the history (lines of history.jsonl) and to the front (a file for each point) is written once, before the
    checkpoint that counts on it: so a checkpoint costs the same however many came before, and what a killed process wrote after its last
    one is cut off or written again. It holds the members alone, however they are divided over devices, and can be gone on with on others.

    Of several processes each holds one, on a folder that all see, and calls the same methods: the first writes, of the states each writes
    what its devices have. With `alone` this process reads without the others.
    """

    def __init__(self, folder: Path, *, alone: bool = False):
        try:
            import orbax.checkpoint as ocp
        except ImportError as error:
            raise TrainingError("checkpoints need orbax-checkpoint; pip install 'hgqjax[run]'") from error
        self.ocp, self.folder = ocp, folder.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False, cleanup_tmp_directories=True)
        if alone and jax.process_count() > 1:
            me = jax.process_index()
            only = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"alone{me}")
            options = ocp.CheckpointManagerOptions(create=False, enable_async_checkpointing=False, multiprocessing_options=only)
        self.manager = ocp.CheckpointManager(self.folder, options=options)
        self.rows = self.bytes = 0  # of the history, as the last checkpoint has it

    @property
    def latest(self) -> int | None:
        """Step of the last checkpoint, None where there is none."""
        return self.manager.latest_step()

    @property
    def group(self) -> int | None:
        """Members trained side by side until the last checkpoint, None for all of them."""
        return self._record().get("group")

    def save(self, done: int, states: Any, result: SweepResult, group: int | None = None) -> None:
        """Keeps `states`, of the members alone or what else is carried, and what `result` has since the last time."""
        points = result.archive.points
        save = self.ocp.args.StandardSave
        named = {LEAF.format(n): leaf for n, leaf in enumerate(jax.tree.leaves(states))}
        record = {
            "format": CHECKPOINT_FORMAT,
            "kinds": _kinds(states),
            "group": group,
            "rows": len(result.history),
            "failed": {str(member): reason for member, reason in result.failed.items()},
            "points": [[p.member, p.check, p.merit, p.cost] for p in points],
        }

        def write() -> int:
            length = self._append(result.history[self.rows :])
            for point in points:
                if point.check == done - 1:
                    self._write(point)
            return length

        try:
            record["bytes"] = devices.first(write)
            with _uninterrupted():
                self.manager.save(done, args=self.ocp.args.Composite(states=save(named), record=self.ocp.args.JsonSave(record)))
        except Exception as error:  # Orbax wraps a full disk in errors of many kinds
            raise TrainingError(f"cannot write the checkpoint in {self.folder}: {str(error)[:200]}") from error
        self.rows, self.bytes = record["rows"], record["bytes"]
        kept = {self._path(point) for point in points}
        for path in self.folder.glob("point_*.npz") if devices.is_first() else ():
            if path not in kept:
                path.unlink()

    def restore(self, like: Any, result: SweepResult, sharding: jax.sharding.Sharding | None = None) -> tuple[int, Any]:
        """Fills `result`; (checks done, states), these on `sharding`, by default the default device."""
        done, leaves, args = self.latest, jax.tree.leaves(like), self.ocp.args
        assert done is not None, "there is a checkpoint where one is restored"
        record, sharding = self._record(), sharding or jnp.zeros(()).sharding
        if record["kinds"] != _kinds(like):  # seen here, before Orbax begins to read what it then has to give up
            raise TrainingError(f"the checkpoint in {self.folder} does not fit this sweep: its arrays have other shapes")
        target = {LEAF.format(n): jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding) for n, leaf in enumerate(leaves)}
        found = self._restore(done, states=args.StandardRestore(target))["states"]
        try:
            result.history.extend(self._read_history(record["rows"], record["bytes"]))
            result.archive.points = [Point(*point, leaves=[]) for point in record["points"]]
            result.archive.points = [dataclasses.replace(p, leaves=self._read(p)) for p in result.archive.points]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise TrainingError(f"the checkpoint in {self.folder} is damaged, start the sweep again: {error}") from error
        result.failed.update({int(member): reason for member, reason in record["failed"].items()})
        self.rows, self.bytes = record["rows"], record["bytes"]
        return done, jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in target])

    def _record(self) -> dict[str, Any]:
        record = self._restore(self.latest, record=self.ocp.args.JsonRestore())["record"]
        if record.get("format") != CHECKPOINT_FORMAT:
            raise TrainingError(f"the checkpoint in {self.folder} is of another version of hgqjax; start the sweep again")
        return record

    def _restore(self, done: int | None, **items: Any) -> Any:
        try:
            with _uninterrupted():
                return self.manager.restore(done, args=self.ocp.args.Composite(**items))
        except Exception as error:  # of many kinds, as above
            raise TrainingError(f"cannot read the checkpoint in {self.folder}: {str(error)[:200]}") from error

    def _append(self, rows: list[dict[str, Any]]) -> int:
        """Adds rows to the history on disk, after those of the last checkpoint; its length in bytes."""
        with open(self.folder / "history.jsonl", "ab") as file:
            file.truncate(self.bytes)
            file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def _read_history(self, rows: int, length: int) -> list[dict[str, Any]]:
        with open(self.folder / "history.jsonl", "rb") as file:
            found = [json.loads(line) for line in file.read(length).splitlines()]
        if len(found) != rows:
            raise ValueError(f"history.jsonl has {len(found)} of {rows} rows")
        return found

    def _path(self, point: Point) -> Path:
        return self.folder / f"point_{point.check:06d}_{point.member:04d}.npz"

    def _write(self, point: Point) -> None:
        buffer, path = io.BytesIO(), self._path(point)
        np.savez(buffer, *point.leaves)
        temporary = path.with_name(f".{path.name}.part")
        with open(temporary, "wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def _read(self, point: Point) -> list[np.ndarray]:
        with np.load(self._path(point), allow_pickle=False) as npz:
            return [npz[f"arr_{n}"] for n in range(len(npz.files))]


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end of the block, as Orbax's threads would go on without the loop that they talk to; a second one does not."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:  # signals go to the main thread alone
        yield
        return
    caught = []

    def wait(number, frame):
        caught.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if caught:
            signal.raise_signal(signal.SIGINT)


def _kinds(states: Any) -> list[list[Any]]:
    """Type and shape of each array, as JSON has them."""
    return [[str(leaf.dtype), *leaf.shape] for leaf in jax.tree.leaves(states)]
