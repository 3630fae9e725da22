"""A frozen network to use: raw rows as arrays, lists, single rows, names; what it refuses; the command."""

import csv
import io

import numpy as np
import pytest
import run_folders

import hgqjax
from hgqjax import cli, data

WIDTHS = (3, 4, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved network of three named features and two classes, with a scaler."""
    path = tmp_path_factory.mktemp("network") / "p00"
    about = {"scaler": {"mean": [10.0, 0.0, -1.0], "scale": [2.0, 1.0, 4.0]}, "classes": ["no", "yes"], "features": ["a", "b", "c"]}
    model = run_folders.make_model(4.0, WIDTHS)
    type(model)(name="m", operations=model.operations, outputs=model.outputs, metadata=about).save(path)
    return path


ROWS = np.random.default_rng(0).normal(size=(50, 3)) * [2.0, 1.0, 4.0] + [10.0, 0.0, -1.0]


def test_raw_rows_go_through_the_scaler_and_the_exact_evaluator(folder):
    network = hgqjax.load(folder)
    scaled = ((ROWS - [10.0, 0.0, -1.0]) / [2.0, 1.0, 4.0]).astype(np.float32)
    assert np.array_equal(network.scale(ROWS), scaled)
    y = network.predict(ROWS)
    assert np.array_equal(y, network.description.evaluate(scaled)) and y.shape == (50, 2) and len(np.unique(y)) > 2
    assert network.classify(ROWS).tolist() == [("no", "yes")[n] for n in np.argmax(y, 1)]
    assert network.classes == ("no", "yes") and network.features == ("a", "b", "c") and network.targets == ("no", "yes")
    values = network.values(ROWS)
    assert np.array_equal(values[network.description.outputs[0]], y) and "x" not in values
    assert list(network.layers) == ["layers_0", "layers_1"] and network.layers["layers_0"].kernel.integers.shape == (3, 4)


def test_lists_integers_single_rows_and_names(folder):
    network = hgqjax.load(folder)
    whole = np.arange(6).reshape(2, 3)
    y = network.predict(whole.astype(np.float64))
    assert np.array_equal(network.predict(whole.tolist()), y) and np.array_equal(network.predict(whole), y)
    assert np.array_equal(network.predict(whole[1]), y[1]) and network.classify(whole[1].tolist()) in network.classes
    by_name = {"label": [0, 1], "c": whole[:, 2], "a": whole[:, 0], "b": whole[:, 1]}
    assert np.array_equal(network.predict(by_name), y)
    pl = pytest.importorskip("polars")
    assert np.array_equal(network.predict(pl.DataFrame(by_name)), y)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.zeros((2, 4)), r"rows have shape \(2, 4\); this network takes \(rows, 3\), or one row of 3: a, b, c"),
        ([[1.0, 2.0, "x"]], "rows are of type <U32; numbers are needed"),
        ([[1.0, 2.0, 3.0], [1.0]], r"rows cannot be made an array of shape \(rows, 3\)"),
        ({"a": [1.0], "b": [2.0]}, "rows have the columns a, b; this network needs a, b, c"),
        ([[1.0, np.nan, 3.0]], "row 0 of x has a NaN or an infinity"),
    ],
)
def test_other_rows_are_refused(folder, rows, said):
    with pytest.raises(ValueError, match=said):
        hgqjax.load(folder).predict(rows)


def test_a_network_without_scaler_classes_or_names_takes_rows_as_they_are(tmp_path):
    run_folders.make_model(4.0, WIDTHS).save(tmp_path / "m")
    network = hgqjax.load(tmp_path / "m")
    assert np.array_equal(network.predict(ROWS), network.description.evaluate(ROWS.astype(np.float32))) and network.targets == ("y0", "y1")
    with pytest.raises(ValueError, match="has no classes; predict gives its outputs"):
        network.classify(ROWS)
    with pytest.raises(ValueError, match="this network needs an array"):
        network.predict({"a": [1.0]})
    with pytest.raises(ValueError, match="there is no"):
        hgqjax.load(tmp_path / "none")


def test_the_command_predicts_rows_of_a_file_without_labels_in_any_order(folder, tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text("c,note,a,b\n" + "".join(f"{c},x,{a},{b}\n" for a, b, c in ROWS.tolist()))
    assert cli.main(["predict", str(folder), "--data", str(path), "--rows", "20"]) == 0
    found = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    network = hgqjax.load(folder)
    y = network.predict(ROWS[:20].astype(np.float64))
    assert [row["class"] for row in found] == network.classify(ROWS[:20]).tolist()
    assert [[float(row["no"]), float(row["yes"])] for row in found] == y.tolist()
    assert cli.main(["predict", str(folder), "--data", str(path), "--output", str(tmp_path / "y.csv")]) == 0
    assert len((tmp_path / "y.csv").read_text().splitlines()) == 51 and "50 rows, columns class, no, yes" in capsys.readouterr().out
    for argv, said in (
        (["--data", "jets"], "rows of jets have shape (16,), but model 'm' takes (3,)"),
        (["--data", str(path), "--rows", "0"], "--rows is 0; at least 1 is needed"),
    ):
        assert cli.main(["predict", str(folder), *argv]) == 2
        assert said in capsys.readouterr().err
    assert isinstance(data.read("jets").x, np.ndarray)
