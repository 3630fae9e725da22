"""Rows in files: the same sweep, number for number, from a part of them at a time."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgqjax import layers, scratch, training
from hgqjax.scores import Reconstruction
from hgqjax.training import schedules
from hgqjax.training.objective import Objective

CONFIG = training.Config(epochs=2, epochs_per_check=2, batch_size=50, penalty=schedules.Constant())
RNG = np.random.default_rng(0)
X = RNG.normal(size=(1220, 4)).astype(np.float32)


def in_file(x):
    return scratch.filled(x.shape, x.dtype, lambda rows: x[rows], in_file=True)


def rows(y, weight=None):
    parts = (X[:1020], y[:1020], X[1020:], y[1020:])
    return training.Data(*parts, *((None, None) if weight is None else (weight[:1020], weight[1020:])))


def same_sweeps(config, build, data, at_once):
    train = training.make_train(config, build)
    varied = training.Member(*(jnp.asarray(v, jnp.float32) for v in ([1e-6, 1e-3], [2e-2] * 2, [0.0] * 2)))
    whole = training.sweep(train, jax.tree.map(jnp.asarray, data), varied, [0, 1])
    mapped = data._replace(**{name: in_file(getattr(data, name)) for name in ("x_train", "x_val", "y_train")})
    stream = training.Stream(mapped, at_once)
    streamed = training.sweep(train, stream, varied, [0, 1])
    assert streamed.history == whole.history and len(whole.history) == 2 * config.checks
    assert len(streamed.archive.points) == len(whole.archive.points) > 0
    for one, other in zip(streamed.archive.points, whole.archive.points, strict=True):
        assert (one.member, one.check, one.merit, one.cost) == (other.member, other.check, other.merit, other.cost)
        assert all(np.array_equal(*pair) for pair in zip(one.leaves, other.leaves, strict=True))
    return stream


def test_a_sweep_is_that_of_rows_in_memory(monkeypatch):
    monkeypatch.setattr(scratch, "BLOCK_BYTES", 1 << 14)
    monkeypatch.setattr("hgqjax.training.rows.AT_ONCE", 240)  # 60 validation rows at once
    y = np.argmax(X[:, :3], axis=1).astype(np.int32)
    data = rows(y, RNG.uniform(0.5, 2.0, len(X)).astype(np.float32))
    stream = same_sweeps(CONFIG, lambda rngs: layers.mlp((4, 3), rngs=rngs, batch_norm=None), data, 2900)
    assert [part.stop - part.start for part in stream.parts(20, 50)] == [2] * 10
    assert [len(part) for part in stream.validation()] == [180, 20]


@pytest.mark.slow
def test_an_autoencoder_with_batch_norms_on_several_checks():
    config = dataclasses.replace(CONFIG, epochs=4, objective=Objective(score=Reconstruction()))
    same_sweeps(config, lambda rngs: layers.mlp((4, 2, 4), rngs=rngs, batch_norm=layers.BatchNorm()), rows(X), 20_000)


def test_parts_of_an_epoch_are_of_two_steps_or_more():
    stream = training.Stream(rows(np.zeros(len(X), np.int32)), 1)
    for steps in range(1, 12):
        parts = stream.parts(steps, 50)
        sizes = [part.stop - part.start for part in parts]
        assert sum(sizes) == steps and min(sizes) >= min(2, steps) and max(sizes) <= 3
        assert [part.start for part in parts] == np.cumsum([0, *sizes[:-1]]).tolist()


def test_the_devices_of_a_cpu_share_the_rows():
    x = scratch.filled((1000, 4), np.float32, lambda part: X[part])
    on_device = training.devices.on_device(x)
    assert on_device.unsafe_buffer_pointer() == x.ctypes.data  # nothing is copied
    assert training.devices.on_device(None) is None
