import dataclasses
import itertools
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import run_folders

from hgqjax import interop
from hgqjax.reports import figures, front_figure, published, reader, test_rows
from hgqjax.resources import Luts
from hgqjax.runs.folders import curves_path
from hgqjax.scores import Resolution, curves

SVG = ("svg",)
EBOPS, LUTS = front_figure.COSTS
GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = run_folders.make_run(tmp_path_factory.mktemp("run") / "a", betas=(0.0, 1e-5, 1e-4))
    return folder, figures.draw(folder, formats=("png", "svg"))


def png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


def test_every_figure_is_drawn(drawn):
    folder, files = drawn
    names = {f"{stem}.{kind}" for stem in ("front", "widths", "training") for kind in ("png", "svg")}
    assert {path.name for path in files} == names == {path.name for path in (folder / "figures").iterdir()}
    for path in files:
        assert path.parent == folder / "figures" and path.stat().st_size > 8_000
        if path.suffix == ".png":
            width, height = png_size(path)
            assert width == 7.0 * 150 and 400 < height < 800


def axes_of(run, others=()):
    return front_figure.draw(run, others).figure.axes


def test_labels_name_the_data_and_what_is_published(drawn, tmp_path):
    folder, _ = drawn
    front = (folder / "figures/front.svg").read_text()
    for text in (
        "this run, jets (re-simulated): test rows, frozen models",
        "this run, jets (re-simulated), in training:",
        "validation rows, estimated EBOPs",
        "released networks (HGQ v3), jets (re-simulated):",
        "all 176 760 rows",
        "accuracy (%)",
        "(EBOPs)",
        "predicted LUTs",
        "p00",
    ):
        assert text in front
    assert "Published" not in front and "CERNBox" not in front  # other rows do not compare
    widths, training = ((folder / f"figures/{stem}.svg").read_text() for stem in ("widths", "training"))
    assert all(text in widths for text in ("layers_0", "bits of weights", "bits of activations", "p00", "p02", "jets (re-simulated)"))
    assert all(text in training for text in ("epoch", "EBOPs (estimate)", "beta = 0", "validation", "jets (re-simulated)"))
    other = run_folders.make_run(tmp_path / "a", checks=0, points=1, status="running")
    (path, *_) = figures.draw(other, "jets", formats=SVG)
    texts = ("Measured by us", "Published", "HGQ v3, OpenML 42468: validation rows [AE]", "HGQ-LUT, CERNBox: validation rows [AE]")
    assert all(text in path.read_text() for text in texts) and "KANEL" not in path.read_text()  # no EBOPs: not in this figure


def test_markers_stand_where_the_numbers_are(tmp_path):
    run = reader.read(run_folders.make_run(tmp_path / "a", checks=2))
    found = {
        cost: {s.label.partition("\n")[0]: s for s in front_figure.series(run, published.read("jets"), cost)} for cost in (EBOPS, LUTS)
    }
    ours = found[EBOPS]["this run, jets (re-simulated): test rows, frozen models"]
    np.testing.assert_allclose(ours.x, [p.ebops for p in run.points])
    np.testing.assert_allclose(ours.y, [100 * p.test_score for p in run.points])
    assert found[LUTS]["this run, jets (re-simulated): test rows, frozen models"].x.tolist() == [p.luts_predicted for p in run.points]
    released = [found[cost]["released networks (HGQ v3), jets (re-simulated):"] for cost in (EBOPS, LUTS)]
    assert [s.x.tolist() for s in released] == [[530, 1572, 2571, 7229, 13285], [496, 1484, 2438, 6309, 11116]]
    assert released[0].y.round(2).tolist() == released[1].y.round(2).tolist() == [72.35, 73.92, 74.50, 75.55, 75.80]
    openml = found[EBOPS]["HGQ v3, OpenML 42468: validation rows [AE]"]
    assert list(zip(openml.x.tolist(), openml.y.round(1).tolist(), strict=True))[-1] == (13285, 77.1)
    assert len({(s.style["marker"], s.style["color"]) for s in found[EBOPS].values()}) == len(found[EBOPS])
    left, right = axes_of(run, published.beside(run.dataset, "same"))
    for axes, cost in ((left, EBOPS), (right, LUTS)):
        (marks,) = [line for line in axes.lines if line.get_gid() == f"{cost.field}-{1 if cost == EBOPS else 0}"]
        assert marks.get_xdata().tolist() == [getattr(p, cost.field) for p in run.points]
        assert {text.get_text() for text in axes.texts} == {"p00", "p01", "p02"}


def test_each_seed_has_a_line_and_another_cost_has_none(tmp_path):
    run = reader.read(run_folders.make_run(tmp_path / "a", checks=0, points=4, status="running"))
    run = dataclasses.replace(run, points=[dataclasses.replace(p, seed=n % 2) for n, p in enumerate(run.points)])
    whole, alone = list(front_figure.series(run, [], EBOPS)), dataclasses.replace(run, each_seed=True)
    assert len(whole) == 1 and whole[0].style["linestyle"] == "-"
    assert next(iter(front_figure.series(run, [], LUTS))).style["linestyle"] == "none"
    lines = list(front_figure.series(alone, [], EBOPS))
    assert [s.x.tolist() for s in lines] == [[p.ebops for p in run.points[seed::2]] for seed in (0, 1)]
    assert [bool(s.label) for s in lines] == [True, False]
    legends = front_figure.draw(alone, []).figure.legends
    assert [text.get_text() for text in legends[0].get_texts()] == [lines[0].label]
    luts = reader.read(run_folders.make_run(tmp_path / "b", checks=1, points=4, status="running", cost=Luts()))
    of_luts = [list(front_figure.series(luts, [], cost)) for cost in (EBOPS, LUTS)]
    assert [[s.style["linestyle"] for s in found] for found in of_luts] == [["none"], ["none", "-"]]
    assert "validation rows, estimated LUTs" in of_luts[1][0].label


def test_error_bars_are_within_the_axes(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", checks=0, points=2, status="running", rows={"test": 400})
    run = reader.read(folder)
    low, high = axes_of(run)[0].get_ylim()
    assert run.error(run.points[0]) > 0.015
    assert all(low < run.score.shown(p.test_score + side * run.error(p)) < high for p in run.points for side in (-1, 1))


@pytest.mark.parametrize("span", [1.0, 1.1, 2.0, 3.5, 6.0, 30.0, 200.0, 5000.0])
def test_numbers_on_the_cost_axis_do_not_touch(tmp_path, span):
    run = reader.read(run_folders.make_run(tmp_path / "a", checks=0, points=2, status="running"))
    points = [dataclasses.replace(run.points[0], ebops=400.0), dataclasses.replace(run.points[1], ebops=400.0 * span)]
    drawing = front_figure.draw(dataclasses.replace(run, points=points), [])
    drawing.figure.draw_without_rendering()
    axes = drawing.figure.axes[0]
    low, high = axes.get_xlim()
    shown = sorted(
        (label.get_window_extent() for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True) if low <= tick <= high),
        key=lambda box: box.x0,
    )
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(shown)) and len(shown) >= 1


def test_marks_out_of_sight_keep_the_titles_of_the_others(tmp_path):
    """A network of no cost has no place on the axis; the titles still belong to the marks that are there."""
    run = reader.read(run_folders.make_run(tmp_path / "a", checks=0, points=3, status="running"))
    dead = dataclasses.replace(run.points[0], ebops=0.0)
    drawing = front_figure.draw(dataclasses.replace(run, points=[dead, *run.points[1:]]), [])
    assert [title[:3] for title in drawing.titles["ebops-0"]] == ["p01", "p00"]
    assert [title[:3] for title in drawing.titles["luts_predicted-0"]] == ["p02", "p01", "p00"]


def test_names_are_no_formulas(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", checks=2, points=1, name="arrays a$b_{x$.npz")
    figures.draw(folder, formats=SVG)
    assert "this run, arrays a$b_{x$.npz" in (folder / "figures/front.svg").read_text()


def test_numbers_of_logarithmic_axes_are_plain(drawn):
    texts = {stem: (drawn[0] / f"figures/{stem}.svg").read_text() for stem in ("front", "widths", "training")}
    assert not [stem for stem, text in texts.items() if "mathdefault" in text]
    ticks = set(re.findall(r">([^<]+)</text>", texts["training"]))
    assert {"1e\u221205", "1e\u221204"} <= ticks


def test_layers_of_every_kind_have_their_widths():
    model = interop.load_hgq2(GOLDEN / "conv2d.keras")
    kernels = {op.name: op for op in model.operations if hasattr(op, "kernel")}
    bits = figures.layer_bits(model)
    assert list(bits) == list(kernels) and len({op.kind for op in kernels.values()}) > 1
    assert all(np.array_equal(bits[name][0], op.kernel.bits.ravel()) for name, op in kernels.items())


def test_a_run_of_other_data_is_drawn_alone(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", checks=0, points=1, status="running", name="my rows")
    files = figures.draw(folder, formats=SVG)
    assert {path.stem for path in files} == {"front", "widths"}
    front = (folder / "figures/front.svg").read_text()
    assert "this run, my rows" in front and "Published" not in front and "Measured by us" not in front
    assert "Published" in figures.draw(folder, "jets", formats=SVG)[0].read_text()


def test_odd_values_are_drawn_without_a_warning(tmp_path):
    """A diverged member, one that lost every bit, a network of more layers than a row of panels holds, one beta for all members."""
    folder = run_folders.make_run(tmp_path / "a", betas=(1e-5, 1e-5), points=4, widths=(4, 4, 4, 4, 4, 4, 2), status="failed")
    metrics = reader.read(folder).metrics
    rows = metrics.to_dicts()
    for row, value in zip(rows[::7], [float("nan"), float("inf"), 0.0] * len(rows), strict=False):
        row["value"] = value
    type(metrics)(rows, schema=metrics.schema).write_parquet(folder / "metrics.parquet")
    text = (folder / "summary.csv").read_text().splitlines()
    cells = dict(zip(text[0].split(","), text[-1].split(","), strict=True)) | {"ebops": "0.0", "test_score": "0.2"}
    (folder / "summary.csv").write_text("\n".join([*text[:-1], ",".join(cells.values())]) + "\n")
    assert len(figures.draw(folder, formats=SVG)) == 3
    assert "1 of our points below the axes" in (folder / "figures/front.svg").read_text()


def test_regression_has_no_percent_and_no_published_points(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", score=Resolution(), checks=3, points=1)
    figures.draw(folder, "jets", formats=SVG)
    front = (folder / "figures/front.svg").read_text()
    assert "resolution" in front and "Published" not in front and "accuracy" not in front and "outliers" not in front


def test_published_trackers_stand_beside_a_run_on_tracks(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", score=Resolution(), checks=1, points=1, name="muon (simulated)", unit="mrad")
    run = reader.read(folder)
    found = front_figure.series(run, published.read("muon"), EBOPS)
    lines = {s.label.partition(":")[0]: np.stack([s.x, s.y], axis=1).tolist() for s in found}
    assert lines["HGQ v3, fake-TGC (authors' tracks)"] == [[14_914, 2.377], [32_445, 2.01], [62_034, 1.882]]
    assert lines["released networks (HGQ v3), muon (simulated)"] == [[14_914, 2.26]]
    assert run.beside(published.read("jets")) == []
    far = dataclasses.replace(run, points=[dataclasses.replace(run.points[0], test_score=20.0)])
    assert axes_of(far, published.read("muon"))[0].get_ylim()[1] > 20  # our best is in sight


def test_a_resolution_is_positive_and_names_its_outliers(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", score=Resolution(window=30.0), checks=3, unit="mrad")
    figures.draw(folder, formats=SVG)
    front, widths, training = ((folder / f"figures/{stem}.svg").read_text() for stem in ("front", "widths", "training"))
    assert "resolution (mrad)" in front and "outliers (30 mrad and more): 0.20 to 0.60 %" in front and "resolution (mrad)" in training
    run = reader.read(folder)
    assert f"test {run.points[0].test_score:.4g} mrad" in widths
    axes = axes_of(run)[0]
    (ours,) = [line for line in axes.lines if line.get_gid() == "ebops-1"]
    np.testing.assert_allclose(ours.get_ydata(), [p.test_score for p in run.points])
    low, high = axes.get_ylim()
    assert 0 < low < min(ours.get_ydata()) and max(ours.get_ydata()) < high


@pytest.mark.parametrize(("weighted", "counted"), [({}, "rows"), ({"weighted": True}, "weight")])
def test_five_targets_have_five_panels_and_say_what_is_counted(tmp_path, weighted, counted):
    run = reader.read(run_folders.make_run(tmp_path / "a", score=Resolution(window=3.0), unit="mm"))
    rng = np.random.default_rng(0)
    bars = [curves.histogram(f"t{n}", rng.normal(size=20), None, 3.0) for n in range(5)]
    (path := curves_path(run.folder / run.points[0].model)).write_text(json.dumps({"residuals": bars} | weighted))
    figure = test_rows.draw(run, run.points[0])
    assert [axes.axison for axes in figure.axes] == [True] * 5 + [False]  # the sixth place of the grid is empty
    assert {axes.get_ylabel() for axes in figure.axes[:5]} == {counted} and figure.axes[0].get_title("right").endswith("% outside")
    assert "outliers 0." in figure.get_suptitle()
    path.write_text(json.dumps({"confusion": [[3, 1], [2, 4]], "classes": ["a", "b"]} | weighted))
    assert test_rows.draw(run, run.points[0]).axes[0].get_title() == f"% of the {counted} of each class"


def test_collapsed_networks_of_a_regression_are_above_the_axes(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", score=Resolution(), checks=2)
    path = folder / "summary.csv"
    lines = path.read_text().splitlines()
    cells = dict(zip(lines[0].split(","), lines[-1].split(","), strict=True)) | {"test_score": "20.0"}
    path.write_text("\n".join([*lines[:-1], ",".join(cells.values())]) + "\n")
    figures.draw(folder, formats=SVG)
    assert "1 of our points above the axes" in (folder / "figures/front.svg").read_text()


def test_without_points_the_best_of_a_regressions_cloud_is_in_sight(tmp_path):
    run = reader.read(run_folders.make_run(tmp_path / "a", score=Resolution(), points=0, status="running"))
    bottom, top = axes_of(run)[0].get_ylim()
    assert bottom < min(front_figure.cloud(run)[:, 1]) < top


def test_chosen_points(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", checks=0, status="running")
    figures.draw(folder, None, points=["p01"], formats=SVG)
    widths = (folder / "figures/widths.svg").read_text()
    assert "p01" in widths and "p00" not in widths
    with pytest.raises(reader.ReportError, match=r"no point p77 with a model; it has p02, p01, p00$"):
        figures.draw(folder, points=["p77"])


def test_nothing_to_draw_and_unknown_names(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", checks=0, points=0, status="running")
    with pytest.raises(reader.ReportError, match="neither metrics nor points to draw yet"):
        figures.draw(folder)
    with pytest.raises(ValueError, match="published is 'tops'; legal are jets"):
        figures.draw(folder, "tops")


@pytest.mark.parametrize("module", ["matplotlib", "polars"])
def test_a_missing_library_names_its_extra(tmp_path, monkeypatch, module):
    folder = run_folders.make_run(tmp_path / "a", checks=1, points=1)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"^{module} is not installed; pip install 'hgqjax\[run\]'$"):
        figures.draw(folder)


def test_global_settings_stay(drawn):
    import matplotlib

    assert matplotlib.rcParams["svg.fonttype"] == "path"
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_drawing_twice_gives_the_same_bytes(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", checks=0, points=1, status="running")
    summary = folder / "summary.csv"
    summary.write_text(summary.read_text().replace("models/p00", ""))  # no model: no widths
    files = figures.draw(folder, formats=("svg", "pdf"))
    assert [path.name for path in files] == ["front.svg", "front.pdf"] and files[1].read_bytes().startswith(b"%PDF")
    before = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in figures.draw(folder, formats=("svg", "pdf"))] == before
    assert not list((folder / "figures").glob(".*"))


def test_without_points_the_front_of_the_cloud_is_in_sight(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", points=0, status="running")
    run = reader.read(folder)
    cloud = front_figure.cloud(run)
    axes = axes_of(run, published.read("jets"))[0]
    (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert low < cloud[:, 0].min() < cloud[np.argmax(cloud[:, 1]), 0] < high
    assert bottom < 72.35 and 100 * cloud[:, 1].max() < top


def test_published_rows_all_say_where_they_come_from():
    rows = published.read("jets")
    assert all(p.kind in published.KINDS and 0.5 < p.accuracy < 0.8 and p.dataset and p.split and p.name for p in rows)
    for p in rows:
        known = p.source.startswith(("[AE]", "[AE results: ", "[PAPER: ", "[2nd: "))
        assert known != (p.kind == "released network" and p.source == "measured by this project with the released networks")
        assert "memory" not in p.source
        assert p.ebops is None or p.split in ("validation", "all 176 760 rows")
        assert not p.source.startswith("[AE]") or (p.split == "validation" and p.ebops and p.lut is None)
    assert {p.dataset for p in rows} == {"OpenML 42468", "CERNBox", "jets (re-simulated)"}
    assert published.name_for("OpenML 42468") == "jets" and published.name_for("") is None
