"""Sweeps on several devices and in several processes, which need a JAX of their own: for test_mesh.py.

python mesh_driver.py PLACE DEVICES COORDINATOR PROCESSES ID SCENARIO...

Each SCENARIO is JSON: "name", "members", "mesh" (null, or its shape: members, or members and rows), and optionally "sizes" of the network,
"batch" size, "group", "broken" (a member with a penalty of NaN), "checkpoints" (a folder in PLACE), "until" (checks after which it is
interrupted), "kill" (checks after which the process kills itself), "stream" (bytes of rows at a time, which lie in files), "hlo" (instead
of a sweep, the communication in its program), "addresses" (instead of a sweep, how many there are of each array of rows). What a
scenario comes to is PLACE/<name>.<ID>.json. A COORDINATOR of "none" leaves jax.distributed out.
"""

import contextlib
import functools
import hashlib
import json
import math
import os
import re
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np


class Interrupted(BaseException):
    """Like a kill, but the process lives on."""


def data():
    """Rows that are quick to learn."""
    from hgqjax import training

    rng = np.random.default_rng(0)
    x = rng.normal(size=(320, 4)).astype(np.float32)
    y = np.argmax(x[:, :3] + 0.3 * x[:, 1:], axis=1).astype(np.int32)
    return training.Data(*(jnp.asarray(v) for v in (x[:256], y[:256], x[256:], y[256:])))


def members(n: int, broken: int | None = None):
    """Penalties, rates and seeds that are all different."""
    from hgqjax import training

    betas = [math.nan if member == broken else beta for member, beta in enumerate(np.geomspace(1e-6, 1e-2, n))]
    values = (betas, np.linspace(1e-2, 3e-2, n), np.zeros(n))
    return training.Member(*(jnp.asarray(v, jnp.float32) for v in values)), list(range(n))


def outcome(sweep) -> dict:
    """History and front as JSON has them exactly, the parameters of each point as a checksum."""

    def digest(point):
        return hashlib.sha256(b"".join(leaf.tobytes() for leaf in point.leaves)).hexdigest()

    points = [[p.member, p.check, p.merit, p.cost, digest(p)] for p in sweep.archive.points]
    failed = {str(member): reason for member, reason in sweep.failed.items()}
    return {"history": sweep.history, "points": points, "failed": failed}


@functools.cache
def train(sizes: tuple[int, ...], batch: int):
    """The run's functions; the same for the same arguments, so that nothing is compiled twice."""
    from hgqjax import layers, training
    from hgqjax.training import schedules

    config = training.Config(epochs=4, batch_size=batch, penalty=schedules.Constant())
    return training.make_train(config, lambda rngs: layers.mlp(sizes, rngs=rngs))


def mesh_of(shape: list[int] | None):
    """The first devices in that shape."""
    if shape is None:
        return None
    return jax.sharding.Mesh(np.asarray(jax.devices(), object)[: math.prod(shape)].reshape(shape), ("members", "rows")[: len(shape)])


def play(scenario: dict, place: Path):
    """What a scenario comes to."""
    from hgqjax import training

    run, n, mesh = train(tuple(scenario.get("sizes", (4, 3))), scenario.get("batch", 32)), scenario["members"], mesh_of(scenario["mesh"])
    if "hlo" in scenario:
        return communication(run, n, mesh)
    if "addresses" in scenario:
        return addresses(mesh)
    seen = []

    def report(check, sweep):
        seen.append(outcome(sweep))
        if check == scenario.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if check == scenario.get("until"):
            raise Interrupted

    folder = place / scenario["checkpoints"] if "checkpoints" in scenario else None
    varied, seeds = members(n, scenario.get("broken"))
    rows = training.Stream(mapped(data()), scenario["stream"]) if "stream" in scenario else data()
    with contextlib.suppress(Interrupted):
        training.sweep(run, rows, varied, seeds, checkpoints=folder, report=report, mesh=mesh, group=scenario.get("group"))
    return seen[-1]


def mapped(rows):
    """The same in files."""
    from hgqjax import scratch

    def in_file(x):
        return scratch.filled(x.shape, x.dtype, lambda part: np.asarray(x)[part], in_file=True)

    return rows._replace(x_train=in_file(rows.x_train), x_val=in_file(rows.x_val))


def addresses(mesh) -> list[int]:
    """At how many places of memory the devices of a mesh have each array of rows."""
    from hgqjax.training import devices

    shared = devices.Layout.of(mesh, mesh.size, None, 32).share(devices.on_device(data()))
    return [len({part.data.unsafe_buffer_pointer() for part in leaf.addressable_shards}) for leaf in jax.tree.leaves(shared)]


def communication(run, n: int, mesh) -> list[str]:
    """The kinds of communication in the compiled program of a mesh."""
    from hgqjax.training import devices, programs

    layout = devices.Layout.of(mesh, n, None, run.config.batch_size)
    segments = programs.Segments(run, data(), layout)
    varied, tally = layout.spread(members(n)[0]), segments._tally()
    states = segments.programs.init(jax.vmap(jax.random.key)(layout.spread(jnp.arange(n, dtype=jnp.uint32))), varied, segments.head)
    order, number = segments.programs.order(np.int32(0)), np.int32(0)
    text = segments.programs.steps.lower((states, tally), varied, segments.head, order, number, number).compile().as_text()
    return sorted(set(re.findall(r" (all-reduce|all-gather|all-to-all|collective-\w+|reduce-scatter|send|recv)(?:-start)?\(", text)))


def main() -> None:
    """Plays all scenarios."""
    place, count, coordinator, processes, identity, *scenarios = sys.argv[1:]
    place = Path(place)
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_compilation_cache_dir", str(place / "cache"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    from hgqjax.training import devices

    if coordinator != "none":
        devices.connect(coordinator, int(processes), int(identity))
    for scenario in map(json.loads, scenarios):
        (place / f"{scenario['name']}.{identity}.json").write_text(json.dumps(play(scenario, place)))
    devices.leave()


if __name__ == "__main__":
    main()
