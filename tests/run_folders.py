"""A made-up run folder, as `hgqjax.runs.folders` writes it, for the tests of figures and reports."""

import itertools
import math
from pathlib import Path

import numpy as np

from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Constant, Dense, Input, Quantize, Relu
from hgqjax.resources import ebops
from hgqjax.runs.folders import Run

DATA = {
    "name": "jets (re-simulated)",
    "source": "made up for a test",
    "sha256": "ab" * 32,
    "rows": {"train": 112_000, "val": 28_000, "test": 36_760},
}


def make_model(bits: float, widths: tuple[int, ...] = (16, 5), seed: int = 0) -> ModelDescription:
    """A dense network with about `bits` bits a value, some of them dead."""
    rng = np.random.default_rng(seed)
    n = widths[0]
    operations = [Input(name="x", inputs=(), shape=(n,))]
    for layer, (n, m) in enumerate(itertools.pairwise(widths)):
        before, name = operations[-1].name, f"layers_{layer}"
        f = np.clip(np.rint(rng.normal(bits, 1.0, n)), -1, 8).astype(np.int64)
        zero = np.zeros(n, np.int64)
        operations.append(
            Quantize(name=f"{name}_input", inputs=(before,), shape=(n,), k=zero, i=zero, f=f, rounding="RND", overflow="WRAP")
        )
        width = np.clip(np.rint(rng.normal(bits - 1.5, 1.5, (n, m))), 0, 8).astype(np.int64)
        sign = rng.choice([-1, 1], (n, m))
        kernel = Constant(sign * (2**width - 1), width, width)
        bias = Constant(np.ones(m, np.int64), np.full(m, 2), np.ones(m, np.int64))
        operations.append(Dense(name=name, inputs=(f"{name}_input",), shape=(m,), kernel=kernel, bias=bias))
        if layer < len(widths) - 2:
            operations.append(Relu(name=f"{name}_relu", inputs=(name,), shape=(m,)))
    return ModelDescription(name="made_up", operations=tuple(operations), outputs=(operations[-1].name,))


def make_run(
    folder: Path,
    *,
    status="done",
    betas=(1e-6, 1e-5, 1e-4),
    checks=12,
    points=3,
    widths=(16, 5),
    task="classification",
    window=None,
    **data,
) -> Path:
    """Writes a run; `points` models from dear to cheap, the first with a project. Residuals of a regression are a third or so of a unit."""
    folder.mkdir(parents=True)
    config = {
        "type": "Sweep",
        "objective": {"type": "Objective", "task": task} | ({"window": window} if window else {}),
        "betas": list(betas),
    }
    manifest = {"schema": 1, "status": status, "experiment": "made-up", "config": config, "argv": ["hgqjax", "sweep", "a | b"]}
    manifest |= {"commit": "c0ffee" * 6, "dirty": True, "versions": {"python": "3.11", "jax": "0.9"}, "device": "cpu", "seconds": 1234.5}
    run = Run(folder, manifest | {"data": DATA | data})
    run.save()
    if checks:
        sign = 0 if task == "classification" else 1
        run.write_metrics(row | {"value": row["value"] - sign * (row["metric"] == "score")} for row in _metrics(betas, checks))
    rows = []
    for n in range(points):
        model = make_model(5.5 - 4.0 * n / max(points - 1, 1), widths, seed=n)
        model.save(folder / f"models/p{n:02d}")
        cost, v1 = float(ebops(model).total), float(ebops(model, "paper_v1").total)
        score = _accuracy(cost) - (task == "regression")
        row = {"point": f"p{n:02d}", "member": n % len(betas), "beta": betas[n % len(betas)], "seed": 0, "epoch": 100 * (n + 1)}
        row |= {"ebops": cost, "ebops_paper_v1": v1, "luts_predicted": 0.8 * cost, "cost": cost, "cost_estimate": 1.02 * cost}
        row |= {"val_score": score + 0.001, "test_score": score}
        row |= {"val_outliers": 0.001 * n, "test_outliers": 0.002 * (n + 1)} if window else {}
        row |= {"val_error": 0.006, "test_error": 0.009} if task == "regression" else {}
        exported = {"project": "projects/p00", "rows_checked": 12_345, "differing_words": 0} if n == 0 else {}
        rows.append(row | {"model": f"models/p{n:02d}", "project": "", "rows_checked": None, "differing_words": None} | exported)
    if points:
        run.write_summary(rows)
    return folder


def _accuracy(cost: float) -> float:
    return 0.762 - 0.8 / max(cost, 10.0) ** 0.5


def _metrics(betas, checks):
    rng = np.random.default_rng(1)
    for member, beta in enumerate(betas):
        for check in range(checks):
            t = (check + 1) / checks
            cost = 30_000 * (1 + 3e5 * beta * t) ** -1.2 * math.exp(rng.normal(0, 0.05))
            score = _accuracy(cost) - 0.3 * math.exp(-12 * t) - abs(rng.normal(0, 0.004))
            values = {("val", "cost"): cost, ("val", "cost/layers_0"): cost, ("val", "beta"): beta * (1 + 9 * t)}
            values |= {
                ("val", "score"): score,
                ("train", "score"): score + 0.003,
                ("val", "loss"): 1.6 - 1.2 * score,
                ("train", "loss"): 1.59 - 1.2 * score,
            }
            for (split, metric), value in values.items():
                yield {
                    "member": member,
                    "beta": beta,
                    "seed": 0,
                    "step": 20 * check,
                    "epoch": check,
                    "split": split,
                    "metric": metric,
                    "value": value,
                }
