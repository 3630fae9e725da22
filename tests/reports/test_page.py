import html.parser
import json
import re
import shutil

import browser
import pytest
import run_folders

from hgqjax.reports import html as pages
from hgqjax.reports import style, test_rows
from hgqjax.reports.page import ReportError, report
from hgqjax.scores import Resolution

SIZES = re.compile(r"font(?:-size)?: ([\d.]+)px")
"""Of texts in a drawing; 72 of its pixels are an inch."""


class Page(html.parser.HTMLParser):
    """What a report says: its whole text, its tables by name, the attributes of its elements; fails where elements are not closed."""

    def __init__(self, text):
        super().__init__()
        self.text, self.tables, self.elements, self._open = "", {}, [], []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in ("meta", "link", "img", "rect"):
            return
        self._open.append(tag)
        if tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td"):
            self._rows[-1].append("")

    def handle_endtag(self, tag):
        if tag == "rect":
            return
        assert self._open.pop() == tag
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data):
        if {"style", "script", "svg"} & set(self._open):
            return
        data = data.replace("\xa0", " ")
        self.text += data
        if self._open[-1:] == ["caption"]:
            self._caption = data
        elif {"th", "td"} & set(self._open):
            self._rows[-1][-1] += data


def read(path):
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = run_folders.make_run(tmp_path_factory.mktemp("run") / "a")
    path = report(folder, formats=())
    assert path == folder / "report.html" and not list(folder.glob(".*"))
    return path


@pytest.fixture(scope="module")
def page(path):
    return read(path)


@pytest.fixture
def folder(tmp_path):
    return run_folders.make_run(tmp_path / "a", checks=1, points=1)


def change_manifest(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_head_and_origin(page):
    assert ("h1", {}) in page.elements and page.text.lstrip().startswith("made-up on jets (re-simulated)")
    assert "Rows: train 112 000, val 28 000, test 36 760. Source: made up for a test" in page.text
    assert "ab" * 32 in page.text and "not finished" not in page.text
    assert "command: hgqjax sweep 'a | b'" in page.text
    assert f"commit: {'c0ffee' * 6} with uncommitted changes" in page.text
    assert "python 3.11, jax 0.9" in page.text and '"type": "Accuracy"' in page.text


def test_a_run_that_its_gate_stopped_has_its_models_and_the_reason(folder):
    change_manifest(folder, status="failed", error="12 of 5 000 words differ <b>")
    page = read(report(folder, formats=()))
    assert "This run failed (status: failed)" in page.text and "It stopped with: 12 of 5 000 words differ <b>" in page.text
    assert f"hgqjax resume {folder} goes on" in page.text
    assert [row[0] for row in page.tables["Selected models"][1:]] == ["p00"]


def test_names_of_points_are_escaped(folder):
    text = (folder / "summary.csv").read_text()
    (folder / "summary.csv").write_text(text.replace("p00,", "<i id=x>,", 1))
    page = read(report(folder, formats=()))
    assert "<i id=x>" in page.text and ("i", {"id": "x"}) not in page.elements


def test_networks_of_one_front_and_penalties_without_a_point_are_named(tmp_path):
    folder = run_folders.make_run(tmp_path / "run", checks=2)
    rows = (folder / "summary.csv").read_text().splitlines()
    named = [f"{row},{name}" for row, name in zip(rows, ("network", "64-32", "16", "16"), strict=True)]
    (folder / "summary.csv").write_text("\n".join(named) + "\n")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"notes": ["beta 3e-05 has no point: <b>"]}))
    page = read(report(folder, formats=()))
    assert [row[-2] for row in page.tables["Selected models"]] == ["network", "16", "16", "64-32"]
    assert "beta 3e-05 has no point: <b>" in page.text


def test_points_with_statistical_errors(page):
    heads, *rows = page.tables["Selected models"]
    assert [row[0] for row in rows] == ["p02", "p01", "p00"]  # by rising EBOPs
    last = dict(zip(heads, rows[-1], strict=True))
    accuracy, _, error = last["test accuracy (%)"].partition(" ± ")
    a = float(accuracy) / 100
    assert error == f"{100 * (a * (1 - a) / 36_760) ** 0.5:.2f}"
    assert (last["rows checked"], last["differing words"]) == ("12 345", "0")
    assert int(last["EBOPs"].replace(" ", "")) > int(last["EBOPs (paper_v1)"].replace(" ", "")) > 0


def test_tables_are_whole(page):
    assert len(page.tables) == 7
    for name, rows in page.tables.items():
        assert len({len(row) for row in rows}) == 1, name
    heads, first, total = page.tables["Layers of p00"]
    layer = dict(zip(heads, first, strict=True))
    assert (layer["layer"], layer["kind"], layer["result"], layer["weights"]) == ("layers_0", "dense", "5", "16x5")
    assert total[heads.index("EBOPs")] == layer["EBOPs"] and layer["weight bits"].count("/") == 2
    labels = [a["aria-label"] for tag, a in page.elements if tag == "svg" and a.get("class") == "bits"]
    assert len(labels) == 3 * 2 * 2 and all(" bits" in label for label in labels)


def test_published_beside_ours(page):
    released = page.tables["Released networks, measured by this project"]
    assert ["HGQ v3", "jets (re-simulated)", "all 176 760 rows", "72.35", "530"] in [row[:5] for row in released]
    assert ["HGQ v3", "OpenML 42468", "validation", "77.1", "13 285"] in [row[:5] for row in page.tables["Published"]]
    assert "[AE]: the accuracy on validation rows" in page.text


def drawings(page):
    return [a for tag, a in page.elements if tag == "svg" and a.get("class") != "bits"]


def test_nothing_is_outside_the_file(path, page):
    text = path.read_text()
    assert len(drawings(page)) == 3 and all(len(a["aria-label"]) > 40 for a in drawings(page))
    assert "from 76 EBOPs at 67.02 % to 1\xa0821 EBOPs at 74.33 %" in drawings(page)[0]["aria-label"]
    assert [a for tag, a in page.elements if tag == "script"] == [{}] and not {"iframe", "object"} & {tag for tag, _ in page.elements}
    links = [a["href"] for _, a in page.elements if "href" in a]
    folder = ("models/p00", "models/p01", "models/p02", "projects/p00")
    assert all(link.startswith(("#", "data:")) or link in folder for link in links) and set(folder) < set(links)
    anchors = [a["id"] for _, a in page.elements if "id" in a]
    assert all(link[1:] in anchors for link in links if link.startswith("#")) and len(set(anchors)) == len(anchors)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(anchors) and "url(" not in re.sub(r"url\(#", "", text)
    assert path.stat().st_size < 3_000_000


def test_marks_have_the_numbers_of_their_points(path):
    """In the drawing itself, in the order of the points, in both panels; and the colours of the page."""
    text = path.read_text()
    titles = re.findall(r"<title>(p\d\d: test [^<]*)</title></use>", text)
    assert [title[:3] for title in titles] == 2 * ["p02", "p01", "p00"]
    assert titles[0].startswith("p02: test 67.02 \u00b1 0.25, 76 EBOPs, 61 predicted LUTs, seed 0")
    assert "HGQ v3: 72.35 on jets (re-simulated) (all 176 760 rows), 530 EBOPs" in text
    assert "#333333" not in text and "#E4E4E4".lower() not in text and "var(--d-blue)" in text


def test_commands_to_copy_and_points_that_are_chosen(folder):
    (folder / "summary.csv").write_text((folder / "summary.csv").read_text().replace("projects/p00", ""))
    page = read(report(folder, points=["p00"], formats=()))
    (button,) = [a for tag, a in page.elements if tag == "button"]
    assert button["data-text"] == f"hgqjax export {folder}/models/p00" and "hidden" in button
    with pytest.raises(ReportError, match="has no point p07 with a model; it has p00"):
        report(folder, points=["p07"])


def test_a_drawing_that_is_too_large_goes_in_as_pixels(folder, monkeypatch):
    monkeypatch.setattr(pages, "LARGEST_SVG", 10)
    page = read(report(folder, formats=()))
    images = [a["src"] for tag, a in page.elements if tag == "img"]
    assert len(images) == 3 and all(source.startswith("data:image/png;base64,") for source in images) and not drawings(page)


def test_numbers_in_cells_keep_their_ink_where_the_page_is_dark():
    assert not {test_rows.ON_PALE, test_rows.ON_DARK} & set(pages.THEMED)


def test_text_is_escaped(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", checks=0, points=0, status="running", name="<script>alert(1)</script> & co")
    page = read(report(folder, formats=()))
    assert "made-up on <script>alert(1)</script> & co" in page.text and "<script>alert" not in (folder / "report.html").read_text()


def test_projects_and_what_their_gates_say(folder):
    for place, record in (
        ("projects/p00/hgqjax_gate.json", {"backend": "Vitis", "io_type": "io_parallel", "strategy": "latency"}),
        ("models/p00_verilog/hgqjax_rtl.json", {"flavor": "verilog"}),
        ("models/p00_vhdl/hgqjax_rtl.json", {"flavor": "vhdl", "gate": None}),
    ):
        (folder / place).parent.mkdir(parents=True)
        (folder / place).write_text(json.dumps({"gate": {"rows": 10_001, "words": 50_005, "differing_words": 0}} | record))
    _, *rows = read(report(folder, formats=())).tables["Exported projects"]
    assert rows == [
        ["models/p00_verilog", "verilog", "10 001", "50 005", "0", "verified"],
        ["models/p00_vhdl", "vhdl", "", "", "", "not verified"],
        ["projects/p00", "Vitis, io_parallel, latency", "10 001", "50 005", "0", "verified"],
    ]
    (folder / "projects/p00/hgqjax_gate.json").write_text("{}")
    with pytest.raises(ReportError, match="hgqjax_gate.json cannot be read as the record of an export"):
        report(folder)


@pytest.mark.parametrize(("status", "words"), [("running", "is not finished (status: running)"), ("failed", "failed (status: failed)")])
def test_an_unfinished_run(tmp_path, status, words):
    folder = run_folders.make_run(tmp_path / "a", checks=0, points=0, status=status, name="muons")
    page = read(report(folder, formats=()))
    assert f"This run {words}; what follows is what it has so far." in page.text
    assert "No models yet." in page.text and "Training" not in page.text and "published" not in page.text


def test_a_regression_has_no_percent(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", score=Resolution(), checks=0, points=1, status="running", name="muons")
    page = read(report(folder, formats=()))
    assert "test resolution" in page.tables["Selected models"][0] and "outliers" not in page.text
    assert "%" not in page.text.partition("Selected models")[0]
    assert "The resolution is the root mean square of the residuals; less is better." in page.text


def test_a_regression_with_a_window_shows_resolution_and_outliers(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", score=Resolution(window=30.0), checks=1, name="muons", unit="mrad")
    page = read(report(folder, formats=()))
    heads, *rows = page.tables["Selected models"]
    (shown,) = [dict(zip(heads, row, strict=True))["test resolution (mrad)"] for row in rows if row[0] == "p01"]
    value, _, share = shown.partition(" ")
    assert 0.2 < float(value) < 1 and share == "± 0.009 (outliers 0.40 %)"
    assert "validation resolution (mrad)" in heads and "score" not in page.text.split("How it was made")[0]
    assert "the residuals below 30 mrad; less is better. Outliers are the other residuals." in page.text
    assert "Test resolution (less is better) of the frozen models" in page.text


def test_a_browser_shows_it_on_wide_and_narrow_screens_light_and_dark(path, tmp_path):
    if browser.CHROMIUM is None:
        pytest.skip("chromium is not installed; scripts/test installs it")
    bits = [a for tag, a in read(path).elements if tag == "svg" and a.get("class") == "bits"]
    drawn = [a["aria-label"].count(" of ") for a in bits]  # a bar for each number of bits
    alone = tmp_path / "sent to a friend.html"  # without the folder it was made in
    shutil.copy(path, alone)
    wide = "[i, i.closest('.scroll')].map(e => e.getBoundingClientRect().width)"
    plots = f"[...document.querySelectorAll('.plot > svg')].map(i => {wide})"
    smallest = min(float(points) for svg in (path.parent / "figures").glob("*.svg") for points in SIZES.findall(svg.read_text()))
    hidden = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).every(e => e.clientWidth <= innerWidth)"
    bars = "[...document.querySelectorAll('svg.bits')].map(s => [...s.children].filter(c => c.tagName == 'rect').length)"
    cues = "document.querySelectorAll('.plot.more').length > 0"  # something lies to the right, and is faded out
    rest = "document.querySelector('.plot use[aria-label^=p02]').dispatchEvent(new Event('mouseenter'))"
    tip = f"(() => {{ {rest}; return document.querySelector('#tip').textContent.slice(0, 22) }})()"
    with browser.Browser(tmp_path / "profile") as chromium:
        for width in (1280, 400):
            grounds = set()
            for dark in (False, True):
                chromium.open(alone, width, dark=dark)
                assert chromium.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
                shown = chromium.evaluate(plots)
                assert len(shown) == 3 and all(0.6 * width < box <= width for _, box in shown)
                assert all(smallest * image / (72 * style.WIDTH) > 8 for image, _ in shown)  # pixels high
                assert chromium.evaluate(hidden) and chromium.evaluate("document.querySelectorAll('h2').length") == 6
                assert chromium.evaluate(bars) == drawn
                assert chromium.evaluate(cues) == (width == 400) and chromium.evaluate(tip) == "p02: test 67.02 \u00b1 0.25"
                grounds.add(chromium.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert len(grounds) == 2
        assert not chromium.said


def test_no_run(tmp_path):
    with pytest.raises(ReportError, match=r"^there is no .*nowhere$"):
        report(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def cut(folder):
    (folder / "metrics.parquet").write_bytes((folder / "metrics.parquet").read_bytes()[:50])


def drop_column(folder):
    path = folder / "summary.csv"
    path.write_text(path.read_text().replace("test_score", "tset_score"))


def drop_metric_column(folder):
    import polars as pl

    pl.DataFrame({"member": [0], "beta": [0.0], "metric": ["loss"]}).write_parquet(folder / "metrics.parquet")


def wrong_type(folder):
    path = folder / "summary.csv"
    path.write_text(path.read_text().replace("p00,0,", "p00,zero,"))


def empty_cell(folder):
    path = folder / "summary.csv"
    path.write_text(path.read_text().replace("p00,0,", "p00,,"))


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (cut, r"metrics\.parquet cannot be read as parquet: \S+"),
        (lambda folder: (folder / "metrics.parquet").unlink(), r"metrics\.parquet cannot be read as parquet: \S+"),
        (lambda folder: (folder / "summary.csv").unlink(), r"summary\.csv cannot be read as csv: \S+"),
        (lambda folder: (folder / "summary.csv").write_text(""), r"summary\.csv cannot be read as csv: \S+"),
        (drop_metric_column, r"metrics\.parquet lacks the columns seed, step, epoch, split, value$"),
        (drop_column, r"summary\.csv lacks the columns test_score$"),
        (wrong_type, r"summary\.csv has a value of the wrong type: .*zero"),
        (empty_cell, r"summary\.csv has an empty cell in column member$"),
        (lambda folder: (folder / "manifest.json").write_text("{"), r"is not a run folder: "),
        (lambda folder: (folder / "manifest.json").write_text("[" * 100_000), r"is not a run folder: is JSON that is nested too deeply$"),
        (lambda folder: change_manifest(folder, seconds="long"), r"manifest\.json has a field 'seconds' of type str$"),
        (lambda folder: change_manifest(folder, schema=2), r"manifest\.json is not of schema 1$"),
        (lambda folder: change_manifest(folder, data={}), r"manifest\.json does not name its status and its data set$"),
        (lambda folder: (folder / "models/p00/arrays.npz").write_bytes(b"x"), r"point p00 has no sound model: .*checksum"),
    ],
)
def test_one_sentence_for_every_broken_run(folder, break_it, sentence):
    break_it(folder)
    with pytest.raises(ReportError, match=sentence) as caught:
        report(folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "report.html").exists()
