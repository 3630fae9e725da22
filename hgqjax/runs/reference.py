"""What `accuracy_drop` is counted from: the network with 18 bits everywhere, which stands for floating point; trained once in a run."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp

from hgqjax import export, training
from hgqjax.evaluation import measure
from hgqjax.methods import Uniform
from hgqjax.runs import folders, jobs
from hgqjax.training import schedules

BITS = 18
NEAR = 3
"""Points of the front that are frozen for each drop: the cheapest within it, as training saw them; exact scores then decide."""


def train_reference(context: jobs.RunContext) -> dict[str, Any]:
    """Validation and test scores of the reference, by the exact evaluator: steps, seed and learning rate of the run, no penalty.

    Of several networks it is the one of most neurons. The state that is best on validation rows counts.
    """

    def work(note) -> dict[str, Any]:
        config, dataset = context.config, context.dataset
        largest = max(config.networks(), key=lambda network: sum(getattr(network, "hidden", ())))
        network = dataclasses.replace(largest, method=Uniform(bits=BITS))
        objective = dataclasses.replace(config.train.objective, gamma=0.0)
        plain = dataclasses.replace(config.train, objective=objective, penalty=schedules.Constant())
        train = training.make_train(plain, network.build(dataset.model_shape, jobs.output_count(config, dataset)))
        member = training.Member(*(jnp.full(1, value, jnp.float32) for value in (0.0, config.learning_rate, 0.0)))
        found = training.sweep(train, context.rows, member, config.seeds[:1])
        model = train.model(found.state(found.archive.points[-1]))
        description = export.describe(model, dataset.of_model(dataset.calibration()), name="reference")
        val = measure(description, dataset.of_model(dataset.x_val), dataset.y_val, objective.score, dataset.weight_val)
        test = measure(description, dataset.of_model(dataset.x_test), dataset.y_test, objective.score, dataset.weight_test)
        return {"val": val, "test": test}

    return folders.do_once(context.folder, "reference", work)


def near(archive: training.Archive, config: Any, reference: dict[str, Any]) -> list[training.Point]:
    """For each drop the `NEAR` cheapest points of `archive` that are within it by validation rows, cheapest first."""
    chosen = []
    for least in _least(config, reference):
        chosen += sorted((p for p in archive.points if p.merit >= least), key=lambda p: p.cost)[:NEAR]
    return chosen


def lines(config: Any, reference: dict[str, Any], summary: Sequence[dict[str, Any]], unit: str) -> Iterator[str]:
    """A line for each drop: the cheapest network of `summary` within it by exact validation score, or how much the best one misses."""
    score = config.train.objective.score
    of = score.unit_of_differences(unit)
    yield (
        f"reference ({BITS} bits everywhere): validation {score.name} {score.number(reference['val']['score'], unit)}, "
        f"test {score.number(reference['test']['score'], unit)}"
    )
    for drop, least in zip(config.accuracy_drop, _least(config, reference), strict=True):
        much = f"{drop:g} {of.removesuffix('s') if drop == 1 else of}"
        fits = [row for row in summary if score.merit(row["val_score"]) >= least]
        if fits:
            row = min(fits, key=lambda row: row["cost"])
            yield (
                f"within {much}: {row['point']}, {row['cost']:.4g} {config.train.objective.cost.unit}, validation {score.name} "
                f"{score.number(row['val_score'], unit)}, test {score.number(row['test_score'], unit)}"
            )
        else:
            best = max(summary, key=lambda row: score.merit(row["val_score"]))
            missed = score.shown(score.merit(reference["val"]["score"]) - score.merit(best["val_score"]))
            short = f"the best, {best['point']}, is {missed:.{score.digits}f} below"
            yield f"within {much} is none: {short}; give smaller betas, or more epochs"


def _least(config: Any, reference: dict[str, Any]) -> list[float]:
    """Merit that a network needs, for each drop."""
    score = config.train.objective.score
    return [score.merit(reference["val"]["score"]) - drop / score.factor for drop in config.accuracy_drop]
