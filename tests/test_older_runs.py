"""Run folders of earlier versions: without the columns ``cost`` and ``luts_predicted``, the cost of a check under another name."""

import csv
import importlib.util
import io
from pathlib import Path

import pytest

from hgqjax import experiment, jobs, objective, resources, results, run_tables, training
from hgqjax.report import report

spec = importlib.util.spec_from_file_location("run_folders", Path(__file__).with_name("run_folders.py"))
run_folders = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run_folders)


def test_a_summary_without_them_is_read_and_reported(tmp_path):
    folder = run_folders.make_run(tmp_path / "a", checks=1, points=2, widths=(4, 2))
    before = run_tables.read(folder).points
    assert all(p.cost == p.ebops and p.luts_predicted == 0.8 * p.ebops for p in before)
    rows = list(csv.DictReader(io.StringIO((folder / "summary.csv").read_text())))
    text = io.StringIO()
    writer = csv.DictWriter(text, [name for name in rows[0] if name not in ("cost", "luts_predicted")], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    (folder / "summary.csv").write_text(text.getvalue())
    after = run_tables.read(folder).points
    assert [(p.cost, p.luts_predicted, p.ebops) for p in after] == [(None, None, p.ebops) for p in before]
    assert report(folder, formats=("png",)).exists()


def test_metrics_of_before_are_read(tmp_path):
    import polars as pl

    folder = run_folders.make_run(tmp_path / "a", checks=3, points=2, widths=(4, 2))
    now = run_tables.read(folder).metrics
    named = now.with_columns(pl.col("metric").replace({"cost": "ebops", "cost/layers_0": "ebops/layers_0"}))
    assert (named["metric"] != now["metric"]).any()
    named.write_parquet(folder / "metrics.parquet")
    assert run_tables.read(folder).metrics.equals(now)


@pytest.mark.parametrize("cost", [resources.Ebops(definition="paper_v1"), resources.Luts()], ids=repr)
def test_a_point_that_was_frozen_without_them_gets_them(tmp_path, cost):
    model, name = run_folders.make_model(4.0, (4, 2)), "point"
    model.save(jobs.frozen_path(tmp_path, name))
    old = {"member": 0, "ebops": 3.0, "val_score": 0.5}
    results.once(tmp_path, name, lambda note: old)
    config = experiment.Sweep(train=training.Config(objective=objective.Objective(cost=cost)))
    row = jobs.freeze_point(str(tmp_path), config, 0, name)
    assert old.items() <= row.items()
    assert (row["cost"], row["luts_predicted"]) == (float(cost(model).total), float(resources.Luts()(model).total))
