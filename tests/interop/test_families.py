"""HGQ2's layers of tables, attention and recurrence word by word; KANELE's released tables against the vectors of its firmware."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hgqjax import resources
from hgqjax.description import ModelDescription
from hgqjax.description import operations as o
from hgqjax.export import to_hls4ml
from hgqjax.export.gate import check_words, gate_rows
from hgqjax.export.rtl import trace, words
from hgqjax.interop import InteropError, load_hgq2, load_kanele
from hgqjax.interop.models import open_model

pytest.importorskip("h5py")

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
FAMILIES = ["lut", "old_lut", "attention", "old_attention", "recurrent"]


def golden(name):
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        suffix = "h5" if name == "old_format" else "keras"
        return load_hgq2(GOLDEN / f"{name}.{suffix}"), {key: arrays[key] for key in arrays.files}


@pytest.mark.parametrize("name", [*FAMILIES, "old_format"])
def test_every_word_of_every_layer(name):
    description, arrays = golden(name)
    values, results = description.integers(arrays["x0"]), description.metadata["hgq2"]["results"]
    taps = {key[2:] for key in arrays if key.startswith("t/")}
    assert taps == set(results) - {"x"}
    for layer in taps:
        op = results[layer]
        assert np.array_equal(np.ldexp(values[op].astype(np.float64), -description.grids[op].f), arrays[f"t/{layer}"]), layer
        assert np.ptp(arrays[f"t/{layer}"]) > 0


def test_scores_have_the_quantizer_that_the_file_has():
    """HGQ2 quantizes scores before a stable softmax up to 0.1.6, and from 0.2.0 on no more."""
    old, new = (golden(name)[0] for name in ("old_attention", "attention"))
    assert {"attention_softmax_iq", "linformer_softmax_iq"} <= {op.name for op in old.operations}
    assert not {"attention_softmax_iq", "linformer_softmax_iq"} & {op.name for op in new.operations}


def test_a_damaged_file_of_the_older_format_is_named(tmp_path):
    content = (GOLDEN / "old_format.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(InteropError, match=r"cut\.h5: it is damaged: .*truncated file"):
        load_hgq2(tmp_path / "cut.h5")
    shutil.copy(GOLDEN / "old_format.h5", tmp_path / "m.h5")
    import h5py

    with h5py.File(tmp_path / "m.h5", "r+") as file:
        del file["model_weights/out"]
    with pytest.raises(InteropError, match=r"m\.h5: layer 'out' \(QDense\) has"):
        load_hgq2(tmp_path / "m.h5")


def test_tables_are_those_of_each_edge():
    """A layer of tables by hand: one edge of the layer with batch norm, from the numbers in the file."""
    description, _ = golden("old_lut")
    op = description["first_tables"]
    assert op.shape == (4, 3) and description["first"].axes == (0,)
    from hgqjax.interop import keras_file

    layer = next(layer for layer in keras_file.read(GOLDEN / "old_lut.keras").layers if layer.name == "first")
    w1, b1 = (v.astype(np.float64) for v in layer.variables("module/layers/einsum_dense"))
    w2, b2 = (v.astype(np.float64) for v in layer.variables("module/layers/einsum_dense_1"))
    gamma, beta, mean, variance = (v.astype(np.float64) for v in layer.variables("bn_module"))
    i, j = np.argwhere((description["first_iq"].bits > 2) & (op.bits > 2))[0]
    n = np.ravel_multi_index((i, j), op.shape)
    table = op.words[op.start[n] : op.start[n + 1]]
    x = np.ldexp(float(op.low[i, j]) + np.arange(table.size), -int(op.f_in[i, j]))
    y = np.tanh(x[:, None] * w1[i, j, 0] + b1[i, j]) @ w2[i, j] + b2[i, j]
    y = (gamma[j] * (y - mean[j]) / np.sqrt(variance[j] + 1e-3) + beta[j]) / 2  # the root of four inputs
    step = 2.0 ** -int(op.f[i, j])
    limit = abs(table).max()
    assert np.all(abs(np.clip(y / step, -limit, limit) - table) <= 0.5 + 1e-9) and np.unique(table).size > 2


def test_ebops_follow_hgq2s_formulas():
    for name in ("lut", "old_lut"):
        description, arrays = golden(name)
        theirs = dict(zip(arrays["ebops_layers"].tolist(), arrays["ebops"].tolist(), strict=True))
        ours = {layer.removesuffix("_tables"): float(v) for layer, v in resources.ebops(description).items()}
        assert set(ours) == set(theirs)
        for layer, count in theirs.items():
            # HGQ2 counts the sign of a saturating word that has no other bit and is always 0; here it costs nothing
            assert ours[layer] == pytest.approx(count - saturating_zeros(description, layer), rel=1e-6), layer
    description, arrays = golden("attention")
    theirs = dict(zip(arrays["ebops_layers"].tolist(), arrays["ebops"].tolist(), strict=True))
    ours = resources.ebops(description)
    for layer in ("attention", "linformer"):
        assert float(ours[f"{layer}_scores"] + ours[f"{layer}_values"]) == theirs[layer]
    for layer in ("einsum", "scaled", "pooled", "add", "out"):
        assert float(ours[layer]) == pytest.approx(theirs[layer], rel=1e-6)


def saturating_zeros(description, layer):
    """What HGQ2 counts for keys and words of a layer of tables that saturate, have a sign and no other bit, and are always 0."""
    names = {op.name for op in description.operations}
    if f"{layer}_tables" not in names:
        return 0.0
    op, keys = description[f"{layer}_tables"], description[f"{layer}_iq"]
    with np.load(GOLDEN / f"{description.name}.npz") as arrays:
        key_bits, word_bits = (formats(arrays, layer, which, keys.shape) for which in ("iq", "toq"))
    small = lambda b: np.where(b >= 5, 2.0 ** (b - 5), b / 5)  # noqa: E731
    count = lambda b, n: (small(b) * n / 2 + n).sum()  # noqa: E731
    assert np.all((op.bits == word_bits) | ((op.bits == 0) & (word_bits == 1)))
    return count(key_bits, word_bits) - float(resources.ebops(description)[f"{layer}_tables"])


def formats(arrays, layer, which, shape):
    """Widths with sign as HGQ2 counts them: of WRAP the sign where there is another bit, else always."""
    quantizers = [key for key in arrays.files if key.startswith(f"q/{layer}/")]
    (key,) = (key for key in quantizers if key.endswith("_iq") == (which == "iq"))
    k, i, f, _ = arrays[key][:, 0]
    magnitude = np.maximum(i + f, 0)
    wraps = OVERFLOWS[layer, which] == "WRAP"
    return np.broadcast_to(magnitude + np.where((magnitude > 0) | (not wraps), k, 0), shape)


OVERFLOWS = {("each", "iq"): "WRAP", ("each", "toq"): "WRAP", ("normed", "iq"): "SAT", ("normed", "toq"): "SAT_SYM"}
OVERFLOWS |= {("deep", "iq"): "WRAP", ("deep", "toq"): "SAT", ("first", "iq"): "WRAP", ("first", "toq"): "SAT_SYM"}
OVERFLOWS |= {("second", "iq"): "WRAP", ("second", "toq"): "SAT_SYM"}


def test_stored_ebops_include_sub_layers():
    description, arrays = golden("attention")
    stored = description.metadata["hgq2"]["stored_ebops"]
    own = dict(zip(arrays["ebops_layers"].tolist(), arrays["ebops_stored"].tolist(), strict=True))
    assert stored["attention"] > own["attention"] and stored["einsum"] == own["einsum"]
    sums = {"query", "key", "value", "scores", "values", "output"}
    ours = resources.ebops(description)
    assert sum(float(ours[f"attention_{part}"]) for part in sums) <= stored["attention"] + 1


def compare(description, rows):
    graph, x = trace.trace(description), gate_rows(description, min_rows=rows)
    found = words.output_integers(description, graph.predict(words.stimulus_values(description, x), n_threads=1))
    return check_words(description, x, found, tool="alkaid")


@pytest.mark.parametrize("name", ["lut", "old_lut", pytest.param("attention", marks=pytest.mark.slow), "recurrent", "kanele"])
def test_adder_graphs(name):
    assert compare(load_kanele(GOLDEN / name) if name == "kanele" else golden(name)[0], 300) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAMILIES, "kanele"])
def test_cpp(name, tmp_path):
    description = load_kanele(GOLDEN / name) if name == "kanele" else golden(name)[0]
    assert to_hls4ml(description, tmp_path / "p", min_rows=300).gate.differing_words == 0


# ---- files that cannot be read ----


def changed(name, out, layer, **settings):
    """A copy of a file with other settings of one layer."""
    with zipfile.ZipFile(GOLDEN / f"{name}.keras") as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    config = json.loads(parts["config.json"])
    entry = next(entry for entry in config["config"]["layers"] if entry["config"]["name"] == layer)
    for key, value in settings.items():
        if value is None:
            del entry["config"][key]
        entry["config"][key] = value
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(out, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    return out


REFUSED = [
    ("lut", "each", {"enable_iq": False}, r"layer 'each' \(QDenseT\) has no input quantizer, without which there is no table"),
    ("lut", "each", {"subnn_activation": "gelu"}, "layer 'each' .* has the inner activation 'gelu'; legal are linear, relu, sigmoid"),
    ("lut", "deep", {"n_hl": 10**9}, "layer 'deep' .* has 1000000000 inner layers; 0 .. 64 are legal"),
    ("lut", "deep", {"n_out": 10**12}, "layer 'deep' .* has inner weights of shapes"),
    ("recurrent", "x", {"batch_shape": [None, 2000, 2]}, "layer 'simple' .* has 2000 steps; 1024 are the most that are unrolled"),
    ("lut", "deep", {"d_hl": 4}, r"layer 'deep' .* has inner weights of shapes \[.*\] in module/layers/einsum_dense; needed are"),
    ("lut", "normed", {"bn_scale": False}, "layer 'normed' .* has batch statistics of shapes .*; needed are beta, mean, variance of shape"),
    (
        "attention",
        "attention",
        {"attention_axes": [2]},
        r"layer 'attention' .* attends along \[2\]; query, value, key and axis 1 are legal",
    ),
    ("attention", "attention", {"use_gate": True}, "layer 'attention' .* has use_gate True, which has no description"),
    ("attention", "linformer", {"lin_kv_proj_mode": "dense_t"}, "layer 'linformer' .* projects by 'dense_t'; 'dense' is legal"),
    ("attention", "softmax", {"axes": [0]}, r"layer 'softmax' .* has axes \[0\], of which one is the batch's"),
    ("attention", "einsum", {"equation": "nbc,mbc->nbm"}, "layer 'einsum' .* does not keep the batch axis of values of shapes"),
    ("recurrent", "after", {"return_state": True}, "layer 'after' .* has return_state; a layer that gives its outputs"),
    ("recurrent", "after", {"enable_oq": True}, "layer 'after' .* an input quantizer and no output quantizer are legal"),
    ("recurrent", "after", {"activation": "tanh"}, "layer 'after' .* has the activation 'tanh'; 'linear' and 'relu' are legal"),
    ("recurrent", "simple", {"sq_conf": {"config": {}}}, "layer 'simple' .* has a quantizer of its state, which HGQ2 0.2.0 loses"),
    ("recurrent", "simple", {"units": 4}, r"layer 'simple' .* has weights of shapes .* in its cell; needed are"),
]


@pytest.mark.parametrize(("name", "layer", "settings", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_has_no_description_is_named(name, layer, settings, message, tmp_path):
    with pytest.raises(InteropError, match=message):
        load_hgq2(changed(name, tmp_path / "m.keras", layer, **settings))


# ---- KANELE ----


def test_kanele_equals_its_firmware(tmp_path):
    """The authors' network for jets (OpenML): ten rows of their own test bench."""
    description = load_kanele(GOLDEN / "kanele")
    x, y = (np.loadtxt(GOLDEN / "kanele" / f"vectors_{end}.txt") for end in ("in", "out"))
    assert np.array_equal(description.evaluate(x), y) and y.shape == (10, 5)
    assert description.metadata["kanele"]["edges"] == 83
    assert open_model(GOLDEN / "kanele").metadata == description.metadata
    live = np.logical_or.reduceat(description["tables0"].words != 0, description["tables0"].start[:-1]).reshape(16, 8)
    assert np.array_equal(description["tables0"].bits > 0, live)
    description.save(tmp_path / "m")
    assert np.array_equal(ModelDescription.load(tmp_path / "m").evaluate(x), y)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", lambda v: v | {"layers": [16, 8]}, "config.json has layers .16, 8. and layers_bitwidth .6, 7, 6.; two lists"),
        ("config.json", lambda v: v | {"layers_bitwidth": [6, 17, 6]}, "bits up to 16, are needed"),
        ("config.json", lambda v: [], "config.json has layers None"),
        (
            "config.json",
            lambda v: v | {"layers": [16, 9, 5]},
            "has no sound table for the edge 0_0_8: 64 whole numbers are needed, it has none",
        ),
        ("truth_tables.json", lambda v: v | {"1_0_0": {"values_int": [1]}}, "edge 1_0_0: 128 whole numbers are needed, it has 1 values"),
        ("truth_tables.json", lambda v: v | {"1_0_0": {"values_int": [0.5] * 128}}, "has no sound table for the edge 1_0_0"),
    ],
)
def test_damaged_tables_are_named(file, change, message, tmp_path):
    shutil.copytree(GOLDEN / "kanele", tmp_path / "k")
    path = tmp_path / "k" / file
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(InteropError, match=f"k: .*{message}"):
        load_kanele(tmp_path / "k")
    path.write_text("{")
    with pytest.raises(InteropError, match=f"k: {file} is no JSON"):
        load_kanele(tmp_path / "k")


def test_too_wide_a_key_is_named():
    keys = o.Quantize(
        name="q", inputs=("x",), shape=(1,), k=np.ones(1, int), i=np.full(1, 8), f=np.full(1, 9), rounding="RND", overflow="SAT"
    )
    from hgqjax.interop import hgq2_tables, keras_file
    from hgqjax.interop.hgq2_graph import Graph

    graph, layer = Graph(), keras_file.Layer("t", "QDenseT", "hgq", {}, {}, (), ())
    graph.operations.append(keys)
    with pytest.raises(InteropError, match=r"layer 't' \(QDenseT\) has a table with a key of 18 bits at \(0,\); 16 bits are the most"):
        hgq2_tables.tables(layer, graph, "q", {}, lambda n, x: x)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["QDense"], r"m\.h5: its layers are those of QKeras \(QDense, \.\.\.\); load_qkeras reads them"),
        ([], "m\\.h5: it is an HDF5 file, and no"),
    ],
)
def test_an_hdf5_file_says_whose_it_is(classes, words, tmp_path):
    import h5py

    with h5py.File(tmp_path / "m.h5", "w") as file:
        if classes:
            layers = [{"class_name": name, "config": {"name": "a", "batch_input_shape": [None, 2]}} for name in classes]
            file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": layers}})
    with pytest.raises(InteropError, match=words):
        load_hgq2(tmp_path / "m.h5")
