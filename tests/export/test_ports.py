"""Wider input ports, raw inputs, and where rows wrap."""

import re

import numpy as np
import pytest
from run_folders import make_model

from hgqjax import data, export
from hgqjax.description import wraps
from hgqjax.evaluation import Network
from hgqjax.export import ports
from hgqjax.export.gate import ExportError

RNG = np.random.default_rng(0)
POWERS = {"mean": [0.5, -2.0, 0.0], "scale": [4.0, 0.25, 1.0]}
PLAIN = {"mean": [0.1, 5.0, -700.0], "scale": [1.3, 10.0, 0.3]}


def model(scaler):
    found = make_model(4.0, (3, 4, 2), seed=3)
    found.metadata.update(scaler=scaler, features=["a", "b", "c"])
    return found


def test_headroom_keeps_the_words_of_calibrated_rows_and_wraps_later():
    narrow = model(PLAIN)
    x = RNG.uniform(-0.9, 0.9, (500, 3))  # its inputs hold 0 .. 1
    wide = ports.widened(narrow, 3)
    inside = np.array([not wraps.wraps(narrow, row[None]).where for row in x])
    assert 0 < inside.sum() < len(x)
    np.testing.assert_array_equal(wide.evaluate(x[inside]), narrow.evaluate(x[inside]))
    before, after = wraps.wraps(narrow, 3 * np.abs(x)), wraps.wraps(wide, 3 * np.abs(x))
    assert before.share > after.share and narrow["layers_0_input"].i[0] + 3 == wide["layers_0_input"].i[0]
    assert wide.metadata["headroom"] == 3


def test_wraps_are_counted():
    narrow = model(PLAIN)
    bits = narrow["layers_0_input"]
    assert bits.bits.min() > 0
    x = np.full((4, 3), 0.25)
    x[1, 0], x[2, 0], x[2, 2] = 1.0, 7.5, -0.25
    found = wraps.wraps(narrow, x)
    first = next(wrap for wrap in found.where if wrap.name == "layers_0_input")
    assert found.rows == 4 and first.share == 0.5 and first.elements.tolist() == [0.5, 0.0, 0.25]
    lines = wraps.report(narrow, x).splitlines()
    assert re.fullmatch(r"\d+\.00% of 4 rows are beyond a calibrated range, and wrap around there:", lines[0])
    assert "  layers_0_input: 50.00% of rows; elements a 50.00%, c 25.00%" in lines
    assert wraps.report(narrow, x[:0]) == "all 0 rows are within the calibrated ranges"
    raw = x * PLAIN["scale"] + PLAIN["mean"]
    assert Network(narrow).beyond(raw).share == found.share


def test_raw_inputs_of_powers_of_two_give_the_same_words_wherever_the_rows_lie():
    scaled = model(POWERS)
    raw = ports.with_raw_inputs(scaled)
    x = RNG.normal(scale=4.0, size=(2000, 3))
    rows = x * POWERS["scale"] + POWERS["mean"]
    assert raw.metadata["raw_inputs"]["error_steps"] == 0
    np.testing.assert_array_equal(raw.evaluate(rows), scaled.evaluate((rows - POWERS["mean"]) / POWERS["scale"]))
    np.testing.assert_array_equal(Network(raw).predict(rows), Network(raw).description.evaluate(rows.astype(np.float32)))


def test_raw_inputs_of_other_scales_are_off_by_no_more_than_they_say():
    raw = ports.with_raw_inputs(model(PLAIN))
    x = RNG.uniform(0, 0.99, (2000, 3))
    rows = x * PLAIN["scale"] + PLAIN["mean"]
    words = raw.integers(rows)["x_scaled"].astype(np.float64)
    values = np.ldexp(words, -raw.grids["x_scaled"].f.astype(np.int64))
    steps = np.abs(values - (rows - PLAIN["mean"]) / PLAIN["scale"]) * 2.0 ** raw["layers_0_input"].f
    assert 0.01 < steps.max() <= raw.metadata["raw_inputs"]["error_steps"] < 0.25
    assert data.Scaler(*(np.asarray(raw.metadata["scaler"][part]) for part in ("mean", "scale")))(rows).shape == rows.shape


def test_what_cannot_be_is_refused():
    with pytest.raises(ExportError, match=r"^headroom is 17; 0 \.\. 16 bits are legal$"):
        ports.widened(model(PLAIN), 17)
    with pytest.raises(ExportError, match=r"^model 'made_up' holds no scaler, so there is no scaling to include"):
        ports.with_raw_inputs(make_model(4.0, (3, 2)))
    with pytest.raises(ExportError, match=r"^model 'made_up' has a scaler of shape \(2,\), which is not that of its inputs$"):
        ports.with_raw_inputs(model({"mean": [0.0, 0.0], "scale": [1.0, 1.0]}))


@pytest.mark.slow
@pytest.mark.parametrize("scaler", [POWERS, PLAIN])
def test_both_gates_take_raw_inputs_and_headroom(scaler, tmp_path):
    description = ports.with_raw_inputs(ports.widened(model(scaler), 2))
    project = export.to_hls4ml(description, tmp_path / "hls", min_rows=2000)
    assert project.gate.differing_words == 0 and "takes raw values" in (tmp_path / "hls/README.md").read_text()
    assert export.to_rtl(description, tmp_path / "rtl", min_rows=2000).gate.differing_words == 0
