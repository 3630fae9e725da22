"""The embedded data set: what it holds, and that it is bit for bit the simulated file."""

import pathlib
import re

import numpy as np
import pytest

from hgqjax import data
from hgqjax.data import DataError, jets
from hgqjax.data.rows import JET_CLASSES, JET_FEATURES

SHARED = pathlib.Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="module")
def rows():
    return jets.read()


def shared(name):
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"needs {path}, which is not part of the repository")
    return path


def test_rows_are_balanced_shuffled_and_finite(rows):
    assert rows.x.shape == (176_760, 16) and rows.x.dtype == np.float32
    assert rows.classes == JET_CLASSES == ("g", "q", "w", "z", "t")
    assert np.bincount(rows.y).tolist() == [35_352] * 5
    assert np.bincount(rows.y[:1000]).min() > 150  # the first rows alone are balanced too
    assert np.isfinite(rows.x).all()


def test_classes_are_the_right_ones(rows):
    mass = {c: np.median(rows.x[rows.y == i, JET_FEATURES.index("mass_mmdt")]) for i, c in enumerate(rows.classes)}
    assert mass["w"] == pytest.approx(80, abs=3) and mass["z"] == pytest.approx(91, abs=3)
    assert mass["t"] == pytest.approx(155, abs=5) and mass["q"] < mass["g"] < 60


def test_file_is_small():
    assert jets.FILE.stat().st_size < 8_000_000


def test_scaler_is_that_of_the_real_file(rows):
    assert rows.scaler.mean.dtype == np.float64
    assert rows.scaler.mean[[0, -1]] == pytest.approx([-2.8652041, 51.891712])
    assert rows.scaler.scale[[0, -1]] == pytest.approx([0.58050835, 21.69504])


def test_load_scales_with_it():
    jets_set = data.load("jets")
    rows = jets.read()
    train, _, test = data.split(176_760)
    assert jets_set.name == "jets (re-simulated)" and "re-simulated" in jets_set.source
    assert re.fullmatch("[0-9a-f]{64}", jets_set.sha256)
    np.testing.assert_array_equal(jets_set.x_test, rows.scaler(rows.x[test]))
    np.testing.assert_array_equal(jets_set.y_train, rows.y[train])
    assert np.abs(jets_set.x_train.mean(axis=0)).max() < 0.05


def test_rows_equal_the_simulated_file(rows):
    with np.load(shared("jets_resim/jets_resim.npz")) as file:
        np.testing.assert_array_equal(rows.x.view(np.int32), file["x"].view(np.int32))
        assert np.array_equal(np.array(rows.classes)[rows.y], file["classes"][file["y"]])
        assert tuple(file["feature_names"]) == rows.feature_names


def test_scaler_equals_the_real_one_and_real_rows_load(rows):
    path = shared("jets_openml_real1000/jsc_openml_test1000.npz")
    x, y, _ = data.load_rows(str(path), scaler=rows.scaler, classes=JET_CLASSES)
    with np.load(path) as file:
        assert np.array_equal(file["scaler_mean"], rows.scaler.mean) and np.array_equal(file["scaler_scale"], rows.scaler.scale)
        np.testing.assert_allclose(x, file["x_scaled"], rtol=0, atol=2e-5)
        assert np.array_equal(np.array(JET_CLASSES)[y], file["classes"][file["y"]])


def test_pack_keeps_every_bit(rows):
    x = rows.x[1000:1200].copy()
    x[0, JET_FEATURES.index("zlogz")] = -0.0
    np.testing.assert_array_equal(jets.unpack(jets.pack(x)).view(np.int32), x.view(np.int32))


@pytest.mark.parametrize("feature", ["d2_a1_b1_mmdt", "c2_b1_mmdt", "c2_b2_mmdt", "d2_a1_b2_mmdt"])
def test_pack_refuses_a_column_that_does_not_follow(rows, feature):
    x = rows.x[:50].copy()
    x[7, JET_FEATURES.index(feature)] *= 1.001
    with pytest.raises(DataError, match=f"{feature} does not pack"):
        jets.pack(x)


@pytest.mark.parametrize("count", [1.5, 65_536.0])
def test_pack_refuses_a_multiplicity_that_is_no_small_whole_number(rows, count):
    x = rows.x[:50].copy()
    x[7, -1] = count
    with pytest.raises(DataError, match="multiplicity does not pack"):
        jets.pack(x)
