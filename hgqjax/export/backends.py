"""One way to all back ends, for the command: which one an export is for, and which settings that one has."""

from pathlib import Path
from typing import Any

from hgqjax.description.model import ModelDescription
from hgqjax.export.gate import ExportError
from hgqjax.export.hls4ml import accelerator
from hgqjax.export.hls4ml.backends import BACKENDS as HLS4ML
from hgqjax.export.hls4ml.convert import to_hls4ml
from hgqjax.export.qonnx import to_qonnx
from hgqjax.export.rtl.convert import FLAVORS, to_rtl
from hgqjax.interop.models import stem

BACKENDS = tuple(HLS4ML)
QONNX = ("qonnx",)
"""Not a back end but a file: it has rows to be compared on, and no other setting."""
_OWNERS = {
    "strategy": BACKENDS,
    "io_type": BACKENDS,
    "reuse_factor": BACKENDS,
    "reuse_factors": BACKENDS,
    "latency_cutoff": FLAVORS,
    "max_cost": FLAVORS,
    "part": (*(name for name in BACKENDS if name != accelerator.NAME), *FLAVORS),
    "board": (accelerator.NAME,),
    "clock_ns": BACKENDS + FLAVORS,
}
"""Which back ends have a setting, of those that not all have."""


def check_backend(settings: dict[str, Any]) -> None:
    """Raises ExportError where `settings` name no back end, or what theirs has not."""
    backend = settings.get("backend", BACKENDS[0])
    if backend not in BACKENDS + FLAVORS + QONNX:
        raise ExportError(f"backend {backend!r} is not one of {', '.join(BACKENDS + FLAVORS + QONNX)}")
    odd = [name for name in _OWNERS if name in settings and backend not in _OWNERS[name]]
    if odd:
        raise ExportError(f"backend {backend} has no {' and no '.join(odd)}; {' and '.join(_OWNERS[odd[0]])} have")


def default_output(model: Path, settings: dict[str, Any]) -> Path:
    """Beside the model: its name, a file's without suffix, with _hls4ml, _verilog or _vhdl; or with _qonnx.onnx."""
    model, backend = model.resolve(), settings.get("backend")
    name = stem(model)
    if backend in QONNX:
        return model.with_name(f"{name}_qonnx.onnx")
    return model.with_name(f"{name}_{backend if backend in FLAVORS else 'hls4ml'}")


def export(description: ModelDescription, output: Path, settings: dict[str, Any]):
    """Write the project that `settings` (see `to_hls4ml`, `to_rtl`; `backend` names either) ask for; returns it."""
    check_backend(settings)
    if settings.get("backend") in FLAVORS:
        flavor = settings["backend"]
        return to_rtl(description, output, flavor=flavor, **{name: value for name, value in settings.items() if name != "backend"})
    if settings.get("backend") in QONNX:
        return to_qonnx(description, output, **{name: value for name, value in settings.items() if name != "backend"})
    return to_hls4ml(description, output, **settings)
