"""Features, targets, weights and parts by name, from every kind of file; each of the small inputs that once failed."""

import numpy as np
import pytest

from hgqjax import data
from hgqjax.data import Columns, DataError, arrays

pl = pytest.importorskip("polars")
RNG = np.random.default_rng(0)
N = 120
X = RNG.normal(size=(N, 3)).astype(np.float32)
LABEL = np.arange(N) % 2
WEIGHT = RNG.uniform(0.5, 2.0, N).astype(np.float32)
PART = np.array(["train", "val", "test", "train"] * (N // 4))
TABLE = {"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "energy": X[:, 0] * 2 + 1, "label": LABEL, "w": WEIGHT, "part": np.arange(N) % 4 % 3}


def write(folder, suffix):
    """The same table as a file of each kind."""
    path = folder / f"t{suffix}"
    if suffix in (".csv", ".tsv"):
        pl.DataFrame(TABLE).write_csv(path, separator="," if suffix == ".csv" else "\t")
    elif suffix == ".parquet":
        pl.DataFrame(TABLE).write_parquet(path)
    elif suffix == ".npz":
        np.savez(path, **TABLE)
    elif suffix == ".npy":
        record = np.empty(N, [(name, values.dtype) for name, values in TABLE.items()])
        for name, values in TABLE.items():
            record[name] = values
        np.save(path, record)
    elif suffix == ".root":
        uproot = pytest.importorskip("uproot")
        with uproot.recreate(path) as file:
            file.mktree("events", {name: values.dtype for name, values in TABLE.items()}).extend(TABLE)
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            names = [name for name in TABLE]
            file["jets"] = np.stack([TABLE[name] for name in names], axis=1).astype(np.float64)
            file["jetFeatureNames"] = np.array([name.encode() for name in names])
    return path


KINDS = (".csv", ".tsv", ".parquet", ".npz", ".npy", ".h5", ".root")


def test_every_suffix_is_among_the_kinds():
    assert set(arrays.SUFFIXES) == {*KINDS, ".txt", ".hdf5", ".arff"}  # two other names, and ARFF, which test_tables.py has


CHOICE = Columns(target=("energy",), features=("b", "a"), weight="w", split="part", unit="GeV")


@pytest.mark.parametrize("suffix", KINDS)
def test_a_regression_with_weights_and_parts_from_every_kind_of_file(tmp_path, suffix):
    loaded = data.load(write(tmp_path, suffix), CHOICE)
    part = TABLE["part"]
    assert loaded.kind == "regression" and loaded.unit == "GeV" and loaded.target_names == ("energy",) and loaded.n_outputs == 1
    assert loaded.feature_names == ("b", "a") and loaded.classes == ()
    np.testing.assert_allclose(loaded.y_test, TABLE["energy"][part == 2], rtol=1e-6)
    np.testing.assert_allclose(loaded.weight_val, WEIGHT[part == 1], rtol=1e-6)
    kept = X[part < 2][:, [1, 0]].astype(np.float64)
    np.testing.assert_allclose(loaded.x_test, (X[part == 2][:, [1, 0]] - kept.mean(0)) / kept.std(0), rtol=1e-4, atol=1e-5)
    assert [len(x) for x in (loaded.x_train, loaded.x_val, loaded.x_test)] == [60, 30, 30]


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".h5"])
def test_classes_regressions_of_several_targets_labels_and_autoencoders(tmp_path, suffix):
    path = write(tmp_path, suffix)
    several = data.load(path, Columns(target=("energy", "a"), features=("b", "c")))
    assert several.kind == "regression" and several.y_train.shape == (86, 2) and several.target_names == ("energy", "a")
    auto = data.load(path, Columns(target=("features",), features=("a", "b", "c")))
    assert auto.kind == "regression" and auto.unit == "sigma" and auto.target_names == ("a", "b", "c") and auto.n_outputs == 3
    np.testing.assert_array_equal(auto.y_val, auto.x_val)
    classes = data.load(path, Columns(target=("label",), features=("a", "b")))
    assert classes.kind == "classes" and classes.classes == ("0", "1") and classes.y_train.dtype == np.int32


def test_labels_at_once_and_one_hot_columns(tmp_path):
    both = np.stack([LABEL, np.arange(N) % 3 == 0], axis=1).astype(np.int64)
    frame = {"a": X[:, 0], "b": X[:, 1], "tau": both[:, 0], "bottom": both[:, 1], "other": 1 - both[:, 0]}
    pl.DataFrame(frame).write_parquet(tmp_path / "t.parquet")
    labels = data.load(tmp_path / "t.parquet", Columns(target=("tau", "bottom"), features=("a", "b")))
    assert labels.kind == "labels" and labels.target_names == ("tau", "bottom") and labels.n_outputs == 2 and labels.classes == ()
    np.testing.assert_array_equal(labels.y_test, both[data.split(N)[2]].astype(np.int32))
    one_hot = data.load(tmp_path / "t.parquet", Columns(target=("tau", "other"), features=("a", "b")))
    assert one_hot.kind == "classes" and one_hot.classes == ("tau", "other")
    np.testing.assert_array_equal(one_hot.y_test, 1 - LABEL[data.split(N)[2]])
    asked = data.load(tmp_path / "t.parquet", Columns(target=("tau", "other"), features=("a", "b"), target_is="labels"))
    assert asked.kind == "labels" and asked.y_train.shape == (86, 2)
    with pytest.raises(DataError, match=r"the labels at index 0 are 0, 1.*|the labels at index .* need one 1 in each row"):
        data.load(tmp_path / "t.parquet", Columns(target=("tau", "bottom"), target_is="classes"))


def test_an_autoencoder_and_several_numbers_in_npz(tmp_path):
    np.savez(tmp_path / "auto.npz", x=X, y=X, unit="sigma")
    loaded = data.load(tmp_path / "auto.npz")
    assert loaded.kind == "regression" and loaded.unit == "sigma" and loaded.y_train.shape == (86, 3) == loaded.x_train.shape
    np.testing.assert_array_equal(loaded.y_test, X[data.split(N)[2]])
    np.savez(tmp_path / "plain.npz", x=X)
    assert data.load(tmp_path / "plain.npz", Columns(target=("features",))).y_train.shape == (86, 3)


@pytest.mark.parametrize("name", ["weight", "weights", "sample_weight", "event_weight"])
def test_weights_are_weights_and_no_feature(tmp_path, name):
    np.savez(tmp_path / "rows.npz", x=X, y=LABEL, **{name: WEIGHT})
    frame = pl.DataFrame({"a": X[:, 0], name: WEIGHT, "label": LABEL})
    frame.write_csv(tmp_path / "rows.csv")
    for loaded in (data.load(tmp_path / "rows.npz"), data.load(tmp_path / "rows.csv")):
        np.testing.assert_allclose(loaded.weight_train, WEIGHT[data.split(N)[0]], rtol=1e-6)
        assert name not in loaded.feature_names and loaded.weight_test.dtype == np.float32
    assert data.load(tmp_path / "rows.csv", Columns(features=("a", name))).weight_train is None
    x, y, weight = data.load_rows(tmp_path / "rows.npz", scaler=data.load(tmp_path / "rows.npz").scaler, classes=("0", "1"))
    assert np.array_equal(weight, WEIGHT) and len(x) == len(y) == N


@pytest.mark.parametrize(
    "weight, message",
    [(-WEIGHT, "at index 0 must be a finite number of at least 0"), (0 * WEIGHT, "every weight is 0"), (WEIGHT[1:], r"shape \(119,\)")],
)
def test_bad_weights(tmp_path, weight, message):
    np.savez(tmp_path / "rows.npz", x=X, y=LABEL, weight=weight)
    with pytest.raises(DataError, match=message):
        data.load(tmp_path / "rows.npz")


def test_parts_in_files_of_their_own(tmp_path):
    for part, rows in (("train", slice(0, 80)), ("val", slice(80, 100)), ("test", slice(100, None))):
        pl.DataFrame({"a": X[rows, 0], "label": np.array(["s", "b"])[LABEL[rows]]}).write_csv(tmp_path / f"{part}.csv")
    columns = Columns(validation_data=str(tmp_path / "val.csv"), test_data=str(tmp_path / "test.csv"))
    loaded = data.load(tmp_path / "train.csv", columns)
    assert [len(x) for x in (loaded.x_train, loaded.x_val, loaded.x_test)] == [80, 20, 20] and loaded.classes == ("b", "s")
    np.testing.assert_array_equal(loaded.y_test, 1 - LABEL[100:])
    assert loaded.files == tuple(data.origin(tmp_path / f"{part}.csv")[1] for part in ("train", "val"))
    two = data.load(tmp_path / "train.csv", Columns(test_data=str(tmp_path / "test.csv")))
    assert [len(x) for x in (two.x_train, two.x_val, two.x_test)] == [72, 8, 20]
    np.testing.assert_array_equal(two.y_test, 1 - LABEL[100:])
    with pytest.raises(DataError, match="the data, validation_data and test_data must be different files"):
        data.load(tmp_path / "train.csv", Columns(test_data=str(tmp_path / "train.csv")))
    (tmp_path / "odd.csv").write_text("a,b,label\n1,2,s\n2,3,b\n")
    with pytest.raises(DataError, match=r"odd.csv: its features are not those of .*train.csv"):
        data.load(tmp_path / "train.csv", Columns(test_data=str(tmp_path / "odd.csv")))
    (tmp_path / "odd.csv").write_text("a,label\n1,s\n2,q\n")
    with pytest.raises(DataError, match="label q is unknown to .*train.csv, whose classes are b, s"):
        data.load(tmp_path / "train.csv", Columns(test_data=str(tmp_path / "odd.csv")))


def test_parts_as_arrays(tmp_path):
    parts = {"train": slice(0, 80), "val": slice(80, 100), "test": slice(100, None)}
    given = {f"{letter}_{part}": values[rows] for part, rows in parts.items() for letter, values in (("x", X), ("y", LABEL))}
    np.savez(tmp_path / "t.npz", **given)
    np.testing.assert_array_equal(data.load(tmp_path / "t.npz").y_test, LABEL[100:])
    del given["x_val"], given["y_val"]
    np.savez(tmp_path / "t.npz", **given)
    loaded = data.load(tmp_path / "t.npz")
    assert [len(x) for x in (loaded.x_train, loaded.x_val, loaded.x_test)] == [72, 8, 20]
    del given["y_train"]
    np.savez(tmp_path / "t.npz", **given)
    with pytest.raises(DataError, match="has no array y_train"):
        data.load(tmp_path / "t.npz")


def test_h5_layouts(tmp_path):
    h5py = pytest.importorskip("h5py")
    for names in (("x", "y"), ("X", "Y"), ("X", "y")):
        with h5py.File(tmp_path / "rows.h5", "w") as file:
            file[names[0]], file[names[1]] = X, LABEL
        assert data.load(tmp_path / "rows.h5").classes == ("0", "1")
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["group/table"] = np.array([(1.0, b"s"), (2.0, b"b")] * 30, [("a", "f4"), ("label", "S1")])
    assert data.load(tmp_path / "rows.h5").classes == ("b", "s")
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["image"] = np.zeros((5, 4, 4))
    with pytest.raises(DataError, match=r"rows.h5: holds image, but an .h5 file is read that has x and y, a table with named columns"):
        data.load(tmp_path / "rows.h5")
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file.create_dataset("x", (10**13, 4), "f4", chunks=(1000, 4))
        file.create_dataset("y", (10**13,), "i4", chunks=(1000,))
    with pytest.raises(DataError, match=r"rows.h5: what it holds in x, y, packed in 0 bytes, takes 200 TB in memory"):
        data.load(tmp_path / "rows.h5")
    (tmp_path / "secret").write_bytes(bytes(800))
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file.create_dataset("x", (100, 1), "f8", external=[(str(tmp_path / "secret"), 0, 800)])
        file["y"] = np.arange(100) % 2
    with pytest.raises(DataError, match="dataset 'x' lies in other files, which are not read"):
        data.load(tmp_path / "rows.h5")


def test_root_trees(tmp_path):
    uproot = pytest.importorskip("uproot")
    import awkward

    with uproot.recreate(tmp_path / "t.root") as file:
        file["a"] = {"pt": X[:, 0], "label": LABEL, "hits": awkward.Array([[1.0, 2.0], [3.0]] * (N // 2))}
        file["b"] = {"pt": X[:, 0], "label": LABEL}
    with pytest.raises(DataError, match="t.root: holds the trees a, b; name one with --table"):
        data.load(tmp_path / "t.root")
    loaded = data.load(tmp_path / "t.root", Columns(table="a"))
    assert loaded.feature_names == ("pt",) and any("several values an entry are left out: hits" in note for note in loaded.notes)
    with pytest.raises(DataError, match="branch 'hits' holds .*, several values an entry"):
        data.load(tmp_path / "t.root", Columns(table="a", features=("hits",)))
    (tmp_path / "t.root").write_bytes(b"root")
    with pytest.raises(DataError, match="t.root: cannot be read as ROOT"):
        data.load(tmp_path / "t.root")


@pytest.mark.parametrize(
    "columns, message",
    [
        (Columns(target=("enrgy",)), r"has no column 'enrgy' \(did you mean 'energy'\?\); it has a, b, c, energy, label, w, part"),
        (Columns(target=("energy",), features=("energy", "a")), "column 'energy' is a feature, and target, weight or split"),
        (Columns(weight="v"), "has no column 'v'"),
        (Columns(split="label"), r"column 'label' has 60 rows for training, 60 for validation and 0 for the test"),
        (Columns(split="a"), "the split .* at line 2 must be train, val or test"),
        (Columns(target=("energy",), target_is="labels"), "at line 2 must be 0 or 1, as several labels at once are yes or no"),
        (Columns(target=("energy",), target_is="classes"), "is not a whole number .*; numbers to be predicted are --target-is regression"),
    ],
)
def test_choices_that_do_not_fit(tmp_path, columns, message):
    with pytest.raises(DataError, match=message) as caught:
        data.load(write(tmp_path, ".csv"), columns)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"target": ("a", "a")}, "each column can be named once"),
        ({"split": "s", "test_data": "t.csv"}, "exclude each other"),
        ({"unit": "GeV", "target_is": "classes"}, "only the numbers of a regression have a unit"),
    ],
)
def test_columns_that_contradict_themselves(fields, message):
    with pytest.raises(ValueError, match=message):
        Columns(**fields)


def test_features_of_a_set_with_its_own_columns():
    loaded = data.load("jets", Columns(features=("mass_mmdt", "multiplicity"), target=("features",)), rows=200)
    assert loaded.input_shape == (2,) and loaded.feature_names == ("mass_mmdt", "multiplicity") and loaded.kind == "regression"
    whole = data.load("jets", rows=200)
    np.testing.assert_array_equal(loaded.x_test, whole.x_test[:, [14, 15]])
    with pytest.raises(DataError, match="has a weight of its own; of its columns only features"):
        data.load("jets", Columns(weight="mass_mmdt"))


def test_rows_for_a_model_are_taken_by_the_names_of_its_features(tmp_path):
    loaded = data.load(write(tmp_path, ".csv"), Columns(target=("label",), features=("c", "a")))
    pl.DataFrame({"note": ["x"] * 4, "a": X[:4, 0], "c": X[:4, 2], "label": LABEL[:4]}).write_csv(tmp_path / "more.csv")
    columns = Columns(target=("label",))
    x, y, _ = data.load_rows(tmp_path / "more.csv", scaler=loaded.scaler, classes=("0", "1"), columns=columns, features=("c", "a"))
    np.testing.assert_allclose(x, loaded.scaler(X[:4, [2, 0]]), rtol=1e-6)
    assert y.tolist() == [0, 1, 0, 1]


def test_text_larger_than_memory_is_refused_with_both_sizes(tmp_path):
    with pytest.raises(DataError, match=r"its text takes .* in memory; 3 times that is needed and 3 kB are free; as a .parquet") as caught:
        data.load(write(tmp_path, ".csv"), Columns(target=("label",), features=("a", "b")), memory=3000)
    assert str(caught.value).startswith(str(tmp_path / "t.csv"))


def test_text_in_an_h5_file_that_is_read_for_ever_is_given_up(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    from hgqjax.data import hdf5

    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as file:
        file["jets"], file["jetFeatureNames"] = np.c_[X, LABEL], ["a", "b", "c", "label"]  # text of any length
    assert data.load(path, Columns(target_is="classes")).feature_names == ("a", "b", "c")
    monkeypatch.setattr(hdf5, "_TEXTS", "while True: pass")  # as the library does in a damaged heap
    monkeypatch.setattr(hdf5, "_TEXT_SECONDS", 0.5)
    with pytest.raises(DataError, match="t.h5: the text in dataset 'jetFeatureNames' could not be read in 0.5 s; is it damaged?"):
        data.load(path)


def test_text_in_an_h5_file_that_claims_gigabytes_takes_none(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["a"], file["label"] = X[:60, 0], ["sig", "background"] * 30
    raw = (tmp_path / "t.h5").read_bytes()
    at = raw.index(raw.index(b"GCOL").to_bytes(8, "little"))  # where the first text lies; before it, how long it is
    (tmp_path / "t.h5").write_bytes(raw[: at - 4] + (2**32 - 1).to_bytes(4, "little") + raw[at:])
    with pytest.raises(DataError, match=r"t.h5: the text in dataset 'label' cannot be read \(it takes more than 537 MB of memory"):
        data.load(tmp_path / "t.h5")
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["a"], file["label"] = X[:60, 0], ["sig", "background" * 10_000] * 30
    assert len(data.load(tmp_path / "t.h5").classes) == 2
    with pytest.raises(DataError, match="text of up to 100000 letters in 60 rows of dataset 'label' takes 24 MB in memory; 20 MB are"):
        data.load(tmp_path / "t.h5", memory=20_000_000)


def test_records_with_text_of_any_length(tmp_path):
    h5py = pytest.importorskip("h5py")
    kinds = [("a", "f4"), ("label", h5py.string_dtype()), ("b", "f4"), ("hits", h5py.vlen_dtype(np.float32))]
    records = np.empty(60, kinds[:3])
    records["a"], records["b"], records["label"] = X[:60, 0], X[:60, 1], ["s", "bé"] * 30
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["t"] = records
    loaded = data.load(tmp_path / "t.h5")
    assert loaded.classes == ("bé", "s") and loaded.feature_names == ("a", "b")
    np.testing.assert_array_equal(loaded.y_test, (1 - np.arange(60) % 2)[data.split(60)[2]])
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.create_dataset("t", (60,), kinds)
    with pytest.raises(DataError, match="field 'hits' of dataset 't' holds object, but must hold numbers or text"):
        data.load(tmp_path / "t.h5")
