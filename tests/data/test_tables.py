"""CSV, Parquet and ARFF: which column is the label, and the sentence for each thing that is refused."""

import sys

import numpy as np
import pytest

from hgqjax import data
from hgqjax.data import Columns, DataError, arrays
from hgqjax.data.rows import JET_FEATURES
from hgqjax.data.tables import Table, choose

pl = pytest.importorskip("polars")

ARFF = """% five jets
@RELATION jets
@ATTRIBUTE mass REAL
@ATTRIBUTE 'number of tracks' numeric
@ATTRIBUTE class {'g', q,t,w,z}

@DATA
% a comment
80.5, 12, 'w'
1.5e-1,3,q
2,4,t

3,5,g
"""


def write(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_arff(tmp_path):
    rows = arrays.read(write(tmp_path, "jets.arff", ARFF))
    assert rows.feature_names == ("mass", "number of tracks") and rows.name == "arrays jets.arff"
    assert rows.x.tolist() == [[80.5, 12.0], [0.15, 3.0], [2.0, 4.0], [3.0, 5.0]]
    assert rows.classes == ("g", "q", "w", "z", "t") and rows.y.tolist() == [2, 1, 4, 0]


def test_csv_keeps_float64_until_it_is_scaled(tmp_path):
    rows = arrays.read(write(tmp_path, "t.csv", "a, b,Class\n0.1,2,no\n16777217.1,3, yes\n"))
    assert rows.x.tolist() == [[0.1, 2.0], [16777217.1, 3.0]]
    assert rows.feature_names == ("a", "b") and rows.classes == ("no", "yes") and rows.y.tolist() == [0, 1]


def test_parquet_equals_csv(tmp_path):
    frame = pl.DataFrame({"y": [1, 0, 1], "a": np.array([1, 2, 3], np.float32), "b": [True, False, True]})
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_csv(tmp_path / "t.csv")
    one, two = arrays.read(tmp_path / "t.parquet"), arrays.read(tmp_path / "t.csv")
    np.testing.assert_array_equal(one.x, two.x)
    assert one.y.tolist() == two.y.tolist() == [1, 0, 1] and one.feature_names == two.feature_names == ("a", "b")


def test_categorical_labels(tmp_path):
    pl.DataFrame({"a": [1.0, 2.0], "jet_type": ["w", "q"]}, schema_overrides={"jet_type": pl.Categorical}).write_parquet(
        tmp_path / "t.parquet"
    )
    assert arrays.read(tmp_path / "t.parquet").y.tolist() == [1, 0]


@pytest.mark.parametrize(
    "header, row, label",
    [
        ("a,y,b", "1,0,2", "y"),
        ("jet_type,a,b", "g,1,2", "jet_type"),
        ("a,kind,b", "1,g,2", "kind"),
        ("a,b,kind", "1.5,2.5,0", "kind"),
    ],
)
def test_label_column(tmp_path, header, row, label):
    rows = arrays.read(write(tmp_path, "t.csv", f"{header}\n{row}\n"))
    assert set(rows.feature_names) == set(header.split(",")) - {label}


def test_jets_columns_in_any_order(tmp_path):
    names = ("class", *JET_FEATURES[::-1])
    rows = arrays.read(write(tmp_path, "t.csv", ",".join(names) + "\n" + "z," + ",".join(map(str, range(16))) + "\n"))
    assert rows.feature_names == JET_FEATURES and rows.x.tolist() == [list(map(float, range(15, -1, -1)))]


def test_table_is_split_and_scaled_like_arrays(tmp_path):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 3)), np.arange(40) % 2
    np.savez(tmp_path / "t.npz", x=x, y=y)
    pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": y}).write_csv(tmp_path / "t.csv")
    one, two = data.load(str(tmp_path / "t.npz")), data.load(str(tmp_path / "t.csv"))
    np.testing.assert_array_equal(one.x_test, two.x_test)
    np.testing.assert_array_equal(one.y_train, two.y_train)


BAD = {
    "no label": (
        "t.csv",
        "a,b\n1,2\n",
        "no column is clearly the label; name it with --target, or call it class, jet_type",
    ),
    "two labels": ("t.csv", "a,class,y\n1,2,3\n", "columns class, y all could be the label"),
    "text feature": (
        "t.csv",
        "a,b,y\n1,2,0\n1,x,1\n",
        "column 'b' holds 'x' at line 3, but must hold numbers; --features",
    ),
    "empty": ("t.csv", "", "holds no line of values"),
    "header alone": ("t.csv", "a,y\n", "holds no line of values but that of names"),
    "one column": ("t.csv", "y\n0\n", "line 1 has one column; a feature and a label are needed, separated by commas, semicolons"),
    "line too long": ("t.csv", "a,y\n1,0\n1,0,3\n", "line 3 has 3 fields, but the table has 2 columns"),
    "line cut short": ("t.csv", "a,y\n1,0\n1\n", "line 3 has 1 field, but the table has 2 columns"),
    "missing value": ("t.csv", "a,y\n1,0\n,1\n", r"1 of 2 rows hold missing, NaN or infinite values \(first at line 3\)"),
    "float labels": ("t.csv", "a,y\n1,inf\n2,1\n", "label inf at line 2 is not a whole number"),
    "no arff": ("t.arff", "a,b\n1,2\n", "has no @DATA line, so it is no ARFF file or ends early"),
    "arff cut in a row": ("t.arff", ARFF + "4,", r"1 rows have no label \(first at index 4\)"),
    "arff unknown value": ("t.arff", ARFF + "?,4,q\n", r"1 of 5 rows hold .*\(first at index 4\)"),
    "arff strange class": ("t.arff", ARFF + "4,4,h\n", "rows are labelled h, but the classes are g, q, t, w, z"),
    "arff text in numbers": ("t.arff", ARFF + "x,4,q\n", "cannot be read as .arff .could not parse `x`"),
    "arff date": ("t.arff", "@ATTRIBUTE day DATE\n@DATA\n1\n", "line 1 is no attribute of numbers, text or {names}"),
    "arff twice": ("t.arff", "@ATTRIBUTE a REAL\n@ATTRIBUTE a REAL\n@DATA\n1,2\n", "attribute 'a' is there twice"),
    "arff empty": ("t.arff", "@ATTRIBUTE a REAL\n@ATTRIBUTE y REAL\n@DATA\n", "holds 0 rows of 2 columns"),
    "no parquet": ("t.parquet", "PAR1", "cannot be read as .parquet"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables(tmp_path, case):
    name, text, message = BAD[case]
    path = write(tmp_path, name, text)
    with pytest.raises(DataError, match=message) as caught:
        arrays.read(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path):
    for name in ("t.csv", "t.arff"):
        (tmp_path / name).write_bytes(b"\xff\x80,\x80\n\x81,\n")
        with pytest.raises(DataError, match=f"{name}: cannot be read as"):
            arrays.read(tmp_path / name)


def test_truncated_parquet(tmp_path):
    path = tmp_path / "t.parquet"
    pl.DataFrame({"a": np.arange(100.0), "y": np.arange(100) % 2}).write_parquet(path)
    content = path.read_bytes()
    for n in (0, 7, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:n])
        with pytest.raises(DataError, match=r"cannot be read as .parquet"):
            arrays.read(path)


def test_parquet_with_lists(tmp_path):
    pl.DataFrame({"a": [[1.0], [2.0]], "y": [0, 1]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column 'a' holds a ndarray at index 0"):
        arrays.read(tmp_path / "t.parquet")


def test_without_polars(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(DataError, match=r"reading .csv files needs polars; pip install 'hgqjax\[run\]'"):
        arrays.read(write(tmp_path, "t.csv", "a,y\n1,0\n"))


def test_columns_of_different_lengths():
    table = Table({"a": np.ones(3), "y": np.ones(2, np.int32)})
    with pytest.raises(DataError, match="demo: its 2 columns have 2, 3 rows; each needs as many"):
        choose(table, Columns(), "demo")
