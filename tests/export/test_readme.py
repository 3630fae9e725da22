"""README.md of a project folder: the order, scaling and range of the inputs, what comes out; names of strangers stay text."""

import numpy as np

from hgqjax.description import ModelDescription
from hgqjax.description import operations as o
from hgqjax.export import readme


def model(about, size=3, overflow="WRAP"):
    k, i, f = np.ones((size,), np.int64), np.full((size,), 2), np.full((size,), 1)
    i[1] = -3  # k + i + f < 1: this element has no bit
    x = o.Input(name="x", inputs=(), shape=(size,))
    q = o.Quantize(name="q", inputs=("x",), shape=(size,), k=k, i=i, f=f, rounding="RND", overflow=overflow)
    return ModelDescription(name="m", operations=(x, q), outputs=("q",), metadata=about)


def test_a_line_for_each_input_with_its_scaling_and_range(tmp_path):
    about = {
        "features": ["pt", "eta|<b>", "phi"],
        "classes": ["a", "b", "c"],
        "scaler": {"mean": [1.5, 0.0, 2.0], "scale": [0.1, 1.0, 4.0]},
    }
    readme.write(model(about), tmp_path, "Built so.")
    text = (tmp_path / readme.FILE).read_text()
    assert "Built so." in text and "(raw - mean) / scale" in text and "wraps around" in text
    assert "| 0 | pt | -4 .. 3.5 | 0.5 | 1.5 | 0.1 |" in text and "| 2 | phi | -4 .. 3.5 | 0.5 | 2.0 | 4.0 |" in text
    assert "| 1 | eta\\|\\<b\\> | not used |  | 0.0 | 1.0 |" in text and "a, b, c, in this order" in text


def test_without_scaler_and_names_and_of_many_elements(tmp_path):
    readme.write(model({}, overflow="SAT"), tmp_path, "")
    text = (tmp_path / readme.FILE).read_text()
    assert "as they are" in text and "| 0 | (0,) | -4 .. 3.5 | 0.5 |" in text and "is clipped" in text
    readme.write(model({}, size=300), tmp_path, "")
    text = (tmp_path / readme.FILE).read_text()
    assert "The ranges of the 300 elements lie within -4 .. 3.5; 299 of them are used." in text
