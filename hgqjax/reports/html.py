"""Pieces of one self-contained HTML page: tables that scroll in their own box, figures and histograms inside the file, light and dark.

Text is escaped unless it is `Markup`. Nothing is fetched: the one script is inside, and the page can be read without it.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from hgqjax.description.layer_table import Widths
from hgqjax.reports import style

LARGEST_SVG = 600_000
"""Bytes of a drawing that goes into a page as it is; of a larger one its pixels do, so that the page stays small."""
BAR, GAP, HEIGHT = 4, 1, 24
THEMED = {style.INK: "ink", style.GREY: "soft", style.CLOUD: "cloud", style.GRID: "line", style.BLUE: "d-blue", style.NAVY: "d-navy"}
THEMED |= {style.VERMILLION: "d-red", style.GREEN: "d-green", style.ORANGE: "d-orange", style.PURPLE: "d-purple", style.SKY: "d-sky"}
THEMED |= {"#ffffff": "paper"}
"""Colours of drawings, and the variables of the page that stand for them, so that a drawing is light or dark as the page is."""

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--raised:#f5f7f9;--ink:#1d242b;--soft:#5b6670;--line:#dde2e7;
--blue:#0063a3;--good:#00704f;--bad:#b3341f;--cloud:#c4c4c4;--d-blue:#0072b2;--d-navy:#08306b;--d-red:#d55e00;--d-green:#009e73;
--d-orange:#e69f00;--d-purple:#cc79a7;--d-sky:#56b4e9}
@media(prefers-color-scheme:dark){:root{--paper:#14181c;--raised:#1d2328;--ink:#e3e7ea;--soft:#9aa6b0;--line:#333c44;
--blue:#6cb8ec;--good:#4cc79a;--bad:#f08a73;--cloud:#56616b;--d-blue:#4da6e0;--d-navy:#c3ddf2;--d-red:#f07c2e;--d-green:#2fc096;
--d-sky:#8fd0f5}}
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
.scroll.more{mask-image:linear-gradient(to right,#000 calc(100% - 44px),#0002)}
.scroll tbody th,.scroll thead th:first-child{position:sticky;left:0;background:var(--paper);box-shadow:1px 0 0 var(--line)}
.scroll thead th:first-child{background:var(--raised)}
table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}
caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
th,td{padding:6px 8px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line);vertical-align:middle}
thead th{background:var(--raised);font-weight:600;white-space:normal;vertical-align:bottom;min-width:4.2em}
tbody th{font-weight:600}
td small{display:block;font-size:inherit}
.l{text-align:left}
.wide{white-space:normal;min-width:18em}
tbody tr:last-child>*{border-bottom:0}
tr.total>*{border-top:2px solid var(--line);font-weight:600}
figure{margin:1.2em 0}
.plot img,.plot svg{display:block;width:860px;max-width:100%;min-width:700px;height:auto;margin:0 auto;padding:6px}
.plot img{background:#fff}
.plot use[tabindex]{cursor:pointer}
.plot use[tabindex]:focus-visible{outline:2px solid var(--ink)}
#tip{position:fixed;z-index:9;max-width:20em;padding:4px 9px;border-radius:6px;background:var(--ink);color:var(--paper);font-size:.85rem;
pointer-events:none}
button.copy{font:inherit;font-size:.8rem;color:var(--blue);background:none;border:1px solid var(--line);border-radius:5px;padding:1px 8px;
cursor:pointer}
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
@media print{nav,button.copy{display:none}.scroll{overflow:visible}.plot img,.plot svg{min-width:0}}
""".strip()
SCRIPT = """
(() => {
  const tip = document.createElement('div');
  tip.id = 'tip'; tip.hidden = true; tip.setAttribute('role', 'status');
  document.body.append(tip);
  const show = mark => {
    const box = mark.getBoundingClientRect();
    tip.textContent = mark.getAttribute('aria-label'); tip.hidden = false;
    tip.style.left = Math.max(4, Math.min(box.left, innerWidth - tip.offsetWidth - 8)) + 'px';
    tip.style.top = (box.top > tip.offsetHeight + 10 ? box.top - tip.offsetHeight - 6 : box.bottom + 8) + 'px';
  };
  const hide = () => { tip.hidden = true; };
  for (const title of document.querySelectorAll('.plot use title')) {
    const mark = title.parentNode;
    mark.setAttribute('aria-label', title.textContent); mark.setAttribute('role', 'img'); mark.setAttribute('tabindex', '0');
    title.remove();
    for (const on of ['mouseenter', 'focus', 'click']) mark.addEventListener(on, () => show(mark));
    for (const off of ['mouseleave', 'blur']) mark.addEventListener(off, hide);
  }
  for (const button of document.querySelectorAll('button.copy')) {
    button.hidden = false;
    button.addEventListener('click', async () => {
      const said = button.textContent;
      try { await navigator.clipboard.writeText(button.dataset.text); button.textContent = 'copied'; }
      catch { prompt('copy this line', button.dataset.text); }
      setTimeout(() => { button.textContent = said; }, 1500);
    });
  }
  const cue = box => box.classList.toggle('more', box.scrollWidth - box.clientWidth - box.scrollLeft > 8);
  const boxes = [...document.querySelectorAll('.scroll')];
  for (const box of boxes) box.addEventListener('scroll', () => cue(box), {passive: true});
  const all = () => boxes.forEach(cue);
  addEventListener('resize', all); addEventListener('toggle', all, true); addEventListener('scroll', hide, {passive: true});
  all();
})();
""".strip()


def element(tag: str, *inside: Any, **attributes: str) -> Markup:
    """``<tag>``; `inside` is escaped unless it is `Markup`, ``class_`` is the attribute class.

    >>> print(element("p", "a & b", class_="note"))
    <p class="note">a &amp; b</p>
    """
    named = Markup("").join(Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items())
    return Markup(f"<{tag}{named}>{Markup('').join(inside)}</{tag}>")


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
    """A drawing inside the page, light or dark as the page is: the .svg, or the .png `pixels`, which stays on white, where that is larger
    than `LARGEST_SVG`. It is never so narrow that its text cannot be read: its box scrolls, and is called `name`.
    """
    if drawing.stat().st_size <= LARGEST_SVG:
        image = themed(drawing.read_text(encoding="utf-8"), drawing.stem, alt)
    else:
        content = base64.b64encode(pixels.read_bytes()).decode()
        image = Markup(f'<img alt="{escape(alt)}" src="data:image/png;base64,{content}">')
    return element("figure", _box(name, image, "plot"), element("figcaption", caption))


def themed(svg: str, stem: str, alt: str) -> Markup:
    """A drawing of matplotlib as an element of a page: with the colours of the page, names that begin with `stem`, as many units wide as
    before, and called `alt`.

    >>> drawing = '<?xml?><svg width="5pt" viewBox="0 0 5 4"><g id="a" style="fill: #333333"/><g id="b"/><use xlink:href="#b"/></svg>'
    >>> print(str(themed(drawing, "x", "a bar")).replace("><", "> <"))
    <svg viewBox="0 0 5 4" role="img" aria-label="a bar"> <g style="fill: var(--ink)"/> <g id="x-b"/> <use href="#x-b"/> </svg>
    """
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    head, body = svg[: svg.index(">")], svg[svg.index(">") :]
    head = re.sub(r' (?:xmlns(?::xlink)?|width|height|version)="[^"]*"', "", head)
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda found: f' id="{stem}-{found[1]}"' if found[1] in used else "", body)
    body = re.sub(r'xlink:href="#', f'href="#{stem}-', body).replace("xlink:href=", "href=")
    body = body.replace("url(#", f"url(#{stem}-")
    for color, variable in THEMED.items():
        body = re.sub(re.escape(color), f"var(--{variable})", body, flags=re.I)
    body = body.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")  # of much the same width, where it is not installed
    return Markup(f'{head} role="img" aria-label="{escape(alt)}"{body}')


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
    label = escape(words)
    return Markup(f'<svg class="bits" role="img" aria-label="{label}" {size}><title>{label}</title>{"".join(bars)}</svg>')


def copy_button(text: str, label: str) -> Markup:
    """A button that puts `text` into the clipboard; without a script it is not there."""
    return element("button", label, class_="copy", type="button", data_text=text, hidden="")


def details(summary: Any, *inside: Any, opened: bool = False) -> Markup:
    """What is shown on a click."""
    return element("details", element("summary", summary), *inside, **({"open": ""} if opened else {}))


def section(title: str, *inside: Any) -> tuple[str, Markup]:
    """A part of a page with its heading, for `page`."""
    return title, Markup("").join(inside)


def page(title: str, head: Iterable[Any], sections: Iterable[tuple[str, Markup]], foot: str) -> str:
    """The whole file: a header of `head` under the title, links to the sections, the sections, a line at the end."""
    sections = list(sections)
    links = [element("li", element("a", name, href=f"#{_anchor(name)}")) for name, _ in sections]
    parts = [element("section", element("h2", name, id=_anchor(name)), inside) for name, inside in sections]
    body = element("header", element("h1", title), *head) + element("nav", element("ul", *links), aria_label="Sections")
    body += element("main", *parts) + element("footer", element("p", foot, class_="soft"))
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    top = f"{meta}{element('title', title)}<link rel=icon href=data:,><style>{STYLE}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{top}</head>\n<body>\n{body}\n<script>{SCRIPT}</script>\n</body></html>\n'


def _anchor(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())
