"""README.md of a project folder: what goes in, in which order and scaling, what comes out, how to build it."""

from pathlib import Path
from typing import Any

import numpy as np

from hgqjax.data.inputs import from_json
from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Input, Quantize
from hgqjax.description.readers import input_readers
from hgqjax.export.gate import GateReport
from hgqjax.export.project import MODEL_FOLDER

FILE = "README.md"
ROWS = 256
"""Inputs with at most so many elements have a line for each."""


def write(description: ModelDescription, folder: Path, build: str) -> None:
    """Writes the file; `build` is a paragraph on how the project is compiled and what was compared, of its back end."""
    about = description.metadata
    lines = [f"# {_cell(description.name)}", "", "A network with learned bit-widths, written by hgqjax.", "", build, "", "## Inputs", ""]
    lines += _scaling(description)
    for op, own, name in zip(description.inputs, *_of_inputs(about, len(description.inputs)), strict=True):
        title = f"### {op.name}{name}, shape {_shape(op.shape)}"
        lines += ["", title, "", *_elements(op, input_readers(description, op), own)]
    lines += ["", "## Outputs", ""]
    names = list(about.get("classes", ())) or list(about.get("targets", ()))
    for name in description.outputs:
        shape = description[name].shape
        lines.append(f"- `{name}`, shape {_shape(shape)}" + (f": {', '.join(map(_cell, names))}, in this order" if names else ""))
    if about.get("classes"):
        lines.append("- The class with the greatest output is the network's choice; of equal ones the first.")
    lines += [
        "",
        f'The exact model is in `{MODEL_FOLDER}`: `hgqjax.load("{MODEL_FOLDER}").predict(rows)` takes raw rows and gives what the',
    ]
    lines += ["hardware gives.", ""]
    (folder / FILE).write_text("\n".join(lines))


def _of_inputs(about: dict[str, Any], count: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Scaler and features of each input, and its name in the data set."""
    parts = from_json(about.get("inputs", ()))
    if len(parts) != count:
        return [about] * count, [""] * count
    scaler, features, found = about.get("scaler"), about.get("features", ()), []
    for part in parts:
        own: dict[str, Any] = {}
        if scaler is not None:
            own["scaler"] = {name: part.of_row(np.asarray(scaler[name])) for name in ("mean", "scale")}
        if scaler is not None and len(features) == np.size(scaler["mean"]):
            own["features"] = [features[n] for n in part.positions]
        found.append(own)
    return found, [f" ({_cell(part.name)})" for part in parts]


def compared(report: GateReport | None) -> str:
    """What the gate found, for `build`."""
    return f"{report.words} words on {report.rows} rows equal those of the exact model" if report else "It was not compared with the model"


def _scaling(description: ModelDescription) -> list[str]:
    if "raw_inputs" in description.metadata:
        error = description.metadata["raw_inputs"]["error_steps"]
        how = (
            "It is exact." if not error else f"A scaled value is off by at most {error:.3g} steps of the input quantizer, so a word by one."
        )
        return [f"The hardware takes raw values: the scaling, (raw - mean) / scale, is its first layer. {how}"]
    if "scaler" in description.metadata:
        return ["The hardware takes scaled values, (raw - mean) / scale of each element. The scaling is not part of the project."]
    return ["The model holds no scaler: the hardware takes its rows as they are."]


def _elements(op: Input, readers: list[Quantize], about: dict[str, Any]) -> list[str]:
    if not readers:
        return ["Nothing reads this input."]
    live = np.stack([reader.bits.ravel() > 0 for reader in readers])
    k, i, f = (np.where(live, np.stack([getattr(reader, name).ravel() for reader in readers]), -64).max(0) for name in "kif")
    low, high = np.where(k > 0, -np.ldexp(1.0, i), 0.0), np.ldexp(1.0, i) - np.ldexp(1.0, -f)
    wraps = {reader.overflow == "WRAP" for reader in readers}
    beyond = " or ".join({True: "wraps around", False: "is clipped"}[kind] for kind in sorted(wraps))
    head = f"A value beyond its range {beyond}. Steps that are finer than the inputs need are cut off."
    if len(low) > ROWS:
        used = live.any(0)
        reach = f"{low[used].min():g} .. {high[used].max():g}" if used.any() else "0 .. 0"
        return [head, f"The ranges of the {len(low)} elements lie within {reach}; {int(used.sum())} of them are used."]
    scaler = about.get("scaler")
    scaled = scaler if scaler is not None and np.shape(scaler["mean"]) == op.shape else None
    names = list(about.get("features", ()))
    names = names if len(names) == len(low) and len(op.shape) == 1 else [_shape(index) for index in np.ndindex(*op.shape)]
    lines = [head, "", "| n | element | range of the scaled value | step |" + (" mean | scale |" if scaled else "")]
    lines.append("|---:|---|---|---:|" + ("---:|---:|" if scaled else ""))
    means, scales = ([] if scaled is None else np.ravel(scaled[part]).tolist() for part in ("mean", "scale"))
    for n, name in enumerate(names):
        span = f"{low[n]:g} .. {high[n]:.9g} | {2.0 ** -int(f[n]):g}" if live[:, n].any() else "not used | "
        lines.append(f"| {n} | {_cell(name)} | {span} |" + (f" {means[n]!r} | {scales[n]!r} |" if scaled else ""))
    return lines


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


def _cell(text: str) -> str:
    """A name from a file, as it may stand in a line of Markdown."""
    plain = "".join(c if c.isprintable() else " " for c in str(text))
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#!&" else c for c in plain)
