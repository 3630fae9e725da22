"""Text tables as people write them: the right reading, or one sentence with the number of the line."""

import numpy as np
import pytest

from hgqjax import data
from hgqjax.data import Columns, DataError, arrays

pytest.importorskip("polars")
ROWS = [(0.5, 1.25, 0), (-1.5, 2.0, 1), (3.0, 4.5, 0)]


def write(tmp_path, text, name="t.csv", encoding="utf-8"):
    (tmp_path / name).write_bytes(text.encode(encoding))
    return tmp_path / name


def test_a_file_without_names_keeps_every_row(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 3)), rng.integers(0, 2, 100)
    np.savetxt(tmp_path / "rows.csv", np.c_[x, y], delimiter=",", fmt=["%.4f"] * 3 + ["%d"])
    loaded = data.load(tmp_path / "rows.csv")
    assert sum(map(len, (loaded.x_train, loaded.x_val, loaded.x_test))) == 100
    assert loaded.feature_names == ("c0", "c1", "c2") and "no line of names" in loaded.notes[0]
    np.testing.assert_array_equal(loaded.y_test, y[data.split(100)[2]])


@pytest.mark.parametrize(
    "text",
    [
        "a,b,y\n0.5,1.25,0\n-1.5,2.0,1\n3.0,4.5,0\n",
        "a;b;y\n0.5;1.25;0\n-1.5;2.0;1\n3.0;4.5;0\n",
        "a;b;y\n0,5;1,25;0\n-1,5;2,0;1\n3,0;4,5;0\n",
        "a\tb\ty\r\n0.5\t1.25\t0\r\n-1.5\t2.0\t1\r\n3.0\t4.5\t0\r\n",
        "a|b|y\n0.5|1.25|0\n-1.5|2.0|1\n3.0|4.5|0",
        "a b y\n0.5 1.25 0\n-1.5 2.0 1\n3.0 4.5 0\n",
        "# written today\n# a,b,y\n0.5,1.25,0\n-1.5,2.0,1\n# more\n3.0,4.5,0\n",
        '\n"a", b,"y"\n0.5,1.25,0\n\n-1.5,2.0,1\n3.0,4.5,0\n\n',
        "\ufeffa,b,y\n0.5,1.25,0\n-1.5,2.0,1\n3.0,4.5,0\n",
        ",a,b,y\n0,0.5,1.25,0\n1,-1.5,2.0,1\n2,3.0,4.5,0\n",
        "a,b,y,\n0.5,1.25,0,\n-1.5,2.0,1,\n3.0,4.5,0,\n",
        "a,b,y\n5e-1, 1.25,0\n-1.5,2,1\n+3,4.5 ,0\n",
    ],
)
def test_the_same_table_however_it_is_written(tmp_path, text):
    rows = arrays.read(write(tmp_path, text))
    assert rows.feature_names == ("a", "b") and rows.x.tolist() == [[a, b] for a, b, _ in ROWS] and rows.y.tolist() == [0, 1, 0]


def test_separators_in_names_and_quotes(tmp_path):
    rows = arrays.read(write(tmp_path, '"mass, GeV";"n tracks";class\n1.5;2;"a b"\n2.5;3;c\n'))
    assert rows.feature_names == ("mass, GeV", "n tracks") and rows.classes == ("a b", "c")
    assert arrays.read(write(tmp_path, "a\tclass\n1\tx,y\n2\tz\n", "t.txt")).classes == ("x,y", "z")


def test_labels_that_look_like_missing_ones(tmp_path):
    rows = arrays.read(write(tmp_path, "a,class\n1,NA\n2,yes\n3,null\n"))
    assert rows.classes == ("NA", "null", "yes") and rows.y.tolist() == [0, 2, 1]


BAD = {
    "label NA among numbers": ("a,y\n1,0\n\n2,NA\n3,1\n", "the label 'NA' at line 4 is no number, but others are; is it missing?"),
    "text in a feature": ("a,b,y\n1,2,0\n1,NA,1\n", "column 'b' holds 'NA' at line 3, but must hold numbers"),
    "nan": ("a,y\n1,0\n2,1\nnan,0\n", r"\(first at line 4\)"),
    "twice": ("a,b,a,y\n1,2,3,0\n", "the column 'a' is there twice, as column 1 and 3; rename one"),
    "no name": ("a,,y\n1,7,0\n2,8,1\n", "column 2 has no name; give it one, or leave the column out"),
    "empty column": ("a,b,y\n1,,0\n2,,1\n", "column 'b' is empty in every row; remove it"),
    "names and numbers": ("a,2,y\n1,2,0\n2,3,1\n", "line 1 has both numbers and the name 'a'; give every column a name, or none"),
    "counted names": ("0,1,2,label\n1.5,2.5,3.5,x\n", "line 1 is 0, 1, 2, label: names or values"),
    "ragged, short": ("a,b,y\n1,2,0\n1,2\n", "line 3 has 2 fields, but the table has 3 columns"),
    "ragged, long": ('a,b,y\n1,2,0\n"1",2,0\n1,2,0,4,5\n', "line 4 has 5 fields, but the table has 3 columns"),
    "two spaces": ("a  b  y\n1  2  0\n", "columns are separated by several spaces"),
    "no text": ("a,y\n1,0\n2,\x00\n", "holds bytes of 0, so it is no text"),
    "nothing": ("\n\n", "holds no line of values"),
    "comments": ("# a\n# b\n", "holds no line of values"),
    "infinite regression": ("a,y\n1,0.5\n2,inf\n", "label inf at line 3 is not a whole number|y is inf at line 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_one_sentence_with_the_line(tmp_path, case):
    text, message = BAD[case]
    with pytest.raises(DataError, match=message) as caught:
        arrays.read(write(tmp_path, text))
    assert str(caught.value).startswith(str(tmp_path / "t.csv")) and "\n" not in str(caught.value)


def test_other_encodings(tmp_path):
    with pytest.raises(DataError, match="is text in UTF-16; save it as UTF-8"):
        arrays.read(write(tmp_path, "a,y\n1,0\n", encoding="utf-16"))
    with pytest.raises(DataError, match=r"line 2 is no text in UTF-8\); save it as UTF-8"):
        arrays.read(write(tmp_path, "a,y\n1,é\n", encoding="latin1"))


def test_lines_are_counted_by_quotes_and_blanks(tmp_path):
    text = 'a,class\n1,"two\nlines"\n\n2,x\n-,y\n'
    with pytest.raises(DataError, match="column 'a' holds '-' at line 6"):
        arrays.read(write(tmp_path, text))


def test_whole_numbers_beyond_64_bits(tmp_path):
    rows = arrays.read(write(tmp_path, "a,y\n99999999999999999999,0\n1,1\n"))
    assert rows.x.tolist() == [[1e20], [1.0]]
    assert arrays.read(write(tmp_path, f"a,y\n{10**38},0\n1,1\n")).x.tolist() == [[1e38], [1.0]]
    with pytest.raises(DataError, match=r"1 of 2 rows hold .*\(first at line 3\); every value must be a finite float32"):
        arrays.read(write(tmp_path, f"a,y\n1,0\n{10**39},1\n"))


def test_numbers_with_fractions_are_a_regression(tmp_path):
    rows = arrays.read(write(tmp_path, "a,y\n1,0.5\n2,1\n"))
    assert rows.kind == "regression" and rows.y.tolist() == [0.5, 1.0]
    rows = arrays.read(write(tmp_path, "a,y\n1,3\n2,1\n"), Columns(target_is="regression"))
    assert rows.kind == "regression" and rows.y.tolist() == [3.0, 1.0]


def test_tens_of_thousands_of_columns(tmp_path):
    names = [f"f{n}" for n in range(40_000)] + ["label"]
    rows = [",".join(["1.25"] * 39_999 + [str(n), str(n % 2)]) for n in range(3)]
    found = arrays.read(write(tmp_path, "\n".join([",".join(names), *rows]) + "\n"))
    assert found.x.shape == (3, 40_000) and found.x[:, -1].tolist() == [0.0, 1.0, 2.0] and found.y.tolist() == [0, 1, 0]


def test_lines_that_end_with_carriage_returns_alone(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,y\r1,0\r2,1\r")
    with pytest.raises(DataError, match=r"t.csv: its lines end with carriage returns alone; save it with line feeds"):
        arrays.read(tmp_path / "t.csv")


def test_what_is_no_table_of_its_own(tmp_path):
    with pytest.raises(DataError, match="table 'events' is for .h5 and .root files; others have one table"):
        arrays.read(write(tmp_path, "a,y\n1,0\n"), Columns(table="events"))
    with pytest.raises(DataError, match=f"{tmp_path} is a folder: give jets, openml"):
        data.load(tmp_path)
