"""Fronts of runs beside each other: hypervolume by hand, budgets, seeds, differing fields, refusals."""

import json
import math

import numpy as np
import pytest
import run_folders
from hypothesis import given
from hypothesis import strategies as st

from hgqjax import cli
from hgqjax.reports import compare, reader, seed_spread
from hgqjax.resources import Ebops, Luts, WeightBits
from hgqjax.scores import Resolution
from hgqjax.training.front import chosen_within, hypervolume


def make(folder, points, *, config=None, **how):
    """A run whose summary has the (cost, test score) of `points`; the validation score is the same where it is not a third number."""
    folder = run_folders.make_run(folder, points=len(points), checks=how.pop("checks", 1), **how)
    heads, *lines = (folder / "summary.csv").read_text().splitlines()
    rows = []
    for line, (cost, score, *val) in zip(lines, points, strict=True):
        cells = dict(zip(heads.split(","), line.split(","), strict=True)) | {"ebops": cost, "cost": cost}
        cells |= {"test_score": score, "val_score": val[0] if val else score}
        rows.append(",".join(map(str, cells.values())))
    (folder / "summary.csv").write_text("\n".join([heads, *rows]) + "\n")
    if config:
        change(folder, lambda manifest: manifest["config"].update(config))
    return folder


def change(folder, how):
    manifest = json.loads((folder / "manifest.json").read_text())
    how(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def give_seeds(folder, checks):
    """Validation checks (cost, score) of each seed."""
    import polars as pl

    head = {"member": 0, "beta": 1e-6, "epoch": 1, "split": "val"}
    rows = [
        head | {"seed": seed, "step": step, "metric": metric, "value": float(value)}
        for seed, found in checks.items()
        for step, check in enumerate(found)
        for metric, value in zip(("cost", "score"), check, strict=True)
    ]
    pl.DataFrame(rows).write_parquet(folder / "metrics.parquet")
    return folder


A = [(1_000.0, 0.70), (10_000.0, 0.75)]
B = [(1_000.0, 0.72), (2_000.0, 0.71), (100_000.0, 0.76)]  # the second is dominated


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=8))
def test_hypervolume_is_the_count_of_dominated_cells(points):
    scores, costs = [float(s) for s, _ in points], [float(c) for _, c in points]
    reference_score, reference_cost = 4, 17
    cells = sum(
        any(score >= s + 1 and cost <= c for score, cost in zip(scores, costs, strict=True))
        for s in range(reference_score, 21)
        for c in range(0, reference_cost)
    )
    assert hypervolume(scores, costs, float(reference_score), float(reference_cost)) == cells


def test_chosen_within_is_a_step_function():
    scores, costs = [0.7, 0.9, math.nan, 0.8, 0.8], [10.0, 20.0, 12.0, 17.0, 15.0]  # of equals the cheaper one
    assert [chosen_within(scores, costs, budget) for budget in (9.9, 10.0, 19.9, 20.0)] == [None, 0, 4, 1]


def cells_of(text, name):
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_by_hand(tmp_path):
    runs = [make(tmp_path / "x/a", A), make(tmp_path / "y/b", B)]
    text = compare.compare(runs, tmp_path / "front.png", at=[3_000.0, 500.0])
    error = [100 * math.sqrt(s * (1 - s) / 36_760) for s in (0.70, 0.72)]
    decades = {cost: math.log10(200_000 / cost) for cost in (1e3, 1e4, 1e5)}  # to twice the largest; 0.6 points below the worst
    volumes = [0.6 * decades[1e3] + 5 * decades[1e4], 2.6 * decades[1e3] + 4 * decades[1e5]]
    assert cells_of(text, "x") == ["x", "2", "1", f"{volumes[0]:.2f}", "none", f"70.00 ± {error[0]:.2f}"]
    assert cells_of(text, "y") == ["y", "2", "1", f"{volumes[1]:.2f}", "none", f"72.00 ± {error[1]:.2f}"]
    assert "reference point of 200 000 EBOPs and 69.40 %" in text and "points x decades of EBOPs" in text and "36 760 test rows" in text
    assert "accuracy (%) at ≤ 500 | accuracy (%) at ≤ 3 000" in text and "The configurations are the same." in text
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG") and f"Figure: {tmp_path / 'front.png'}" in text
    given = compare.compare(runs, tmp_path / "front.png", reference=(10_000.0, 65.0))
    assert cells_of(given, "x")[3] == "5.00" and cells_of(given, "y")[3] == "7.00"
    assert "reference point of 10 000 EBOPs and 65.00 %" in given and not list(tmp_path.glob(".*"))


def test_validation_rows_choose_and_test_rows_are_shown(tmp_path):
    lucky = [(1_000.0, 0.70, 0.70), (2_000.0, 0.80, 0.69), (5_000.0, 0.71, 0.72), (9_000.0, 0.70, 0.73)]
    runs = [make(tmp_path / "x/a", lucky), make(tmp_path / "y/b", B)]
    front = compare._front("x", reader.read(runs[0]))
    assert (front.scores, front.costs) == ([0.70, 0.71, 0.70], [1_000.0, 5_000.0, 9_000.0])
    text = compare.compare(runs, tmp_path / "f.svg", at=[3_000.0, 6_000.0, 10_000.0], reference=(10_000.0, 65.0))
    row = cells_of(text, "x")
    assert row[1] == "3" and [cell[:5] for cell in row[4:]] == ["70.00", "71.00", "70.00"]
    assert row[3] == f"{5 + math.log10(2):.2f}"
    assert "Validation score and cost choose the points of a front" in text and "scores are of the same test rows" in text


@pytest.mark.parametrize(
    ("how", "score", "point"),
    [({}, 0.70, "69.00 %"), ({"score": Resolution(), "unit": "mrad"}, 2.0, "2.2 mrad")],
)
def test_the_default_reference_lies_outside_of_equal_scores(how, score, point, tmp_path):
    runs = [make(tmp_path / name, [(1_000.0, score)], **how) for name in "ab"]
    text = compare.compare(runs, tmp_path / "f.svg")
    assert f"up to the reference point of 2 000 EBOPs and {point}" in text
    assert float(cells_of(text, "a")[3]) == pytest.approx((1 if score < 1 else 0.2) * math.log10(2), abs=0.005)


def test_costs_may_be_small_numbers_and_zero(tmp_path):
    points = {"a": [(0.4, 0.60), (0.8, 0.70)], "b": [(0.0, 0.50), (2.5, 0.72)]}
    runs = [give_seeds(make(tmp_path / name, found, cost=WeightBits()), {0: found}) for name, found in points.items()]
    front = compare._front("a", reader.read(runs[0]))
    assert (front.costs, front.scores) == ([0.4, 0.8], [0.60, 0.70])
    text = compare.compare(runs, tmp_path / "f.svg", at=[0.01, 0.4, 0.75, 2.5])
    assert all(f"accuracy (%) at ≤ {budget} |" in text for budget in ("0.01", "0.4", "0.75", "2.5"))
    assert [cell[:5] for cell in cells_of(text, "a")[4:]] == ["none", "60.00", "60.00", "70.00"]
    assert [cell[:5] for cell in cells_of(text, "b")[4:]] == ["50.00", "50.00", "50.00", "72.00"]
    assert "reference point of 5 bits per weight and 47.80 %. On that axis a cost of 0 stands at 0.04." in text
    assert cells_of(text, "b")[3] == f"{2.2 * math.log10(5 / 0.04) + 22 * math.log10(2):.2f}"
    default = compare.compare(runs, tmp_path / "f.svg")
    assert all(f"at ≤ {budget} |" in default for budget in ("0.5", "1", "2"))
    nothing = [give_seeds(make(tmp_path / name, [(0.0, 0.5)], cost=WeightBits()), {0: [(0.0, 0.5)]}) for name in "cd"]
    assert cells_of(compare.compare(nothing, tmp_path / "f.svg"), "c")[3] == f"{math.log10(2):.2f}"


def test_scores_that_are_no_numbers_are_left_out(tmp_path):
    how = {"score": Resolution(), "name": "muons", "unit": "mrad"}
    points = {"a": [(1_000.0, 2.5), (4_000.0, "nan", 2.0)], "b": [(1_000.0, 2.25), (4_000.0, 2.0)]}
    runs = [make(tmp_path / name, found, config={"seeds": [n]}, **how) for n, (name, found) in enumerate(points.items())]
    summary = (runs[1] / "summary.csv").read_text()
    (runs[1] / "summary.csv").write_text(summary.replace(",0.009,", ",nan,"))
    text = compare.compare(runs, tmp_path / "f.svg", at=[500.0, 2_000.0, 5_000.0])
    assert "nan" not in text and "nan" not in (tmp_path / "f.svg").read_text()
    assert cells_of(text, "a")[1] == "1" and cells_of(text, "a")[4:] == ["none", "2.500 ± 0.009", "none"]
    assert cells_of(text, "b")[4:] == ["none", "2.250", "2.000"]
    assert cells_of(text, "a, b")[3:] == ["none", "2.375 ± 0.177", "2.000 (1 of 2)"]
    nothing = make(tmp_path / "c", [(1_000.0, "nan", 2.0)], **how)
    with pytest.raises(reader.ReportError, match="c has no point with a finite score and cost"):
        compare.compare([runs[0], nothing], tmp_path / "f.svg")


def test_the_figure_has_every_front(tmp_path):
    several = {0: [(1_000, 0.70), (5_000, 0.73)], 1: [(2_000, 0.71), (6_000, 0.74)]}
    runs = [give_seeds(make(tmp_path / "x/a", A), several), make(tmp_path / "y/b", B)]
    fronts = [compare._front(name, reader.read(run)) for name, run in zip("xy", runs, strict=True)]
    svg = compare.draw(fronts, tmp_path / "f.svg").read_text()
    assert all(
        f">{text}<" in svg for text in ("x", "y", "test accuracy (%)", "jets (re-simulated); thin: validation rows of each seed", "10 000")
    )
    assert fronts[1].scores == [0.72, 0.76] and fronts[1].costs == [1_000.0, 100_000.0]
    before = (tmp_path / "f.svg").read_bytes()
    assert compare.draw(fronts, tmp_path / "f.svg").read_bytes() == before
    assert compare.draw(fronts, tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")


def test_seeds_of_one_run_have_a_front_each(tmp_path):
    checks = {3: [(1_000, 0.70), (5_000, 0.60), (9_000, 0.74)], 5: [(2_000, 0.72), (8_000, float("nan"))]}
    runs = [give_seeds(make(tmp_path / "x/a", A), checks), make(tmp_path / "y/b", B)]
    fronts = seed_spread.seed_fronts(reader.read(runs[0]))
    assert fronts == {3: ([0.70, 0.74], [1_000.0, 9_000.0]), 5: ([0.72], [2_000.0])}
    text = compare.compare(runs, tmp_path / "f.svg", at=[1_500.0, 10_000.0], reference=(10_000.0, 70.0))
    volumes = [(74 - 70) * math.log10(10 / 9), (72 - 70) * math.log10(5)]
    mean, spread = np.mean(volumes), np.std(volumes, ddof=1)
    row = next(line for line in text.splitlines() if line.startswith("| x | validation |"))
    assert row == f"| x | validation | {mean:.2f} ± {spread:.2f} | 70.00 (1 of 2) | 73.00 ± 1.41 |"
    assert cells_of(text, "x")[2] == "2" and "Mean ± standard deviation over seeds" in text


def test_runs_that_differ_in_their_one_seed_only_are_a_group(tmp_path):
    runs = [make(tmp_path / name, points, config={"seeds": [n]}) for n, (name, points) in enumerate({"a": A, "b": B}.items())]
    text = compare.compare(runs, tmp_path / "f.svg", at=[1_000.0])
    assert "| a, b | test | 7.54 ± 0.49 | 71.00 ± 1.41 |" in text and "| seeds | 0 | 1 |" in text


@pytest.mark.parametrize(
    "manifest",
    [
        {"config": {"seeds": [0]}},  # the same seed
        {"config": {"seeds": [1, 2]}},  # several
        {"config": {}},  # none is known
        {"config": {"seeds": [1], "rows": 5}},
        {"config": {"seeds": [1]}, "commit": "decade" * 6},
    ],
)
def test_runs_that_differ_in_more_than_one_seed_are_no_group(manifest, tmp_path):
    runs = [make(tmp_path / name, A) for name in "ab"]
    change(runs[0], lambda found: found.update(config={"seeds": [0]}))
    change(runs[1], lambda found: found.update(manifest))
    assert "| a, b |" not in compare.compare(runs, tmp_path / "f.svg")


def test_any_name_is_in_the_legend_as_it_is(tmp_path):
    runs = [make(tmp_path / "_first $x$/a", A), make(tmp_path / "$y_1$/b", B, name="_$set$")]
    change(runs[0], lambda manifest: manifest["data"].update(name="_$set$"))
    compare.compare(runs, tmp_path / "f.svg")
    svg = (tmp_path / "f.svg").read_text()
    assert all(f">{name}<" in svg for name in ("_first $x$", "$y_1$", "_$set$"))


def test_differing_fields_and_commits_are_named(tmp_path):
    runs = [make(tmp_path / "a", A), make(tmp_path / "b", B, config={"betas": [1e-7, 2.0], "model": {"hidden": [8]}})]
    change(runs[1], lambda manifest: manifest.update(commit="decade" * 6))
    text = compare.compare(runs, tmp_path / "f.svg")
    assert "| field | a | b |" in text and "| betas | 1e-06, 1e-05, 0.0001 | 1e-07, 2 |" in text
    assert "| model.hidden |  | 8 |" in text and "| commit | c0ffeec0 | decadede |" in text and "| type |" not in text


def test_a_regression_is_compared_in_its_unit(tmp_path):
    how = {"score": Resolution(window=30.0), "name": "muons", "unit": "mrad"}
    runs = [make(tmp_path / "a", [(1_000.0, 2.5), (10_000.0, 2.0)], **how), make(tmp_path / "b", [(1_000.0, 2.25)], **how)]
    text = compare.compare(runs, tmp_path / "f.svg", at=[5_000.0])
    volumes = [0.05 * math.log10(20) + 0.5 * math.log10(2), 0.3 * math.log10(20)]
    assert "in mrad x decades of EBOPs" in text and "reference point of 20 000 EBOPs and 2.55 mrad." in text
    assert "resolution (mrad) at ≤ 5 000" in text
    assert cells_of(text, "a")[3:] == [f"{volumes[0]:.3f}", "2.500 ± 0.009"]
    assert cells_of(text, "b")[3:] == [f"{volumes[1]:.3f}", "2.250 ± 0.009"]


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"sha256": "cd" * 32}, r"their data differs in sha256 \(cdcd.*, and abab.*\)$"),
        ({"name": "OpenML 42468"}, r"their data differs in name \(OpenML 42468, and jets \(re-simulated\)\)$"),
        ({"rows": {"test": 5}}, r"their data differs in test rows \(5, and 36760\)$"),
        ({"score": Resolution()}, r"their task differs \(resolution, and accuracy\)$"),
        ({"cost": Luts()}, r"their cost differs in model \(LUTs, and EBOPs\)$"),
        ({"cost": Ebops(definition="paper_v1")}, r"their cost differs in definition \(paper_v1, and hgq2\)$"),
    ],
)
def test_runs_that_do_not_compare_are_refused(how, sentence, tmp_path):
    runs = [make(tmp_path / "a", A), make(tmp_path / "b", B, **how)]
    with pytest.raises(reader.ReportError, match=rf"^{runs[1]} cannot be compared with {runs[0]}: {sentence}"):
        compare.compare(runs, tmp_path / "f.svg")
    assert not (tmp_path / "f.svg").exists()


def test_the_command_and_its_refusals(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a, b = str(make(tmp_path / "x/a", A)), str(make(tmp_path / "y/b", B))
    empty = str(run_folders.make_run(tmp_path / "c", checks=0, points=0, status="running"))
    bad = [
        ([a], "1 run folders are given; two or more are needed"),
        ([a, a], "a run folder is given twice"),
        ([a, empty], "c has no points yet"),
        ([a, str(tmp_path / "no")], f"there is no {tmp_path}/no"),
        ([a, b, "--output", str(tmp_path / "f.gif")], "legal endings are .png, .svg, .pdf"),
        ([a, b, "--output", str(tmp_path / "no/f.png")], f"there is no folder {tmp_path}/no for the figure"),
        ([a, b, "--at", "0"], "at is 0; each must be a finite number above 0"),
        ([a, b, "--reference", "0", "70"], "reference is 0 70; a finite cost above 0"),
    ]
    for arguments, sentence in bad:
        assert cli.main(["compare", *arguments]) == 2
        out, err = capsys.readouterr()
        assert not out and sentence in err and err.startswith("hgqjax: ") and err.count("\n") == 1
    assert not list(tmp_path.rglob("*.png"))
    assert cli.main(["compare", a, b]) == 0
    assert "| run | points | seeds | hypervolume |" in capsys.readouterr().out and [*tmp_path.rglob("*.png")] == [tmp_path / "compare.png"]
