"""A made-up run folder, as `hgqjax.runs.folders` writes it, for the tests of figures and reports."""

import itertools
import math
from pathlib import Path

import numpy as np

from hgqjax import training
from hgqjax.config import to_json
from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Constant, Dense, Input, Quantize, Relu
from hgqjax.resources import Ebops, ebops
from hgqjax.runs.folders import Run
from hgqjax.scores import Accuracy

ACCURACY, EBOPS = Accuracy(), Ebops()
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
    score=ACCURACY,
    cost=EBOPS,
    config=None,
    **data,
) -> Path:
    """Writes a run; `points` models from dear to cheap, the first with a project. Resolutions are a third or so of a unit."""

    def natural(accuracy):  # the same, as a score of which less is better
        return accuracy if score.higher_is_better else 1 - accuracy

    folder.mkdir(parents=True)
    train = training.Config(objective=training.Objective(score=score, cost=cost))
    config = {"type": "Sweep", "train": to_json(train), "betas": list(betas)} | (config or {})
    manifest = {"schema": 1, "status": status, "experiment": "made-up", "config": config, "argv": ["hgqjax", "sweep", "a | b"]}
    manifest |= {"commit": "c0ffee" * 6, "dirty": True, "versions": {"python": "3.11", "jax": "0.9"}, "device": "cpu", "seconds": 1234.5}
    run = Run(folder, manifest | {"data": DATA | data})
    run.save()
    if checks:
        run.write_metrics(
            row | {"value": natural(row["value"]) if row["metric"] == "score" else row["value"]} for row in _metrics(betas, checks)
        )
    rows = []
    for n in range(points):
        model = make_model(5.5 - 4.0 * n / max(points - 1, 1), widths, seed=n)
        model.save(folder / f"models/p{n:02d}")
        cost, v1 = float(ebops(model).total), float(ebops(model, "paper_v1").total)
        value = _accuracy(cost)
        row = {"point": f"p{n:02d}", "member": n % len(betas), "beta": betas[n % len(betas)], "seed": 0, "epoch": 100 * (n + 1)}
        row |= {"ebops": cost, "ebops_paper_v1": v1, "luts_predicted": 0.8 * cost, "cost": cost, "cost_estimate": 1.02 * cost}
        row |= {"val_score": natural(value + 0.001), "test_score": natural(value)}
        row |= {f"{split}_{name}": share for name in score.shares for split, share in (("val", 0.001 * n), ("test", 0.002 * (n + 1)))}
        row |= {} if score.higher_is_better else {"val_error": 0.006, "test_error": 0.009}
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
