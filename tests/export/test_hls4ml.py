"""The hls4ml export against compiled C++; `verified` asserts how many words the gate compared, and that none differs."""

import importlib.metadata
import importlib.util
import itertools
import json
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest
from hls4ml_networks import verified

from hgqjax.description.model import ModelDescription
from hgqjax.description.operations import Constant, Dense, Input, Quantize, Relu
from hgqjax.export import project
from hgqjax.export.gate import ExportError, GateError, gate_rows, to_words
from hgqjax.export.hls4ml import compiled
from hgqjax.export.hls4ml import convert as export
from hgqjax.export.hls4ml.config import read_config, write_config
from hgqjax.export.hls4ml.convert import link_project, to_hls4ml
from hgqjax.export.hls4ml.graph import layer_names, model_graph, quiet
from hgqjax.export.hls4ml.layers import Target, layers
from hgqjax.export.hls4ml.rewrite import rewrite
from hgqjax.export.hls4ml.types import tensor_types
from hgqjax.export.project import MODEL_FOLDER

MODES = [(rounding, overflow) for overflow in ("WRAP", "SAT", "SAT_SYM") for rounding in ("RND", "TRN", "RND_CONV")]


def quantize(name, source, k, i, f, rounding="RND", overflow="WRAP", shape=None):
    k, i, f = (np.array(v, np.int64) for v in np.broadcast_arrays(k, i, f, np.zeros(shape or (), int))[:3])
    return Quantize(name=name, inputs=(source,), shape=k.shape, k=k, i=i, f=f, rounding=rounding, overflow=overflow)


def dense(name, source, kernel, bias=None, f=8, shape=None):
    kernel = np.asarray(kernel, float)
    bias = None if bias is None else Constant.from_values(np.asarray(bias, float), np.array(f))
    return Dense(name=name, inputs=(source,), shape=shape or kernel.shape[1:], kernel=Constant.from_values(kernel, np.array(f)), bias=bias)


def test_while_hls4ml_is_silenced_other_threads_are_heard(capsys):
    with quiet():
        print("of hls4ml")
        other = threading.Thread(target=print, args=("of another",))
        other.start()
        other.join()
    print("after")
    assert capsys.readouterr().out == "of another\nafter\n"


def random_quantize(rng, name, source, shape, mode, dead=0.1):
    """k mixed, i from -2, f from -2, some elements without bits; one time in four the same format for all."""
    size = (1,) * len(shape) if rng.random() < 0.25 else shape
    k, i, f = rng.integers(0, 2, size), rng.integers(-2, 4, size), rng.integers(-2, 6, size)
    f = np.where(rng.random(size) < dead, -k - i - rng.integers(0, 2, size), np.maximum(f, 1 - k - i))
    return quantize(name, source, k, i, f, *mode, shape=shape)


def random_dense(rng, name, source, shape, outputs):
    """A third of the weights pruned, and now and then a whole neuron or a whole input."""
    f = rng.integers(-2, 6, (shape[-1], outputs))
    kernel = np.ldexp(rng.integers(-16, 17, f.shape) * (rng.random(f.shape) > 0.3).astype(float), -f)
    kernel[:, rng.random(outputs) < 0.1] = 0
    kernel[rng.random(shape[-1]) < 0.1] = 0
    bias = rng.integers(-16, 17, outputs) / 8 if rng.random() < 0.7 else None
    return dense(name, source, kernel, bias, shape=(*shape[:-1], outputs))


def random_network(seed, sizes=(6, 5, 4, 3)):
    rng = np.random.default_rng(seed)
    modes = [MODES[n] for n in rng.permutation(len(MODES))] * 2
    ops = [Input(name="x", inputs=(), shape=sizes[:1]), random_quantize(rng, "q", "x", sizes[:1], modes.pop())]
    for n, (before, after) in enumerate(itertools.pairwise(sizes)):
        last = n == len(sizes) - 2
        ops.append(random_dense(rng, f"d{n}", ops[-1].name, (before,), after))
        if rng.random() < 0.6 and not last:
            ops.append(Relu(name=f"r{n}", inputs=(ops[-1].name,), shape=(after,)))
        for _ in range(rng.choice([0, 1]) if last else rng.choice([1, 1, 1, 2])):
            ops.append(random_quantize(rng, f"q{len(ops)}", ops[-1].name, (after,), modes.pop()))
    sample = rng.normal(size=(200, sizes[0])).astype(np.float32) * 3
    return ModelDescription(name=f"random{seed}", operations=tuple(ops), outputs=(ops[-1].name,), sample=sample)


def all_modes(input_overflow):
    """Every rounding with every overflow: on the input for one overflow kind, and behind a layer, all of them outputs."""
    rng = np.random.default_rng(7)
    heads = [m for m in MODES if (m[1] == "WRAP") == (input_overflow == "WRAP")]
    ops = [Input(name="x", inputs=(), shape=(6,))]
    ops += [random_quantize(rng, f"in{n}", "x", (6,), mode) for n, mode in enumerate(heads)]
    ops.append(random_dense(rng, "d", "in0", (6,), 6))
    if input_overflow == "WRAP":
        ops += [random_quantize(rng, f"out{n}", "d", (6,), mode) for n, mode in enumerate(MODES)]
    outputs = tuple(op.name for op in ops if isinstance(op, Quantize))
    return ModelDescription(name="modes", operations=tuple(ops), outputs=outputs)


def small():
    """Two layers whose types are easily worked out by hand."""
    ops = (
        Input(name="x", inputs=(), shape=(2,)),
        quantize("q", "x", [1, 0], [2, 1], [1, 3]),
        dense("d", "q", [[0.5, -1.0], [0.75, 0.0]], [0.25, 0.0]),
        Relu(name="r", inputs=("d",), shape=(2,)),
        quantize("y", "r", [1, 1], [5, 0], [1, 3], "TRN", "SAT"),
    )
    return ModelDescription(name="small", operations=ops, outputs=("y",), sample=np.float32([[0.5, 1.0]]))


def traps():
    """One output for each case that hls4ml's own width inference gets wrong; `x0` has 4 + 4 signed bits."""
    ops = [Input(name="x", inputs=(), shape=(2,)), quantize("x0", "x", [1, 1], [4, 4], [4, 4])]

    def branch(name, *stages):
        source = "x0"
        for n, make in enumerate(stages):
            ops.append(make(f"{name}_{n}", source))
            source = ops[-1].name

    eye = np.eye(2)
    branch("truncate_tiny", lambda n, s: dense(n, s, eye / 256), lambda n, s: quantize(n, s, [1, 1], [2, 3], [1, 2], "TRN"))
    branch("saturate_finer", lambda n, s: dense(n, s, eye), lambda n, s: quantize(n, s, [1, 1], [2, 1], [6, 7], "RND", "SAT"))
    branch(
        "symmetric_limit",
        lambda n, s: quantize(n, s, [1, 1], [0, 1], [2, 2], "RND", "SAT"),
        lambda n, s: quantize(n, s, [1, 1], [3, 2], [2, 2], "RND", "SAT_SYM"),
    )
    branch("wrap_unsigned", lambda n, s: dense(n, s, eye / 16), lambda n, s: quantize(n, s, [0, 0], [2, 3], [4, 5], "TRN", "WRAP"))
    branch(
        "all_dead",
        lambda n, s: dense(n, s, eye),
        lambda n, s: quantize(n, s, [0, 1], [2, -3], [-2, 2], "RND", "SAT"),
        lambda n, s: dense(n, s, eye, [1.25, -0.5]),
    )
    branch(
        "two_in_a_row", lambda n, s: dense(n, s, eye), lambda n, s: quantize(n, s, 1, 4, [1, 1]), lambda n, s: quantize(n, s, 0, 2, [0, 0])
    )
    branch("one_bit_symmetric", lambda n, s: quantize(n, s, [1, 1], [0, 2], [0, -2], "RND", "SAT_SYM"))
    branch("one_bit_wrap", lambda n, s: quantize(n, s, [1, 1], [0, -2], [0, 2], "TRN", "WRAP"))
    last = {op.name.rsplit("_", 1)[0]: op.name for op in ops[2:]}
    return ModelDescription(name="traps", operations=tuple(ops), outputs=tuple(last.values()))


def structure():
    """Names that C++ or hls4ml would trip over, rank 2, relu into a layer, an output that is read inside and given twice, wide weights."""
    ops = (
        Input(name="float", inputs=(), shape=(3, 4)),
        quantize("input", "float", 1, 2, 3, shape=(3, 4)),
        dense("relu", "input", np.arange(-10, 10).reshape(4, 5) / 4, shape=(3, 5)),
        Relu(name="RELU", inputs=("relu",), shape=(3, 5)),
        dense("layer2_out", "RELU", np.ldexp([[3, 1], [-1, 5], [2**20 + 1, 0], [0, 0], [1, 1]], -40), [0.5, -0.25], f=40, shape=(3, 2)),
        quantize("nnet", "layer2_out", [[1, 0]] * 3, [[3, 2]] * 3, [[22, 4]] * 3, "TRN", "SAT"),
    )
    return ModelDescription(name="structure", operations=ops, outputs=("nnet", "RELU", "RELU"))


@pytest.mark.parametrize(("seed", "backend"), [(0, "Vitis"), pytest.param(1, "Vivado", marks=pytest.mark.slow)])
def test_random_networks(seed, backend, tmp_path):
    verified(random_network(seed), tmp_path / "project", backend=backend)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_random_networks(seed, tmp_path):
    verified(random_network(seed, (8, 8, 6, 4)), tmp_path / "project", backend=("Vitis", "Vivado")[seed % 2])


def forks():
    """Quantizers that feed two layers each; distributed arithmetic fuses some of them into its adder graphs."""
    rng = np.random.default_rng(3)
    ops = [Input(name="x", inputs=(), shape=(5,))]
    for n, mode in enumerate([("RND", "WRAP"), ("TRN", "WRAP"), ("RND_CONV", "WRAP")]):
        ops.append(random_quantize(rng, f"q{n}", "x", (5,), mode))
        ops += [random_dense(rng, f"d{n}{m}", f"q{n}", (5,), 3) for m in range(2)]
    return ModelDescription(name="forks", operations=tuple(ops), outputs=tuple(op.name for op in ops if isinstance(op, Dense)))


@pytest.mark.slow
@pytest.mark.parametrize("model", [random_network(200), random_network(201), traps(), structure(), forks()], ids=lambda m: m.name)
def test_distributed_arithmetic(model, tmp_path):
    verified(model, tmp_path / "project", strategy="distributed_arithmetic", min_rows=2_000)


@pytest.mark.parametrize("model", [all_modes("WRAP"), all_modes("SAT"), structure()], ids=["wrap", "sat", "structure"])
def test_modes_and_structure(model, tmp_path):
    verified(model, tmp_path / "project", backend="Vivado" if model.name == "structure" else "Vitis")


@pytest.mark.slow
def test_traps_are_exact_here_and_wrong_when_hls4ml_infers(tmp_path, monkeypatch):
    model = traps()
    verified(model, tmp_path / "ours")

    def inferred(description, strategy, reuse, config):
        from hls4ml.model.graph import ModelGraph
        from hls4ml.utils.config import create_config

        names = layer_names(description)
        target = Target(description, names, tensor_types(description, "io_parallel"), "io_parallel", strategy, reuse)
        untyped = [layer for op in description.operations for layer, _ in layers(op, target)]
        settings = create_config(**config)
        settings["HLSConfig"] = {"Model": {"Precision": "ap_fixed<16,6>", "ReuseFactor": 1, "Strategy": strategy}}
        return ModelGraph.from_layer_list(settings, untyped, inputs=[names["x"]], outputs=[names[name] for name in description.outputs])

    monkeypatch.setattr(export, "model_graph", inferred)
    monkeypatch.setattr(export, "rewrite", lambda description, io_type: description)
    with pytest.warns(UserWarning):
        project = to_hls4ml(model, tmp_path / "inferred", verify=False)
    x = gate_rows(model, min_rows=1000)
    values = compiled.run_library(compiled.build_library(project.path, "-O0"), "myproject", x, [2] * len(model.outputs))
    expected = model.integers(x)
    wrong = {
        name.rsplit("_", 1)[0]
        for name, got in zip(model.outputs, values, strict=True)
        if np.any(to_words(got, model.grids[name]) != expected[name])
    }
    assert wrong == {"truncate_tiny", "saturate_finer", "symmetric_limit", "wrap_unsigned", "all_dead", "two_in_a_row"}


def test_values_below_half_a_step_are_never_rounded(tmp_path):
    """ap_fixed stops the process where it rounds a type that lies wholly below half a step (tests/test_ap_fixed.py): these become 0."""
    ops = [Input(name="x", inputs=(), shape=(2,)), quantize("x0", "x", [1, 1], [4, 4], [4, 4])]
    for n, kernel in enumerate((np.eye(2) / 4096, [[1 / 4096, 0], [0, 1]])):
        ops += [dense(f"d{n}", "x0", kernel, f=12), quantize(f"q{n}", f"d{n}", 1, [1, 2], [1, 1], ("RND", "RND_CONV")[n])]
    verified(ModelDescription(name="below", operations=tuple(ops), outputs=("q0", "q1")), tmp_path / "project")


def test_types_are_exact_and_no_wider(tmp_path):
    """Worked out by hand; q has fixed<4,3> and ufixed<4,1>, the relu's first element ends at 0.5 * 3.5 + 0.75 * 1.875 + 0.25."""
    model = rewrite(small())
    settings = {"part": project.DEFAULT_PART, "backend": "Vitis", "io_type": "io_parallel", "output_dir": str(tmp_path)}
    graph = model_graph(model, "latency", {}, settings)
    found = {layer.name: layer for layer in graph.get_layers()}
    k, b, i = (v[0].tolist() for v in found["q_quantizer"].mask_kbi)
    assert (k, b, i) == ([1, 0], [4, 4], [3, 1])
    k, b, i = (v[0].tolist() for v in found["y_quantizer"].mask_kbi)
    assert (k, b, i) == ([0, 1], [3, 4], [2, 1])  # 0 .. 3.0 needs no more; the other one saturates, as declared
    weight, bias = (found["d_dense"].get_weights(name) for name in ("weight", "bias"))
    kinds = [weight.type, bias.type, found["d_dense"].attributes["accum_t"], *(v.get_output_variable().type for v in found.values())]
    words = [(t.precision.signed, t.precision.width, t.precision.integer) for t in kinds]
    assert words == [
        (True, 3, 1),  # weights -1, 0, 0.5, 0.75 in steps of 1/4
        (False, 1, -1),  # bias 0.25
        (True, 9, 4),  # sums -3.5 .. 4 in steps of 1/32
        (True, 7, 3),  # port: the signed input's integer bits, one more fractional bit than the finest input, for RND
        (True, 6, 3),
        (True, 9, 4),
        (False, 8, 3),
        (True, 6, 3),
    ]
    assert weight.data.tolist() == [[0.5, -1.0], [0.75, 0.0]]


@pytest.mark.filterwarnings("ignore:Exception ignored in.*hls4ml_config.yml:pytest.PytestUnraisableExceptionWarning")  # left open by hls4ml
def test_project_is_self_contained_moves_and_links(tmp_path):
    model, folder = small(), tmp_path / "deep" / "project"
    project = to_hls4ml(model, str(folder), rows=np.full((3, 2), 0.75), seed=5)
    assert project.path == folder and "words on" in str(project) and project.gate.seed == 5
    assert [p.name for p in folder.parent.iterdir()] == ["project"]  # no temporary folder left
    texts = {p: p.read_text() for p in folder.rglob("*") if p.is_file() and p.suffix != ".npz"}
    assert not [p for p, text in texts.items() if str(tmp_path) in text]
    record = json.loads((folder / export.GATE_FILE).read_text())
    assert record["verified"] and record["gate"]["rows"] == project.gate.rows and record["gate"]["differing_words"] == 0
    assert record["words_beside_second_project"] == 2 * 2 * 200 * 2  # orders of loading, projects, rows, outputs
    assert record["model_sha256"] == export.folder_sha256(folder / MODEL_FOLDER)
    assert record["hls4ml"] == importlib.metadata.version("hls4ml") and "g++" in record["compiler"]
    copy = ModelDescription.load(folder / MODEL_FOLDER)

    moved = folder.rename(tmp_path / "moved")
    x = gate_rows(model, min_rows=1000, seed=9)
    linked = link_project(moved)
    linked.compile()
    np.testing.assert_array_equal(linked.predict(x), copy.evaluate(x))
    with pytest.raises(ExportError, match=r"is no hls4ml project: it has no hls4ml_config.yml"):
        link_project(tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Exception ignored in.*hls4ml_config.yml:pytest.PytestUnraisableExceptionWarning")  # left open by hls4ml
def test_hls4ml_itself_links_a_moved_project_from_within(tmp_path, monkeypatch):
    from hls4ml.converters import link_existing_project

    to_hls4ml(small(), tmp_path / "project", verify=False).path.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    linked = link_existing_project(".")
    linked.compile()
    x = gate_rows(small(), min_rows=1000, seed=9)
    np.testing.assert_array_equal(linked.predict(x), small().evaluate(x))


def test_a_wrong_word_stops_the_export_and_leaves_nothing(tmp_path, monkeypatch):
    build = compiled.build_library

    def sabotage(project, **_):
        weights = project / "firmware" / "weights" / "w3.txt"
        weights.write_text(weights.read_text().replace("0.75", "0.50"))
        return build(project, "-O0")

    monkeypatch.setattr(compiled, "build_library", sabotage)
    with pytest.raises(GateError) as error:
        to_hls4ml(small(), tmp_path / "project")
    message = r"hls4ml Vitis C\+\+ differs from the model in \d+ of \d+ output words; first: output 'y' index \[0\] row \d+ should be "
    assert re.match(message + r"the word \d+ \(value .*\), hls4ml Vitis C\+\+ has \d+ \(value .*\), f=1$", str(error.value))
    assert list(tmp_path.iterdir()) == []


def test_cpp_that_does_not_compile_stops_the_export_and_leaves_nothing(tmp_path, monkeypatch):
    build = compiled.build_library

    def sabotage(project, **_):
        source = project / "firmware" / "myproject.cpp"
        source.write_text(source.read_text().replace("// hls-fpga-machine-learning insert layers", "int broken"))
        return build(project)

    monkeypatch.setattr(compiled, "build_library", sabotage)
    with pytest.raises(ExportError, match=r"g\+\+ could not compile the project: firmware/myproject.cpp:\d+.*error"):
        to_hls4ml(small(), tmp_path / "project")
    assert list(tmp_path.iterdir()) == []


def test_cpp_that_aborts_does_not_take_python_with_it(tmp_path):
    source = 'extern "C" void f_double(double *x, double *y) { if (x[0] > 2) __builtin_abort(); y[0] = x[0] + x[1]; }'
    (tmp_path / "a.cpp").write_text(source)
    subprocess.run(["g++", "-shared", "-fPIC", "a.cpp", "-o", "a.so"], cwd=tmp_path, check=True)
    x = np.array([[1.0, 2.0], [-1.0, 0.5]])
    assert compiled.run_library(tmp_path / "a.so", "f", x, [1])[0].tolist() == [[3.0], [-0.5]]
    with pytest.raises(ExportError, match="the compiled C\\+\\+ stopped with code -6"):
        compiled.run_library(tmp_path / "a.so", "f", x + 5, [1])


def test_without_the_gate_the_project_says_so_and_keras_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "keras.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    project = to_hls4ml(small(), tmp_path / "project", verify=False)
    assert project.gate is None and "not verified" in str(project)
    record = json.loads((project.path / export.GATE_FILE).read_text())
    assert record["verified"] is False and record["gate"] is None


def test_config_route_writes_the_same_project(tmp_path):
    small().save(tmp_path / "model")
    arguments = {"backend": "Vivado", "clock_ns": 2.5, "project_name": "jets", "strategy": "resource", "reuse_factor": 2}
    arguments["reuse_factors"] = {small().operations[2].name: 1}
    write_config(tmp_path / "export.yml", model="model", output_dir="by_config", **arguments)
    folder, found = read_config(tmp_path / "export.yml")
    by_config = to_hls4ml(ModelDescription.load(folder), **found, verify=False).path
    direct = to_hls4ml(small(), tmp_path / "direct", verify=False, **arguments).path
    assert by_config == tmp_path / "by_config"

    def content(folder):
        files = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        stamp = re.search(rb"LIB_STAMP=(\w+)", files[next(p for p in files if p.name == "build_lib.sh")])[1]
        return {p: v.replace(stamp, b"").replace(str(folder).encode(), b"") for p, v in files.items()}

    assert content(by_config) == content(direct)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("HGQModel: m\nOutputDir: o\nKerasJson: k\n", "unknown key KerasJson; legal are HGQModel, OutputDir, ProjectName"),
        (
            "HGQModel: m\nOutputDir: o\nHLSConfig: {Layers: {}}\n",
            "unknown key HLSConfig.Layers; legal are HLSConfig.Model, HLSConfig.LayerName",
        ),
        (
            "HGQModel: m\nOutputDir: o\nHLSConfig: {LayerName: {d: {Precision: 1}}}\n",
            "unknown key HLSConfig.LayerName.d.Precision; legal are",
        ),
        ("HGQModel: m\nOutputDir: o\nHLSConfig: {LayerName: {d: 4}}\n", "HLSConfig.LayerName.d is not a table"),
        ("HGQModel: m\nOutputDir: o\nHLSConfig: {Model: {ReuseFactor: 2.5}}\n", "ReuseFactor is 2.5, which is no int"),
        ("HGQModel: m\nOutputDir: o\nHLSConfig: {Model: {BitExact: true}}\n", "unknown key HLSConfig.Model.BitExact"),
        ("HGQModel: m\n", "no key OutputDir"),
        ("HGQModel: m\nOutputDir: o\nClockPeriod: fast\n", "ClockPeriod is 'fast', which is no int or float"),
        ("- 1\n", "is not a table"),
    ],
)
def test_config_errors(text, message, tmp_path):
    (tmp_path / "export.yml").write_text(text)
    with pytest.raises(ExportError, match=message):
        read_config(tmp_path / "export.yml")


def test_write_config_knows_its_settings(tmp_path):
    with pytest.raises(ExportError, match="'clock' is no setting"):
        write_config(tmp_path / "export.yml", model="m", output_dir="o", clock=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "Quartus"}, "backend 'Quartus' is not one of Vitis, Vivado"),
        ({"io_type": "io_serial"}, "io_type 'io_serial' is not one of io_parallel, io_stream"),
        ({"strategy": "unrolled"}, "strategy 'unrolled' is not one of latency, resource, distributed_arithmetic"),
        (
            {"strategy": "distributed_arithmetic", "reuse_factor": 2},
            "reuse_factor is 2, but with strategy distributed_arithmetic 1 is legal",
        ),
        ({"project_name": "my project"}, "project_name 'my project' cannot name"),
    ],
)
def test_refused_arguments(arguments, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        to_hls4ml(small(), tmp_path / "project", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_refused_models_and_places(tmp_path):
    x, wide = Input(name="x", inputs=(), shape=(1,)), [[2.0**-2 + 2.0**-30]]

    def check(ops, message, strategy="latency"):
        model = ModelDescription(name="m", operations=(x, *ops), outputs=(ops[-1].name,))
        with pytest.raises(ExportError, match=message):
            to_hls4ml(model, tmp_path / "project", strategy=strategy)

    q = quantize("q", "x", [1], [2], [2])
    check([q, quantize("s", "x", [1], [2], [2], "RND", "SAT")], "input 'x' feeds a quantizer that wraps and one that saturates")
    check([q, dense("d", "q", wide, f=30)], "layer 'd': a constant has more than 24 significant bits", "distributed_arithmetic")
    check([quantize("q", "x", [1], [30], [10]), dense("d", "q", wide, f=30)], "output 'd' has 65 bits, more than the 53")
    (tmp_path / "project").mkdir()
    check([q], "project exists already")
    (tmp_path / "project").rmdir()
    (tmp_path / "project").mkdir()
    assert [p.name for p in tmp_path.iterdir()] == ["project"]


def test_missing_tools_are_named(tmp_path, monkeypatch):
    find, which = importlib.util.find_spec, shutil.which
    for name, strategy, message in [("hls4ml", "latency", r"'hgqjax\[hls4ml\]'"), ("da4ml", "distributed_arithmetic", r"'hgqjax\[da\]'")]:
        with monkeypatch.context() as patch:
            patch.setattr(importlib.util, "find_spec", lambda module, name=name: None if module == name else find(module))
            with pytest.raises(ExportError, match=message):
                to_hls4ml(small(), tmp_path / "project", strategy=strategy)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda tool: None if tool == "g++" else which(tool))
        with pytest.raises(ExportError, match=r"install the package g\+\+"):
            to_hls4ml(small(), tmp_path / "project")
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", lambda package: "1.9.0")
        with pytest.warns(UserWarning, match=r"hls4ml 1\.9\.0 is not a version hgqjax knows"):
            export._check_tools("latency", True)
