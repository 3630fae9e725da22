"""A table of texts as Markdown, LaTeX or csv."""

import csv
import io
import re
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
