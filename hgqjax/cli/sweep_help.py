"""What `hgqjax sweep --help` prints: the options that matter first, the others in groups, the choices of methods and schedules."""

import ast
import dataclasses
import inspect
import itertools
import shutil
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hgqjax import resources, scores
from hgqjax.cli import train
from hgqjax.cli.costs import cost_names
from hgqjax.methods import Method
from hgqjax.runs.networks import NETWORKS
from hgqjax.training.schedules import Penalty


class Option(NamedTuple):
    """An option, the words that follow it, and what it is for."""

    flag: str
    words: str
    about: str


FIRST = ("--data", "--target", "--rows", "--model.hidden", "--betas", "--seeds", "--train.epochs", "--projects")
GROUPS = {
    "columns of the data": ("--features", "--weight", "--split", "--validation-data", "--test-data", "--table", "--target-is", "--unit"),
    "the front": ("--points-at", "--accuracy-drop", "--each-seed", "--learning-rate", "--points", "--within"),
    "the network": ("--model.", "--models"),
    "training": ("--train.",),
    "loss and cost": ("--train.objective.",),
    "projects": ("--backend", "--strategy", "--io-type", "--gate-rows"),
    "where it runs": ("--results", "--cluster", "--groups", "--rows-devices", "--distributed", "--coordinator", "--process"),
    "others": ("--",),
}
"""Titles, and how the options of each begin; an option is in the group with the longest beginning of its name."""
CHOICES = {"model.method": typing.get_args(Method), "train.penalty": typing.get_args(Penalty)}
"""What is chosen by a word NAME:CHOICE after all other options."""


def choice_name(kind: type) -> str:
    """The word for a choice: ``LogRamp`` is ``log-ramp``."""
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("-")


def options(function: Callable[..., None] = train.sweep) -> list[Option]:
    """All options of `hgqjax sweep` but those of the choices, which each choice's own --help has."""
    found = []
    arguments = _arguments(inspect.getdoc(function) or "")
    for name, parameter in inspect.signature(function).parameters.items():
        if dataclasses.is_dataclass(parameter.default):
            found += _fields(parameter.default, "")
        else:
            found.append(_option(name, parameter.annotation, parameter.default, arguments[name]))
    return found


def text(function: Callable[..., None] = train.sweep) -> str:
    """The whole page, as wide as the terminal, 100 columns at most; `function`: `train.sweep`, whose default has the network asked for."""
    width = min(shutil.get_terminal_size().columns, 100)
    known = {option.flag.replace("no-", "", 1): option for option in options(function)}
    groups: dict[str, list[Option]] = {"options that matter first": [known.pop(flag) for flag in FIRST]}
    groups |= {title: [] for title in GROUPS}
    for flag, option in known.items():
        fits = {max((len(start) for start in starts if flag.startswith(start)), default=0): title for title, starts in GROUPS.items()}
        groups[fits[max(fits)]].append(option)
    lines = ["usage: hgqjax sweep [model:NAME] [OPTIONS] [model.method:NAME [ITS]] [train.penalty:NAME [ITS]]", ""]
    lines += ["\n\n".join(textwrap.fill(part, width) for part in _summary(train.sweep).split("\n\n"))]
    for title, members in groups.items():
        shown = [line for option in members for line in _shown(f"{option.flag} {option.words}", option.about, width)]
        lines += ["", f"{title}:", *shown] if shown else []
    lines += ["", "model:NAME, anywhere; with --help its options:"]
    lines += [line for name, kind in NETWORKS.items() for line in _shown(f"model:{name}", _summary(kind).partition("\n\n")[0], width)]
    for name, kinds in CHOICES.items():
        lines += ["", f"{name}:NAME, after all options:"]
        lines += [line for kind in kinds for line in _shown(f"{name}:{choice_name(kind)}", _summary(kind).partition("\n\n")[0], width)]
    example = f"model.method:{choice_name(CHOICES['model.method'][-1])}"
    return "\n".join([*lines, "", f"hgqjax sweep {example} --help has the options of that method, and so on."])


def _shown(left: str, about: str, width: int) -> list[str]:
    lines = textwrap.wrap(about, width - 26, break_long_words=False, break_on_hyphens=False)
    left = f"  {left.rstrip()}"
    if len(left) < 25:
        return [f"{left:26}{lines[0]}", *(f"{'':26}{line}" for line in lines[1:])]
    return [left, *(f"{'':26}{line}" for line in lines)]


def _summary(documented: Any) -> str:
    """Its docstring before "Args:", a paragraph a line."""
    before = (inspect.getdoc(documented) or "").partition("\nArgs:")[0].strip()
    return "\n\n".join(" ".join(part.split()) for part in before.split("\n\n"))


def _arguments(doc: str) -> dict[str, str]:
    """What the section "Args:" of a docstring says of each."""
    found: dict[str, str] = {}
    for line in doc.partition("\nArgs:\n")[2].splitlines():
        name, colon, about = line.strip().partition(": ")
        if colon and name.isidentifier() and len(line) - len(line.lstrip()) == 4:
            found[name] = about
        elif found:
            found[list(found)[-1]] += " " + line.strip()
    return found


def _docs(kind: type) -> dict[str, str]:
    """The strings below the fields of a dataclass and of its bases."""
    found = {}
    for base in reversed(kind.__mro__[:-1]):
        if dataclasses.is_dataclass(base):
            (node,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            assert isinstance(node, ast.ClassDef), "it is the source of a class"
            for field, below in itertools.pairwise(node.body):
                if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                    assert isinstance(field.target, ast.Name), "a field is a name"
                    found[field.target.id] = " ".join(str(below.value.value).split())
    return found


def _fields(value: Any, prefix: str) -> Iterator[Option]:
    docs, hints = _docs(type(value)), typing.get_type_hints(type(value), include_extras=True)
    for field in dataclasses.fields(value):
        inner, name = getattr(value, field.name), f"{prefix}{field.name}"
        if name in CHOICES:
            continue
        if dataclasses.is_dataclass(inner) and not isinstance(inner, resources.AbstractCost | scores.AbstractScore):
            yield from _fields(inner, "" if typing.get_origin(hints[field.name]) is typing.Annotated else f"{name}.")
        else:
            yield _option(name, hints[field.name], inner, docs[field.name])


def _option(name: str, annotation: Any, default: Any, about: str) -> Option:
    *rooms, last = name.replace("_", "-").split(".")
    if isinstance(default, bool):
        last, about, shown = (f"no-{last}", f"Switches this off: {about}", "") if default else (last, about, "")
    else:
        shown = scores.spelled(default) if isinstance(default, scores.AbstractScore) else None
        if isinstance(default, resources.AbstractCost):
            shown = next((n for n, cost in cost_names().items() if cost == default), None)
        shown = shown or (
            ""
            if default in (None, (), "")
            else " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in (default if isinstance(default, tuple) else (default,)))
        )
    by_default = f" By default {shown}." if shown else ""
    return Option(
        "--" + ".".join([*rooms, last]), "" if isinstance(default, bool) else _words(annotation), f"{about.rstrip('.')}.{by_default}"
    )


def _words(annotation: Any) -> str:
    """What follows an option: FLOAT ..., INT, PATH, or the words to choose from."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        return f"{_words(arguments[0])} ..."
    if origin is typing.Literal:
        return "|".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return _words(next(kind for kind in arguments if kind is not type(None)))
    if isinstance(annotation, type) and issubclass(annotation, resources.AbstractCost):
        return "|".join(cost_names())
    if isinstance(annotation, type) and issubclass(annotation, scores.AbstractScore):
        return "|".join(scores.NAMES)
    return "PATH" if annotation is Path else annotation.__name__.upper()
