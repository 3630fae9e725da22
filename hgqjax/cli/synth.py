"""The command `hgqjax synth`."""

import contextlib
from pathlib import Path

from tyro.conf import Positional


def synth(
    paths: Positional[tuple[Path, ...]],
    *,
    output: Path | None = None,
    tool: str = "yosys",
    clock_ns: float | None = None,
    latency_cutoff: float | None = None,
    timing: bool = False,
    verify: int = 0,
    time_limit: float = 1800.0,
    max_luts: int = 60_000,
    jobs: int | None = None,
    cluster: str = "",
) -> None:
    """Synthesise models with open tools: LUTs, flip-flops, carry chains, DSPs of an AMD UltraScale+ device, without a vendor's licence.

    Each model becomes RTL, Yosys maps it out of context, and the counts go into a table, synth.csv
    in the run folder or beside the model, with logs in synth/. What was done before is found by its content and not done again.

    Args:
      paths: run folders (all their points), model descriptions, files of networks, or RTL projects; hls4ml projects for the tool vitis.
      output: folder for the results of one path that is no run folder; by default that of a model of a run is its run, of any other
        the model's path, without its suffix, with _synth.
      tool: yosys, or vivado (synthesis, place and route) or vitis (C synthesis of hls4ml projects) where they are on PATH.
      clock_ns: target clock period, ns, by default 5.
      latency_cutoff: adder levels in one clock; 0 for combinational RTL; by default as many as fit into clock_ns.
      timing: also place and route for a Lattice ECP5 85k with nextpnr, for a clock frequency that orders designs.
      verify: simulate the mapped netlist on so many rows, and compare its words with the model's.
      time_limit: seconds that one tool may take for one design.
      max_luts: designs that are estimated above are refused.
      jobs: designs at a time, by default one for each core.
      cluster: instead over the workers of a Dask cluster: "local:N", a scheduler's address, or its scheduler file.
    """
    from hgqjax.runs import folders
    from hgqjax.synth import designs, flow, record
    from hgqjax.synth.settings import Settings, SynthError, ToolError

    if not paths:
        raise SynthError("name at least one run folder, model or RTL project")
    settings = Settings(
        tool=tool,
        clock_ns=clock_ns,
        latency_cutoff=latency_cutoff,
        timing=timing,
        verify=verify,
        time_limit=time_limit,
        max_luts=max_luts,
    )
    if jobs is not None and jobs < 1:
        raise SynthError(f"jobs is {jobs}; at least 1 is needed")
    if output is not None and (len(paths) != 1 or (paths[0] / "manifest.json").exists()):
        raise SynthError("output is for one path that is no run folder; the results of runs go into them")
    work = [design for path in paths for design in designs.find(path, output, tool)]
    with contextlib.ExitStack() as stack:
        for held in dict.fromkeys(folders.run_of(design.base) or design.base for design in work):
            stack.enter_context(folders.hold(held))
        rows = flow.run(work, settings, jobs=jobs, cluster=cluster, say=print)
    work = list(dict.fromkeys(work))
    for base in dict.fromkeys(design.base for design in work):
        print(f"{base / record.TABLE}:\n{record.show(row for design, row in zip(work, rows, strict=True) if design.base == base)}")
    for row in rows:
        if row.done and verify and row.rows_checked != verify:
            print(f"{row.point}: {row.rows_checked} rows were checked, not {verify}: its test bench has no more")
    failed = [f"{row.point} ({row.status})" for row in rows if not row.done]
    if failed:
        raise ToolError(f"{len(failed)} of {len(rows)} designs have no result: {', '.join(failed)}")
