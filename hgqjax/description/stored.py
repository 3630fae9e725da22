"""An operation as JSON and arrays, and back."""

import dataclasses
import math
from typing import Any

import numpy as np

from hgqjax.description.operations import KINDS, Constant, DescriptionError, Operation

MOST_VALUES, MOST, MOST_BITS = 2**24, 2**24, 1000
"""Values of all operations of a model together; any of their settings; and bits before or behind the point."""


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


def check_sizes(entries: list[dict[str, Any]], arrays: dict[str, np.ndarray]) -> None:
    """Refuses what no network for hardware has, before anything of its size is allocated.

    Raises: DescriptionError where all operations together have more than ``MOST_VALUES`` values, a number that is no value of a constant is
      beyond ``MOST``, or a width is beyond ``MOST_BITS`` bits.
    """
    total = 0
    for entry in entries:
        name, shape = entry["name"], entry["shape"]
        if not (isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)):
            raise DescriptionError(f"operation {str(name)[:80]!r} has the shape {str(shape)[:80]}; a list of whole numbers is needed")
        total += math.prod(shape)
        if total > MOST_VALUES:
            raise DescriptionError(f"operation {str(name)[:80]!r} has the shape {str(shape)[:80]}; {MOST_VALUES} values of all are legal")
        if any(abs(n) > MOST for field, value in entry.items() if field != "low" for n in _integers(value)):
            raise DescriptionError(f"operation {str(name)[:80]!r} has a number beyond {MOST}, which none of its settings can be")
        if entry["kind"] == "table" and not all(abs(entry[field]) <= MOST_BITS for field in ("f", "bits", "f_in")):
            raise DescriptionError(f"operation {str(name)[:80]!r} has a width beyond {MOST_BITS} bits")
    for name, array in arrays.items():
        if name.split("/")[-1] not in ("k", "i", "f", "f_in", "bits"):
            continue
        if array.dtype.kind not in "biuf" or not np.all(np.abs(array.astype(np.float64)) <= MOST_BITS):
            raise DescriptionError(f"array {name[:80]!r} has a width that is no number, or beyond {MOST_BITS} bits")


def _integers(value: Any):
    if type(value) is int:
        yield value
    for part in value if isinstance(value, list) else ():
        yield from _integers(part)


def _tuples(value: Any) -> Any:
    """Lists of JSON, at every level, as the tuples they were."""
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
