"""Names of what lies in a project folder, the device that a project is made for, and which names may reach Tcl, C++ and HDL."""

import re

from hgqjax.export.gate import ExportError

GATE_FILE, RTL_FILE = "hgqjax_gate.json", "hgqjax_rtl.json"
"""Records of a project of hls4ml and of RTL."""
MODEL_FOLDER = "hgqjax_model"
"""The model description that a project was made of, in it."""
DEFAULT_PART = "xcvu13p-flga2577-2-e"
"""The paper's device."""
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def check_part(part: str) -> None:
    """Raises ExportError where `part` is no name of a device: it is written into scripts of Tcl, whose every other sign has a meaning.

    >>> check_part("xc7z020clg400-1")
    >>> check_part("x; exec touch here")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    hgqjax.export.gate.ExportError: part 'x; exec touch here' is no name of a device; up to 64 letters, digits, - _ and . are legal, ...
    """
    if not _PART.fullmatch(part):
        legal = f"up to 64 letters, digits, - _ and . are legal, such as {DEFAULT_PART}"
        raise ExportError(f"part {part[:80]!r} is no name of a device; {legal}")


def check_clock(clock_ns: float) -> None:
    """Raises ExportError where `clock_ns` is no clock period in ns."""
    if not 0 < clock_ns < 1e6:
        raise ExportError(f"clock_ns is {clock_ns}; a clock period in ns above 0 and below 1 000 000 is needed")
