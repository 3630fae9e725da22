"""What `bash scripts/bench` measured, as a table, and where it was."""

import dataclasses
import os
import platform
import statistics
import sys
from pathlib import Path

import jax
import numpy as np


@dataclasses.dataclass
class Report:
    """The rows of the table, in order, and what was skipped."""

    rows: list[dict] = dataclasses.field(default_factory=list)
    skipped: list[dict] = dataclasses.field(default_factory=list)

    def add(self, part, what, values, unit, goal=None):
        """A number, or the median of several; `goal` is (">=" or "<=", limit)."""
        samples = [float(v) for v in np.atleast_1d(values)]
        value = statistics.median(samples)
        met = None if goal is None else bool(value >= goal[1] if goal[0] == ">=" else value <= goal[1])
        self.rows.append(
            {"part": part, "what": what, "value": value, "unit": unit, "goal": goal and f"{goal[0]} {goal[1]:g}", "met": met}
            | {"samples": samples}
        )
        print(f"  {part}: {what}: {value:.4g} {unit}", file=sys.stderr, flush=True)

    def skip(self, part, reason):
        self.skipped.append({"part": part, "reason": reason})
        print(f"  {part}: skipped: {reason}", file=sys.stderr, flush=True)


def machine():
    """Where this ran."""
    cpu = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    facts = {"cpus": os.cpu_count(), "cpu": cpu[0] if cpu else platform.processor(), "python": platform.python_version()}
    facts |= {"jax": jax.__version__, "backend": jax.default_backend(), "device": jax.devices()[0].device_kind}
    return facts | {"load": os.getloadavg()[0]}


def table(report, facts):
    """The report as text."""
    lines = [", ".join(f"{name} {value}" for name, value in facts.items()), ""]
    width = max((len(row["what"]) for row in report.rows), default=0)
    lines.append(f"{'part':10}  {'what':{width}}  {'median':>9}  {'least .. most':>22}  {'unit':9}  {'goal':>7}  reached")
    for row in report.rows:
        met = {None: "", True: "yes", False: "NO"}[row["met"]]
        least, most = min(row["samples"]), max(row["samples"])
        spread = f"{least:9.4g} .. {most:9.4g}" if len(row["samples"]) > 1 else ""
        columns = f"{row['value']:9.4g}  {spread:>22}  {row['unit']:9}  {row['goal'] or '':>7}  {met}"
        lines.append(f"{row['part']:10}  {row['what']:{width}}  {columns}".rstrip())
    return "\n".join(lines + [f"{row['part']:10}  skipped: {row['reason']}" for row in report.skipped])
