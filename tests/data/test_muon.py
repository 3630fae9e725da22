"""Muon tracks: the simulation against the shared file, packed files, the authors' HDF5, masks."""

import numpy as np
import pytest

from hgqjax import data
from hgqjax.data import DataError, muon

X, Y = muon.simulate(20_000)


@pytest.fixture(scope="module")
def simulated():
    return muon.simulate(100_000)


def test_statistics_are_those_of_the_shared_file(shared, simulated):
    x, y = simulated
    with np.load(shared / "data" / "muon_sim" / "tgc_sim_400k.npz") as file:
        packed, angles = file["x_packed"][:100_000], file["y"]
    other = np.unpackbits(packed, axis=1, count=350).reshape(-1, 50, 7)
    for ours, theirs in ((y, angles), (y[:50_000], angles)):
        assert abs(ours.mean() - theirs.mean()) < 5 * theirs.std() / len(ours) ** 0.5
        assert abs(ours.std() - theirs.std()) < 0.15 and abs(ours.min() - theirs.min()) < 0.5 and abs(ours.max() - theirs.max()) < 0.5
    np.testing.assert_allclose(x.sum(axis=1).mean(axis=0), other.sum(axis=1).mean(axis=0), atol=0.004)  # hits of each gap
    for hits in (0, 1, 2):
        np.testing.assert_allclose(np.mean(x.sum(axis=1) == hits, axis=0), np.mean(other.sum(axis=1) == hits, axis=0), atol=0.004)
    np.testing.assert_allclose(x.mean(axis=0), other.mean(axis=0), atol=0.004)  # of each channel


def test_rows_do_not_depend_on_their_number_but_on_the_seed():
    x, y = muon.simulate(17)
    assert np.array_equal(x, X[:17]) and np.array_equal(y, Y[:17]) and y.dtype == np.float32 and x.dtype == np.uint8
    assert not np.array_equal(muon.simulate(17, seed=1)[1], y)


def test_without_imperfections_each_gap_has_one_hit():
    x, _ = muon.simulate(2000, inefficiency=0.0, neighbours=0.0)
    assert np.all(x.sum(axis=1) == 1)
    x, _ = muon.simulate(20_000, inefficiency=0.1, neighbours=0.0)
    assert abs(x.sum(axis=1).mean() - 0.9) < 0.01


def test_the_angle_follows_from_the_hits():
    """A straight line through a few gaps: least squares leave 2 mrad or so, of a spread of 21."""
    x, y = muon.simulate(5000, inefficiency=0.0, neighbours=0.0)
    centres = np.argmax(x, axis=1) + 0.5 - muon.OFFSETS
    design = np.concatenate([centres, np.ones((len(x), 1))], axis=1)
    fit, *_ = np.linalg.lstsq(design, y.astype(np.float64), rcond=None)
    assert 1.0 < np.std(design @ fit - y) < 3.0


def test_load():
    loaded = data.load("muon", rows=1000)
    assert loaded.name == "muon (simulated)" and "simulated" in loaded.source
    assert loaded.kind == "regression" and loaded.unit == "mrad" and loaded.classes == () and loaded.input_shape == (50, 7)
    assert [len(part) for part in (loaded.x_train, loaded.x_val, loaded.x_test)] == [700, 100, 200]
    assert loaded.x_train.dtype == np.float16 and loaded.y_val.dtype == np.float32
    np.testing.assert_array_equal(np.concatenate([loaded.x_train, loaded.x_val, loaded.x_test]), X[:1000])
    np.testing.assert_array_equal(np.concatenate([loaded.y_train, loaded.y_val, loaded.y_test]), Y[:1000])
    again = data.load("muon", rows=1000, validation_fraction=0.25)
    assert again.sha256 == loaded.sha256 != data.load("muon", rows=1001).sha256 and len(again.y_val) == 200


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"rows": 0}, "rows=0 is out of range: muon .simulated. has 1 .. 4000000"),
        ({"seed": -1}, "seed=-1 is out of range"),
        ({"inefficiency": 1.5}, "inefficiency=1.5 is out of range: it lies between 0 and 1"),
        ({"neighbours": float("nan")}, "neighbours=nan is out of range: it lies between 0 and 0.5"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(DataError, match=message):
        muon.simulate(**{"rows": 10} | arguments)


def test_too_few_rows():
    with pytest.raises(DataError, match="3 rows are too few"):
        data.load("muon", rows=3)


def save(tmp_path, **changes):
    content = {"x_packed": np.packbits(X[:100].reshape(100, -1), axis=1), "y": Y[:100], "splits": np.array([60, 80, 100])} | changes
    np.savez(tmp_path / "tgc.npz", **{name: array for name, array in content.items() if array is not None})
    return str(tmp_path / "tgc.npz")


def test_packed_file(tmp_path):
    loaded = data.load(save(tmp_path))
    assert loaded.name == "muon hits tgc.npz" and loaded.unit == "mrad" and len(loaded.y_val) == 20
    np.testing.assert_array_equal(loaded.x_test, X[80:100])
    np.testing.assert_array_equal(loaded.y_train, Y[:60])
    x, y, _ = data.load_rows(save(tmp_path), scaler=loaded.scaler, classes=())
    assert x.shape == (100, 50, 7) and x.dtype == y.dtype == np.float32
    assert [len(part) for part in (data.load(save(tmp_path, splits=None)).y_val, data.load(save(tmp_path), rows=50).y_train)] == [10, 30]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"x_packed": np.zeros((100, 43), np.uint8)}, r"x_packed has type uint8 and shape \(100, 43\), but must be uint8, \(rows, 44\)"),
        ({"x_packed": np.zeros((100, 44))}, "x_packed has type float64"),
        ({"y": None}, "has no array x and no array y; it holds x_packed, splits"),
        ({"y": Y[:99]}, r"y has type float32 and shape \(99,\), but must hold an angle in mrad for each of 100 rows"),
        ({"y": np.full(100, np.nan)}, "y is nan at index 0"),
        ({"splits": np.array([60, 60, 100])}, "splits must be three rising whole numbers, the last of them the number of rows, 100"),
        ({"splits": np.array([60, 80, 90])}, "splits must be three rising"),
        ({"splits": np.array([0.6, 0.8, 1.0])}, "splits must be three rising"),
    ],
)
def test_bad_packed_files(tmp_path, changes, message):
    path = save(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        data.load(path)
    assert str(caught.value).startswith(path)


def write_h5(path, **changes):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, array in ({"X": X[:100].transpose(0, 2, 1), "Y": Y[:100]} | changes).items():
            if array is not None:
                file[name] = array
    return str(path)


def test_the_authors_file(tmp_path):
    loaded = data.load(write_h5(tmp_path / "fake.h5", Y=Y[:100, None]))
    assert loaded.name == "muon hits fake.h5" and [len(y) for y in (loaded.y_train, loaded.y_val, loaded.y_test)] == [70, 10, 20]
    order = np.arange(100)
    np.random.default_rng(42).shuffle(order)  # as the authors do
    np.testing.assert_array_equal(loaded.x_train, X[order[:70]])
    np.testing.assert_array_equal(loaded.y_test, Y[order[80:]])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"Y": None}, "has no array y; it holds X, but must hold x and y"),
        ({"X": 2 * X[:100].transpose(0, 2, 1)}, "X must hold hits, 0 or 1, and nothing else"),
        ({"Y": Y[:7]}, r"Y has type float32 and shape \(7,\)"),
    ],
)
def test_bad_h5_files(tmp_path, changes, message):
    with pytest.raises(DataError, match=f"fake.h5: {message}"):
        data.load(write_h5(tmp_path / "fake.h5", **changes))


def test_h5_files_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "fake.h5").write_bytes(b"no HDF5")
    pytest.importorskip("h5py")
    with pytest.raises(DataError, match=r"fake.h5: cannot be read as HDF5 \("):
        data.load(str(tmp_path / "fake.h5"))
    with pytest.raises(DataError, match="none.hdf5: there is no such file"):
        data.load(str(tmp_path / "none.hdf5"))
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(DataError, match=r"needs h5py; pip install 'hgqjax\[interop\]'"):
        data.load(str(tmp_path / "fake.h5"))


def test_masks_are_the_correlations_of_numpy():
    x = X[:3000]
    stations = [x[:, :, gaps].any(axis=2) for gaps in muon.STATIONS]
    for mask, (a, b) in zip(muon.station_masks(x, 0.05), ((0, 1), (0, 2), (1, 2)), strict=True):
        expected = np.corrcoef(np.concatenate([stations[a], stations[b]], axis=1).T)[:50, 50:]
        assert np.array_equal(mask[np.abs(expected - 0.05) > 1e-9], (expected > 0.05)[np.abs(expected - 0.05) > 1e-9])


def test_masks_of_dead_channels_and_other_shapes():
    x = X[:3000].copy()
    x[:, 20] = 0
    masks = muon.station_masks(x)
    assert not any(mask[20].any() or mask[:, 20].any() for mask in masks) and all(mask.any() for mask in masks)
    with pytest.raises(DataError, match=r"x has shape \(3, 350\), but must be \(rows, 50, 7\)"):
        muon.station_masks(x[:3].reshape(3, 350))


def test_masks_show_the_geometry(simulated):
    """A channel meets a band of channels of another station, and the last two stations, which lie close together, few."""
    first, second, third = muon.station_masks(simulated[0])
    assert all(200 < mask.sum() < 350 for mask in (first, second)) and 100 < third.sum() < 200
    for mask in (first, second, third):
        row, column = np.nonzero(mask)
        assert np.mean(np.abs(row - column) <= 6) > 0.97
