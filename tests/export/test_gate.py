import numpy as np
import pytest

from hgqjax.export.gate import ExportError, GateError, check_words, gate_rows, to_words
from hgqjax.export.model import ModelDescription
from hgqjax.export.operations import Constant, Dense, Input, Quantize


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
    with pytest.raises(ExportError, match="the gate feeds models with one input, this one has 2"):
        gate_rows(two)
    x = gate_rows(model, min_rows=100)
    with pytest.raises(GateError, match=r"tool gave output 'd' the shape \(3,\)"):
        check_words(model, x, (np.zeros(3), np.zeros(3)), tool="tool")
