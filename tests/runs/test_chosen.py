"""Which points are kept, and the line for a penalty that has none."""

import dataclasses

import jax

from hgqjax import resources, runs, training
from hgqjax.runs import chosen, reference
from hgqjax.scores import Resolution
from hgqjax.training.archive import Archive, Point

TRAIN = training.Config(epochs=2, objective=training.Objective(cost=resources.Ebops()))
CONFIG = runs.Sweep(betas=(1e-5, 3e-5, 1e-4), train=TRAIN, points=2, within=0.05)


def ended(*scores_and_costs, failed=()):
    """A sweep whose members, one a beta, end with these validation scores and costs."""
    last = [{"member": n, "check": 1, "val_score": score, "cost": float(cost)} for n, (score, cost) in enumerate(scores_and_costs)]
    return training.SweepResult(
        Archive(), [{**row, "check": 0} for row in last] + last, dict.fromkeys(failed, "NaN"), jax.tree.structure(0)
    )


def row(point, member, score, cost):
    return {"point": point, "member": member, "seed": 0, "val_score": score, "cost": cost, "cost_estimate": cost - 1.0}


def missing(sweep, frozen, kept=None, config=CONFIG):
    return list(chosen.missing(config, sweep, frozen, frozen if kept is None else kept, 10_000, ""))


def test_a_penalty_with_a_point_needs_no_line():
    rows = [row("p00", 2, 0.70, 500.0), row("p01", 1, 0.72, 900.0), row("p02", 0, 0.74, 2000.0)]
    assert not missing(ended((0.74, 1999), (0.72, 899), (0.70, 499)), rows)


def test_the_line_names_what_dominates_and_by_how_much():
    rows = [row("p00", 2, 0.72, 801.0), row("p01", 0, 0.74, 2001.0)]
    (line,) = missing(ended((0.74, 2000), (0.715, 1000), (0.72, 800)), rows)
    assert line == (
        "beta 3e-05 has no point: its network, validation accuracy 71.50 % at 1000 EBOPs, is dominated by p00, "
        "validation accuracy 72.00 % at 800 EBOPs: 0.50 points better (+-0.45), 80% of the cost"
    )


def test_what_was_frozen_and_let_go_is_compared_by_exact_cost():
    rows = [row("p00", 2, 0.72, 800.0), row("p01", 0, 0.74, 2000.0)]
    let_go = {**row("", 1, 0.72, 1000.0), "cost_estimate": 700.0}  # which no other dominates by its estimate
    (line,) = missing(ended((0.74, 2000), (0.71, 1000), (0.72, 800)), [*rows, let_go], rows)
    assert "accuracy 72.00 % at 1000 EBOPs, is dominated by p00" in line and "0.00 points better" in line and "80% of the cost" in line


def test_the_other_reasons_are_named():
    rows = [row("p00", 0, 0.74, 2000.0)]
    collapsed, unasked = missing(ended((0.74, 2000), (0.50, 100), (0.73, 700)), rows)
    assert collapsed.endswith("50.00 % at 100 EBOPs, is more than 0.05 below the best (--within)")
    assert unasked.endswith("73.00 % at 700 EBOPs, is not among the 2 points that were asked for (--points)")
    assert len(missing(ended((0.74, 2000), (0.50, 100), (0.73, 700), failed=[1, 2]), rows)) == 0  # that they diverged is said elsewhere


def test_each_kind_has_a_point_where_there_is_room():
    points = [
        Point(member, check, 0.01 * n, 2.0**n, []) for n, (member, check) in enumerate([(0, 1), (0, 2), (1, 1), (1, 2), (0, 3), (0, 4)])
    ]
    archive = Archive(points)
    assert {p.member for p in archive.select(2)} == {0}
    spread = archive.select(3, kind=lambda p: p.member)
    assert [p.cost for p in spread] == [1.0, 8.0, 32.0]  # both ends, and the later point of the other kind
    assert [p.cost for p in archive.select(2, kind=lambda p: p.member)] == [1.0, 32.0]


def test_of_a_resolution_less_is_better():
    train = training.Config(epochs=2, objective=training.Objective(score=Resolution(), cost=resources.Ebops()))
    config = runs.Sweep(betas=CONFIG.betas, train=train, points=9, within=1.0)
    rows = [row("p00", 2, 2.5, 801.0), row("p01", 0, 2.0, 2001.0)]
    (line,) = chosen.missing(config, ended((2.0, 2000), (2.7, 1000), (2.5, 800)), rows, rows, 100, "mrad")
    assert "resolution 2.7 mrad at 1000 EBOPs, is dominated by p00, validation resolution 2.5 mrad at 800 EBOPs: 0.200 mrad better" in line
    (line,) = chosen.missing(config, ended((2.0, 2000), (3.5, 100), (2.5, 800)), rows, rows, 100, "mrad")
    assert line.endswith("3.5 mrad at 100 EBOPs, is more than 1 below the best (--within)")
    assert chosen.kept([row("", 0, 2.5, 800.0), row("", 0, 2.7, 900.0), row("", 0, 2.0, 999.0)], Resolution(), False) == [0, 2]


REFERENCE = {"val": {"score": 0.755}, "test": {"score": 0.75}}
DROPS = dataclasses.replace(CONFIG, accuracy_drop=(1.0, 2.0))


def test_the_cheapest_within_a_drop_are_frozen():
    pairs = [(0.73, 9.0), (0.736, 20.0), (0.741, 30.0), (0.746, 40.0), (0.75, 50.0)]
    points = [Point(0, n, *pair, []) for n, pair in enumerate(pairs)]
    near = reference.near(Archive(points), DROPS, REFERENCE)
    assert [(p.merit, p.cost) for p in near] == [(0.746, 40), (0.75, 50), (0.736, 20), (0.741, 30), (0.746, 40)]


def test_each_drop_has_a_line():
    of_test = {"test_score": 0.73}
    rows = [row("p00", 2, 0.72, 500.0) | of_test, row("p01", 1, 0.736, 900.0) | of_test, row("p02", 0, 0.74, 2000.0) | of_test]
    first, none, two = reference.lines(DROPS, REFERENCE, rows, "")
    assert first == "reference (18 bits everywhere): validation accuracy 75.50 %, test 75.00 %"
    assert none == "within 1 point is none: the best, p02, is 1.50 below; give smaller betas, or more epochs"
    assert two == "within 2 points: p01, 900 EBOPs, validation accuracy 73.60 %, test 73.00 %"
    train = training.Config(epochs=2, objective=training.Objective(score=Resolution(), cost=resources.Ebops()))
    config = dataclasses.replace(DROPS, train=train, accuracy_drop=(0.1,))
    rows = [row("p00", 2, 2.2, 500.0) | {"test_score": 2.3}, row("p01", 1, 2.05, 900.0) | {"test_score": 2.1}]
    _, line = reference.lines(config, {"val": {"score": 2.0}, "test": {"score": 2.1}}, rows, "mrad")
    assert line == "within 0.1 mrad: p01, 900 EBOPs, validation resolution 2.05 mrad, test 2.1 mrad"
