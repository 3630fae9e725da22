"""One way to all back ends, for the command: which one an export is for, and which settings that one has."""

from pathlib import Path
from typing import Any

from hgqjax.description.model import ModelDescription
from hgqjax.export.gate import ExportError
from hgqjax.export.hls4ml.convert import BACKENDS, to_hls4ml
from hgqjax.export.rtl.convert import FLAVORS, to_rtl

HLS_ONLY, RTL_ONLY = ("strategy", "io_type"), ("latency_cutoff", "max_cost")


def check_backend(settings: dict[str, Any]) -> None:
    """Raises ExportError where `settings` name no back end, or what theirs has not."""
    backend = settings.get("backend", BACKENDS[0])
    if backend not in BACKENDS + FLAVORS:
        raise ExportError(f"backend {backend!r} is not one of {', '.join(BACKENDS + FLAVORS)}")
    odd = [name for name in (HLS_ONLY if backend in FLAVORS else RTL_ONLY) if name in settings]
    if odd:
        others = BACKENDS if backend in FLAVORS else FLAVORS
        raise ExportError(f"backend {backend} has no {' and no '.join(odd)}; {' and '.join(others)} have")


def default_output(model: Path, settings: dict[str, Any]) -> Path:
    """Beside the model: its name without .keras, with _hls4ml, _verilog or _vhdl."""
    model, backend = model.resolve(), settings.get("backend")
    name = model.stem if model.suffix.lower() == ".keras" else model.name
    return model.with_name(f"{name}_{backend if backend in FLAVORS else 'hls4ml'}")


def export(description: ModelDescription, output: Path, settings: dict[str, Any]):
    """Write the project that `settings` (see `to_hls4ml`, `to_rtl`; `backend` names either) ask for; returns it."""
    check_backend(settings)
    if settings.get("backend") in FLAVORS:
        flavor = settings["backend"]
        return to_rtl(description, output, flavor=flavor, **{name: value for name, value in settings.items() if name != "backend"})
    return to_hls4ml(description, output, **settings)
