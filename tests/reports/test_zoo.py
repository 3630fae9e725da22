"""`hgqjax zoo`: what it finds, counts, compares and measures; broken networks beside sound ones."""

import csv
import dataclasses
import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import run_folders

from hgqjax import cli, resources
from hgqjax.config import to_json
from hgqjax.data.rows import sha256_of
from hgqjax.description import ModelDescription
from hgqjax.reports import zoo
from hgqjax.scores import Resolution

GOLDEN = Path(__file__).parents[1] / "golden"


def run(capsys, *argv):
    code = cli.main(["zoo", *map(str, argv)])
    out = capsys.readouterr()
    return code, out.out, out.err


def trained(seed, **about):
    """A description that knows how its rows are scaled."""
    metadata = {"scaler": {"mean": [0.0] * 4, "scale": [2.0] * 4}, "classes": ["a", "b", "c"]} | about
    outputs = len(metadata["classes"]) or 1
    return dataclasses.replace(run_folders.make_model(4.0, (4, outputs), seed=seed), metadata=metadata)


def rows(path, unit=None):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 2, (300, 4)).astype(np.float32)
    y = rng.normal(size=300).astype(np.float32) if unit else rng.integers(0, 3, 300)
    np.savez(path, x=x, y=y, **({"unit": unit} if unit else {}))
    return x, y


@pytest.fixture
def folder(tmp_path):
    """Two networks of ours, one of them deeper, one of HGQ2 with golden words, a project, and what is hidden."""
    path = tmp_path / "zoo"
    trained(0).save(path / "small")
    trained(1).save(path / "more" / "other")
    for suffix in (".keras", ".npz"):
        shutil.copy(GOLDEN / f"dense{suffix}", path / f"dense{suffix}")
    trained(2).save(path / "project" / "hgqjax_model")
    (path / "project" / "hgqjax_gate.json").write_text("{}")
    trained(3).save(path / ".hidden" / "m")
    return path


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_networks_of_all_folders_with_their_costs_and_widths(folder, tmp_path, capsys):
    code, out, err = run(capsys, folder, "--csv", tmp_path / "z.csv")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["network", "dense", "more/other", "small"]
    table = read(tmp_path / "z.csv")
    assert list(table) == ["dense", "more/other", "small"]
    model, row = ModelDescription.load(folder / "small"), table["small"]
    assert float(row["ebops"]) == float(resources.ebops(model).total)
    assert float(row["ebops_paper_v1"]) == float(resources.ebops(model, "paper_v1").total)
    assert np.isclose(float(row["luts_predicted"]), float(resources.Luts()(model).total))
    counts = {int(bits): int(n) for bits, n in (pair.split(":") for pair in row["weights_histogram"].split())}
    kernel = model["layers_0"].kernel
    assert counts == {bits: n for bits, n in enumerate(np.bincount(kernel.bits.ravel()).tolist()) if n}
    assert float(row["weights_pruned"]) == pytest.approx(np.mean(kernel.integers == 0), abs=1e-5)
    assert (row["inputs"], row["outputs"], row["status"], row["golden_words"]) == ("4", "3", "done", "")
    with np.load(folder / "dense.npz") as arrays:
        values = sum(arrays[key].size for key in arrays.files if key.startswith("t/"))
    assert values <= int(table["dense"]["golden_words"]) <= 2 * values


def test_names_choose(folder, capsys):
    code, out, _ = run(capsys, folder, "small")
    assert code == 0 and len(out.splitlines()) == 2
    code, _, err = run(capsys, folder, "tiny")
    assert code == 2 and "has no network 'tiny'; it has dense, more/other, small" in err


def test_accuracy_with_its_error(folder, tmp_path, capsys):
    x, y = rows(tmp_path / "rows.npz")
    trained(7, data={"name": "arrays rows.npz", "sha256": sha256_of(tmp_path / "rows.npz")}).save(folder / "own")
    code, out, err = run(capsys, folder, "--data", tmp_path / "rows.npz", "--csv", tmp_path / "z.csv")
    table = read(tmp_path / "z.csv")
    row = table["small"]
    assert (row["training_rows"], table["own"]["training_rows"]) == ("False", "True")
    assert re.search(r"own .*% \(arrays rows.npz, training rows among them\)", out) and out.count("training rows") == 1
    hits = np.mean(np.argmax(ModelDescription.load(folder / "small").evaluate(x / 2), axis=1) == y)
    assert (code, err) == (0, "") and float(row["score"]) == pytest.approx(hits)
    assert float(row["score_error"]) == pytest.approx((hits * (1 - hits) / 300) ** 0.5) and row["rows"] == "300"
    assert f"{100 * hits:.2f} +- " in out and "dense: not measured: dense.keras holds no scaler and no classes" in out
    code, _, _ = run(capsys, folder, "small", "--data", tmp_path / "rows.npz", "--rows", "100", "--csv", tmp_path / "z.csv")
    assert code == 0 and read(tmp_path / "z.csv")["small"]["rows"] == "100"


def test_resolution_of_a_regression_on_the_data_set_that_fits(folder, tmp_path, capsys):
    trained(5, classes=[], score=to_json(Resolution(window=3.0)), unit="mrad").save(folder / "angle")
    rows(tmp_path / "labels.npz")
    x, y = rows(tmp_path / "angles.npz", unit="mrad")
    data = ("--data", tmp_path / "labels.npz", tmp_path / "angles.npz")
    code, out, _ = run(capsys, folder, "angle", "small", *data, "--csv", tmp_path / "z.csv")
    table = read(tmp_path / "z.csv")
    residual = ModelDescription.load(folder / "angle").evaluate(x / 2).ravel() - y
    inside = np.abs(residual) < 3.0
    rms = np.sqrt(np.mean(residual[inside] ** 2))
    assert code == 0 and float(table["angle"]["score"]) == pytest.approx(rms, rel=1e-6)
    assert (table["angle"]["data"], table["small"]["data"]) == ("arrays angles.npz", "arrays labels.npz")
    assert float(table["angle"]["outliers"]) == pytest.approx(np.mean(~inside))
    error = np.std(residual[inside] ** 2) / (2 * rms * inside.sum() ** 0.5)
    assert f"{rms:.4g} +- {error:.2g} mrad, outliers" in out and float(table["angle"]["score_error"]) == pytest.approx(error)


def test_a_file_and_a_folder_of_one_name_are_two_networks(folder, tmp_path, capsys):
    shutil.copytree(folder / "small", folder / "dense")
    shutil.copytree(folder / "more" / "other", folder / "more_other")
    found = dict(zoo.find(folder))
    assert list(found) == ["dense", "dense.keras", "more/other", "more_other", "small"]
    assert (found["dense"], found["dense.keras"]) == (folder / "dense", folder / "dense.keras")
    code, out, err = run(capsys, folder, "--export", "hls4ml", "--output", tmp_path / "out")
    assert code == 2 and not (tmp_path / "out").exists() and out == ""
    assert err == "hgqjax: networks 'more/other' and 'more_other' would both become more_other_hls4ml; rename one, or name others\n"


def test_a_broken_network_has_its_reason_and_the_others_go_on(folder, tmp_path, capsys):
    (folder / "bad.keras").write_bytes(b"no")
    arrays = folder / "small" / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:-1])
    with np.load(folder / "dense.npz") as file:
        golden = {key: file[key] for key in file.files}
    key = next(key for key in golden if key.startswith("t/"))
    golden[key] = golden[key] + (np.arange(golden[key].size).reshape(golden[key].shape) == 1)
    np.savez(folder / "dense.npz", **golden)
    code, out, err = run(capsys, folder, "--csv", tmp_path / "z.csv")
    assert code == 2 and err == "hgqjax: 3 of 4 networks failed: bad, dense, small\n"
    reasons = {name: row["reason"] for name, row in read(tmp_path / "z.csv").items()}
    assert "is not a sound .keras file" in reasons["bad"] and "checksum" in reasons["small"] and reasons["more/other"] == ""
    assert re.fullmatch(r"1 of \d+ words of '\w+' are not those of dense.npz", reasons["dense"])
    assert all(f"{name}: {why}" in out.splitlines() for name, why in reasons.items() if why) and out.count("FAILED") == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--export", "verilog"], "--export and --output go together"),
        (["--output", "there"], "--export and --output go together"),
        (["--rows", "0"], "--rows is 0; at least 1 is needed"),
        (["--gate-rows", "-1", "--verify"], "--gate-rows is -1; at least 1 is needed"),
        (["--csv", "zoo"], "--csv is zoo, which is a folder; a file is needed"),
        (["--export", "hls4ml", "--output", "zoo/dense.npz"], "--output is zoo/dense.npz, which is a file; a folder is needed"),
        (["--csv", "nowhere/z.csv"], "nowhere is not a folder, so z.csv cannot be written there"),
        (["--data", "jets", "tops"], "unknown data set 'tops': give jets, "),
        (["--data", "tops.npz"], "tops.npz: there is no such file"),
    ],
)
def test_what_does_not_go_is_said_before_any_work(folder, arguments, sentence, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, folder, *arguments)
    assert code == 2 and err.startswith(f"hgqjax: {sentence}") and err.count("\n") == 1 and not out
    assert [p.name for p in tmp_path.iterdir()] == ["zoo"]


def test_no_network_takes_the_rows(folder, tmp_path, capsys):
    np.savez(tmp_path / "rows.npz", x=np.ones((10, 5), np.float32), y=np.arange(10) % 3)
    code, out, err = run(capsys, folder, "small", "more/other", "--data", tmp_path / "rows.npz")
    assert code == 2 and "hgqjax: no network could be measured: " in err and "rows have shape (5,)" in err
    assert out.count("not measured: ") == 2


@pytest.mark.parametrize(
    "arguments", [["--adder-graph"], ["--export", "verilog", "--output", "there"], ["--export", "vhdl", "--output", "there"]]
)
def test_what_is_not_installed_is_said_once(folder, arguments, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "alkaid" else found(name, *more))
    code, out, err = run(capsys, folder, *arguments)
    assert (code, out, err) == (2, "", "hgqjax: alkaid is not installed; pip install 'hgqjax[rtl]'\n")


def test_no_networks(tmp_path, capsys):
    assert "has no network: no .keras, .h5 or .onnx file of a network and no model description" in run(capsys, tmp_path)[2]
    assert "there is no " in run(capsys, tmp_path / "nowhere")[2]


def test_projects_go_through_the_gate(folder, tmp_path, capsys, monkeypatch):
    """The gate itself has tests of its own; here it is one that refuses a network."""
    done = []

    class Project:
        gate = zoo.gate.GateReport(rows=200, words=600, seed=0, seconds=0.0)

    def export(description, path, settings):
        done.append((path.name, settings))
        if description.name == "dense":
            raise zoo.export.ExportError("layer 'einsum' has no form there")
        path.mkdir(parents=True)
        return Project()

    monkeypatch.setattr(zoo.backends, "export", export)
    arguments = ("--export", "hls4ml", "--output", tmp_path / "out", "--gate-rows", "200", "--csv", tmp_path / "z.csv")
    code, out, err = run(capsys, folder, *arguments)
    assert code == 2 and "1 of 3 networks failed: dense" in err and "dense: layer 'einsum' has no form there" in out
    assert [name for name, _ in done] == ["dense_hls4ml", "more_other_hls4ml", "small_hls4ml"]
    assert done[0][1] == {"backend": "Vitis", "min_rows": 200} and "hls4ml: 600 words" in out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["more_other_hls4ml", "small_hls4ml"]
    row = read(tmp_path / "z.csv")["small"]
    assert (row["project_words"], row["project_rows"], row["project_simulated_rows"]) == ("600", "200", "")
    assert run(capsys, folder, "small", "--verify")[0] == 0 and len(done) == 4
    assert {p.name for p in tmp_path.iterdir()} == {"out", "z.csv", "zoo"}


@pytest.mark.parametrize(("simulated", "words"), [(50, "vhdl: 600 words (50 of 200 rows simulated)"), (200, "vhdl: 600 words\n")])
def test_rows_that_no_simulator_ran_are_told(folder, tmp_path, capsys, monkeypatch, simulated, words):
    class Project:
        gate = zoo.gate.GateReport(rows=200, words=600, seed=0, seconds=0.0)
        simulated_rows = simulated

    monkeypatch.setattr(zoo.backends, "export", lambda description, path, settings: Project())
    arguments = ("--export", "vhdl", "--output", tmp_path / "out", "--gate-rows", "200", "--csv", tmp_path / "z.csv")
    code, out, _ = run(capsys, folder, "small", *arguments)
    row = read(tmp_path / "z.csv")["small"]
    assert code == 0 and out.endswith(words.rstrip("\n") + "\n") and row["project_simulated_rows"] == str(simulated)


def test_an_error_that_is_not_known_is_left_out(folder, tmp_path, capsys, monkeypatch):
    trained(5, classes=[], score=to_json(Resolution()), unit="mrad").save(folder / "angle")
    rows(tmp_path / "angles.npz", unit="mrad")
    monkeypatch.setattr("hgqjax.evaluation.measurement.measure", lambda *arguments: {"score": 0.99184, "error": float("nan")})
    code, out, _ = run(capsys, folder, "angle", "--data", tmp_path / "angles.npz", "--csv", tmp_path / "z.csv")
    row = read(tmp_path / "z.csv")["angle"]
    assert code == 0 and "0.9918 mrad (arrays angles.npz)" in out and (row["score"], row["score_error"]) == ("0.99184", "")
    assert cli.main(["summary", str(folder / "angle"), "--data", str(tmp_path / "angles.npz")]) == 0
    assert "angles.npz: resolution 0.9918 mrad (300 rows)\n" in capsys.readouterr().out


@pytest.mark.slow
def test_a_network_is_exported_again(folder, tmp_path, capsys):
    code, out, _ = run(capsys, folder, "small", "--export", "hls4ml", "--output", tmp_path / "out", "--gate-rows", "200")
    assert code == 0 and re.search(r"hls4ml: \d+ words", out)
    assert json.loads((tmp_path / "out" / "small_hls4ml" / "hgqjax_gate.json").read_text())["gate"]["differing_words"] == 0


def test_released_networks(shared, tmp_path, capsys):
    code, out, err = run(capsys, shared / "golden" / "hgq2", "--data", "jets", "muon", "--rows", "2000", "--csv", tmp_path / "z.csv")
    table = read(tmp_path / "z.csv")
    assert (code, err) == (0, "") and list(table) == ["cernbox_0.726", "muon_2.377", "openml_0.733", "openml_0.758"]
    assert [float(row["ebops"]) for row in table.values()] == [755.0, 15366.5, 526.0, 2549.0]
    assert all(int(row["golden_words"]) > 10_000 for row in table.values()) and out.count(" golden words") == 4
    assert 0.70 < float(table["openml_0.733"]["score"]) < 0.75 < 2 < float(table["muon_2.377"]["score"]) < 2.6
    assert (table["muon_2.377"]["unit"], table["muon_2.377"]["data"]) == ("mrad", "muon (simulated)")
