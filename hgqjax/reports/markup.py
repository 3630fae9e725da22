"""A table of texts as Markdown, LaTeX or csv."""

import csv
import io
import itertools
import re
import sys
from collections.abc import Sequence
from typing import Literal, get_args

Format = Literal["markdown", "csv", "latex"]
_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "≤": r"$\leq$", "−": "$-$", "<": r"$<$", ">": r"$>$"}


def check_format(name: str) -> None:
    """Raises ValueError, naming the legal ones, for an unknown format."""
    if name not in get_args(Format):
        raise ValueError(f"format is {name!r}; legal are {', '.join(get_args(Format))}")


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str] = ()) -> str:
    """A Markdown table; columns in `left` are aligned to the left, the others to the right.

    >>> print(markdown(["run", "%"], [["a|b", "75"]], left=["run"]))
    | run | % |
    | :--- | ---: |
    | a\\|b | 75 |
    """
    rules = [":---" if head in left else "---:" for head in heads]
    lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (heads, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rules, *lines[1:]])


def say(text: str) -> None:
    """Prints a text with Markdown tables: as it is into files and pipes, with aligned columns on a terminal."""
    print(aligned(text) if sys.stdout.isatty() else text, end="" if text.endswith("\n") else "\n")


def aligned(text: str) -> str:
    """A text whose Markdown tables have columns of spaces, for people who read it on a terminal.

    >>> print(aligned("Runs:\\n\\n" + markdown(["run", "%"], [["a|b", "75"], ["c", "9.5"]], left=["run"])))
    Runs:
    <BLANKLINE>
    run    %
    ---  ---
    a|b   75
    c    9.5
    """
    lines: list[str] = []
    for is_table, group in itertools.groupby(text.split("\n"), key=lambda line: line.startswith("| ")):
        found = list(group)
        lines += _columns([_split(line) for line in found]) if is_table else found
    return "\n".join(lines)


def _split(line: str) -> list[str]:
    return [cell.replace("\\|", "|") for cell in re.split(r" (?<!\\)\| ", line.removeprefix("| ").removesuffix(" |"))]


def _columns(rows: list[list[str]]) -> list[str]:
    """The lines of a table; the second row is Markdown's rule, which says how columns are aligned."""
    heads, rules, *cells = rows
    widths = [max(len(row[n]) for row in (heads, *cells)) for n in range(len(heads))]
    left = [rule.startswith(":") for rule in rules]
    shown = [[cell.ljust(w) if to else cell.rjust(w) for cell, w, to in zip(row, widths, left, strict=True)] for row in (heads, *cells)]
    lines = ["  ".join(row).rstrip() for row in shown]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def latex(heads: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str] = (), caption: str = "") -> str:
    """A LaTeX table environment that needs no package, in UTF-8; every special character is escaped.

    >>> print(latex(["run", "%"], [["a_b", "75"]], left=["run"], caption="One & all"))
    \\begin{table}
    \\caption{One \\& all}
    \\begin{tabular}{lr}
    \\hline
    run & \\% \\\\
    \\hline
    a\\_b & 75 \\\\
    \\hline
    \\end{tabular}
    \\end{table}
    """
    body = [re.sub(r"^[\[*]", r"{\g<0>}", " & ".join(map(_escaped, row))) + r" \\" for row in (heads, *rows)]  # else an argument of \\
    columns = "".join("l" if head in left else "r" for head in heads)
    lines = [r"\begin{table}", rf"\caption{{{_escaped(caption)}}}", rf"\begin{{tabular}}{{{columns}}}", r"\hline", body[0], r"\hline"]
    return "\n".join([*lines, *body[1:], r"\hline", r"\end{tabular}", r"\end{table}"])


def comma_separated(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table as csv, one line a row.

    >>> comma_separated(["a", "b"], [["1", "x, y"]])
    'a,b\\n1,"x, y"\\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([heads, *rows])
    return text.getvalue()


def whole(number: int | float, gap: str = " ") -> str:
    """A whole number with its thousands apart, by `gap`.

    >>> whole(13285.2)
    '13 285'
    """
    return f"{number:,.0f}".replace(",", gap)


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text.replace("\n", " "))
