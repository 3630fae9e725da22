import numpy as np
import pytest

from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Constant, Dense, Input, Quantize
from hgqjax.export import gate
from hgqjax.export.gate import ExportError, GateError, check_words, gate_rows, to_words


@pytest.fixture
def model():
    x = Input(name="x", inputs=(), shape=(2, 2))
    formats = {"k": np.array([[1, 0], [1, 1]]), "i": np.array([[2, 3], [-1, -3]]), "f": np.array([[1, -1], [4, 2]])}
    q = Quantize(name="q", inputs=("x",), shape=(2, 2), rounding="RND", overflow="SAT", **formats)
    kernel = Constant.from_values(np.array([[0.5, 1.0], [-2.0, 0.25]]), np.array(2))
    d = Dense(name="d", inputs=("q",), shape=(2, 2), kernel=kernel, bias=None)
    return ModelDescription(name="m", operations=(x, q, d), outputs=("d", "q"), sample=np.full((5, 2, 2), 0.25, np.float32))


def test_rows_hold_the_data_the_limits_and_random_words(model):
    x = gate_rows(model, rows=np.full((3, 2, 2), 7.125), min_rows=4000)
    assert x.dtype == np.float64 and len(x) >= 4000 and np.all(np.isfinite(x))
    assert np.all(x[:5] == 0.25) and np.all(x[5:8] == 7.125)
    for index, (low, high, step) in {(0, 0): (-4, 3.5, 0.5), (0, 1): (0, 6, 2), (1, 0): (-0.5, 0.4375, 0.0625)}.items():
        seen = set(x[(slice(8, None), *index)])
        assert {low - step, low, low - step / 2, high, high + step / 2, high + step, 0.0, step / 2, -step / 2} <= seen
        inside = np.arange(low, high + step, step)
        assert set(inside) <= seen and min(seen) < low - step and max(seen) > high + step
        assert np.any(np.array(list(seen)) / step % 1 != 0)  # finer than the quantizer
    flat = x[8:].reshape(-1, 4)[:, :3]
    low, high = np.array([-4, 0, -0.5]), np.array([3.5, 6, 0.4375])
    assert np.any(np.all(flat == low, 1)) and np.any(np.all(flat == high, 1))  # all at once
    np.testing.assert_array_equal(x, gate_rows(model, rows=np.full((3, 2, 2), 7.125), min_rows=4000))
    assert np.any(x != gate_rows(model, rows=np.full((3, 2, 2), 7.125), min_rows=4000, seed=1))


def test_equal_words_pass_and_one_wrong_word_is_named(model):
    x = gate_rows(model, min_rows=100)
    words = tuple(to_words(v, model.grids[name]) for v, name in zip(model.evaluate(x), model.outputs, strict=True))
    assert check_words(model, x, words, tool="tool") == 2 * 4 * len(x)
    words[1][17, 0, 1] += 1
    words[1][20, 1, 0] += 0.5  # off the grid
    want = model.integers(x)["q"][17, 0, 1]
    message = (
        rf"tool differs from the model in 2 of {8 * len(x)} output words; first: output 'q' index \[0, 1\] row 17 should be "
        rf"the word {want} \(value {want * 2.0}\), tool has {want + 1} \(value {want * 2.0 + 2}\), f=-1"
    )
    with pytest.raises(GateError, match=message):
        check_words(model, x, words, tool="tool")


def test_a_wrong_shape_is_named(model):
    with pytest.raises(ExportError, match=r"rows of shape \(4, 2\) were given for the gate; \(rows, 2, 2\) is needed"):
        gate_rows(model, rows=np.zeros((4, 2)))
    two = ModelDescription(name="m", operations=(*model.operations, Input(name="z", inputs=(), shape=(1,))), outputs=model.outputs)
    with pytest.raises(ExportError, match="must be a tuple of 2 arrays, one for each input"):
        gate_rows(two, rows=np.zeros((4, 2)))
    x = gate_rows(model, min_rows=100)
    with pytest.raises(GateError, match=r"tool gave output 'd' the shape \(3,\)"):
        check_words(model, x, (np.zeros(3), np.zeros(3)), tool="tool")


def test_wide_inputs_get_few_rows_where_few_are_asked_for():
    """3072 elements: neither data nor limits crowd out the random words, and more rows than asked for stay a few."""
    shape = (32, 32, 3)
    formats = {name: np.full(shape, v) for name, v in zip("kif", (1, 2, 3), strict=True)}
    q = Quantize(name="q", inputs=("x",), shape=shape, rounding="RND", overflow="SAT", **formats)
    operations, sample = (Input(name="x", inputs=(), shape=shape), q), np.full((900, *shape), 0.25, np.float32)
    wide = ModelDescription(name="wide", operations=operations, outputs=("q",), sample=sample)
    x = gate_rows(wide, min_rows=200)
    assert 200 <= len(x) < 400 and np.all(x[:100] == 0.25) and np.all(x[100] == -4.125)
    random = x[-100:].reshape(100, -1)
    assert np.all(random.std(0) > 1) and np.any(x == -4.125 + 0.0625) and np.any(x == 3.875 + 0.125)
    assert len(gate_rows(wide, min_rows=200, rows=np.zeros((50, *shape)))) == len(x) + 50


def test_large_networks_are_compared_in_parts(model, monkeypatch):
    x = gate_rows(model, min_rows=50)
    words = tuple(to_words(v, model.grids[name]) for v, name in zip(model.evaluate(x), model.outputs, strict=True))
    lengths = []
    monkeypatch.setattr(gate, "CHUNK", 7 * 12)
    integers = ModelDescription.integers
    monkeypatch.setattr(ModelDescription, "integers", lambda self, x: lengths.append(len(x)) or integers(self, x))
    assert check_words(model, x, words, tool="tool") == 2 * 4 * len(x)
    assert max(lengths) == 7 and sum(lengths) == len(x)
