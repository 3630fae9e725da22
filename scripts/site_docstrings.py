"""Extension of griffe: the examples of docstrings are code on the pages of the site."""

import re

import griffe

EXAMPLE = re.compile(r"^( *)>>> .*(?:\n(?! *$).*)*", re.M)


class Examples(griffe.Extension):
    """Puts fences around each block of doctest lines and what they print."""

    def on_object(self, *, obj, **_):
        """Of every module, class, function and attribute that is read."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """
    >>> print(fenced("A sum.\\n\\n>>> 1 + 1\\n2\\n\\nEnd."))
    A sum.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    <BLANKLINE>
    End.
    """
    return EXAMPLE.sub(lambda block: f"{block[1]}```pycon\n{block[0]}\n{block[1]}```", text)
