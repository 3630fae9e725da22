"""The model description: exact evaluation, intervals, the folder on disk. Kinds of operations: test_operations.py."""

import hashlib
import json
from fractions import Fraction

import numpy as np
import pytest

from hgqjax import resources, testing
from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Constant, Dense, DescriptionError, Input, Quantize, Relu


def quantize(name, source, shape, k, i, f, rounding="RND", overflow="WRAP"):
    k, i, f = (np.broadcast_to(np.asarray(v, np.int64), shape) for v in (k, i, f))
    return Quantize(name=name, inputs=(source,), shape=shape, k=k, i=i, f=f, rounding=rounding, overflow=overflow)


def network(f=2, kernel=None, overflow="WRAP", relu=True):
    kernel = np.array([[1.5, -0.25], [0.0, 3.0], [-2.0, 0.5]]) if kernel is None else kernel
    operations = [
        Input(name="x", inputs=(), shape=(3,)),
        quantize("q", "x", (3,), 1, [2, 1, 0], [f, 1, 0], overflow=overflow),
        Dense(name="d", inputs=("q",), shape=(2,), kernel=Constant.from_values(kernel, 2), bias=Constant.from_values([0.5, -1.0], 1)),
    ]
    if relu:
        operations += [Relu(name="r", inputs=("d",), shape=(2,)), quantize("o", "r", (2,), 0, [2, 3], 1, "TRN", "SAT")]
    return ModelDescription(name="net", operations=tuple(operations), outputs=(operations[-1].name,), sample=np.zeros((2, 3), np.float32))


def rows(n=500, seed=0):
    return np.random.default_rng(seed).normal(0, 4, (n, 3)).astype(np.float32)


@pytest.mark.parametrize("overflow", ["WRAP", "SAT", "SAT_SYM"])
def test_evaluation_equals_fractions(overflow):
    model, x = network(overflow=overflow), rows()
    quantizer, dense = model["q"], model["d"]
    for row, got in zip(x, model.evaluate(x), strict=True):
        q = [
            testing.exact_quantize(float(v), 1, int(i), int(f), "RND", overflow)
            for v, i, f in zip(row, quantizer.i, quantizer.f, strict=True)
        ]
        y = [
            sum(a * Fraction(w) for a, w in zip(q, column, strict=True)) + Fraction(b)
            for column, b in zip(dense.kernel.values.T, dense.bias.values, strict=True)
        ]
        y = [testing.exact_quantize(float(max(v, 0)), 0, i, 1, "TRN", "SAT") for v, i in zip(y, (2, 3), strict=True)]
        assert [Fraction(float(v)) for v in got] == y


def test_no_overflow_however_wide():
    for f in (2, 30, 48):  # float64, int64 and Python ints inside
        model = network(f=f, relu=False)
        x = rows(50).astype(np.float64) * (1 + 2.0**-40)
        values = model.integers(x)["d"]
        grid, kernel, bias = model.grids["d"], model["d"].kernel.values, model["d"].bias.values
        q = model.integers(x)["q"]
        for row, got in zip(q, values, strict=True):
            exact = [Fraction(int(m), 2 ** int(g)) for m, g in zip(row, model["q"].f, strict=True)]
            want = [sum(a * Fraction(w) for a, w in zip(exact, kernel[:, n], strict=True)) + Fraction(bias[n]) for n in range(2)]
            assert [Fraction(int(m)) / Fraction(2) ** int(g) for m, g in zip(got, grid.f, strict=True)] == want


def test_intervals_hold_every_value_and_are_reached():
    model = network()
    for name, values in model.integers(rows(4000)).items():
        if name != "x":
            grid = model.grids[name]
            assert np.all(values >= grid.low) and np.all(values <= grid.high), name
    q = model.integers(rows(4000))["q"]
    assert list(q.min(0)) == list(model.grids["q"].low) and list(q.max(0)) == list(model.grids["q"].high)


def test_an_output_wider_than_float64_is_refused():
    with pytest.raises(DescriptionError, match="output 'd' has [0-9]+ bits, float64 holds 53"):
        network(f=60, relu=False).evaluate(rows(2))


def test_costs_count_declared_and_enclosed_bits():
    model = network()
    bits = np.array([4, 2, 0])
    kernel = model["d"].kernel
    assert kernel.bits.tolist() == [[3, 1], [0, 4], [4, 2]] and kernel.enclosed_bits.tolist() == [[2, 1], [0, 2], [1, 1]]
    bias = model["d"].bias.bits.mean() * 2
    assert resources.ebops(model).total == bits @ kernel.bits.sum(1) + bias
    assert resources.ebops(model, "paper_v1").total == (bits + 1) * [1, 1, 0] @ kernel.enclosed_bits.sum(1)


def test_folder_round_trip(tmp_path):
    model = network()
    model.save(tmp_path / "m")
    again = ModelDescription.load(tmp_path / "m")
    assert np.array_equal(again.evaluate(rows()), model.evaluate(rows())) and again.summary() == model.summary()
    assert np.array_equal(again.sample, model.sample) and sorted(p.name for p in tmp_path.iterdir()) == ["m"]
    with pytest.raises(FileExistsError, match="exists already"):
        model.save(tmp_path / "m")


def test_damaged_folders_are_named(tmp_path):
    network().save(tmp_path / "m")
    json_file, npz = tmp_path / "m" / "description.json", tmp_path / "m" / "arrays.npz"
    good = json_file.read_text()
    raw = bytearray(npz.read_bytes())
    raw[100] ^= 1
    npz.write_bytes(raw)
    with pytest.raises(DescriptionError, match="does not have the checksum"):
        ModelDescription.load(tmp_path / "m")
    for text, message in [
        (good.replace('"version": 1', '"version": 99'), "is not hgqjax-model version 1"),
        (good[:-20], "is not a model description"),
    ]:
        json_file.write_text(text)
        with pytest.raises(DescriptionError, match=message):
            ModelDescription.load(tmp_path / "m")
    with pytest.raises(DescriptionError, match="is not a model description"):
        ModelDescription.load(tmp_path / "nowhere")


def test_nothing_is_left_when_saving_fails(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match="No space left"):
        network().save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("operations", "outputs", "message"),
    [
        (
            [Input(name="x", inputs=(), shape=(3,)), Relu(name="r", inputs=("x",), shape=(3,))],
            ("r",),
            "layer 'r' reads the unquantized input",
        ),
        ([Relu(name="r", inputs=("x",), shape=(3,))], ("r",), "operation 'r' reads 'x', which does not come before it"),
        ([Input(name="a b", inputs=(), shape=(3,))], ("a b",), "needs a unique C identifier"),
        ([Input(name="x", inputs=(), shape=(3,))], ("y",), "output 'y' is not an operation"),
    ],
)
def test_unsound_graphs_are_named(operations, outputs, message):
    with pytest.raises(DescriptionError, match=message):
        ModelDescription(name="n", operations=tuple(operations), outputs=outputs)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 4), np.float32), r"x is float32 of shape \(2, 4\); floats of shape \(rows, 3\)"),
        (np.zeros((2, 3), np.int32), "x is int32"),
        (np.array([[0, 0, 0], [0, np.nan, 0]], np.float32), "row 1 of x has a NaN"),
    ],
)
def test_bad_rows_are_named(x, message):
    with pytest.raises(DescriptionError, match=message):
        network().evaluate(x)


def test_constants_off_their_grid_are_refused():
    for values, f in (([0.3], 1), ([np.nan], 1), ([2.0**60], 0)):
        with pytest.raises(DescriptionError, match="a constant"):
            Constant.from_values(np.array(values), f)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda ops: ops[0].update(shape=[1_000_000_000]), r"operation 'x' has the shape \[1000000000\]; 16777216 values of all are legal"),
        (lambda ops: ops[0].update(shape=[2**12] * 2, name="x"), "operation 'q' has the shape"),
        (lambda ops: ops[0].update(shape="three"), "a list of whole numbers is needed"),
        (lambda ops: ops[0].update(name="é"), "operation 'é' needs a unique C identifier as name"),
        (lambda ops: ops[0].update(inputs=[10**9]), "has a number beyond 16777216"),
    ],
)
def test_sizes_are_checked_before_anything_is_made(tmp_path, change, message):
    network().save(tmp_path / "m")
    path = tmp_path / "m/description.json"
    header = json.loads(path.read_text())
    change(header["operations"])
    path.write_text(json.dumps(header))
    with pytest.raises(DescriptionError, match=message):
        ModelDescription.load(tmp_path / "m")


def test_widths_of_a_million_bits_are_refused(tmp_path):
    network().save(tmp_path / "m")
    with np.load(tmp_path / "m/arrays.npz") as npz:
        arrays = {name: npz[name] for name in npz.files}
    arrays["q/i"] = arrays["q/i"] + 10**6
    np.savez_compressed(tmp_path / "m/arrays.npz", **arrays)
    header = json.loads((tmp_path / "m/description.json").read_text())
    header["arrays_sha256"] = hashlib.sha256((tmp_path / "m/arrays.npz").read_bytes()).hexdigest()
    (tmp_path / "m/description.json").write_text(json.dumps(header))
    with pytest.raises(DescriptionError, match="array 'q/i' has a width that is no number, or beyond 1000 bits"):
        ModelDescription.load(tmp_path / "m")
