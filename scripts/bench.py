"""Speed and memory of hgqjax, measured: `bash scripts/bench` runs this file and prints one table.

What is compared alternates within one run (A B A B ...), after a warm-up that is thrown away; the table has medians, ratios are medians of
the ratios of single rounds. Our steps are those of the public `Train.segment` and `population.sweep`, with everything in them but the
look at the validation rows, which are kept few (512) where steps are timed.
"""

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Literal, get_args

import bench_methods
import bench_particles
import bench_tables
import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import tyro
from bench_front import Reach, part_reach
from bench_report import Report, machine, table
from bench_runs import (
    SHARE,
    Hgq2,
    Skip,
    alternate,
    clock,
    cnn,
    epochs_of,
    float_cnn_epochs,
    float_epochs,
    hgq,
    hgq_epochs,
    images,
    in_fresh_process,
    jets,
    many,
    peak_memory,
    single,
    source,
    swept,
    timed,
    whole,
)

from hgqjax import training
from hgqjax.training import devices, shuffle

Part = Literal["step", "hgq2", "population", "front", "compile", "memory", "growth", "cnn", "particles", "methods", "tables"]
CPU = "processor time"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    parts: tuple[Part, ...] = get_args(Part)
    """step: against the same float network; hgq2: against HGQ2; front: time until a front has the accuracies of released networks at their
    costs, and 16 points against 16 runs of HGQ2; growth: with members, rows, width and depth."""
    quick: bool = False
    """Small sizes and few rounds: only to see that everything runs (about a minute)."""
    members: tuple[int, ...] = ()
    """Sizes of the populations; by default 1 4 16 32 64, on a GPU 1 64 1024."""
    rounds: int = 0
    """Rounds that alternate; by default 5, with --quick 2."""
    out: Path = Path("results/bench.json")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Network, rows, batches and epochs of each part."""

    hidden: tuple[int, ...] = (64, 32, 32)
    members: tuple[int, ...] = (1, 4, 16, 32, 64)
    members_gpu: tuple[int, ...] = (1, 64, 1_024)
    steps: tuple[tuple[int, int], ...] = ((512, 127_267), (2_048, 127_267), (33_200, 600_000))
    population: tuple[tuple[int, int], ...] = ((2_048, 65_536), (33_200, 66_400))
    reach: Reach = Reach()
    front_members: int = 16
    front: tuple[int, int, int] = (2_048, 100_352, 6)
    realistic_epochs: int = 100
    memory: tuple[int, int, int] = (33_200, 600_000, 60_000)
    memory_members: tuple[int, ...] = (16, 64)
    growth_rows: tuple[int, ...] = (66_400, 132_800, 265_600, 600_000)
    growth_batch: int = 33_200
    validation_rows: tuple[int, ...] = (15_000, 60_000, 240_000, 600_000)
    growth_width: tuple[int, int] = (2_048, 65_536)
    widths: tuple[int, ...] = (1, 2, 4)
    depths: tuple[int, ...] = (1, 2)
    cnn: tuple[int, int, tuple[int, ...], tuple[int, ...]] = (2_048, 4_096, (16, 16, 24), (42, 64))
    particles: tuple[int, int, int, int] = (512, 2_048, 16, 64)
    methods: tuple[int, int] = (512, 16_384)
    tables: tuple[int, ...] = (1_024,)
    tables_rows: int = 16_384


QUICK = Sizes(
    hidden=(),  # most of the time here is compilation, which grows with layers
    members=(1, 4),
    members_gpu=(1, 4),
    steps=((256, 4_096),),
    population=((256, 1_024),),
    reach=Reach(rows=2_000, hidden=(4,), epochs=2, betas=(1e-6,), seeds=(0,), batch=200, hgq2_epochs=2, hgq2_batch=200, hgq2_hidden=(4,)),
    front_members=4,
    front=(256, 2_048, 2),
    memory=(1_024, 8_192, 1_024),
    memory_members=(4,),
    growth_rows=(2_048, 4_096),
    growth_batch=1_024,
    validation_rows=(1_024, 4_096),
    growth_width=(256, 2_048),
    widths=(1,),
    depths=(1, 2),
    cnn=(32, 64, (2,), ()),
    particles=(32, 64, 4, 4),
    methods=(64, 256),
    tables=(256,),
    tables_rows=512,
)


def part_steps(options, sizes, report, hgq2):
    """Steps against the same float network, and epochs against HGQ2, in the same rounds."""
    for batch, rows in sizes.steps:
        data, steps = jets(rows), rows // batch
        runs = float_epochs(data, batch, sizes.hidden) | hgq_epochs(data, batch, sizes.hidden)
        if hgq2 is not None:
            runs["hgq2"] = hgq2.epoch(data, batch, sizes.hidden)
        for name, order in (("jax's order", jax.random.permutation), ("our order", shuffle.permutation)):
            runs[name] = lambda order=jax.jit(order, static_argnums=1), rows=rows: timed(order, jax.random.key(0), rows)[0]
        spent = alternate(runs, options.rounds)
        spent["run"] = whole(spent)
        where = f"batch {batch:,} of {rows:,} rows"
        phases = {"batch": "HGQ, batch statistics", "kept": "HGQ, kept statistics", "run": "HGQ, mean of a run"}
        like = {"batch": spent["float"], "kept": spent["float_kept"]}
        like["run"] = whole(like)
        if "step" in options.parts:
            for name, what in ({"float": "float", "float_kept": "float, kept statistics"} | phases).items():
                report.add("step", f"{where}: {what}", 1e3 * spent[name][:, 0] / steps, "ms/step")
            ratio, goal = spent["run"] / spent["float"], ("<=", 1.25) if batch in (2_048, 33_200) else None
            report.add("step", f"{where}: {phases['run']} / float", ratio[:, 0], "x", goal)
            report.add("step", f"{where}: {phases['run']} / float, {CPU}", ratio[:, 1], "x")
            report.add("step", f"{where}: order of the rows, once an epoch, in HGQ above", 1e3 * spent["our order"][:, 0], "ms")
            report.add("step", f"{where}: jax.random.permutation / it", (spent["jax's order"] / spent["our order"])[:, 0], "x slower")
            for name, what in phases.items():  # nothing gained by statistics that only ours keeps
                report.add("step", f"{where}: {what} / float with the same statistics", (spent[name] / like[name])[:, 0], "x")
        if hgq2 is not None:
            ratio = spent["hgq2"] / spent["run"]
            report.add("hgq2", f"{where}: HGQ2, an epoch", spent["hgq2"][:, 0], "s")
            report.add("hgq2", f"{where}: HGQ, an epoch, mean of a run", spent["run"][:, 0], "s")
            report.add("hgq2", f"{where}: HGQ2 / HGQ", ratio[:, 0], "x faster", (">=", 5) if batch == 33_200 else None)
            report.add("hgq2", f"{where}: HGQ2 / HGQ, {CPU}", ratio[:, 1], "x less")
            report.add("hgq2", f"{where}: HGQ2 / HGQ, batch statistics as HGQ2's", (spent["hgq2"] / spent["batch"])[:, 0], "x faster")
            # how much could be had at all, by a step that costs nothing beyond that of the float network
            report.add("hgq2", f"{where}: HGQ2 / float", (spent["hgq2"] / spent["float"])[:, 0], "x slower")


def part_population(options, sizes, report):
    """Members of one program against a run of its own, through the public sweep: as a run has them, archive and all."""
    members = options.members or (sizes.members_gpu if jax.default_backend() == "gpu" else sizes.members)
    for batch, rows in sizes.population:
        train, data, steps = hgq(batch, sizes.hidden, epochs=5, batch_statistics=0.4), jets(rows), rows // batch
        init, segment, member = jax.jit(train.init), jax.jit(train.segment, donate_argnums=0), single()

        def alone(train=train, data=data, init=init, segment=segment, member=member):
            state, seconds = init(jax.random.key(0), member, data), []
            for check in range(train.config.checks):
                spent, (state, _) = timed(segment, state, member, data, jnp.int32(check))
                seconds.append(spent)
            return np.array(seconds)

        def phases(checks):  # the first check of a phase is left out: it also starts the run, or has the first step of the next phase
            return SHARE * checks[1] + (1 - SHARE) * np.mean(checks[3:], axis=0)

        runs = {0: lambda alone=alone, phases=phases: phases(alone())}
        runs |= {n: lambda n=n, train=train, data=data, phases=phases: phases(swept(train, data, n)) for n in members}
        try:
            spent = alternate(runs, max(1, options.rounds // 2))
        except jax.errors.JaxRuntimeError as error:  # as a thousand members may be too many for the memory
            report.skip("population", f"batch {batch}: {str(error).splitlines()[0][:200]}")
            continue
        where = f"batch {batch:,}"
        report.add("population", f"{where}: a run of its own", 1e3 * spent[0][:, 0] / steps, "ms/step")
        for n in members:
            report.add("population", f"{where}: {n} members, each", 1e3 * spent[n][:, 0] / steps / n, "ms/step")
            goal = ("<=", 0.8) if n == 16 else None
            ratio = spent[n] / spent[0] / n
            report.add("population", f"{where}: a member of {n} / a run of its own", ratio[:, 0], "x", goal)
            report.add("population", f"{where}: a member of {n} / a run of its own, {CPU}", ratio[:, 1], "x")


def part_front(options, sizes, report, hgq2):
    """Time to a front: until it has an accuracy at a cost; and one program for all members, against a run of HGQ2 for each."""
    part_reach(sizes.reach, report, hgq2)
    batch, rows, epochs = sizes.front
    members, data, spent = sizes.front_members, jets(rows, 14_141), {"ours": [], "check": [], "hgq2": [], "epoch": []}
    if hgq2 is not None:
        hgq2.send(data)
    for _ in range(max(1, options.rounds // 2)):
        start = clock()
        checks = swept(hgq(batch, sizes.hidden, epochs=epochs), data, members)
        spent["ours"].append(clock() - start)
        spent["check"].append(np.mean(checks[1:], axis=0))
        if hgq2 is not None:
            built = hgq2("build", hidden=sizes.hidden, rows=rows, batch=batch)["seconds"]
            spent["hgq2"].append(np.add(built, hgq2("epochs", epochs=epochs, validate=True)["seconds"]))
            spent["epoch"].append(hgq2("epochs", epochs=1, validate=True)["seconds"])
    spent = {name: np.array(values) for name, values in spent.items()}
    where = f"{members} points, {epochs} epochs of {rows:,} rows, batch {batch:,}"
    if hgq2 is None:
        report.add("front", f"{where}: HGQ, one program", spent["ours"][:, 0], "s")
        return
    report.add("front", f"{where}: HGQ2, one run, measured", spent["hgq2"][:, 0], "s")
    more = sizes.realistic_epochs - epochs
    compared = {f"{where}; HGQ2's extrapolated": (spent["ours"], members * spent["hgq2"])}
    ours, theirs = spent["ours"] + more * spent["check"], members * (spent["hgq2"] + more * spent["epoch"])
    compared[f"{members} points, {sizes.realistic_epochs} epochs, both extrapolated"] = ours, theirs
    for what, (ours, theirs) in compared.items():
        goal = (">=", 10) if members == 16 else None
        report.add("front", f"{what}: HGQ, one program", ours[:, 0], "s")
        report.add("front", f"{what}: HGQ2, {members} runs", theirs[:, 0], "s")
        report.add("front", f"{what}: HGQ2 / HGQ", (theirs / ours)[:, 0], "x faster", goal)
        report.add("front", f"{what}: HGQ2 / HGQ, {CPU}", (theirs / ours)[:, 1], "x less")


class Counted(training.Train):
    """Counts how often the Python of `steps` runs, that is, how often the training of a sweep is traced."""

    traces = 0

    def steps(self, *arguments):
        self.traces += 1
        return super().steps(*arguments)


def part_compile(options, sizes, report):
    """Seconds to trace and to compile, and how often a whole sweep does."""
    batch, rows = sizes.growth_width
    data, members = jets(rows), sizes.front_members
    keys = jax.vmap(jax.random.key)(jnp.arange(members))
    for what, n in (("a run of its own", 0), (f"{members} members", members)):
        train = hgq(batch, sizes.hidden, epochs=10)
        init, segment, arguments = train.init, train.segment, (jax.random.key(0), single(), data)
        if n:
            init, segment = jax.vmap(init, in_axes=(0, 0, None)), jax.vmap(segment, in_axes=(0, 0, None, None))
            arguments = (keys, many(n), data)
        state = jax.eval_shape(init, *arguments)
        for name, function, inputs in (("init", init, arguments), ("segment", segment, (state, *arguments[1:], jnp.int32(0)))):
            times = [clock()]
            lowered = jax.jit(function).lower(*inputs)
            times.append(clock())
            lowered.compile()
            times.append(clock())
            for stage, (wall, cpu) in zip(("tracing", "XLA"), np.diff(times, axis=0), strict=True):
                report.add("compile", f"{what}: {name}: {stage}", wall, "s")
                report.add("compile", f"{what}: {name}: {stage}, {CPU}", cpu, "s")
    programs, counting = [], [True]

    def listen(event, duration, **_):
        if counting and event == "/jax/core/compile/backend_compile_duration":
            programs.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    train = hgq(batch, sizes.hidden, kind=Counted, epochs=10)
    swept(train, data, members)
    counting.clear()  # a listener cannot be taken away
    what = f"a sweep of {members} members, both phases, 10 looks"
    report.add("compile", f"{what}: traces of Train.steps", train.traces, "traces", ("<=", 1))
    report.add("compile", f"{what}: XLA programs, of every size", len(programs), "programs")
    report.add("compile", f"{what}: XLA, all of them", sum(programs), "s")


def part_memory(options, sizes, report):
    """Peak memory of a whole sweep of one epoch and one look at the validation rows, in a process of its own."""
    batch, rows, rows_val = sizes.memory
    for members in sizes.memory_members:
        found = in_fresh_process(peak_memory, sizes.hidden, members, batch, rows, rows_val)
        where = f"{members} members, {rows:,} rows, {rows_val:,} validation rows, batch {batch:,}"
        goal = ("<=", 4) if (members, rows) == (16, 600_000) else None
        report.add("memory", f"{where}: peak of the process", found["peak"] / 2**30, "GiB", goal)
        report.add("memory", f"{where}: of which before the sweep", found["before"] / 2**30, "GiB")
        if found["device"]:
            report.add("memory", f"{where}: peak on the device", found["device"] / 2**30, "GiB")


def part_growth(options, sizes, report):
    """How time grows with rows, width and depth; with members: the population part."""
    rounds, batch = max(1, options.rounds // 2), sizes.growth_batch
    runs = {}
    for rows in sizes.growth_rows:
        runs |= {(rows, phase): run for phase, run in hgq_epochs(jets(rows), batch, sizes.hidden).items()}
    spent = alternate(runs, rounds)
    each = {rows: whole({phase: spent[rows, phase] for phase in ("batch", "kept")}) / (rows - rows % batch) for rows in sizes.growth_rows}
    for rows, seconds in each.items():
        report.add("growth", f"training on {rows:,} rows, batch {batch:,}", 1e6 * seconds[:, 0], "us/row")
    report.add("growth", f"rows x{max(each) / min(each):.3g}: time of a row", (each[max(each)] / each[min(each)])[:, 0], "x")
    train = hgq(batch, sizes.hidden)
    data = jets(batch, max(sizes.validation_rows))
    state, validate = jax.jit(train.init)(jax.random.key(0), single(), data), jax.jit(train.validate)
    parts = {n: data._replace(x_val=data.x_val[:n], y_val=data.y_val[:n]) for n in sizes.validation_rows}
    spent = alternate({n: lambda part=part: timed(validate, state, part)[0] for n, part in parts.items()}, options.rounds)
    for n, seconds in spent.items():
        report.add("growth", f"validation of {n:,} rows", 1e6 * seconds[:, 0] / n, "us/row")
    batch, rows = sizes.growth_width
    networks = {f"hidden layers x{width}": tuple(width * n for n in sizes.hidden) for width in sizes.widths}
    networks |= {f"depth x{depth}": tuple(n for n in sizes.hidden for _ in range(depth)) for depth in sizes.depths if depth > 1}
    steps, data = {}, jets(rows)
    for name, hidden in networks.items():
        spent = alternate(float_epochs(data, batch, hidden) | hgq_epochs(data, batch, hidden), rounds)
        steps[name] = whole(spent)[:, 0]
        report.add("growth", f"{name}, batch {batch:,}: HGQ, mean of a run", 1e3 * steps[name] / (rows // batch), "ms/step")
        report.add("growth", f"{name}, batch {batch:,}: HGQ / float", (whole(spent) / spent["float"])[:, 0], "x")
    for name in list(networks)[1:]:
        report.add("growth", f"{name}, batch {batch:,}: time of a step", steps[name] / steps[next(iter(networks))], "x")


def part_cnn(options, sizes, report):
    """Steps of the SVHN network against the same float network; images are random."""
    batch, rows, filters, hidden = sizes.cnn
    train = cnn(batch, filters=filters, hidden=hidden)
    data, steps = images(rows), rows // batch
    spent = alternate(float_cnn_epochs(data, batch, filters, hidden) | epochs_of(train, data), max(1, options.rounds // 2))
    spent["run"] = whole(spent)
    where = f"SVHN network, batch {batch:,}"
    names = {"xla": "float, XLA's convolutions", "float": "float, convolutions as products", "float_kept": "the same, kept statistics"}
    names |= {"batch": "HGQ, batch statistics", "kept": "HGQ, kept statistics", "run": "HGQ, mean of a run"}
    for name, what in names.items():
        report.add("cnn", f"{where}: {what}", 1e3 * spent[name][:, 0] / steps, "ms/step")
    for name in ("float", "xla"):
        report.add("cnn", f"{where}: HGQ, mean of a run / {names[name]}", (spent["run"] / spent[name])[:, 0], "x")


def measure(options, report):
    """Runs the parts, one after the other; the versions that HGQ2 ran with."""
    sizes, hgq2, versions = QUICK if options.quick else Sizes(), None, None
    if "hgq2" in options.parts:
        try:
            hgq2 = Hgq2()
            versions = ", ".join(f"{name} {version}" for name, version in hgq2.facts["versions"].items())
        except Skip as reason:
            report.skip("hgq2", str(reason))
    with_hgq2 = {"step": part_steps, "front": part_front}
    alone = {"population": part_population, "compile": part_compile, "memory": part_memory, "growth": part_growth, "cnn": part_cnn}
    alone |= {"particles": bench_particles.part, "methods": bench_methods.part, "tables": bench_tables.part}
    parts = [part for part in get_args(Part) if part in options.parts and part != "hgq2"]
    parts = parts if hgq2 is None or "step" in parts else ["step", *parts]  # which measures HGQ2's epochs too
    for part in parts:
        try:
            if part in with_hgq2:
                with_hgq2[part](options, sizes, report, hgq2)
            else:
                alone[part](options, sizes, report)
        except Skip as reason:
            report.skip(part, str(reason))
    if hgq2 is not None:
        hgq2.close()
    return versions


def main():
    """Measures, prints, writes."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # on a GPU: the memory part is a second process
    jax.config.update("jax_enable_compilation_cache", False)  # compile times are to be those of a first run
    options = tyro.cli(Options, description=__doc__)
    devices.use_cores()
    options = dataclasses.replace(options, rounds=options.rounds or (2 if options.quick else 5))
    report, facts, start = Report(), machine() | {"source": source()}, time.perf_counter()
    facts["against"] = measure(options, report)
    facts["load_end"], facts["seconds"] = os.getloadavg()[0], round(time.perf_counter() - start)
    facts["source_changed"] = source() != facts["source"]
    if facts["source_changed"]:
        report.skip("all", "hgqjax was edited while this ran: its parts may have measured different code; run it again")
    print(table(report, facts))
    content = {"machine": facts, "options": dataclasses.asdict(options) | {"out": str(options.out)}} | dataclasses.asdict(report)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = options.out.with_name(f".{options.out.name}.part")
    temporary.write_text(json.dumps(content, indent=1))
    os.replace(temporary, options.out)


if __name__ == "__main__":
    main()
