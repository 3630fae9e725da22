"""Arrays that have names, of an .npz or .h5 file: x and y, their parts, or columns of one length."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hgqjax import scratch
from hgqjax.data import muon
from hgqjax.data.columns import FEATURES, WEIGHTS, Columns, known, listed
from hgqjax.data.dataset import PARTS, DataError, pixel_scaler
from hgqjax.data.inputs import side_by_side
from hgqjax.data.rows import columns_at
from hgqjax.data.tables import Table, choose

_ABOUT = ("classes", "feature_names", "target_names", "unit")
_SPLIT = tuple(f"{letter}_{part}" for letter in "xy" for part in PARTS)


def of_arrays(source, columns: Columns) -> Table | dict[str, Any]:
    """Arguments of ``make_rows``, or a table, from arrays by name; ``source`` has ``where``, ``shapes`` and ``read``."""
    names, where = source.shapes, source.where
    if several_arrays(source, columns):
        return _several(source, columns)
    columns = columns.flat()
    if "x_packed" in names and "y" in names and "x" not in names:
        return muon.unpacked(source.read(name for name in ("x_packed", "y", "splits") if name in names), where)
    parts = None
    if "x_train" in names and "x" not in names:
        parts, values = _of_parts(source)
        x_name, y_name = "x", "y"
    else:
        x_name = columns.features[0] if len(columns.features) == 1 and columns.features[0] in names else _name("x", names)
        y_name = columns.target[0] if len(columns.target) == 1 and columns.target[0] in names else _name("y", names)
        if x_name not in names and (table := columns_of(source)):
            return table
        needed = [name for name in (x_name, y_name) if name not in names and not (name == y_name and columns.target)]
        if needed:
            raise DataError(f"{where}: has no array {' and no array '.join(needed)}; it holds {listed(names)}, but must hold x and y")
        weight = columns.weight or next((name for name in WEIGHTS if name in names), "")
        wanted = [name for name in (x_name, y_name, known(weight, names, where, "array") if weight else "", *_ABOUT) if name in names]
        values = source.read(wanted)
        values["weight"] = values.pop(weight, None) if weight else None
    if columns.split:
        raise DataError(f"{where}: split {columns.split!r} is for tables; arrays hold their parts as x_train, y_train, x_val and so on")
    return _fields(values, x_name, y_name, parts, columns, where)


def several_arrays(source, columns: Columns) -> bool:
    """Whether the inputs that ``columns`` names are arrays with more than one value a row, and not columns."""
    named = columns.flat().features if columns.inputs else ()
    return any(name in source.shapes and len(source.shapes[name][0]) > 1 for name in named)


def _several(source, columns: Columns) -> dict[str, Any]:
    """Arguments of ``make_rows`` from an array, or several, for each input, and one for the target."""
    names, where, groups = source.shapes, source.where, columns.of_inputs()
    arrays = [known(name, names, where, "array") for group in groups.values() for name in group]
    target = "" if columns.target == (FEATURES,) else columns.target[0] if len(columns.target) == 1 else _name("y", names)
    weight = columns.weight or next((name for name in WEIGHTS if name in names), "")
    wanted = [*arrays, *(known(name, names, where, "array") for name in (target, weight) if name)]
    values = source.read([*wanted, *(name for name in _ABOUT if name in names)])
    counts = {name: names[name][0][:1] for name in wanted}
    other = next((name for name in wanted if counts[name] != counts[arrays[0]]), None)
    if other is not None:
        ours, first = (str(count[0]) if count else "no" for count in (counts[other], counts[arrays[0]]))
        raise DataError(f"{where}: array {other!r} has {ours} rows, {arrays[0]!r} has {first}; each input needs as many as the others")
    shapes, features = [], []
    for part, group in groups.items():
        own = [values[name].shape[1:] or (1,) for name in group]
        if len(own) > 1 and any(len(shape) > 1 for shape in own):
            raise DataError(f"{where}: input {part!r} joins the arrays {listed(group)}; only arrays (rows, features) can be joined")
        shapes.append((part, own[0] if len(own) == 1 else (sum(shape[0] for shape in own),)))
        features += [name + "".join(f"_{n}" for n in index) for name, shape in zip(group, own, strict=True) for index in np.ndindex(*shape)]
    about: dict[str, Any] = {name: _texts(values.get(name), name, where) for name in ("classes", "target_names")}
    about["unit"] = columns.unit or (str(values["unit"].astype(np.str_)) if "unit" in values else None)
    about |= {"kind": columns.target_is, "weight": values.get(weight), "inputs": side_by_side(shapes), "feature_names": tuple(features)}
    rows = counts[arrays[0]][0]
    x = np.concatenate([values[name].reshape(rows, -1) for name in arrays], axis=1)
    y = values[target] if target else None
    return about | {"x": x, "y": y} | ({} if target else {"classes": None, "target_names": None})


def _fields(values: Mapping[str, np.ndarray], x_name: str, y_name: str, parts, columns: Columns, where: str) -> dict[str, Any]:
    texts = {name: _texts(values.get(name), name, where) for name in ("classes", "feature_names", "target_names")}
    unit = values.get("unit")
    if unit is not None and (unit.shape != () or unit.dtype.kind not in "US"):
        raise DataError(f"{where}: unit has type {unit.dtype} and shape {unit.shape}, but must be one text, such as 'mrad'")
    x = values[x_name]
    fields: dict[str, Any] = {"x": x, "y": values.get(y_name), **texts, "parts": parts, "kind": columns.target_is}
    fields["unit"] = columns.unit or (None if unit is None else str(unit.astype(np.str_)))
    fields["scaler"] = pixel_scaler(x.shape[1:]) if x.dtype == np.uint8 and x.ndim == 4 else None
    fields["weight"] = values.get("weight")
    if columns.target == (FEATURES,):
        if columns.unit:
            raise DataError(f"{where}: unit is {columns.unit!r}, but the target is the scaled features, whose unit is a standard deviation")
        fields |= {"y": None, "classes": None, "target_names": None, "unit": None}
    named = () if columns.features == (x_name,) else columns.features
    targets = () if columns.target in ((FEATURES,), (y_name,)) else columns.target
    if not (named or targets):
        return fields
    names = texts["feature_names"] or tuple(f"x{j}" for j in range(x.shape[-1] if x.ndim > 1 else 0))
    if x.ndim != 2 or len(names) != x.shape[1]:
        raise DataError(f"{where}: columns can be chosen of an x of shape (rows, features) with as many feature_names, not {x.shape}")
    table = Table({name: x[:, j] for j, name in enumerate(names)}, weight=values.get("weight"), unit=fields["unit"])
    if not targets:
        chosen = [names.index(known(name, names, where, "feature")) for name in named]
        return fields | {"x": columns_at(x, chosen), "feature_names": named}
    fields = choose(table, Columns(target=targets, features=named, target_is=columns.target_is, unit=columns.unit), where)
    return fields | {"parts": parts}


def _texts(array: np.ndarray | None, name: str, where: str) -> tuple[str, ...] | None:
    if array is None:
        return None
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise DataError(f"{where}: {name} has type {array.dtype} and shape {array.shape}, but must be a list of text")
    try:
        return tuple(str(text) for text in array.astype(np.str_))
    except UnicodeDecodeError:
        raise DataError(f"{where}: {name} has bytes that are no text; save it as text") from None


def _name(letter: str, names) -> str:
    """The array that is called so."""
    return next((name for name in (letter, letter.upper(), f"{letter}_physical") if name in names), letter)


def _of_parts(source) -> tuple[tuple[int, int, int], dict[str, np.ndarray]]:
    """x_train, y_train, x_val and so on, one behind the other."""
    there = [part for part in PARTS if f"x_{part}" in source.shapes]
    lacking = [f"y_{part}" for part in there if f"y_{part}" not in source.shapes]
    if lacking or there == ["train"]:
        raise DataError(f"{source.where}: has no array {lacking[0] if lacking else 'x_test'}, which belongs to its x_train")
    names = [name for name in (*_SPLIT, *(f"weight_{part}" for part in PARTS), *_ABOUT) if name in source.shapes]
    found = source.read(names)
    values = {name: found[name] for name in _ABOUT if name in found}
    for letter in ("x", "y", *(["weight"] if "weight_train" in found else [])):
        parts = [found.get(f"{letter}_{part}") for part in there]
        if any(part is None or part.ndim == 0 or part.shape[1:] != parts[0].shape[1:] for part in parts):
            raise DataError(f"{source.where}: {', '.join(f'{letter}_{part}' for part in there)} do not have rows of one shape")
        values[letter] = scratch.concatenate(parts)
    sizes = {part: len(found[f"x_{part}"]) for part in there}
    if any(len(found[f"y_{part}"]) != sizes[part] for part in there):
        raise DataError(f"{source.where}: x and y of a part do not have as many rows as each other")
    train, val, test = (sizes.get(part, 0) for part in PARTS)
    return (train, val, test), values


def columns_of(source) -> Table | None:
    """Arrays of one length as the columns of a table; None where they are not that."""
    names = [name for name in source.shapes if name not in _ABOUT]
    shapes = [source.shapes[name][0] for name in names]
    if len(names) < 2 or any(len(shape) != 1 or shape != shapes[0] for shape in shapes):
        return None
    unit = str(source.read(["unit"])["unit"]) if "unit" in source.shapes else None
    return Table(source.read(names), unit=unit)


def table_of(array: np.ndarray, where: str, names: tuple[str, ...] | None = None) -> Table:
    """A structured array (rows,), or a plain one (rows, columns), as a table."""
    if array.dtype.names is not None and array.ndim == 1:
        columns = {name: array[name] for name in array.dtype.names}
        return Table({name: column for name, column in columns.items() if column.ndim == 1})
    if array.ndim != 2 or array.dtype.names is not None:
        raise DataError(f"{where}: holds an array of shape {array.shape}, but a table is (rows, columns), or has named fields")
    names = tuple(f"c{j}" for j in range(array.shape[1])) if names is None else names
    if len(names) != array.shape[1] or len(set(names)) < len(names):
        raise DataError(f"{where}: has {len(names)} names, {len(set(names))} of them different, for {array.shape[1]} columns")
    return Table({name: array[:, j] for j, name in enumerate(names)})
