"""hls4ml's VivadoAccelerator: the Vivado project of a network inside a wrapper with AXI streams of floats, a block design and a driver."""

import json
import re
from pathlib import Path

import numpy as np

from hgqjax.description.model import ModelDescription
from hgqjax.export.gate import ExportError
from hgqjax.export.hls4ml.types import enclosing

NAME, DEFAULT_BOARD = "VivadoAccelerator", "pynq-z2"
FLOAT_BITS = 24
"""Significant bits of the floats that the wrapper takes and gives."""


def boards() -> dict[str, str]:
    """The part of each board that hls4ml knows."""
    from hls4ml import backends

    file = Path(backends.__file__).parent / "vivado_accelerator" / "supported_boards.json"
    return {name: about["part"] for name, about in json.loads(file.read_text()).items()}


def part_of(board: str) -> str:
    """The device on `board`; ExportError where hls4ml knows no such board."""
    known = boards()
    if board not in known:
        raise ExportError(f"board {board!r} is not one of {', '.join(known)}")
    return known[board]


def check(description: ModelDescription) -> None:
    """Raises ExportError where the wrapper cannot have the network: one input, one output, in floats."""
    if len(description.inputs) != 1 or len(description.outputs) != 1:
        count = f"{len(description.inputs)} inputs and {len(description.outputs)} outputs"
        raise ExportError(f"model {description.name!r} has {count}; back end {NAME} has one of each")
    kind = enclosing(description.grids[description.outputs[0]])
    if kind.i + kind.f > FLOAT_BITS:
        raise ExportError(
            f"output {description.outputs[0]!r} has {kind.i + kind.f} bits, more than the {FLOAT_BITS} of the wrapper's floats"
        )


def rows(x: np.ndarray) -> np.ndarray:
    """Rows as the floats of the wrapper hold them."""
    return x.astype(np.float32).astype(np.float64)


def finish(project: Path, name: str, namespace: str) -> None:
    """Puts the wrapper, which hls4ml's bridge and so the gate call, into the namespace of the network."""
    header = project / "firmware" / f"{name}_axi.h"
    lines = f'#include "{name}.h"\n'
    text = header.read_text()
    if text.count(lines) != 1:
        raise ExportError(f"hls4ml wrote {header.name} in a form that is not known; hls4ml 1.3 is needed")
    text = text.replace(lines, f"{lines}\nnamespace {namespace} {{\n")
    header.write_text(re.sub(r"\n#endif\s*$", "\n} // namespace\n#endif\n", text))
    source = project / "firmware" / f"{name}_axi.cpp"
    text = source.read_text()
    start = text.index("void ")
    source.write_text(f"{text[:start]}namespace {namespace} {{\n{text[start:]}}} // namespace\n")
    project.with_name(f"{project.name}.tar.gz").unlink(missing_ok=True)  # hls4ml packs the folder beside it
