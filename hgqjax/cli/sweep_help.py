"""What `hgqjax sweep --help` prints: the options that matter first, the others in groups, the choices of methods and schedules."""

import json
import shutil
import textwrap
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("sweep_help.json")
"""What the page says, as `hgqjax.cli.sweep_options` finds it in the package, whose import takes more than a second."""


class Option(NamedTuple):
    """An option, the words that follow it, and what it is for."""

    flag: str
    words: str
    about: str


class Page(NamedTuple):
    """What the page says: what the command does, its options but the network's, for each network what it is and its options, and for each
    choice its words with what they are."""

    about: str
    options: list[Option]
    networks: dict[str, tuple[str, list[Option]]]
    choices: dict[str, list[list[str]]]

    def json(self) -> str:
        """For `FILE`."""
        return json.dumps(self._asdict(), indent=1) + "\n"

    @classmethod
    def read(cls) -> "Page":
        """From `FILE`."""
        found = json.loads(FILE.read_text())
        networks = {name: (about, [Option(*option) for option in options]) for name, (about, options) in found["networks"].items()}
        return cls(found["about"], [Option(*option) for option in found["options"]], networks, found["choices"])


FIRST = ("--data", "--target", "--rows", "--model.hidden", "--betas", "--seeds", "--train.epochs", "--projects")
GROUPS = {
    "columns of the data": (
        "--features",
        "--inputs",
        "--weight",
        "--split",
        "--validation-data",
        "--test-data",
        "--table",
        "--target-is",
        "--unit",
    ),
    "the front": ("--points-at", "--accuracy-drop", "--each-seed", "--learning-rate", "--points", "--within", "--refine"),
    "the network": ("--model.", "--models"),
    "training": ("--train.", "--start"),
    "loss and cost": ("--train.objective.",),
    "projects": ("--backend", "--strategy", "--io-type", "--gate-rows"),
    "where it runs": (
        "--results",
        "--cluster",
        "--batch",
        "--groups",
        "--rows-devices",
        "--memory",
        "--distributed",
        "--coordinator",
        "--process",
    ),
    "others": ("--",),
}
"""Titles, and how the options of each begin; an option is in the group with the longest beginning of its name."""


def text(network: str = "mlp") -> str:
    """The whole page, with the options of `network`, as wide as the terminal, 100 columns at most."""
    page, width = Page.read(), min(shutil.get_terminal_size().columns, 100)
    known = {option.flag.replace("no-", "", 1): option for option in [*page.networks[network][1], *page.options]}
    groups: dict[str, list[Option]] = {"options that matter first": [known.pop(flag) for flag in FIRST]}
    groups |= {title: [] for title in GROUPS}
    for flag, option in known.items():
        fits = {max((len(start) for start in starts if flag.startswith(start)), default=0): title for title, starts in GROUPS.items()}
        groups[fits[max(fits)]].append(option)
    usage = "usage: hgqjax sweep [model:NAME] [OPTIONS] " + " ".join(f"[{name}:NAME [ITS]]" for name in page.choices)
    lines = [*textwrap.wrap(usage, width, subsequent_indent=" " * 20, break_on_hyphens=False), ""]
    lines += ["\n\n".join(textwrap.fill(part, width) for part in page.about.split("\n\n"))]
    for title, members in groups.items():
        shown = [line for option in members for line in _shown(f"{option.flag} {option.words}", option.about, width)]
        lines += ["", f"{title}:", *shown] if shown else []
    lines += ["", "model:NAME, anywhere; with --help its options:"]
    lines += [line for name, (about, _) in page.networks.items() for line in _shown(f"model:{name}", about, width)]
    for name, kinds in page.choices.items():
        lines += ["", f"{name}:NAME, after all options:"]
        lines += [line for kind, about in kinds for line in _shown(f"{name}:{kind}", about, width)]
    example = f"model.method:{page.choices['model.method'][-1][0]}"
    return "\n".join([*lines, "", f"hgqjax sweep {example} --help has the options of that method, and so on."])


def _shown(left: str, about: str, width: int) -> list[str]:
    lines = textwrap.wrap(about, width - 26, break_long_words=False, break_on_hyphens=False)
    left = f"  {left.rstrip()}"
    if len(left) < 25:
        return [f"{left:26}{lines[0]}", *(f"{'':26}{line}" for line in lines[1:])]
    return [left, *(f"{'':26}{line}" for line in lines)]
