"""The .npz reader: what it accepts, and the sentence for each thing that it refuses."""

import numpy as np
import pytest

from hgqjax.data import DataError, arrays, load
from hgqjax.data.rows import JET_FEATURES

X = np.arange(12.0).reshape(6, 2)
Y = np.array([0, 1, 2, 0, 1, 2])


def save(tmp_path, name="mydata.npz", **content):
    np.savez_compressed(tmp_path / name, **content)
    return tmp_path / name


def test_images_and_small_whole_numbers(tmp_path):
    x = np.arange(6 * 8, dtype=np.uint8).reshape(6, 4, 2)
    rows = arrays.read(save(tmp_path, x=x, y=Y.astype(np.uint8)))
    np.testing.assert_array_equal(rows.x, x)
    assert rows.y.dtype == np.int32 and rows.y.tolist() == Y.tolist()
    assert rows.classes is None and rows.feature_names == ("x0", "x1")


def test_names_are_kept(tmp_path):
    rows = arrays.read(save(tmp_path, x=X, y=Y, classes=["c", "b", "a"], feature_names=["pt", "mass"]))
    assert rows.classes == ("c", "b", "a") and rows.feature_names == ("pt", "mass")
    assert rows.y.tolist() == Y.tolist()


@pytest.mark.parametrize("kind", ["U", "S"])
def test_text_labels(tmp_path, kind):
    y = np.array(["b", "a", "c", "b", "a", "c"]).astype(kind)
    rows = arrays.read(save(tmp_path, x=X, y=y))
    assert rows.classes == ("a", "b", "c") and rows.y.tolist() == [1, 0, 2, 1, 0, 2]
    rows = arrays.read(save(tmp_path, x=X, y=y, classes=["c", "b", "a"]))
    assert rows.classes == ("c", "b", "a") and rows.y.tolist() == [1, 2, 0, 1, 2, 0]


def test_x_physical_counts_only_without_x(tmp_path):
    assert arrays.read(save(tmp_path, x_physical=X, y=Y)).x[1, 0] == 2.0
    assert arrays.read(save(tmp_path, x_physical=X, x=X + 1, y=Y)).x[1, 0] == 3.0


def test_jets_come_out_in_the_papers_order(tmp_path):
    x = np.arange(5 * 16.0).reshape(5, 16)
    backward = dict(x=x[:, ::-1], feature_names=JET_FEATURES[::-1])
    rows = arrays.read(save(tmp_path, y=np.arange(5), classes=["g", "q", "t", "w", "z"], **backward))
    assert rows.classes == ("g", "q", "w", "z", "t") and rows.y.tolist() == [0, 1, 4, 2, 3]
    assert rows.feature_names == JET_FEATURES
    np.testing.assert_array_equal(rows.x, x)
    rows = arrays.read(save(tmp_path, y=["t", "z", "w", "q", "g"], **backward))
    assert rows.y.tolist() == [4, 3, 2, 1, 0]


BAD = {
    "no y": (dict(x=X), "has no array y; it holds x, but must hold x and y"),
    "no x": (dict(features=X, y=Y), "has no array x; it holds features, y, but must hold x and y"),
    "rows differ": (dict(x=X, y=Y[:5]), r"y has shape \(5,\), but must be \(6,\) or \(6, n\), one label or n numbers for each row of x$"),
    "flat x": (dict(x=X[:, 0], y=Y), r"x has shape \(6,\), but must be \(rows, features\)"),
    "no rows": (dict(x=X[:0], y=Y[:0]), r"x has shape \(0, 2\)"),
    "text in x": (dict(x=X.astype(str), y=Y), "x has type <U32, but must hold real numbers"),
    "complex x": (dict(x=X + 1j, y=Y), "x has type complex128"),
    "NaN": (dict(x=np.where(X == 7, np.nan, np.where(X == 8, np.inf, X)), y=Y), r"2 of 6 rows hold .*\(first at index 3\)"),
    "too large": (dict(x=X * 1e38, y=Y), r"4 of 6 rows hold .*\(first at index 2\); every value must be a finite float32"),
    "negative label": (dict(x=X, y=Y - 1), "label -1 at index 0 is out of range: it must be 0 .. 2147483647"),
    "label too large": (dict(x=X, y=Y, classes=["a", "b"]), "label 2 at index 2 is out of range: it must be 0 .. 1"),
    "half a label": (dict(x=X, y=Y / 2, classes=["a", "b", "c"]), r"label 0.5 at index 1 is not a whole number"),
    "NaN label": (dict(x=X, y=np.where(Y == 2, np.nan, Y)), "label nan at index 2 is not a whole number"),
    "infinite label": (dict(x=X, y=np.where(Y == 2, np.inf, Y)), "label inf at index 2 is not a whole number"),
    "complex label": (dict(x=X, y=Y + 0j), "labels have type complex128, but must be whole numbers or text"),
    "gap": (dict(x=X, y=Y * 2), "labels run from 0 to 4 but take 3 different values; they must be 0, 1, 2, ... without a gap"),
    "from one": (dict(x=X, y=Y + 1), "labels run from 1 to 3 but take 3 different values"),
    "one class": (dict(x=X, y=Y * 0), "every row has the same label; two or more classes are needed"),
    "one text class": (dict(x=X, y=["a"] * 6), "every row has the same label"),
    "strange label": (dict(x=X, y=list("abcabc"), classes=["a", "b"]), "rows are labelled c, but the classes are a, b"),
    "same names": (dict(x=X, y=Y, classes=["a", "a", "b"]), "classes are a, a, b, but must be two or more different names"),
    "numbers as names": (dict(x=X, y=Y, classes=[0, 1, 2]), r"classes has type int64 and shape \(3,\), but must be a list of text"),
    "names too few": (dict(x=X, y=Y, feature_names=["pt"]), "1 feature names for 2 features"),
    "objects": (dict(x=X, y=np.array(list("abcabc"), object)), "an array in it cannot be read .*allow_pickle"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(tmp_path, case):
    content, message = BAD[case]
    path = save(tmp_path, **content)
    with pytest.raises(DataError, match=message) as caught:
        load(str(path))
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.npz: there is no such file"):
        load(str(tmp_path / "nowhere.npz"))
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(DataError, match=r"folder.npz: is not a file"):
        load(str(tmp_path / "folder.npz"))
    with pytest.raises(DataError, match=r"files that end in .xls cannot be read; .arff, .csv, .tsv, .txt, .parquet, .npz, .npy, .h5"):
        arrays.read(tmp_path / "rows.xls")


def test_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    path = save(tmp_path, x=X, y=Y)
    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(DataError, match=r"mydata.npz: cannot be read \(Permission denied\)"):
        load(str(path))


@pytest.mark.parametrize("content", [b"", b"no zip file at all", b"\x93NUMPY\x01\x00"])
def test_file_that_is_no_npz(tmp_path, content):
    (tmp_path / "mydata.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"mydata.npz: is no .npz file, or is cut short"):
        load(str(tmp_path / "mydata.npz"))


def test_every_truncation_and_a_flipped_bit_are_noticed(tmp_path):
    path = save(tmp_path, x=np.random.default_rng(0).normal(size=(50, 4)), y=np.arange(50) % 2)
    content = path.read_bytes()
    for n in range(0, len(content), 97):
        path.write_bytes(content[:n])
        with pytest.raises(DataError, match="cut short"):
            load(str(path))
    path.write_bytes(content[:300] + bytes([content[300] ^ 16]) + content[301:])
    with pytest.raises(DataError, match="an array in it cannot be read"):
        load(str(path))
