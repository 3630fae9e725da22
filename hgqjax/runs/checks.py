"""What would otherwise fail after the training is refused before it: devices, scores, sizes, starts, costs to reach, projects."""

import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx

from hgqjax import data as data_
from hgqjax import layers, scores
from hgqjax.archives import check_memory
from hgqjax.config import ConfigError
from hgqjax.export.hls4ml.convert import check_settings
from hgqjax.runs import jobs
from hgqjax.runs import start as start_
from hgqjax.training import devices
from hgqjax.training.freeze import layers_at

if TYPE_CHECKING:
    from hgqjax.runs.sweep import Sweep


def before_training(config: "Sweep", dataset: data_.Dataset, cluster: str, rows_devices: int, begun: layers.Start | None = None) -> None:
    """What would otherwise fail after the training is refused before it; `begun` is the start of a run that has begun."""
    if config.search and (rows_devices > 1 or jax.process_count() > 1):
        raise ConfigError("a search runs in one process, whose devices divide its candidates; leave out rows_devices and further processes")
    members = sum(part.stop - part.start for part in config.division())
    devices.Layout.of(devices.device_mesh(members, rows_devices), members, None, config.train.batch_size)
    if cluster and (rows_devices > 1 or jax.process_count() > 1):
        raise ConfigError("the workers of a cluster use one device each; leave out rows_devices and further processes, or the cluster")
    if config.train.batch_size > len(dataset.x_train):
        raise ConfigError(f"train.batch_size is {config.train.batch_size}, but there are only {len(dataset.x_train)} training rows")
    _check_score(config.train.objective.score, dataset)
    builds = [network.build(dataset.model_shape, jobs.output_count(config, dataset)) for network in config.networks()]
    for build in builds:
        _check_size(build, max(part.stop - part.start for part in config.division()))
    if config.refine:
        _check_refined(builds, dataset)
    begun = begun or start_.of_path(config.start)
    for model in (build(nnx.Rngs(0)) for build in builds if begun is not None or config.train.freeze):
        if begun is not None:
            begun.check(model)
        layers_at(model, config.train.freeze)
    for build in builds:
        if config.points_at:
            _check_budgets(config, build, dataset)
        elif config.search or any(found.needs_budget for found in layers.allocations(build(nnx.Rngs(0)))):
            raise ConfigError("points_at is empty, and this method needs a cost to reach; give at least one, such as 20000")
    if config.projects:
        check_settings(config.backend, config.strategy, config.io_type)
        words = dataset.x_train[0].size + jobs.output_count(config, dataset)
        check_memory(8 * words * config.gate_rows, f"gate_rows is {config.gate_rows}, which")


def _check_size(build, members: int) -> None:
    """Refuses networks that memory has no room for, before one is made."""
    if jax.default_backend() != "cpu":  # it has memory of its own
        return
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(jax.eval_shape(lambda: nnx.state(build(nnx.Rngs(0))))))
    about = f"training {members} {'networks' if members > 1 else 'network'} of {numbers} numbers each"
    check_memory(4 * members * numbers, about, copies=4)  # with gradients and two moments


def _check_score(score: scores.AbstractScore, dataset: data_.Dataset) -> None:
    """Refuses rows of another kind than the score is for."""
    if dataset.kind in score.kinds:
        return
    what = {"classes": "labels", "regression": "numbers", "labels": "several labels at once"}[dataset.kind]
    fitting = " or ".join(name for name, kind in scores.NAMES.items() if dataset.kind in kind.kinds)
    raise ConfigError(f"train.objective.score is {scores.spelled(score)}, but y of {dataset.name} are {what}; make it {fitting}")


def _check_refined(builds, dataset) -> None:
    """Refuses to refine networks without tables, and rows that are not in memory."""
    for build in builds:
        found: list[bool] = []
        jax.eval_shape(lambda build=build, found=found: found.append(any(True for _ in build(nnx.Rngs(0)).named(layers.LutDense))))
        if not any(found):
            raise ConfigError(
                "refine is given, but the network has no layer of tables (LutDense), whose words it would change; leave it out"
            )
    if dataset.at_once is not None:
        raise ConfigError("refine is given, but the rows do not fit into memory, where it needs them; leave it out, or use fewer rows")


def _check_budgets(config: "Sweep", build, dataset) -> None:
    """Refuses costs that not even the fewest bits reach."""
    model, objective = build(nnx.Rngs(0)), config.train.objective
    rows = dataset.of_model(dataset.x_train[: config.train.batch_size])
    layers.adapt(model, jax.tree.map(lambda part: jnp.asarray(part, jnp.float32), rows))
    layers.narrowest(model)
    model.set_mode("observe")
    least = float(objective.costs(model).total)
    if min(config.points_at) < least:
        unit = objective.cost.unit
        raise ConfigError(
            f"points_at has {min(config.points_at):g} {unit}, which this network cannot reach; the least possible is {least:.4g}"
        )
