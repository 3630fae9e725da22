"""From words of a command line to a function with its arguments, by tyro."""

import dataclasses
import functools
import importlib
import inspect
import io
import itertools
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from typing import Any, cast

CHOICE = re.compile(r"(model\.method|train\.penalty|train\.gradients|model):(.*)")


def command(module: str, name: str, argv: Sequence[str]) -> Callable[[], None]:
    """The function `name` of `module`, bound to the arguments in `argv`.

    Raises: SystemExit after a help text or tyro's own words about options; ValueError where a nested configuration refuses a value.
    """
    if name == "doctor" and not argv:  # says what is missing, so needs nothing
        return importlib.import_module(module).doctor
    check_once(argv)
    try:
        import tyro
    except ImportError as error:
        raise ImportError("the command needs tyro and others; pip install 'hgqjax[run]'; hgqjax doctor says what is missing") from error
    if name == "sweep" and (page := _page(argv)):
        return lambda: print(page)
    function = getattr(importlib.import_module(module), name)
    if name == "sweep":
        check_choices(argv)
        argv, function = _network(argv, function)
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(_later(function), prog=f"hgqjax {name}", args=argv, registry=by_name(tyro) if name == "sweep" else None)
    except SystemExit as stop:
        refused = cast(Any, stop.__context__)
        if isinstance(where := getattr(refused, "arg", None), str):  # else it is an option, which tyro names as it is typed
            said.truncate(0)
            fields = ".".join(where.split(".")[1:])  # after the function's parameter
            raise ValueError(f"{fields}: {refused.message}".removeprefix(": ")) from None
        raise
    finally:
        print(said.getvalue(), end="", file=sys.stderr)


def _page(argv: Sequence[str]) -> str:
    """The help of `hgqjax sweep`, of the network that is named; "" where it is not asked for, or by a choice, whose page is tyro's."""
    from hgqjax.cli import sweep_help

    named = [found for found in map(CHOICE.fullmatch, argv) if found]
    chosen = [found[2] for found in named if found[1] == "model"]
    if not {"-h", "--help"} & set(argv) or len(chosen) < len(named) or not set(chosen) <= set(sweep_help.Page.read().networks):
        return ""
    return sweep_help.text(*chosen[-1:])


def check_once(argv: Sequence[str]) -> None:
    """Raises ValueError where an option is given more than once, of which tyro would take the last without a word.

    >>> check_once(["--target", "a", "--rows=3", "--target", "b"])
    Traceback (most recent call last):
    ValueError: --target is given 2 times; give it once, with all its values behind it
    """
    words = itertools.takewhile(lambda word: word != "--", argv)
    options = [word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")]
    for option in options:
        if options.count(option) > 1 and option != "--help":
            raise ValueError(f"{option} is given {options.count(option)} times; give it once, with all its values behind it")


def check_choices(argv: Sequence[str]) -> None:
    """Raises ValueError where a word such as ``model.method:NAME`` has a name that there is not; it lists those there are."""
    if not any(map(CHOICE.fullmatch, argv)):
        return
    from hgqjax.cli import sweep_options
    from hgqjax.runs.networks import NETWORKS

    legal = {name: tuple(map(sweep_options.choice_name, kinds)) for name, kinds in sweep_options.CHOICES.items()}
    legal["model"] = tuple(NETWORKS)
    for word in argv:
        found = CHOICE.fullmatch(word)
        if found and found[2] not in legal[found[1]]:
            raise ValueError(f"{word} is no choice; legal are {', '.join(f'{found[1]}:{name}' for name in legal[found[1]])}")


def _network(argv: Sequence[str], function: Callable[..., None]) -> tuple[list[str], Callable[..., None]]:
    """The other words, and the `sweep` whose network is by default the one that a word ``model:NAME`` names; the last one counts."""
    from hgqjax.runs.networks import NETWORKS

    chosen = [word.removeprefix("model:") for word in argv if word.startswith("model:")]
    if not chosen:
        return list(argv), function

    @functools.wraps(function)
    def with_network(*args, **kwargs):
        return function(*args, **kwargs)

    parameters = dict(inspect.signature(function).parameters)
    config = dataclasses.replace(parameters["config"].default, model=NETWORKS[chosen[-1]]())
    parameters["config"] = parameters["config"].replace(default=config)
    with_network.__signature__ = inspect.Signature(list(parameters.values()))  # pyright: ignore[reportAttributeAccessIssue] read by tyro
    return [word for word in argv if not word.startswith("model:")], with_network


def _later(function: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """Gives `function` with its arguments, and does nothing."""

    @functools.wraps(function)
    def bound(*args, **kwargs):
        return functools.partial(function, *args, **kwargs)

    return bound


def by_name(tyro):
    """A tyro registry in which a cost model and a score are given by name: ``--train.objective.cost luts``, and
    ``--train.objective.score resolution:window=30``.
    """
    from hgqjax import scores
    from hgqjax.cli.costs import MEASURED, cost_names, cost_of
    from hgqjax.resources import AbstractCost

    registry, names = tyro.constructors.ConstructorRegistry(), cost_names()

    @registry.primitive_rule
    def cost(info):
        if info.type is not AbstractCost:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="|".join((*names, MEASURED)),
            instance_from_str=lambda given: cost_of(given[0]),
            is_instance=lambda value: isinstance(value, AbstractCost),
            str_from_instance=lambda value: [next((name for name, known in names.items() if known == value), repr(value))],
        )

    @registry.primitive_rule
    def score(info):
        if info.type is not scores.AbstractScore:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="|".join(scores.NAMES),
            instance_from_str=lambda given: scores.parse(given[0]),
            is_instance=lambda value: isinstance(value, scores.AbstractScore),
            str_from_instance=lambda value: [scores.spelled(value)],
        )

    return registry
