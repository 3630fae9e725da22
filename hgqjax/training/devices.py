"""Several devices, on one machine or many: a mesh for members and batches, and what the processes of one sweep tell each other.

A sweep's members are divided over the mesh axis "members" without any communication between them, the rows of each batch over the axis
"rows" (`training` does that, as it gathers the rows). Processes are `jax.distributed`'s: each runs the same program, the first one writes.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from hgqjax.errors import sentence

MEMBERS, ROWS = "members", "rows"
_settings: Any = jax.config  # its attributes are made at run time


def device_mesh(members: int, rows: int = 1, *, devices: Sequence[Any] | None = None) -> Mesh:
    """All `devices` in groups of `rows` that share each batch; the members are divided among the groups.

    Args:
      members: how many there are. Groups that would leave no group with fewer of them to train are left out, unless there are several
        processes, each of which must take part.
      rows: devices that share the rows of a batch. devices: by default all of all processes.

    Raises: ValueError where `rows` does not divide the devices.
    """
    devices = jax.devices() if devices is None else devices
    if members < 1:
        raise ValueError(f"members is {members}; at least 1 is needed")
    if rows < 1 or len(devices) % rows:
        raise ValueError(f"rows, devices for each batch, is {rows}, which does not divide the {len(devices)} devices there are")
    groups = len(devices) // rows
    if len({device.process_index for device in devices}) == 1:
        groups = math.ceil(members / math.ceil(members / groups))
    return Mesh(np.asarray(devices, object)[: groups * rows].reshape(groups, rows), (MEMBERS, ROWS))


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the members of a sweep lie on a mesh: an array of them is padded with copies of the last one and split over "members".

    A device trains `group` of them side by side, and where it has more, one such group after another: what a member's numbers are in
    their last bits depends on the shapes that its group is compiled for, so on `group`, and not on how many devices there are.
    """

    mesh: Mesh | None
    """None is the default device, which has all members side by side."""
    members: int
    group: int

    @classmethod
    def of(cls, mesh: Mesh | None, members: int, group: int | None, batch: int) -> "Layout":
        """`group` is by default all that a device has, on a mesh of CPUs 1: there groups side by side gain nothing.

        Raises: ValueError where the mesh has other axes, its axis "rows" does not divide the `batch`, or `group` is below 1.
        """
        if group is not None and group < 1:
            raise ValueError(f"group is {group}; at least 1 member is needed")
        if mesh is None and (group is None or group >= members):
            return cls(None, members, members)
        mesh = Mesh(np.asarray(jax.local_devices()[:1], object), (MEMBERS,)) if mesh is None else mesh
        if MEMBERS not in mesh.axis_names or not set(mesh.axis_names) <= {MEMBERS, ROWS}:
            raise ValueError(f"the mesh has the axes {mesh.axis_names}; 'members' and, if any other, 'rows' are needed")
        if batch % mesh.shape.get(ROWS, 1):
            raise ValueError(f"batch_size is {batch}, which the {mesh.shape[ROWS]} devices of the mesh axis 'rows' do not divide")
        if group is None:
            group = 1 if mesh.devices.flat[0].platform == "cpu" else math.ceil(members / mesh.shape[MEMBERS])
        return cls(mesh, members, min(group, members))

    @property
    def padded(self) -> int:
        """Members with the copies: whole groups, as many on each device."""
        step = self.group * (self.mesh.shape[MEMBERS] if self.mesh else 1)
        return math.ceil(self.members / step) * step

    @property
    def split(self) -> Sharding | None:
        """A leading axis of padded members, divided."""
        return self.mesh and NamedSharding(self.mesh, PartitionSpec(MEMBERS))

    @property
    def whole(self) -> Sharding | None:
        """The same on every device."""
        return self.mesh and NamedSharding(self.mesh, PartitionSpec())

    @property
    def stored(self) -> Sharding | None:
        """Of the members alone, as checkpoints have them."""
        return self.split if self.members == self.padded else self.whole

    def spread(self, tree: Any) -> Any:
        """Arrays of all members, that every process has, padded and split."""
        rows = np.minimum(np.arange(self.padded), self.members - 1)
        split = self.split
        return tree if split is None else jax.tree.map(lambda leaf: _put(np.asarray(leaf)[rows], split), tree)

    def share(self, tree: Any) -> Any:
        """Arrays that every process has, on each device; the CPU devices of a process share the memory of one."""
        whole = self.whole
        return tree if whole is None else jax.tree.map(lambda leaf: _put(np.asarray(leaf), whole), tree)

    def pad(self, tree: Any) -> Any:
        """Arrays of the members alone that lie as `stored`, padded and split."""
        return tree if self.members == self.padded else _moves(self)[0](tree)

    def trim(self, tree: Any) -> Any:
        """The reverse of `pad`."""
        return tree if self.members == self.padded else _moves(self)[1](tree)


def compiled(function: Callable, mesh: Mesh | None, group: int, shared: int, **options: Any) -> Any:
    """``function(a, b, *shared)`` compiled; `a`, `b` and what it returns have a leading axis of members, `group` of them at each call.

    Args:
      shared: how many further arguments there are. options: of `jax.jit`.
    """
    if mesh is None:
        return jax.jit(function, **options)

    def local(a, b, *rest):  # of one device
        n = len(jax.tree.leaves(b)[0])
        if n == group:
            return function(a, b, *rest)
        parts = jax.tree.map(lambda leaf: leaf.reshape(n // group, group, *leaf.shape[1:]), (a, b))
        done = jax.lax.map(lambda part: function(*part, *rest), parts)
        return jax.tree.map(lambda leaf: leaf.reshape(n, *leaf.shape[2:]), done)

    split = PartitionSpec(MEMBERS)
    axes = (split, split, *[PartitionSpec()] * shared)
    # "rows" is left to the partitioner; unchecked, as the check refuses a custom gradient that varies where its argument, rows, does not
    local = jax.shard_map(local, mesh=mesh, in_specs=axes, out_specs=split, axis_names={MEMBERS}, check_vma=False)
    return jax.jit(local, out_shardings=NamedSharding(mesh, split), **options)


def on_device(tree: Any) -> Any:
    """Arrays of numpy on the default device; on a CPU without a copy of those whose address XLA can use, as `hgqjax.scratch.empty` has it.

    They must not change any more.
    """
    return jax.tree.map(lambda leaf: jax.device_put(leaf, may_alias=True), tree)


def split_rows(rows: jax.Array) -> jax.Array:
    """Numbers of rows, split over "rows" where `compiled` traces it for a mesh that has this axis; all that follows from them is, too."""
    if jax.sharding.get_abstract_mesh().shape.get(ROWS, 1) > 1:
        rows = jax.lax.with_sharding_constraint(rows, PartitionSpec(ROWS))
    return rows


def gather(tree: Any) -> Any:
    """Arrays with a leading member axis as numpy's, whole, in every process."""
    here = all(leaf.is_fully_addressable for leaf in jax.tree.leaves(tree))
    return jax.device_get(tree) if here else multihost_utils.process_allgather(tree, tiled=True)


def connect(coordinator: str | None = None, processes: int | None = None, process_id: int | None = None) -> None:
    """Makes this process one of several, before JAX computes anything; without arguments as SLURM, Open MPI or a cloud says.

    Args:
      coordinator: HOST:PORT at which the first process can be reached. processes: how many there are. process_id: which this is, from 0.

    A process that dies is noticed by the others within 100 seconds (the heartbeat of `jax.distributed`), which then end with an error.
    Raises: ValueError where only some arguments are given, or they are out of range; RuntimeError where no connection is made.
    """
    given = (coordinator, processes, process_id)
    if None in given and any(value is not None for value in given):
        raise ValueError("coordinator, processes and process_id go together; give all three or none")
    if coordinator is not None and not (coordinator.rpartition(":")[0] and coordinator.rpartition(":")[2].isdigit()):
        raise ValueError(f"coordinator is {coordinator!r}; HOST:PORT is needed")
    if processes is not None and process_id is not None and not 0 <= process_id < processes:
        raise ValueError(f"process_id is {process_id}; a number within 0..{processes - 1} is needed for {processes} processes")
    try:
        jax.distributed.initialize(coordinator, processes, process_id)
    except Exception as error:  # of many kinds
        hint = "" if coordinator else "; where nothing tells the processes of each other, give coordinator, processes and process_id"
        raise RuntimeError(f"cannot connect the processes: {' '.join(str(error).split())[:200]}{hint}") from error


def leave() -> None:
    """Ends what `connect` has begun, once all processes come here: from then on each is alone, and tells the others nothing more."""
    if jax.process_count() > 1:
        jax.distributed.shutdown()


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cores() -> None:
    """A device for each core, unless the user has said how many: two programs of one thread are faster than one of two threads."""
    if _settings.jax_num_cpu_devices < 1 and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # JAX has computed already: it keeps the devices that it has
            jax.config.update("jax_num_cpu_devices", cores())


def use_cache() -> None:
    """Keeps compiled programs for later runs, unless the user has told JAX where to: in HGQJAX_CACHE, which is empty for none, else in
    ``hgqjax`` in the user's cache folder, for each kind of processor apart."""
    place = os.environ.get("HGQJAX_CACHE", str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hgqjax"))
    if not place or _settings.jax_compilation_cache_dir or not _settings.jax_enable_compilation_cache:
        return
    jax.config.update("jax_compilation_cache_dir", str(Path(place).absolute() / _processor()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # freezing compiles many small ones
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _processor() -> str:
    """A name for what a program may be compiled for: machines with one home folder may have processors of several kinds."""
    info = Path("/proc/cpuinfo")
    known = {line.partition(":")[0].strip(): line for line in info.read_text().splitlines()} if info.exists() else {}
    kind = [platform.machine(), known.get("model name", platform.processor()), known.get("flags", known.get("Features", ""))]
    return f"{platform.machine()}-{hashlib.sha256(' '.join(kind).encode()).hexdigest()[:8]}"


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return jax.process_index() == 0


def first(function: Callable[[], Any]) -> Any:
    """What `function` returns (JSON) where the first process calls it, in every process; its error is raised in every process.

    Raises: RuntimeError, with the text of the error, in the other processes.
    """
    if jax.process_count() == 1:
        return function()
    outcome, failure = {}, None
    if is_first():
        try:
            outcome = {"value": function()}
        except Exception as error:
            outcome, failure = {"error": sentence(error)}, error
    outcome = json.loads(_broadcast(json.dumps(outcome).encode()))
    if failure is not None:
        raise failure
    if "error" in outcome:
        raise RuntimeError(f"the first process: {outcome['error']}")
    return outcome["value"]


def _broadcast(text: bytes) -> bytes:
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    buffer = np.zeros(length, np.uint8)
    buffer[: len(text) if is_first() else 0] = np.frombuffer(text, np.uint8) if is_first() else []
    return np.asarray(multihost_utils.broadcast_one_to_all(buffer)).tobytes()


@functools.lru_cache(maxsize=4)
def _moves(layout: Layout) -> tuple[Callable, Callable]:
    """Compiled `pad` and `trim`: each device takes its part of the whole, or is given the whole first."""
    rows = np.minimum(np.arange(layout.padded), layout.members - 1)

    def trim(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[: layout.members], jax.lax.with_sharding_constraint(tree, layout.whole))

    pad = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf[rows], tree), out_shardings=layout.split)
    return pad, jax.jit(trim, out_shardings=layout.whole)


def _put(array: np.ndarray, sharding: Sharding) -> jax.Array:
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
