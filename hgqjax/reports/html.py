"""Pieces of one self-contained HTML page: tables that scroll in their own box, figures and histograms inside the file, light and dark.

Text is escaped unless it is `Markup`. Nothing is fetched: no scripts, no fonts, no links to other files.
"""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hgqjax.description.layer_table import Widths

LARGEST_SVG = 600_000
"""Bytes of a drawing that goes into a page as it is; of a larger one its pixels do, so that the page stays small."""
BAR, GAP, HEIGHT = 4, 1, 24

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--raised:#f5f7f9;--ink:#1d242b;--soft:#5b6670;--line:#dde2e7;
--blue:#0063a3;--good:#00704f;--bad:#b3341f}
@media(prefers-color-scheme:dark){:root{--paper:#14181c;--raised:#1d2328;--ink:#e3e7ea;--soft:#9aa6b0;--line:#333c44;
--blue:#6cb8ec;--good:#4cc79a;--bad:#f08a73}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main,header,nav{max-width:1120px;margin:0 auto;padding:0 20px}
header{padding-top:36px}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .3em;overflow-wrap:anywhere}
h2{font-size:1.3rem;margin:2.6em 0 .6em;padding-bottom:.25em;border-bottom:1px solid var(--line)}
h3{font-size:1.05rem;margin:1.8em 0 .5em}
p{max-width:75ch;margin:.6em 0}
.soft,figcaption,caption,.note{color:var(--soft);font-size:.9rem}
code,pre{font-family:ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;font-size:.86em}
code{overflow-wrap:anywhere}
pre{background:var(--raised);border:1px solid var(--line);border-radius:6px;padding:12px;overflow-x:auto;max-height:32em}
a{color:var(--blue)}
nav{padding-top:10px;font-size:.92rem}
nav ul{display:flex;flex-wrap:wrap;gap:4px 18px;list-style:none;margin:0;padding:0}
.warning{border-left:4px solid var(--bad);background:var(--raised);padding:8px 14px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:22px 0 6px;padding:0}
.tiles div{background:var(--raised);border:1px solid var(--line);border-radius:8px;padding:12px 14px}
.tiles dt{color:var(--soft);font-size:.82rem}
.tiles dd{margin:2px 0 0;font-size:1.25rem;font-weight:600;line-height:1.3}
.tiles dd small{display:block;font-weight:400;font-size:.8rem;color:var(--soft)}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:8px;margin:.8em 0}
.scroll:focus-visible{outline:2px solid var(--blue)}
table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}
caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
th,td{padding:6px 8px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line);vertical-align:middle}
thead th{background:var(--raised);font-weight:600;white-space:normal;vertical-align:bottom;min-width:4.2em}
tbody th{font-weight:600}
.l{text-align:left}
.wide{white-space:normal;min-width:18em}
tbody tr:last-child>*{border-bottom:0}
tr.total>*{border-top:2px solid var(--line);font-weight:600}
figure{margin:1.2em 0}
.plot{background:#fff}
.plot img{display:block;width:860px;max-width:100%;min-width:700px;height:auto;margin:0 auto;padding:6px}
figcaption{margin:.6em auto 0;max-width:75ch}
svg.bits{display:inline-block;vertical-align:middle;max-width:100%}
svg.bits rect{fill:var(--blue)}
svg.bits rect.gone{fill:var(--soft);opacity:.45}
details{margin:.25em 0}
summary{cursor:pointer;padding:4px 0;font-weight:600}
summary span{font-weight:400;color:var(--soft);font-size:.92em}
.good{color:var(--good)}.bad{color:var(--bad)}
footer{max-width:1120px;margin:40px auto 24px;padding:0 20px}
@media(max-width:600px){main,header,nav,footer{padding-left:12px;padding-right:12px}h1{font-size:1.45rem}th,td{padding:5px 8px}}
@media print{nav{display:none}.scroll{overflow:visible}.plot img{min-width:0}}
""".strip()


class Markup(str):
    """HTML that is finished, and not escaped again."""

    __slots__ = ()


def escaped(text: Any) -> Markup:
    """`text` as HTML; `Markup` stays.

    >>> escaped("a < b"), escaped(Markup("<b>"))
    ('a &lt; b', '<b>')
    """
    return text if isinstance(text, Markup) else Markup(html.escape(str(text)))


def element(tag: str, *inside: Any, **attributes: str) -> Markup:
    """``<tag>``; `inside` is escaped unless it is `Markup`, ``class_`` is the attribute class.

    >>> element("p", "a & b", class_="note")
    '<p class="note">a &amp; b</p>'
    """
    named = "".join(f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"' for name, value in attributes.items())
    return Markup(f"<{tag}{named}>{''.join(map(escaped, inside))}</{tag}>")


def table(name: str, heads: Sequence[str], rows: Iterable[Sequence[Any]], left: Sequence[str] = (), total: bool = False) -> Markup:
    """A table in a box of its own that scrolls sideways, also by keyboard. The first cell of a row is its heading.

    Args:
      name: what screen readers call it.
      heads: of the columns. rows: as many cells each. left: those aligned to the left. total: the last row is the sum of the others.
    """
    classes = [{"class_": "l"} if head in left else {} for head in heads]
    head = element("tr", *(element("th", text, scope="col", **c) for text, c in zip(heads, classes, strict=True)))
    lines = []
    rows = list(rows)
    for n, row in enumerate(rows):
        cells = [_cell(cell, c, first=m == 0) for m, (cell, c) in enumerate(zip(row, classes, strict=True))]
        lines.append(element("tr", *cells, **({"class_": "total"} if total and n == len(rows) - 1 else {})))
    whole = element("table", element("caption", name), element("thead", head), element("tbody", *lines))
    return _box(name, whole)


def _box(name: str, inside: Markup, kind: str = "") -> Markup:
    """A box that scrolls sideways where what is inside is wider than the screen; `name` is what screen readers call it."""
    return element("div", inside, class_=f"scroll {kind}".strip(), tabindex="0", role="region", aria_label=name)


def _cell(cell: Any, attributes: dict[str, str], first: bool) -> Markup:
    if first:
        return element("th", cell, scope="row", **attributes)
    if isinstance(cell, str) and not isinstance(cell, Markup) and len(cell) > 60:
        attributes = {"class_": f"{attributes.get('class_', '')} wide".strip()}
    return element("td", cell, **attributes)


def figure(name: str, drawing: Path, pixels: Path, alt: str, caption: str) -> Markup:
    """A drawing inside the page: the .svg, or the .png `pixels` where that is larger than `LARGEST_SVG`.

    It keeps its white ground in the dark, and is never so narrow that its text cannot be read: its box scrolls, and is called `name`.
    """
    if drawing.stat().st_size <= LARGEST_SVG:
        text = drawing.read_text(encoding="utf-8")
        text = text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")  # of much the same width, where it is not installed
        kind, content = "svg+xml", text.encode()
    else:
        kind, content = "png", pixels.read_bytes()
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    image = Markup(f'<img alt="{html.escape(alt)}" src="{source}">')
    return element("figure", _box(name, image, "plot"), element("figcaption", caption))


def histogram(widths: Widths, what: str) -> Markup:
    """Bars: how many values have 0, 1, 2, ... bits; nothing where there is no value. The bar of 0 bits is grey, and no higher than the
    highest other.

    >>> "4 of 0 bits, 8 of 2 bits" in histogram(Widths((4, 0, 8)), "weights")
    True
    """
    if not widths.size:
        return Markup("")
    top = max(widths.counts[1:], default=0) or widths.counts[0]
    words = f"{what}: " + ", ".join(f"{n} of {b} bits" for b, n in enumerate(widths.counts) if n)
    bars = []
    for bits, n in enumerate(widths.counts):
        if n:
            high = max(HEIGHT * min(n / top, 1.0), 1.0)
            place = f'x="{bits * (BAR + GAP)}" y="{HEIGHT - high:.1f}" width="{BAR}" height="{high:.1f}"'
            gone = ' class="gone"' if bits == 0 else ""
            bars.append(f"<rect {place}{gone}/>")
    width = len(widths.counts) * (BAR + GAP)
    size = f'width="{width}" height="{HEIGHT}" viewBox="0 0 {width} {HEIGHT}"'
    label = html.escape(words)
    return Markup(f'<svg class="bits" role="img" aria-label="{label}" {size}><title>{label}</title>{"".join(bars)}</svg>')


def details(summary: Any, *inside: Any, opened: bool = False) -> Markup:
    """What is shown on a click."""
    return element("details", element("summary", summary), *inside, **({"open": ""} if opened else {}))


def section(title: str, *inside: Any) -> tuple[str, Markup]:
    """A part of a page with its heading, for `page`."""
    return title, Markup("".join(map(escaped, inside)))


def page(title: str, head: Iterable[Any], sections: Iterable[tuple[str, Markup]], foot: str) -> str:
    """The whole file: a header of `head` under the title, links to the sections, the sections, a line at the end."""
    sections = list(sections)
    links = [element("li", element("a", name, href=f"#{_anchor(name)}")) for name, _ in sections]
    parts = [element("section", element("h2", name, id=_anchor(name)), inside) for name, inside in sections]
    body = element("header", element("h1", title), *head) + element("nav", element("ul", *links), aria_label="Sections")
    body += element("main", *parts) + element("footer", element("p", foot, class_="soft"))
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    top = f"{meta}{element('title', title)}<link rel=icon href=data:,><style>{STYLE}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{top}</head>\n<body>\n{body}\n</body></html>\n'


def _anchor(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())
