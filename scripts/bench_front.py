"""Time until a front has an accuracy at a cost: the demo's sweep from its first compilation on, and HGQ2's own recipe on the same rows.

Points are chosen by validation rows and have their accuracy on test rows; between two points of a front it is interpolated over the
logarithm of the cost. Costs are those of training, as ranges of further rows would add a few percent. Reading results is outside the clock.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from bench_runs import clock

from hgqjax import data as data_
from hgqjax import resources, training
from hgqjax.runs import networks
from hgqjax.training import devices

TARGETS = ((0.7235, {"EBOPs": 526, "LUTs": 496}), (0.7450, {"EBOPs": 2549, "LUTs": 2438}))
"""Accuracies of two networks that the HGQ authors released, and what they cost."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reach:
    """Sizes of the comparison."""

    rows: int | None = 100_000
    hidden: tuple[int, ...] = (32, 16)
    epochs: int = 72
    betas: tuple[float, ...] = (2.5e-6, 7e-6, 1.6e-5, 3.2e-5, 6.5e-5, 1.3e-4, 2.2e-4, 3.5e-4)
    seeds: tuple[int, ...] = (0, 1)
    batch: int = 512
    hgq2_hidden: tuple[int, ...] = (64, 32, 32)
    hgq2_epochs: int = 410
    hgq2_batch: int = 2_048


def ours(dataset, sizes):
    """Clocks at each look, counted from the start; all points that were ever on the front: look, validation and test accuracy, costs."""
    config = training.Config(epochs=sizes.epochs, epochs_per_check=2, batch_size=sizes.batch)
    train = training.make_train(config, networks.Mlp(hidden=sizes.hidden).build(dataset.input_shape, dataset.n_classes))
    betas, seeds = (v.ravel() for v in np.meshgrid(np.float32(sizes.betas), np.array(sizes.seeds)))
    member = training.Member(jnp.asarray(betas), jnp.full(len(betas), 1e-2, jnp.float32), jnp.zeros(len(betas)))
    times, found, start = [], {}, clock()

    def look(check, sweep):
        times.append(clock() - start)
        found.update({(p.member, p.check): p for p in sweep.archive.points})

    mesh = devices.device_mesh(len(betas))
    result = training.sweep(train, training.Data.of(dataset), member, seeds.tolist(), report=look, mesh=mesh)
    rows = training.Data.of(dataset)._replace(x_val=jnp.asarray(dataset.x_test), y_val=jnp.asarray(dataset.y_test))
    test = jax.jit(train.validate)
    points = []
    for point in found.values():
        state = result.state(point)
        model = train.model(state)
        model.set_mode("observe")
        costs = {"EBOPs": float(resources.ebops(model).total), "LUTs": point.cost}
        points.append((point.check, point.merit, float(test(state, rows)["val_score"]), costs))
    return times[1:], points


def theirs(hgq2, dataset, sizes):
    """The same of HGQ2: one network whose beta rises, restarted cosine, a look each epoch."""
    rows = training.Data.of(dataset)
    hgq2.send(rows, x_test=dataset.x_test, y_test=dataset.y_test)
    built = hgq2("build", hidden=sizes.hgq2_hidden, rows=len(dataset.x_train), batch=sizes.hgq2_batch)["seconds"]
    answer = hgq2("ramp", epochs=sizes.hgq2_epochs, start=5e-7, end=1e-3, cycles=8)
    times = [np.add(built, seconds) for seconds in answer["seconds"]]
    return times, [(look, val, test, {"EBOPs": ebops}) for look, val, test, ebops in answer["points"]]


def accuracy_at(points, cost, name):
    """Test accuracy of a front at `cost`; None where its cheapest point costs more."""
    front = [points[n] for n in training.pareto([p[1] for p in points], [p[3][name] for p in points])]
    costs, scores = np.log([max(p[3][name], 1.0) for p in front]), [p[2] for p in front]
    return None if np.log(cost) < costs[0] else float(np.interp(np.log(cost), costs, scores))


def reached(times, points, accuracy, cost, name):
    """(clocks at the first look whose front has `accuracy` at `cost`, or None; accuracy there of the last front, or None)."""
    for look, seconds in enumerate(times):
        there = accuracy_at([p for p in points if p[0] <= look], cost, name) if any(p[0] <= look for p in points) else None
        if there is not None and there >= accuracy:
            return seconds, accuracy_at(points, cost, name)
    return None, accuracy_at(points, cost, name)


def part_reach(sizes, report, hgq2):
    """Times for each target, ours and HGQ2's."""
    dataset = data_.load("jets", rows=sizes.rows)
    runs = {"ours": ours(dataset, sizes)} | ({} if hgq2 is None else {"HGQ2": theirs(hgq2, dataset, sizes)})
    for who, (times, points) in runs.items():
        report.add("front", f"{who}: whole run, compilation included", times[-1][0], "s")
        for accuracy, costs in TARGETS:
            for name in points[0][3]:
                seconds, last = reached(times, points, accuracy, costs[name], name)
                what = f"{who}: until {accuracy:.2%} at {costs[name]} {name}"
                if seconds is None:
                    end = "no point is that cheap" if last is None else f"{last:.2%} at the end"
                    report.skip("front", f"{what}: not reached in {times[-1][0]:.0f} s ({end})")
                else:
                    report.add("front", what, seconds[0], "s")
                    report.add("front", f"{what}, processor time", seconds[1], "s")
