"""load, load_rows and the scaler, on small files."""

import numpy as np
import pytest

from hgqjax import data
from hgqjax.data import DataError, Scaler

RNG = np.random.default_rng(0)
X = RNG.normal(3.0, 2.0, (60, 4))
Y = np.arange(60) % 3


@pytest.fixture
def path(tmp_path):
    np.savez(tmp_path / "mydata.npz", x=X, y=Y)
    return str(tmp_path / "mydata.npz")


def test_load_splits_and_scales_by_training_and_validation_rows(path):
    loaded = data.load(path)
    train, val, test = data.split(60)
    rest = X[np.concatenate([train, val])]
    assert loaded.name == "arrays mydata.npz" and "mydata.npz" in loaded.source
    assert loaded.classes == ("0", "1", "2") and loaded.n_classes == 3
    assert loaded.input_shape == (4,) and loaded.feature_names == ("x0", "x1", "x2", "x3")
    np.testing.assert_allclose(loaded.x_test, (X[test] - rest.mean(0)) / rest.std(0), rtol=1e-5)
    np.testing.assert_array_equal(loaded.y_val, Y[val])
    for part in ("train", "val", "test"):
        assert getattr(loaded, f"x_{part}").dtype == np.float32 and getattr(loaded, f"y_{part}").dtype == np.int32


def test_calibration_is_everything_but_test(path):
    loaded = data.load(path)
    np.testing.assert_array_equal(loaded.calibration(), np.concatenate([loaded.x_train, loaded.x_val]))
    assert len(loaded.calibration()) == 48


def test_options_reach_the_split(path):
    loaded = data.load(path, rows=40, seed=7, validation_fraction=0.25)
    train, val, test = data.split(40, seed=7, validation_fraction=0.25)
    np.testing.assert_array_equal(loaded.y_train, Y[train])
    np.testing.assert_array_equal(loaded.y_test, Y[test])
    assert len(loaded.x_val) == len(val) == 8


@pytest.mark.parametrize("rows", [0, -1, 61])
def test_rows_out_of_range(path, rows):
    with pytest.raises(DataError, match=rf"rows={rows} is out of range: arrays mydata.npz has 1 .. 60"):
        data.load(path, rows=rows)


def test_few_rows(path):
    with pytest.raises(DataError, match="4 rows are too few"):
        data.load(path, rows=4)


@pytest.mark.parametrize("name", ["tops", "data.doc", ""])
def test_unknown_name_lists_the_known(name):
    with pytest.raises(
        DataError, match=rf"unknown data set '{name}': give jets, openml, svhn, svhn_extra, muon, particles, particles:32, "
    ):
        data.load(name)


def test_images_are_divided_by_256_and_take_two_bytes_a_value(tmp_path):
    x = RNG.integers(0, 256, (60, 4, 4, 3), np.uint8)
    loaded = data.load(save(tmp_path, x=x, y=Y))
    train = data.split(60)[0]
    assert loaded.name == "arrays other.npz" and loaded.x_train.dtype == loaded.x_test.dtype == np.float16
    np.testing.assert_array_equal(loaded.x_train.astype(np.float64) * 256, x[train])
    assert loaded.calibration().dtype == np.float32 and loaded.scaler(x).dtype == np.float32


def test_half_precision_only_where_it_is_exact():
    byte, one = np.zeros((2, 1), np.uint8), np.ones(1)
    assert Scaler(np.zeros(1), one).dtype_for(byte) is np.float16
    for scaler, x in ((Scaler(one, one), byte), (Scaler(np.zeros(1), 3 * one), byte), (Scaler(np.zeros(1), one), byte.astype(np.int16))):
        assert scaler.dtype_for(x) is np.float32


def test_scaling_in_blocks_changes_no_bit(monkeypatch):
    x = RNG.normal(size=(50, 7)).astype(np.float32)
    scaler = Scaler.fit(x)
    monkeypatch.setattr("hgqjax.scratch.BLOCK_BYTES", 84)
    np.testing.assert_array_equal(scaler(x), ((x - scaler.mean) / scaler.scale).astype(np.float32))


def test_numbers_with_a_unit_are_a_regression(tmp_path):
    y = np.linspace(-1.0, 1.0, 60)
    loaded = data.load(save(tmp_path, x=X, y=y, unit="mrad"))
    assert loaded.kind == "regression" and loaded.classes == () and loaded.unit == "mrad" and loaded.n_outputs == 1
    assert loaded.y_train.dtype == np.float32
    np.testing.assert_array_equal(loaded.y_test, y[data.split(60)[2]].astype(np.float32))
    x, again, _ = data.load_rows(str(tmp_path / "other.npz"), scaler=loaded.scaler, classes=())
    np.testing.assert_array_equal(again, y.astype(np.float32))
    assert x.dtype == np.float32


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"y": Y, "unit": ["mrad"]}, r"unit has type <U4 and shape \(1,\), but must be one text"),
        ({"y": Y, "unit": "mrad", "classes": ["a", "b", "c"]}, "holds both unit, for a regression, and classes"),
        ({"y": np.where(Y == 1, np.inf, Y), "unit": "mrad"}, "y is inf at index 1, but every value must be a finite float32"),
        ({"y": Y.astype(str), "unit": "mrad"}, "y has type <U21, but a regression needs numbers"),
    ],
)
def test_bad_regressions(tmp_path, arrays, message):
    with pytest.raises(DataError, match=f"other.npz: {message}"):
        data.load(save(tmp_path, x=X, **arrays))


def test_labels_and_numbers_do_not_mix(path, tmp_path):
    numbers = save(tmp_path, x=X, y=Y / 2, unit="mrad")
    scaler = data.load(path).scaler
    with pytest.raises(DataError, match="other.npz: holds numbers of a regression, but the model was trained on labels"):
        data.load_rows(numbers, scaler=scaler, classes=("0", "1", "2"))
    with pytest.raises(DataError, match="mydata.npz: holds labels, but the model was trained on numbers of a regression"):
        data.load_rows(path, scaler=scaler, classes=())


def test_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert data.absolute("svhn_extra") == "svhn_extra" and data.absolute("a.npz") == str(tmp_path / "a.npz")
    assert data.absolute("svhn:digits") == f"svhn:{tmp_path / 'digits'}"


def test_errors_are_value_errors():
    assert issubclass(DataError, ValueError)


def test_constant_feature_gets_scale_one():
    scaler = Scaler.fit(np.full((1000, 1), 0.1))  # its float64 deviation is 1e-17, not 0
    assert scaler.scale.tolist() == [1.0]
    assert scaler(np.full((1, 1), 0.1)).tolist() == [[0.0]]


def test_scaler_uses_the_population_deviation_and_any_shape():
    x = RNG.normal(size=(50, 2, 3))
    scaler = Scaler.fit(x)
    np.testing.assert_allclose(scaler.scale, x.std(axis=0), rtol=1e-12)
    assert scaler(x).shape == (50, 2, 3) and scaler(x).dtype == np.float32


@pytest.mark.parametrize(
    "mean, scale, message",
    [([0.0], [1.0, 1.0], "one scale per mean"), ([0.0], [0.0], "scales above zero"), ([np.nan], [1.0], "finite means")],
)
def test_bad_scaler(mean, scale, message):
    with pytest.raises(DataError, match=message):
        Scaler(np.array(mean), np.array(scale))


def test_scaler_refuses_rows_of_another_shape():
    with pytest.raises(DataError, match=r"rows of shape \(3,\) do not fit this scaler, which takes \(2,\)"):
        Scaler(np.zeros(2), np.ones(2))(np.zeros((5, 3)))


IDENTITY = Scaler(np.array([1.0, 0.0]), np.array([2.0, 1.0]))


def save(tmp_path, **arrays):
    np.savez(tmp_path / "other.npz", **arrays)
    return str(tmp_path / "other.npz")


def test_load_rows_scales_by_the_models_scaler_and_maps_labels_by_name(tmp_path):
    path = save(tmp_path, x=[[3.0, 4.0], [1.0, 5.0]], y=[0, 1], classes=["b", "a"])
    x, y, _ = data.load_rows(path, scaler=IDENTITY, classes=("a", "b", "c"))
    assert x.tolist() == [[1.0, 4.0], [0.0, 5.0]] and x.dtype == np.float32
    assert y.tolist() == [1, 0] and y.dtype == np.int32


def test_load_rows_takes_numbers_as_they_are_and_needs_not_every_class(tmp_path):
    path = save(tmp_path, x=[[3.0, 4.0], [1.0, 5.0]], y=[2, 2])
    assert data.load_rows(path, scaler=IDENTITY, classes=("a", "b", "c"))[1].tolist() == [2, 2]


def test_load_rows_accepts_named_classes_without_rows(tmp_path):
    path = save(tmp_path, x=[[3.0, 4.0]], y=[1], classes=["unseen", "a"])
    assert data.load_rows(path, scaler=IDENTITY, classes=("a", "b"))[1].tolist() == [0]


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"x": [[1.0, 2.0]], "y": [2]}, "label 2 is unknown to the model, whose classes are a, b"),
        ({"x": [[1.0, 2.0]], "y": ["w"]}, "label w is unknown to the model, whose classes are a, b"),
        ({"x": [[1.0, 2.0, 3.0]], "y": [0]}, r"rows have shape \(3,\), but the model takes \(2,\)"),
    ],
)
def test_load_rows_that_do_not_fit_the_model(tmp_path, arrays, message):
    with pytest.raises(DataError, match=f"other.npz: {message}"):
        data.load_rows(save(tmp_path, **arrays), scaler=IDENTITY, classes=("a", "b"))
