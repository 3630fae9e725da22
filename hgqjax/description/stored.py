"""An operation as JSON and arrays, and back."""

import dataclasses
from typing import Any

import numpy as np

from hgqjax.description.operations import KINDS, Constant, DescriptionError, Operation


def to_json(op: Operation, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Plain JSON values; the arrays go into `arrays`, each by the name that the values hold."""
    entry: dict[str, Any] = {"kind": op.kind}
    for field in dataclasses.fields(op):
        value, key = getattr(op, field.name), f"{op.name}/{field.name}"
        if isinstance(value, np.ndarray):
            arrays[key], value = value, {"array": key}
        elif isinstance(value, Constant):
            arrays |= {f"{key}/{part.name}": getattr(value, part.name) for part in dataclasses.fields(Constant)}
            value = {"constant": key}
        entry[field.name] = value
    return entry


def from_json(entry: dict[str, Any], arrays: dict[str, np.ndarray]) -> Operation:
    """The operation of which `to_json` wrote `entry` and `arrays`; DescriptionError where its kind is not known."""
    if entry["kind"] not in KINDS:
        raise DescriptionError(f"operation {entry['name']!r} is of the unknown kind {entry['kind']!r}; known are {', '.join(KINDS)}")
    cls = KINDS[entry["kind"]]
    values = {}
    for name, value in entry.items():
        if isinstance(value, dict) and "array" in value:
            value = arrays[value["array"]]
        elif isinstance(value, dict):
            value = Constant(*(arrays[f"{value['constant']}/{part.name}"] for part in dataclasses.fields(Constant)))
        if name != "kind":
            values[name] = _tuples(value)
    return cls(**values)


def _tuples(value: Any) -> Any:
    """Lists of JSON, at every level, as the tuples they were."""
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
