"""Hooks of mkdocs: pages of the site that are made of other files, the README for one, and of the docstrings of the public rooms."""

import os
import re
from pathlib import Path

from mkdocs.structure.files import File

import hgqjax

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
ELSEWHERE |= {"experiments/README.md": "experiments.md", "tests/README.md": "tests.md"}
"""Files that are no pages of docs/, and the page that each becomes."""
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")


def on_files(files, config):
    """Adds the pages."""
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=with_links((ROOT / source).read_text(encoding="utf-8"), source, page)))
    for room in hgqjax.__all__:
        files.append(File.generated(config, f"api/{room}.md", content=f"# hgqjax.{room}\n\n::: hgqjax.{room}\n"))
    return files


def on_config(config):
    """The reference of the public rooms, in the navigation."""
    config.nav.insert(-1, {"API": [{f"hgqjax.{room}": f"api/{room}.md"} for room in hgqjax.__all__]})
    return config


def on_page_markdown(markdown, page, config, files):
    """Links that lead out of docs/ lead to the page that the file has become."""
    source = page.file.src_uri
    return markdown if source in ELSEWHERE.values() else with_links(markdown, f"docs/{source}", source)


def with_links(text: str, source: str, page: str) -> str:
    """The text of a file of the repository with its links as those of `page`; a file that is no page of the site is named without a link.

    >>> with_links("[a](docs/command.md#x) [b](LICENSE)", "README.md", "index.md")
    '[a](command.md#x) b'
    """

    def turned(found: re.Match[str]) -> str:
        path = os.path.normpath(os.path.join(os.path.dirname(source), found[2]))
        target = ELSEWHERE.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        return found[1] + (os.path.relpath(target, os.path.dirname(page) or ".") if target else "") + found[3]

    return re.sub(r"\[([^\]]*)\]\(\)", r"\1", LINK.sub(turned, text))
