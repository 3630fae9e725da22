"""The one-screen summary: each warning where its reason is, and none elsewhere."""

import re

import numpy as np
import pytest

from hgqjax import data
from hgqjax.data.overview import overview, warnings_of

N = 1000
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))


def load(tmp_path, **arrays):
    np.savez(tmp_path / "t.npz", **({"x": X, "y": np.arange(N) % 2} | arrays))
    return data.load(tmp_path / "t.npz")


def with_column(values):
    x = X.copy()
    x[:, 1] = values
    return x


def test_nothing_to_warn_of(tmp_path):
    loaded = load(tmp_path)
    assert warnings_of(loaded) == []
    assert overview(loaded).splitlines() == [
        "arrays t.npz: 1000 rows (720 train, 80 val, 200 test), 3 features",
        f"  target: 2 classes: 0 {100 * np.mean(loaded.y_train == 0):.0f} %, 1 {100 * np.mean(loaded.y_train == 1):.0f} %",
    ]


OUTLIER = np.where(np.arange(N) == data.split(N)[0][5], 1e7, X[:, 1])
RARE = np.where(np.arange(N) % 100 == 0, 2, np.arange(N) % 2)
CASES = {
    "constant": ({"x": with_column(7.0)}, "feature 'x1' is constant in the training rows"),
    "outlier": ({"x": with_column(OUTLIER)}, r"feature 'x1' has an outlier \(training row 5\) that makes its span .* times that of 99 %"),
    "small class": ({"y": RARE}, "class '2' has . training rows"),
    "unbalanced": (
        {"y": (np.arange(N) % 25 == 0).astype(int)},
        r"2. times as many rows of '0' as of '1': saying '0' always is right",
    ),
    "large target": ({"y": 5000.0 + X[:, 0], "unit": "MeV"}, "target 'y' has the mean 5000 and the standard deviation 0.9"),
    "constant target": ({"y": np.full(N, 2.5), "unit": "MeV"}, "target 'y' is constant, 2.5"),
    "target outlier": ({"y": OUTLIER / 1e4, "unit": "MeV"}, "target 'y' has an outlier"),
    "rare label": ({"y": np.stack([np.arange(N) % 2, np.arange(N) < 3], 1), "unit": None}, r"label 'y1' is yes in . of 720 training rows"),
    "weights": ({"weight": np.where(np.arange(N) % 200 == 0, 1e6, 1.0)}, "720 training rows count as . equal ones"),
    "pixels": ({"x": np.zeros((N, 4, 4, 1)) + np.arange(16).reshape(4, 4, 1)}, "16 of 16 values of a row are constant"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_warning(tmp_path, case):
    arrays, message = CASES[case]
    loaded = load(tmp_path, **{name: values for name, values in arrays.items() if values is not None})
    (warning, *_) = [w for w in warnings_of(loaded)]

    assert re.search(message, warning), warning
    assert f"  warning: {warning}" in overview(loaded).splitlines()


def test_it_is_one_screen(tmp_path):
    x = np.ones((N, 40))
    x[:, 0] = X[:, 0]
    text = overview(load(tmp_path, x=x, weight=np.ones(N)))
    assert "  and 31 more warnings" in text and "  weights: 1 .. 1, mean 1" in text and len(text.splitlines()) <= 20
