"""Rows of synth.csv: what a design's key depends on, which rows replace which, designs that are named twice or cannot be read."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from hgqjax import cli
from hgqjax.runs import folders
from hgqjax.synth import Settings, Synthesis, designs, record, synthesize_many, yosys


def test_the_same_path_twice_is_one_design(make_project, instead_of_yosys, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    make_project()
    assert cli.main(["synth", "project", "./project", "src/../project"]) == 0
    assert instead_of_yosys == ["project"] and capsys.readouterr().out.count("project   ") == 1


def test_what_is_wrong_with_one_source_is_recorded(make_project, tmp_path, instead_of_yosys, monkeypatch):
    sources = {"gone": tmp_path / "gone", "vhdl": make_project("vhdl", flavor="vhdl"), "good": make_project("good")}
    rows = synthesize_many(sources, tmp_path / "out", jobs=1)
    assert [(row.status, row.point) for row in rows] == [("refused", "gone"), ("refused", "vhdl"), ("done", "good")]
    assert rows[0].error == f"cannot read or write {tmp_path}/gone/description.json: No such file or directory"
    assert "and Yosys reads Verilog" in rows[1].error and {row.point for row in record.read(tmp_path / "out")} == set(sources)
    for error, said in ((OSError(28, "No space left", "x"), "cannot read or write x: No space left"), (KeyError("a"), "KeyError: 'a'")):
        monkeypatch.setattr(yosys, "synthesize", lambda *_, error=error: (_ for _ in ()).throw(error))
        (row,) = synthesize_many({"again": sources["good"]}, tmp_path / "out", jobs=1)
        assert (row.status, row.error) == ("failed", said)


def test_a_refused_design_leaves_no_folder(make_project, tmp_path, instead_of_yosys):
    (row,) = synthesize_many({"large": make_project()}, tmp_path / "out", max_luts=2)
    assert row.status == "refused" and not (tmp_path / "out" / "synth").exists()


def test_a_run_that_another_process_writes_is_left_alone(tmp_path, make_project, instead_of_yosys):
    run = folders.Run.create(tmp_path, "sweep", {}, {"name": "x"})
    with folders.hold(run.folder), pytest.raises(folders.RunError, match="is being written by process"):
        synthesize_many({"project": make_project()}, run.folder)
    assert not instead_of_yosys and not (run.folder / "synth.csv").exists()


def test_a_key_knows_the_test_bench_and_the_model_of_a_project(make_project, monkeypatch):
    project = make_project(testbench="tb")
    design = designs.Design(base=project.parent, point="p", source=project)
    for name in ("tb/stimulus.hex", "tb/expected.hex", "hgqjax_model/description.json"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("0\n")
    versions = {"yosys": "1"}

    def keys():
        return [designs.key(design, Settings(verify=rows), versions) for rows in (0, 10)]

    counted, verified = keys()
    (project / "tb/expected.hex").write_text("1\n")
    assert keys()[0] == counted and keys()[1] != verified
    (project / "hgqjax_model/description.json").write_text("1\n")
    assert keys()[0] != counted
    read, files = Path.read_bytes, set()
    monkeypatch.setattr(Path, "read_bytes", lambda path: files.add(f"{path.parent.name}/{path.name}") or read(path))
    keys()
    assert files >= {"synth/verify.py", "synth/simulate.py", "operations/linear.py", "description/integers.py", "resources/lut.py"}
    model = project.parent / "m.keras"
    model.write_text("")
    designs.key(designs.Design(base=project.parent, point="m", source=model), Settings(), versions)
    assert files >= {"interop/keras_file.py", "rtl/trace.py"}


def test_a_later_call_keeps_the_timing_and_the_verification_of_the_same_design(tmp_path):
    timed = Synthesis(
        point="p", status="done", tool="yosys", tool_version="1, nextpnr 2", lut=7, fmax_mhz=50.0, fmax_family="E", content="a"
    )
    verified = Synthesis(point="p", status="done", tool="yosys", tool_version="1", lut=7, rows_checked=9, differing_words=0, content="a")
    plain = Synthesis(point="p", status="done", tool="yosys", tool_version="1", lut=7, content="a", key="newest")
    for row in (timed, verified, plain):
        record.write(tmp_path, [row])
    (row,) = record.read(tmp_path)
    assert (row.key, row.fmax_mhz, row.fmax_family, row.tool_version) == ("newest", 50.0, "E", "1, nextpnr 2")
    assert (row.rows_checked, row.differing_words) == (9, 0)
    changed = dataclasses.replace(plain, content="b")
    record.write(tmp_path, [changed])
    assert record.read(tmp_path) == [changed]


def test_settings_that_ask_for_more_leave_the_design_the_same(make_project, tmp_path, instead_of_yosys):
    source, versions = make_project(), {"yosys": "1"}
    design = designs.Design(base=tmp_path, point="p", source=source)
    plain, more, other = Settings(), Settings(timing=True, verify=5), Settings(tool="vivado")
    same = {designs.content(design, settings, versions) for settings in (plain, more)}
    assert len(same) == 1 and designs.content(design, other, versions) not in same
    assert len({designs.key(design, settings, versions) for settings in (plain, more)}) == 2


def test_a_refusal_does_not_replace_numbers(tmp_path):
    done = Synthesis(point="p", status="done", tool="yosys", lut=7)
    record.write(tmp_path, [done])
    record.write(tmp_path, [Synthesis(point="p", status="refused", tool="yosys", error="too large")])
    assert record.read(tmp_path) == [done]


def test_tables_of_kanele_are_known_by_their_files(tmp_path):
    folder = tmp_path / "jets"
    shutil.copytree(Path(__file__).resolve().parents[1] / "golden" / "kanele", folder)
    (design,) = designs.find(folder)
    first = designs.content(design, Settings(), {})
    tables = folder / "truth_tables.json"
    tables.write_text(tables.read_text() + " ")
    assert designs.content(design, Settings(), {}) != first and design.point == "jets"
