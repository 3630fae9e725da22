"""From designs to rows of synth.csv: each once, several at a time here or on a cluster, and what fails does not stop the others."""

import concurrent.futures
import contextlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hgqjax.description import ModelDescription
from hgqjax.errors import sentence
from hgqjax.export import ExportError
from hgqjax.files import write_atomically
from hgqjax.runs import cluster as cluster_
from hgqjax.runs import folders
from hgqjax.synth import designs as designs_
from hgqjax.synth import ecp5, netlist, process, verify, vitis, vivado, yosys
from hgqjax.synth.designs import Design, Rtl
from hgqjax.synth.settings import FAMILY, Settings, SynthError, Synthesis, ToolError

RESULT = "synthesis.json"
RESULTS = "synth"
POLL_SECONDS = 0.3
LUTS_PER_BIT = 1.5
"""LUTs per unit of adder cost, for the estimate before a tool runs. Seen: 1.35 (2 100 bits) to 1.8 (300 bits)."""

_tracing = threading.Lock()  # one model at a time becomes RTL: the compiler has a state of its own


def synthesize(source: ModelDescription | str | os.PathLike, output: str | os.PathLike | None = None, **settings: Any) -> Synthesis:
    """What a model takes on a device, by synthesis of its RTL.

    Args:
      source: a model description, or the path of one, of a .keras or .onnx file, or of an RTL project.
      output: folder for RTL, logs and results, ``<output>/synth/<name>/<key>``, where a second call finds them; by default nothing is kept.
      settings: of `Settings`.

    Raises: SynthError, ToolError or ExportError, with one sentence, where it does not succeed.
    """
    found = synthesize_many({_name(source): source}, output, jobs=1, **settings)[0]
    if not found.done:
        raise (ToolError if found.status in ("failed", "timeout") else SynthError)(f"{found.point}: {found.error}")
    return found


def synthesize_many(
    sources: dict[str, ModelDescription | str | os.PathLike],
    output: str | os.PathLike | None = None,
    *,
    jobs: int | None = None,
    cluster: str = "",
    progress: bool = False,
    **settings: Any,
) -> list[Synthesis]:
    """`synthesize` for many, name -> source, in their order; one that fails has another `Synthesis.status`, and raises nothing.

    Args:
      output: folder for all; it also gets the table synth.csv. RunError where another process writes into the run that it lies in.
      jobs: designs at a time, by default one for each core. cluster: as in `hgqjax.runs.cluster.connect`, instead of this machine's cores.
      progress: show a bar.
    """
    with contextlib.ExitStack() as stack:
        chosen = Settings(**settings)
        for name in sources:
            if Path(name).name != name or name == "..":
                raise SynthError(f"name {name!r} cannot be that of a folder of results; one without slashes is needed")
        base = designs_.tidy(output or stack.enter_context(tempfile.TemporaryDirectory(prefix="hgqjax-synth-")))
        stack.enter_context(folders.hold(base))
        work = []
        for name, source in sources.items():
            if isinstance(source, ModelDescription):
                path = base / RESULTS / name / "model"
                shutil.rmtree(path, ignore_errors=True)
                source.save(path)
                source = path
            work.append(Design(base=base, point=name, source=designs_.tidy(source)))
        return run(work, chosen, jobs=jobs, cluster=cluster, progress=progress, table=output is not None, strict=False)


def run(
    work: list[Design],
    settings: Settings,
    *,
    jobs: int | None = None,
    cluster: str = "",
    progress: bool = True,
    table: bool = True,
    strict: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> list[Synthesis]:
    """Synthesises `work`, each design once; rows in its order. The tables of the folders grow as results come in.

    Args:
      strict: a source that is not sound, or not for this tool, raises before anything is written; else it is recorded as refused.
      say: is told how many were done before.

    Raises: SynthError, see `strict`, and for two of one name; ToolError where a tool is missing; ClusterError.
    """
    versions = tool_versions(settings)
    work = _each_once(work)
    arguments, rows = _arguments(work, settings, versions, strict)
    if table:
        _tabulate(work, {})  # before hours of work: can it be read and written?
    before = {n: found for n, (design, _, _, name) in arguments.items() if (found := _kept(design, name))}
    if before:
        all_of_them = "it was" if len(work) == 1 else f"all {len(work)} designs were"
        say(f"nothing to do: {all_of_them} done before" if len(before) == len(work) else f"{len(before)} of {len(work)} were done before")
    rows |= before
    with _bar(len(work), progress, initial=len(rows)) as bar:

        def done(n: int, row: Synthesis) -> None:
            rows[n] = row
            bar(row)
            if table:
                _tabulate(work, rows, only=work[n].base)

        _fan_out({n: job for n, job in arguments.items() if n not in rows}, done, jobs, cluster)
        if table:
            _tabulate(work, rows)
    return [rows[n] for n in range(len(work))]


def _each_once(work: list[Design]) -> list[Design]:
    """`work` without repetitions; SynthError where two different designs would share a row."""
    rows: dict[tuple[Path, str], Design] = {}
    for design in work:
        other = rows.setdefault((design.base, design.point), design)
        if other != design:
            raise SynthError(
                f"{other.source} and {design.source} would share the name {design.point!r} in {design.base}; give them one by one"
            )
    return list(rows.values())


def _arguments(
    work: list[Design], settings: Settings, versions: dict[str, str], strict: bool
) -> tuple[dict[int, tuple[Design, Settings, dict[str, str], str]], dict[int, Synthesis]]:
    """Arguments of `design_job` by number, and the rows of those that are refused at once."""
    arguments, refused = {}, {}
    tool = {name: version for name, version in versions.items() if name == settings.tool}
    for n, design in enumerate(work):
        try:
            sums = {"key": designs_.key(design, settings, versions), "content": designs_.content(design, settings, tool)}
        except (SynthError, OSError) as error:
            why = sentence(error)
            if strict:
                raise SynthError(why) from error
            refused[n] = Synthesis(point=design.point, tool=settings.tool, status="refused", error=why)
            continue
        arguments[n] = (design, settings, sums, f"{RESULTS}_{design.point}_{sums['key'][:12]}")
    return arguments, refused


def tool_versions(settings: Settings) -> dict[str, str]:
    """Versions of the tools that `settings` need; ToolError, with one sentence, where one is missing."""
    if settings.tool != "yosys":
        return {settings.tool: {"vivado": vivado, "vitis": vitis}[settings.tool].version()}
    return {"yosys": yosys.version()} | (ecp5.versions() if settings.timing else {})


def _kept(design: Design, name: str) -> Synthesis | None:
    """The result that an earlier call has left."""
    log = folders.read_log(design.base / "jobs" / f"{name}.jsonl")
    return next((Synthesis(**line["result"]) for line in log if line["event"] == "done"), None)


def _fan_out(jobs: dict[int, tuple], done: Callable[[int, Synthesis], None], at_once: int | None, cluster: str) -> None:
    if cluster and jobs:
        with cluster_.connect(cluster) as workers:
            named = {f"{job[0].point} ({n})": job for n, job in jobs.items()}
            numbers = dict(zip(named, jobs, strict=True))
            workers.map(design_job, named, done=lambda name, row: done(numbers[name], row))
        return
    at_once = at_once or len(os.sched_getaffinity(0))
    if at_once == 1:
        for n, job in jobs.items():
            done(n, design_job(*job))
        return
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:  # the tools are processes; threads wait for them
        futures = {pool.submit(design_job, *job): n for n, job in jobs.items()}
        try:
            waiting = set(futures)
            while waiting:  # and not for ever: polars, once it is loaded, keeps a signal from ending a wait
                over, waiting = concurrent.futures.wait(waiting, timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")
                for future in over:
                    done(futures[future], future.result())
        except BaseException:
            for future in futures:
                future.cancel()
            while concurrent.futures.wait(futures, timeout=POLL_SECONDS).not_done:
                process.end_all()  # again, as one that was still tracing begins its tool
            raise


def design_job(design: Design, settings: Settings, sums: dict[str, str], name: str) -> Synthesis:
    """One design, by whichever process; what does not succeed is recorded as such, and tried again by a later call."""
    folder = design.base / RESULTS / design.point / sums["key"][:8]
    head = {"point": design.point, "tool": settings.tool, "folder": str(folder.relative_to(design.base))} | sums
    start = time.monotonic()
    try:
        head |= designs_.target(design, settings)
        design.base.mkdir(parents=True, exist_ok=True)
        row = folders.do_once(design.base, name, lambda note: head | {"status": "done"} | _synthesize(design, settings, folder))
    except (ToolError, ExportError, ValueError, ImportError, OSError, AssertionError, LookupError) as error:  # of the tools and of alkaid
        timed_out = isinstance(error, process.TimeLimitError)
        status = "timeout" if timed_out else "refused" if isinstance(error, SynthError) else "failed"
        seconds = round(time.monotonic() - start, 1)
        if status == "refused":  # there is nothing to look up in it
            shutil.rmtree(folder, ignore_errors=True)
            for empty in (folder.parent, folder.parent.parent):
                with contextlib.suppress(OSError):
                    empty.rmdir()
        row = head | {"status": status, "error": sentence(error), "seconds": seconds}
    return Synthesis(**row)


def _synthesize(design: Design, settings: Settings, folder: Path) -> dict[str, Any]:
    start = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)  # of a call that was interrupted
    folder.mkdir(parents=True)
    if settings.tool == "vitis":
        found = vitis.synthesize(design.source, folder, settings.time_limit)
    else:
        found = _from_rtl(design, settings, folder)
    found["seconds"] = round(time.monotonic() - start, 1)
    write_atomically(folder / RESULT, json.dumps(found, indent=1) + "\n")
    return found


def _from_rtl(design: Design, settings: Settings, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with _tracing:
        description = designs_.load(design.source)
        if description is not None:
            found |= designs_.costs(description)
        if description is not None and not design.is_rtl:
            ebops = designs_.estimate(description)
            _refuse_above(settings.max_luts, ebops, f"{ebops:.0f} EBOPs with every position of its own hardware")
        if design.is_rtl:
            rtl = designs_.read_rtl(design.source)
        else:
            assert description is not None, "a design is a model or an RTL project"
            rtl = designs_.make_rtl(description, folder / "rtl", settings)
    _refuse_above(settings.max_luts, LUTS_PER_BIT * rtl.adder_cost, f"an adder cost of {rtl.adder_cost:.0f}")
    found |= {name: getattr(rtl, name) for name in ("clock_ns", "latency_cutoff", "latency_cycles", "adder_cost")}
    if settings.tool == "vivado":
        found |= vivado.synthesize(rtl, folder, settings.time_limit)
    else:
        found |= {"family": FAMILY["yosys"]} | yosys.synthesize(rtl, folder, settings.time_limit)
        found |= _further(rtl, found["lut"], folder, settings)
    return found


def _further(rtl: Rtl, luts: int, folder: Path, settings: Settings) -> dict[str, Any]:
    """The check of the mapped netlist and the timing, where they are asked for."""
    path = folder / "netlist.json"
    mapped = netlist.read(path, rtl.top)
    path.unlink()  # tens of MB
    found: dict[str, Any] = verify.check(rtl, mapped, settings.verify) if settings.verify else {}
    if settings.timing:
        found |= ecp5.place_and_route(rtl, mapped["ports"], luts, folder, settings.time_limit)
        found["tool_version"] = ", ".join(f"{tool} {version}" for tool, version in tool_versions(settings).items())
    return found


def _refuse_above(limit: int, estimate: int | float, why: str) -> None:
    if estimate > limit:
        raise SynthError(f"about {estimate:.0f} LUTs are estimated ({why}), and max_luts is {limit}; raise it to go on")


def _name(source: Any) -> str:
    return source.name if isinstance(source, ModelDescription) else designs_.name(Path(source).absolute())


def _tabulate(work: list[Design], rows: dict[int, Synthesis], only: Path | None = None) -> None:
    from hgqjax.synth import record

    for base in dict.fromkeys(design.base for design in work):
        if only in (None, base):
            record.write(base, [row for n, row in sorted(rows.items()) if work[n].base == base])


@contextlib.contextmanager
def _bar(total: int, shown: bool, initial: int) -> Iterator[Callable[[Synthesis], None]]:
    if not shown or initial == total:
        yield lambda row: None
        return
    from tqdm import tqdm

    with tqdm(total=total, initial=initial, unit="design", dynamic_ncols=True) as bar:

        def step(row: Synthesis) -> None:
            what = f"{row.lut} LUT, {row.lut_sites} sites" if row.done else row.status
            bar.set_postfix_str(f"{row.point}: {what}", refresh=False)
            bar.update()

        yield step
