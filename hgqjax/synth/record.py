"""synth.csv: one row for each design, tool, clock and cut-off; and the same for people."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from hgqjax.errors import first_line
from hgqjax.files import write_atomically
from hgqjax.reports.reader import require
from hgqjax.synth.settings import SynthError, Synthesis

TABLE = "synth.csv"
SAME = ("point", "tool", "clock_ns", "latency_cutoff")
"""Of two rows alike in these the later one stays, but none without numbers in place of one that has some."""
FURTHER = (("fmax_mhz", "fmax_family", "tool_version"), ("rows_checked", "differing_words"))
"""Columns that only some calls ask for: of one design they stay, where the later row has not the first of them."""
HEADS = ("point", "LUT", "LUT sites", "FF", "SRL", "CARRY8", "DSP", "BRAM", "cycles", "adder cost", "EBOPs", "Fmax MHz", "rows equal", "s")


def write(base: Path, rows: Iterable[Synthesis]) -> None:
    """Puts `rows` into ``base/synth.csv``, which is replaced whole; rows of other settings stay."""
    pl = require("polars")
    kept: dict[tuple, Synthesis] = {}
    for row in [*read(base), *rows]:
        key = tuple(getattr(row, name) for name in SAME)
        if row.done or key not in kept or not kept[key].done:
            kept[key] = _with_further(row, kept.get(key))
    if not kept:
        return
    ordered = sorted(kept.values(), key=lambda row: (row.point, row.tool, row.clock_ns or 0.0, row.latency_cutoff or 0.0))
    frame = pl.DataFrame([dataclasses.asdict(row) for row in ordered], schema=_schema(pl))
    base.mkdir(parents=True, exist_ok=True)
    write_atomically(base / TABLE, frame.write_csv())


def read(base: Path) -> list[Synthesis]:
    """The rows of ``base/synth.csv``; none where there is no such file. SynthError where it is not one of this version."""
    pl = require("polars")
    path = base / TABLE
    if not path.exists():
        return []
    schema = _schema(pl)
    try:
        frame = pl.read_csv(path, schema_overrides=schema)
        if "content" not in frame.columns:  # a table of before it was there
            frame = frame.with_columns(content=pl.lit(""))
        frame = frame.select(list(schema))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SynthError(
            f"{path} is no table of this version ({first_line(error)}); remove it, the results themselves are kept in jobs/"
        ) from error
    texts = [name for name, kind in schema.items() if kind == pl.String]
    return [Synthesis(**row) for row in frame.with_columns(pl.col(texts).fill_null("")).to_dicts()]


def show(rows: Iterable[Synthesis]) -> str:
    """A table for a terminal; designs without numbers have a line with the reason."""
    cells: list[tuple[str, ...]] = [HEADS]
    others: list[str] = []
    for row in rows:
        if row.done:
            numbers = [
                row.lut,
                row.lut_sites,
                row.ff,
                row.srl,
                row.carry8,
                row.dsp,
                row.bram,
                row.latency_cycles,
                row.adder_cost,
                row.ebops,
            ]
            cells.append((row.point, *map(_cell, numbers), _cell(row.fmax_mhz), _cell(row.rows_checked), f"{row.seconds:.0f}"))
        else:
            others.append(f"{row.point}: {row.status}: {row.error}")
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in cells]
    return "\n".join([*(lines if len(lines) > 1 else []), *others])


def _with_further(row: Synthesis, before: Synthesis | None) -> Synthesis:
    """`row`, with the timing and the verification of the row that it replaces, where that is of the same design."""
    if before is None or not (before.done and row.done and row.content) or row.content != before.content:
        return row
    names = [name for group in FURTHER if getattr(row, group[0]) is None and getattr(before, group[0]) is not None for name in group]
    return dataclasses.replace(row, **{name: getattr(before, name) for name in names})


def _cell(number: int | float | None) -> str:
    return "" if number is None else f"{number:.10g}" if number == int(number) else f"{number:.1f}"


def _schema(pl) -> dict:
    kinds = {str: pl.String, int: pl.Int64, float: pl.Float64}
    return {f.name: kinds[next(k for k in (get_args(f.type) or (f.type,)) if k in kinds)] for f in dataclasses.fields(Synthesis)}
