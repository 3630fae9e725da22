"""Rows that memory has no room for: left in files and read a part at a time, with the numbers that they have in memory."""

import dataclasses

import numpy as np
import pytest

from hgqjax import archives, data, scratch
from hgqjax.data import Columns, DataError
from tests.data.test_columns import CHOICE, LABEL, WEIGHT, N, X, write

MEMORY = 5000  # bytes; the table has 6 720, and three times that is needed
KINDS = (".parquet", ".npz", ".npy", ".h5", ".root")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(scratch, "BLOCK_BYTES", 200)


def same(one, other):
    """Whether two data sets have the same fields, but for where their rows lie; arrays by ==."""
    for field in dataclasses.fields(one):
        pair = getattr(one, field.name), getattr(other, field.name)
        if isinstance(pair[0], np.ndarray):
            assert pair[0].dtype == pair[1].dtype
            np.testing.assert_array_equal(*pair, err_msg=field.name)
        elif field.name == "scaler":
            np.testing.assert_array_equal(pair[0].mean, pair[1].mean)
            np.testing.assert_array_equal(pair[0].scale, pair[1].scale)
        elif field.name != "at_once":
            assert pair[0] == pair[1], field.name


def both(path, columns=Columns(), memory=MEMORY, **options):
    streamed, whole = data.load(path, columns, memory=memory, **options), data.load(path, columns, **options)
    assert streamed.at_once == memory // 4 and whole.at_once is None
    assert all(scratch.is_in_file(getattr(streamed, f"x_{part}")) for part in ("train", "val", "test"))
    assert not any(scratch.is_in_file(getattr(whole, f"x_{part}")) for part in ("train", "val", "test"))
    same(streamed, whole)
    np.testing.assert_array_equal(streamed.calibration(), whole.calibration())
    assert scratch.is_in_file(streamed.calibration())
    return streamed


@pytest.mark.parametrize("suffix", KINDS)
def test_the_same_numbers_as_in_memory(tmp_path, suffix):
    path = write(tmp_path, suffix)
    both(path, CHOICE)
    both(path, Columns(target=("label",), features=("a", "b", "c")), seed=3)
    auto = both(path, Columns(target=("features",), features=("a", "c")), rows=100)
    assert scratch.is_in_file(auto.y_train) and np.array_equal(auto.y_train, auto.x_train)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "chunks": (7, 3)}])
def test_arrays_of_an_h5_file_and_an_npz(tmp_path, options):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.create_dataset("x", data=X, **options)
        file["y"], file["weight"] = LABEL, WEIGHT
    both(tmp_path / "t.h5")
    np.savez(tmp_path / "t.npz", x_train=X[:80], y_train=LABEL[:80], x_test=X[80:], y_test=LABEL[80:])
    both(tmp_path / "t.npz")
    np.savez_compressed(tmp_path / "p.npz", x=np.asfortranarray(X), y=LABEL)
    assert data.load(tmp_path / "p.npz", memory=20_000).at_once is None  # whose columns lie one behind the other


def test_parts_in_files_of_their_own_and_features_by_number(tmp_path):
    names = [f"x{n}" for n in range(3)]
    for part, rows in (("a", slice(0, 80)), ("b", slice(80, N))):
        np.savez(tmp_path / f"{part}.npz", x=X[rows], y=LABEL[rows], feature_names=names)
    both(tmp_path / "a.npz", Columns(features=("x2", "x0"), test_data=str(tmp_path / "b.npz")), memory=1500)


def test_large_images_stay_bytes_until_they_are_used(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "t.npz", x=images, y=np.arange(60) % 3)
    found = both(tmp_path / "t.npz")
    assert found.x_train.dtype == np.float16
    both(tmp_path / "t.npz", Columns(target=("features",)), memory=20_000)  # the bytes in memory, scaled rows in a file
    with pytest.raises(DataError, match=r"t.npz: what an autoencoder gives for 12 test rows takes 4.61 kB in memory; 3 times that is"):
        data.load(tmp_path / "t.npz", Columns(target=("features",)), memory=MEMORY)


def test_rows_for_a_model(tmp_path):
    path = write(tmp_path, ".parquet")
    trained = data.load(path, CHOICE)
    about = {"scaler": trained.scaler, "classes": (), "columns": CHOICE, "features": trained.feature_names}
    streamed, whole = data.load_rows(path, memory=MEMORY, **about), data.load_rows(path, **about)
    assert scratch.is_in_file(streamed.x) and not scratch.is_in_file(whole.x)
    for one, other in zip(streamed, whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_cannot_be_streamed_is_one_sentence(tmp_path, monkeypatch):
    path = write(tmp_path, ".parquet")
    with pytest.raises(DataError, match=r"column 'label' of 120 rows takes 960 bytes in memory; 2 times that is needed and 1 kB are"):
        data.load(path, Columns(target=("label",), features=("a",)), memory=1000)
    import polars as pl

    pl.DataFrame({"a": [1, None] * 60, "b": X[:, 0], "label": LABEL}).write_parquet(tmp_path / "hole.parquet")
    with pytest.raises(DataError, match=r"hole.parquet: column 'a' has a missing value at index 1; every value must be a number"):
        data.load(tmp_path / "hole.parquet", memory=2000)
    pl.DataFrame({"a": [1.0] * 119 + [np.nan], "b": X[:, 0], "label": LABEL}).write_parquet(tmp_path / "nan.parquet")
    with pytest.raises(DataError, match=r"nan.parquet: 1 of 120 rows hold missing, NaN or infinite values \(first at index 119\)"):
        data.load(tmp_path / "nan.parquet", memory=2000)
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(archives.ArchiveError, match=rf"a scratch file of 4 EB cannot be made in {tmp_path}, which has .* \(No space"):
        scratch.empty((10**18,), np.float32, in_file=True)
    assert not list(tmp_path.glob("tmp*"))
    small = bytes(10**6)
    np.savez_compressed(tmp_path / "bomb.npz", x=np.frombuffer(small, np.uint8).reshape(-1, 10), y=np.zeros(10**5, bool))
    with pytest.raises(DataError, match=r"bomb.npz: all of its arrays together, packed in .* kB, takes 1.1 MB in memory"):
        data.load(tmp_path / "bomb.npz", memory=10**6)


def test_rows_are_taken_in_any_order_and_pages_are_let_go(tmp_path):
    rows = np.random.default_rng(1).permutation(N)
    mapped = scratch.filled(X.shape, X.dtype, lambda part: X[part], in_file=True)
    np.testing.assert_array_equal(scratch.take(mapped, rows), X[rows])
    np.testing.assert_array_equal(scratch.take_all(mapped, rows[:50]), X[rows[:50]])
    np.testing.assert_array_equal(scratch.take(mapped, slice(3, 70)), X[3:70])
    np.testing.assert_array_equal(scratch.concatenate([mapped, X[:5]]), np.concatenate([X, X[:5]]))
    assert scratch.take(mapped, rows).ctypes.data % 64 == 0 and scratch.empty((3,), np.int8).ctypes.data % 64 == 0
    scratch.release(mapped)
    np.testing.assert_array_equal(mapped, X)
