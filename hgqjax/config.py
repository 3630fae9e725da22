"""Frozen dataclasses to JSON and back: one way for quantizers, configurations and manifests."""

import dataclasses
import importlib
import inspect
import re
import types
import typing
from typing import Any


class ConfigError(ValueError):
    """A configuration that does not fit its dataclass."""


def check_several(config: Any, *names: str) -> None:
    """Raises ConfigError where one of these fields of the dataclass `config` is a single value, or a text, and no tuple of values.

    >>> check_several(types.SimpleNamespace(betas=(1e-5,), hidden=16), "betas", "hidden")
    Traceback (most recent call last):
    hgqjax.config.ConfigError: hidden is 16; a tuple is needed, such as (16,)
    """
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, tuple | list):
            raise ConfigError(f"{name} is {value!r}; a tuple is needed, such as ({value!r},)")


def to_json(value: Any) -> Any:
    """Plain JSON values; a dataclass becomes a dict of its fields with its class name as "type", and its "module" unless that is hgqjax's.

    >>> from hgqjax.quantizers import Kif
    >>> to_json(Kif(f0=3.0))["f0"]
    3.0
    """
    if dataclasses.is_dataclass(value):
        head = {"type": type(value).__name__}
        if type(value).__module__.partition(".")[0] != "hgqjax":
            head["module"] = type(value).__module__
        return head | {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_json(v) for v in value]
    return value


def from_json(kind: Any, data: Any, where: str = "config") -> Any:
    """The value of type `kind` that `to_json` wrote; a field that is missing takes its default.

    A class of your own is known by its "module", which is imported; it takes the place of any class that it derives from, and in a union
    the place of any.

    Raises: ConfigError, naming the place, for an unknown field or "type", for values that do not fit, and for a module that cannot be
    imported.

    >>> from hgqjax.quantizers import AbstractQuantizer, Kif
    >>> from_json(AbstractQuantizer, to_json(Kif(f0=3.0))) == Kif(f0=3.0)
    True
    """
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return _from_union(typing.get_args(kind), data, where)
    if origin is tuple:
        if not isinstance(data, list):
            raise ConfigError(f"{where} is {data!r}; a list is needed")
        return tuple(from_json(typing.get_args(kind)[0], v, f"{where}[{n}]") for n, v in enumerate(data))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _from_dict(kind, data, where)
    if origin is typing.Literal:
        if data not in typing.get_args(kind):
            raise ConfigError(f"{where} is {data!r}; legal are {', '.join(map(repr, typing.get_args(kind)))}")
        return data
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, kind) or (kind is int and isinstance(data, bool)):
        raise ConfigError(f"{where} is {data!r}; a value of type {kind.__name__} is needed")
    return data


def _from_union(kinds: tuple, data: Any, where: str):
    if data is None and type(None) in kinds:
        return None
    kinds = tuple(k for k in kinds if k is not type(None))
    if isinstance(data, dict):
        if "module" in data:
            return _from_dict(object, data, where)
        named = {k.__name__: k for k in kinds}
        if data.get("type") not in named:
            raise ConfigError(f"{where} has type {data.get('type')!r}; legal are {', '.join(named)}")
        return from_json(named[data["type"]], data, where)
    return from_json(kinds[0], data, where)


def _from_dict(kind: type, data: Any, where: str):
    if not isinstance(data, dict):
        raise ConfigError(f"{where} is {data!r}; an object with the fields of {kind.__name__} is needed")
    name = data.get("type", kind.__name__)
    if "module" in data:
        kind = _own(kind, data["module"], name, where)
    else:
        leaves = {cls.__name__: cls for cls in [kind, *_subclasses(kind)] if not inspect.isabstract(cls)}
        if name not in leaves:
            raise ConfigError(f'{where} has type {name!r}; legal are {", ".join(leaves)}, and classes of your own with their "module"')
        kind = leaves[name]
    hints = typing.get_type_hints(kind)
    fields = {f.name for f in dataclasses.fields(kind)}
    unknown = set(data) - fields - {"type", "module"}
    if unknown:
        raise ConfigError(f"{where} has the unknown field {sorted(unknown)[0]!r}; {name} has {', '.join(sorted(fields))}")
    try:
        return kind(**{key: from_json(hints[key], value, f"{where}.{key}") for key, value in data.items() if key in fields})
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"{where}: {error}") from error


def _own(kind: type, module: Any, name: Any, where: str) -> type:
    """A class from outside of hgqjax, by its module."""
    if not (isinstance(module, str) and isinstance(name, str) and re.fullmatch(r"\w+(\.\w+)*", module)):
        raise ConfigError(f"{where} has module {module!r} and type {name!r}; the names of a module and of a class in it are needed")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        hint = "add the folder that it lies in to PYTHONPATH"
        raise ConfigError(f"{where} is a {name} of the module {module}, which cannot be imported ({error}); {hint}") from error
    if not (inspect.isclass(found) and dataclasses.is_dataclass(found) and issubclass(found, kind)):
        what = f"a dataclass that derives from {kind.__name__}" if kind is not object else "a dataclass"
        hint = (
            "; a class that other processes shall find must be in a module, not in the script that is run" if module == "__main__" else ""
        )
        raise ConfigError(f"{where} is a {name} of the module {module}, which has no such class, or not {what}{hint}")
    return found


def _subclasses(kind: type) -> list[type]:
    return [leaf for child in kind.__subclasses__() for leaf in [child, *_subclasses(child)]]
