"""The per-layer table: what it counts is what EBOPs and formats say."""

import numpy as np
import run_folders

from hgqjax import resources
from hgqjax.description import ModelDescription
from hgqjax.description import operations as o
from hgqjax.description.layer_table import Widths, activation_widths, layer_rows, sparkline, text_table, weight_widths

MODEL = run_folders.make_model(4.0, (16, 8, 5))


def test_a_row_for_each_layer_with_the_quantizer_before_it():
    rows = layer_rows(MODEL)
    assert [(r.name, r.kind) for r in rows] == [("layers_0", "dense"), ("layers_0_relu", "relu"), ("layers_1", "dense")]
    first, kernel = rows[0], MODEL["layers_0"].kernel
    assert (first.shape, first.kernel_shape, first.weights.size, first.inputs.size) == ((8,), (16, 8), 128, 16)
    assert first.weights.pruned == np.mean(kernel.integers == 0) and np.isclose(first.weights.mean, kernel.bits.mean())
    bits = MODEL["layers_0_input"].bits
    assert (first.inputs.low, first.inputs.high) == (bits.min(), bits.max()) and first.inputs.pruned == np.mean(bits == 0)


def test_costs_add_up_to_the_totals():
    rows = layer_rows(MODEL)
    for name, total in (
        ("ebops", resources.ebops(MODEL).total),
        ("ebops_paper_v1", resources.ebops(MODEL, "paper_v1").total),
        ("luts", resources.Luts()(MODEL).total),
    ):
        assert np.isclose(sum(getattr(r, name) or 0 for r in rows), float(total))
    assert weight_widths(rows).size == 16 * 8 + 8 * 5 and activation_widths(MODEL).size == 16 + 8


def test_a_quantizer_that_two_layers_read_or_that_is_the_output_has_a_row_of_its_own():
    zero = np.zeros(2, np.int64)
    quantizer = {"shape": (2,), "k": zero, "i": zero, "f": zero + 3, "rounding": "RND", "overflow": "SAT"}
    operations = [o.Input(name="x", inputs=(), shape=(2,)), o.Quantize(name="q", inputs=("x",), **quantizer)]
    operations += [o.Relu(name=name, inputs=("q",), shape=(2,)) for name in "ab"]
    operations += [o.Add(name="sum", inputs=("a", "b"), shape=(2,)), o.Quantize(name="y", inputs=("sum",), **quantizer)]
    rows = layer_rows(ModelDescription(name="m", operations=tuple(operations), outputs=("y",)))
    assert [r.name for r in rows] == ["q", "a", "b", "sum", "y"] and [r.inputs.size for r in rows] == [2, 0, 0, 0, 2]


def test_text():
    text = text_table(MODEL)
    assert text == MODEL.summary()
    widths = {len(line) for line in text.splitlines()[1:4]}
    assert "16x8" in text and "input bits" in text and f"EBOPs {float(resources.ebops(MODEL).total):.0f} (definition hgq2)" in text
    assert max(widths) < 140


def test_nothing_has_no_bits():
    empty = Widths.of(np.zeros(0, np.int64))
    assert (empty.size, empty.low, empty.high, empty.mean, empty.pruned, str(empty), sparkline(empty)) == (0, 0, 0, 0.0, 0.0, "", "")
