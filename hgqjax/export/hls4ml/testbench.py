"""Rows for hls4ml's own test bench (C simulation, co-simulation), what must come out of it, and what came out, compared."""

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from pathlib import Path

import numpy as np

from hgqjax.description.model import ModelDescription
from hgqjax.export import gate
from hgqjax.export.gate import ExportError, Rows

FOLDER, INPUTS, OUTPUTS = "tb_data", "tb_input_features.dat", "tb_output_predictions.dat"
RESULTS = {"csim": "csim_results.log", "cosim": "rtl_cosim_results.log"}
"""What the test bench writes in each kind of simulation."""
ROWS = 100
"""Co-simulation takes about a second a row."""
DIGITS = 6
"""Significant ones that the test bench prints."""


def write(description: ModelDescription, project: Path, x: Rows) -> None:
    """Writes `ROWS` rows of `x`, a line each with the elements of all inputs, and the exact outputs, a line for each row, too.

    Rows are rounded to float32 first, which is what the test bench reads them into.
    """
    parts = x if isinstance(x, tuple) else (x,)
    chosen = np.unique(np.linspace(0, len(parts[0]) - 1, ROWS).astype(int))
    rows = [part[chosen].astype(np.float32).astype(np.float64) for part in parts]
    words = gate.expected(description, tuple(rows) if isinstance(x, tuple) else rows[0])
    values = [np.ldexp(words[name].astype(np.float64), -description.grids[name].f.astype(np.int64)) for name in description.outputs]
    (project / FOLDER).mkdir(exist_ok=True)
    for name, arrays in ((INPUTS, rows), (OUTPUTS, values)):
        table = np.concatenate([array.reshape(len(chosen), -1) for array in arrays], axis=1)
        lines = (" ".join(f"{v:.17g}" for v in row) for row in table.tolist())
        (project / FOLDER / name).write_text("\n".join(lines) + "\n")


def compared(project: Path, step: str) -> int:
    """Number of outputs that the simulation `step` printed, each equal to what is expected with the six digits that are printed.

    Raises: ExportError where there are no results, others than expected, or an output differs; it names the first row.
    """
    found = project / FOLDER / RESULTS[step]
    if not found.is_file():
        raise ExportError(f"{step} left no {FOLDER}/{found.name}")
    wanted = [line.split() for line in (project / FOLDER / OUTPUTS).read_text().splitlines()]
    expected, width = np.array(wanted, np.float64), len(wanted[0])
    try:
        values = np.array(found.read_text().split(), np.float64).reshape(-1, width)
    except ValueError:
        raise ExportError(f"{FOLDER}/{found.name} does not hold {width} numbers for each row") from None
    if values.shape != expected.shape:
        raise ExportError(f"{FOLDER}/{found.name} has {len(values)} rows; {len(expected)} were simulated")
    wrong = np.argwhere((values != _printed(expected, ROUND_HALF_UP)) & (values != _printed(expected, ROUND_HALF_EVEN)))
    if len(wrong):
        row, index = wrong[0].tolist()
        raise ExportError(
            f"{step} differs in {len(wrong)} of {values.size} outputs; first: output {index} of row {row} should be "
            f"{float(expected[row, index]):g}, is {float(values[row, index]):g}"
        )
    return values.size


def _printed(values: np.ndarray, rounding: str) -> np.ndarray:
    """The numbers with `DIGITS` significant digits, ties broken as `rounding` of `decimal` says.

    `ap_types` rounds ties away from zero (`reduceToPrecision` in ap_fixed_base.h), the C++ library rounds doubles to even digits.

    >>> _printed(np.array([[-0.2578125, 0.123456789, -4.0]]), ROUND_HALF_UP).tolist()
    [[-0.257813, 0.123457, -4.0]]
    >>> _printed(np.array([[-0.2578125]]), ROUND_HALF_EVEN).tolist()
    [[-0.257812]]
    """
    context = Context(prec=DIGITS, rounding=rounding)
    return np.array([[float(context.create_decimal(Decimal(v))) for v in row] for row in values.tolist()])
