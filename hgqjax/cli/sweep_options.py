"""The options of `hgqjax sweep`, as its help has them, read from the package: ``python -m hgqjax.cli.sweep_options`` writes them into
`sweep_help.FILE`, which is read without the package, in a tenth of the time. A test compares the two."""

import ast
import dataclasses
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hgqjax import layers, resources, runs, scores
from hgqjax.cli import sweep_help, train
from hgqjax.cli.costs import MEASURED, cost_names
from hgqjax.cli.sweep_help import Option
from hgqjax.methods import Method
from hgqjax.runs import networks
from hgqjax.training.schedules import Penalty

CHOICES = {
    "model.method": typing.get_args(Method),
    "train.penalty": typing.get_args(Penalty),
    "train.gradients": typing.get_args(layers.Gradients),
}
"""What is chosen by a word NAME:CHOICE after all other options."""


def choice_name(kind: type) -> str:
    """The word for a choice: ``LogRamp`` is ``log-ramp``."""
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("-")


def options(model: networks.Network | None = None) -> list[Option]:
    """All options of `hgqjax sweep` but those of the choices, which each choice's own --help has; by default with those of a perceptron."""
    found = []
    arguments = _arguments(inspect.getdoc(train.sweep) or "")
    for name, parameter in inspect.signature(train.sweep).parameters.items():
        default = parameter.default
        if model is not None and isinstance(default, runs.Sweep):
            default = dataclasses.replace(default, model=model)
        if dataclasses.is_dataclass(default):
            found += _fields(default, "")
        else:
            found.append(_option(name, parameter.annotation, default, arguments[name]))
    return found


def page() -> sweep_help.Page:
    """All that the help says, from the docstrings of what the command takes."""
    kinds = {name: [[choice_name(kind), _first(kind)] for kind in found] for name, found in CHOICES.items()}
    of_network = {
        name: (_first(kind), [option for option in options(kind()) if option.flag.startswith("--model.")])
        for name, kind in networks.NETWORKS.items()
    }
    others = [option for option in options() if not option.flag.startswith("--model.")]
    return sweep_help.Page(_summary(train.sweep), others, of_network, kinds)


def _first(documented: Any) -> str:
    return _summary(documented).partition("\n\n")[0]


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
        return "|".join((*cost_names(), MEASURED))
    if isinstance(annotation, type) and issubclass(annotation, scores.AbstractScore):
        return "|".join(scores.NAMES)
    return "PATH" if annotation is Path else annotation.__name__.upper()


if __name__ == "__main__":
    sweep_help.FILE.write_text(page().json())
