"""The back ends of hls4ml that an export can be for: those whose words were compared, with what was."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import (
    AveragePool,
    Contract,
    Conv,
    Einsum,
    Lookup,
    Maximum,
    Minimum,
    Operation,
    Reshape,
    Table,
    Transpose,
)
from hgqjax.export.gate import ExportError
from hgqjax.export.hls4ml import accelerator, catapult, oneapi
from hgqjax.export.hls4ml.ac_types import with_two_bits
from hgqjax.export.hls4ml.streams import is_gathered
from hgqjax.export.project import DEFAULT_PART

IO_TYPES = ("io_parallel", "io_stream")
STRATEGIES = ("latency", "resource", "distributed_arithmetic")


@dataclasses.dataclass(frozen=True)
class Backend:
    """What was compared of a back end, and what is done to a project that hls4ml wrote for it."""

    io_types: tuple[str, ...] = IO_TYPES
    strategies: tuple[str, ...] = STRATEGIES
    lacks: Mapping[str, tuple[type[Operation], ...]] = dataclasses.field(default_factory=dict)
    """By io type: what hls4ml has no code for in this back end, or code that gives other words."""
    depthwise: tuple[str, ...] = IO_TYPES
    """Io types with depthwise convolutions."""
    repacks: bool = True
    """Whether a stream can be reshaped, not only collected by a dense layer."""
    finish: Callable[[Path, str, str], None] | None = None
    """Of the folder, the name of the project and its namespace."""
    build: Callable[[Path, str], Path] | None = None
    """Of the folder and the name of the project, where hls4ml has no script for g++; the weights are in the C++ then."""
    two_bits: tuple[str, ...] = ()
    """Io types in which no type has one bit."""
    default_part: str = DEFAULT_PART
    by_hand: str = "build_prj.tcl"
    """What the vendor's tool starts from."""
    proof: str = ""
    """How the words were computed, where it is not as for the others."""


_NOT_CATAPULT = (AveragePool, Contract, Einsum, Lookup, Table)
BACKENDS = {
    "Vitis": Backend(),
    "Vivado": Backend(),
    accelerator.NAME: Backend(io_types=IO_TYPES[:1], strategies=STRATEGIES[:2], finish=accelerator.finish),
    catapult.NAME: Backend(
        strategies=STRATEGIES[:2],
        lacks={"io_parallel": _NOT_CATAPULT, "io_stream": (*_NOT_CATAPULT, Maximum, Minimum, Transpose)},
        depthwise=(),
        two_bits=IO_TYPES[1:],
        finish=catapult.finish,
    ),
    oneapi.NAME: Backend(
        strategies=STRATEGIES[1:2],
        lacks={"io_parallel": (Lookup, Table), "io_stream": (Lookup, Table)},
        depthwise=IO_TYPES[:1],
        repacks=False,
        finish=oneapi.finish,
        build=oneapi.build,
        two_bits=IO_TYPES,
        default_part=oneapi.DEFAULT_PART,
        by_hand="CMakeLists.txt (with icpx)",
        proof=oneapi.PROOF,
    ),
}


def check_settings(backend: str, io_type: str, strategy: str) -> None:
    """Raises ExportError where a name is unknown, or the back end was not compared with the others."""
    if backend not in BACKENDS:
        raise ExportError(f"backend {backend!r} is not one of {', '.join(BACKENDS)}")
    for name, value, known, own in (
        ("io_type", io_type, IO_TYPES, BACKENDS[backend].io_types),
        ("strategy", strategy, STRATEGIES, BACKENDS[backend].strategies),
    ):
        if value not in known:
            raise ExportError(f"{name} {value!r} is not one of {', '.join(known)}")
        if value not in own:
            raise ExportError(f"{name} {value} was not compared with back end {backend}; legal: {', '.join(own)}")


def prepared(rewritten: ModelDescription, backend: str, io_type: str) -> ModelDescription:
    """A rewritten description as the back end needs it; ExportError naming the first operation that it cannot have."""
    known = BACKENDS[backend]
    for op in rewritten.operations:
        depthwise = isinstance(op, Conv) and op.groups > 1
        repack = isinstance(op, Reshape) and io_type == "io_stream" and not is_gathered(op, rewritten)
        lacks = isinstance(op, known.lacks.get(io_type, ())) or (repack and not known.repacks)
        if lacks or (depthwise and io_type not in known.depthwise):
            what = "a depthwise convolution" if depthwise else f"of kind {op.kind}"
            name = op.name.partition("__")[0]
            raise ExportError(f"layer {name!r} is {what}, which back end {backend} has not with equal words in {io_type}; Vitis has")
    return with_two_bits(rewritten) if io_type in known.two_bits else rewritten
