"""Data sets of several inputs: from tables, from arrays, muon stations; and networks that are used with them."""

import re

import numpy as np
import pytest

import hgqjax
from hgqjax import cli, data, evaluation, runs, training
from hgqjax.data import Columns, DataError, muon
from hgqjax.data import inputs as inputs_
from hgqjax.description import ModelDescription
from hgqjax.description import operations as o
from hgqjax.evaluation import RowReader
from hgqjax.evaluation.rows import raw_rows
from hgqjax.runs import networks

RNG = np.random.default_rng(0)
N = 300
JET, PARTICLES = RNG.normal(size=(N, 3)).astype(np.float32), RNG.normal(2.0, 5.0, size=(N, 2, 2)).astype(np.float32)
Y = (JET[:, 0] + PARTICLES[:, 1, 0] / 5 > 0).astype(np.int32)
SEVERAL = Columns(inputs=("jet=x_jet", "particles=x_particles"))


@pytest.fixture
def arrays(tmp_path):
    np.savez(tmp_path / "rows.npz", x_jet=JET, x_particles=PARTICLES, y=Y)
    return str(tmp_path / "rows.npz")


@pytest.fixture
def table(tmp_path):
    lines = [f"{a},{b},{c},{y}" for (a, b, c), y in zip(JET, Y, strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["pt,eta,mass,class", *lines]) + "\n")
    return str(tmp_path / "rows.csv")


def test_columns_of_a_table_in_groups(table):
    found = data.load(table, Columns(inputs=("a=mass,pt", "eta")))
    assert found.model_shape == ((2,), (1,)) and found.feature_names == ("mass", "pt", "eta")
    whole = data.load(table)
    a, eta = found.of_model(found.x_test)
    np.testing.assert_array_equal(a, whole.x_test[:, [2, 0]])
    np.testing.assert_array_equal(eta, whole.x_test[:, [1]])


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_an_array_for_each_input(arrays, tmp_path, suffix):
    path = arrays
    if suffix == "h5":
        h5py = pytest.importorskip("h5py")
        path = str(tmp_path / "rows.h5")
        with h5py.File(path, "w") as file:
            for name, array in {"x_jet": JET, "x_particles": PARTICLES, "y": Y}.items():
                file[name] = array
    found = data.load(path, SEVERAL)
    assert found.model_shape == ((3,), (2, 2)) and [part.name for part in found.inputs] == ["jet", "particles"]
    train = data.split(N)[0]
    jet, particles = found.of_model(found.x_train * found.scaler.scale + found.scaler.mean)
    np.testing.assert_allclose(jet, JET[train], atol=1e-5)
    np.testing.assert_allclose(particles, PARTICLES[train], atol=1e-5)
    assert found.feature_names == ("x_jet_0", "x_jet_1", "x_jet_2", *(f"x_particles_{a}_{b}" for a in (0, 1) for b in (0, 1)))
    np.testing.assert_array_equal(found.y_train, Y[train])
    assert training.Data.of(found).x_train[1].shape == (len(train), 2, 2)


def test_hits_of_three_stations():
    found = data.load("muon", rows=100)
    assert found.model_shape == ((50, 3), (50, 2), (50, 2))
    for part, station in zip(found.of_model(found.x_train), muon.STATIONS, strict=True):
        np.testing.assert_array_equal(part, found.x_train[:, :, station])


@pytest.mark.parametrize(
    ("change", "inputs", "message"),
    [
        (
            {"x_particles": PARTICLES[:7]},
            SEVERAL.inputs,
            "array 'x_particles' has 7 rows, 'x_jet' has 300; each input needs as",
        ),
        ({"y": Y[:7]}, SEVERAL.inputs, "array 'y' has 7 rows, 'x_jet' has 300"),
        ({}, ("jet=x_jet", "b=x_particle"), "has no array 'x_particle' (did you mean 'x_particles'?)"),
        ({}, ("jet=x_jet,x_particles", "y"), "input 'jet' joins the arrays x_jet, x_particles; only arrays (rows, features) can be joined"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, change, inputs, message):
    np.savez(tmp_path / "rows.npz", **{"x_jet": JET, "x_particles": PARTICLES, "y": Y} | change)
    with pytest.raises(DataError, match=re.escape(message)):
        data.load(tmp_path / "rows.npz", Columns(inputs=inputs))


@pytest.mark.parametrize("inputs", [("a=b", "a=c"), ("a=b,b", "c"), ("a=b", "c="), ("a b=c", "d")])
def test_words_that_are_no_inputs(inputs):
    with pytest.raises(ValueError, match=r"^inputs is .*; NAME=COLUMN,COLUMN for each is needed, each name a word, each column once$"):
        Columns(inputs=inputs)
    with pytest.raises(ValueError, match="inputs has one input, 'a=b'; features are for a network of one"):
        Columns(inputs=("a=b",))
    with pytest.raises(ValueError, match="features and inputs exclude each other"):
        Columns(inputs=("a", "b"), features=("c",))


def model(columns, dataset):
    """A network that gives its scaled inputs back, rounded."""
    operations = []
    for n, part in enumerate(dataset.inputs):
        wide = np.full(part.shape, 6)
        operations.append(o.Input(name=f"x{n}", inputs=(), shape=part.shape))
        formats = {"k": wide // 6, "i": wide, "f": wide + 4, "rounding": "RND", "overflow": "WRAP"}
        operations.append(o.Quantize(name=f"q{n}", inputs=(f"x{n}",), shape=part.shape, **formats))
    about = {"classes": list(dataset.classes), "features": list(dataset.feature_names), "inputs": inputs_.to_json(dataset.inputs)}
    about |= {"scaler": {part: getattr(dataset.scaler, part).tolist() for part in ("mean", "scale")}}
    about |= {"columns": {"inputs": list(columns.inputs)}}
    return ModelDescription(name="two", operations=tuple(operations), outputs=("q0", "q1"), metadata=about)


def test_a_network_takes_raw_rows_in_every_form(arrays, table):
    dataset = data.load(arrays, SEVERAL)
    network = evaluation.Network(model(SEVERAL, dataset))
    expected = [part.astype(np.float32) for part in dataset.of_model(dataset.scaler(np.c_[JET, PARTICLES.reshape(N, 4)]))]
    for rows in ((JET, PARTICLES), {"jet": JET, "particles": PARTICLES}, np.c_[JET, PARTICLES.reshape(N, 4)]):
        for found, wanted in zip(network.scale(rows), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert [part.shape for part in network.predict((JET[0].tolist(), PARTICLES[0]))] == [(3,), (2, 2)]
    np.testing.assert_array_equal(raw_rows(network.description, arrays), np.c_[JET, PARTICLES.reshape(N, 4)])
    for found, wanted in zip(RowReader()(network.description, arrays)[0], expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    columns = Columns(inputs=("a=mass,pt", "eta"))
    network = evaluation.Network(model(columns, data.load(table, columns)))
    by_name = network.scale({"eta": JET[:, 1], "pt": JET[:, 0], "mass": JET[:, 2]})
    for found, wanted in zip(by_name, network.scale((JET[:, [2, 0]], JET[:, [1]])), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_raw_rows_of_other_features_are_one_sentence(arrays, table):
    network = evaluation.Network(model(SEVERAL, data.load(arrays, SEVERAL)))
    with pytest.raises(ValueError, match=r"inputs have 300, 2 rows; each input needs as many as the others"):
        network.predict((JET, PARTICLES[:2]))
    with pytest.raises(ValueError, match=r"rows have shape \(300, 2\); this network takes \(rows, 3\), or one row of 3"):
        network.predict((JET[:, :2], PARTICLES))
    with pytest.raises(ValueError, match=r"rows.csv: has no (column|array) 'x_jet'"):
        raw_rows(network.description, table)


@pytest.mark.slow
def test_a_run_with_two_inputs_from_the_command_to_the_project(arrays, tmp_path, capsys):
    words = f"sweep --data {arrays} --inputs jet=x_jet particles=x_particles --model.hidden 4 --train.epochs 2 --train.batch-size 60"
    words += f" --betas 1e-6 --points 1 --projects 1 --gate-rows 400 --results {tmp_path / 'results'}"
    assert cli.main(words.split()) == 0
    assert "2 inputs: jet (3,), particles (2, 2)" in capsys.readouterr().out
    (run,) = (tmp_path / "results/sweep").iterdir()
    readme = (run / "projects/p00/README.md").read_text()
    assert "(jet), shape (3,)" in readme and "(particles), shape (2, 2)" in readme and "x\\_jet\\_2" in readme
    network = hgqjax.load(run / "models/p00")
    assert network.predict((JET, PARTICLES)).shape == (N, 2)
    assert cli.main(["predict", str(run / "models/p00"), "--data", arrays]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + N and [line.split(",")[0] for line in lines[1:]] == network.classify((JET, PARTICLES)).tolist()
    assert cli.main(["summary", str(run / "models/p00"), "--data", arrays]) == 0
    assert "accuracy" in capsys.readouterr().out
    assert runs.resume(run, progress=False) == run and networks.several(((3,), (2, 2)))
