"""How figures look: the palette of Okabe and Ito, which colour-blind people can read, for a page 7 inches wide; and their files."""

import dataclasses
import functools
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal

from hgqjax.files import write_atomically
from hgqjax.reports import markup
from hgqjax.reports.reader import require

Format = Literal["png", "svg", "pdf"]
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
INK, GREY, CLOUD, NAVY, GRID = "#333333", "#8C8C8C", "#C4C4C4", "#08306B", "#E4E4E4"
STYLE = {
    "font.size": 8.5,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.linewidth": 0.7,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8.5,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "hgqjax",
    "pdf.fonttype": 42,
    "text.parse_math": False,  # names of files and classes may have a $
}
WIDTH = 7.0
number = functools.partial(markup.whole, gap="\u2009")
"""A whole number, its thousands apart by a thin space."""


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure, and what is shown where a pointer rests on its marks: for each `gid` of a series of marks a title for each of them."""

    figure: Any
    titles: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def write(self, folder: Path, stem: str, formats: Sequence[Format]) -> list[Path]:
        """The files ``folder/stem.png`` (150 dpi), ``.svg`` and ``.pdf``, over older ones; the same figure gives the same bytes."""
        folder.mkdir(exist_ok=True)
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")  # the layout stays as it is, and is not worked out again for each format
        files = []
        for kind in formats:
            buffer = io.BytesIO()
            stamp = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
            self.figure.savefig(buffer, format=kind, dpi=150, metadata=stamp)
            content = buffer.getvalue()
            if kind == "svg":
                content = with_titles(content.decode(), self.titles).encode()
            write_atomically(folder / f"{stem}.{kind}", content)
            files.append(folder / f"{stem}.{kind}")
        return files


def figure(height: float) -> Any:
    """An empty figure of the page's width; no pyplot and no display."""
    return require("matplotlib.figure").Figure(figsize=(WIDTH, height), layout="constrained")


def with_titles(svg: str, titles: dict[str, tuple[str, ...]]) -> str:
    """The drawing with a title in each mark of the series that `titles` names, which browsers show where a pointer rests.

    >>> with_titles('<g id="a"><use x="1"/><use x="2"/></g>', {"a": ("one", "two < 3")})
    '<g id="a"><use x="1"><title>one</title></use><use x="2"><title>two &lt; 3</title></use></g>'
    """
    for name, texts in titles.items():
        before, head, marks = svg.partition(f'<g id="{name}">')
        parts = marks.split("<use ", len(texts))  # the marks follow in the order of their points
        for n, text in enumerate(texts, start=1):
            parts[n] = parts[n].replace("/>", f"><title>{escape(text)}</title></use>", 1)
        svg = before + head + "<use ".join(parts)
    return svg
