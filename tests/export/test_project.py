"""Names that reach scripts of Tcl: one sentence for those that are not legal, and nothing written."""

import json

import pytest

from hgqjax.cli import main
from hgqjax.export import ExportError, to_hls4ml, to_rtl
from hgqjax.export.project import DEFAULT_PART, check_clock, check_part
from hgqjax.synth.designs import read_rtl
from hgqjax.synth.settings import SynthError
from tests.description.test_model import network

INJECTION = 'x"; exec touch injected; set z "'


@pytest.mark.parametrize("part", [DEFAULT_PART, "xc7z020clg400-1", "xcvc1902-vsva2197-2MP-e-S", "10AX115N2F45E1SG"])
def test_names_of_devices(part):
    check_part(part)


@pytest.mark.parametrize("part", [INJECTION, "", "-x", "a b", "a]", "a$b", "a\nb", "a" * 65, "é"])
def test_what_is_no_name_of_a_device(part):
    with pytest.raises(ExportError, match="is no name of a device; up to 64 letters, digits, - _ and . are legal"):
        check_part(part)


@pytest.mark.parametrize("clock_ns", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_clock(clock_ns):
    with pytest.raises(ExportError, match="a clock period in ns above 0"):
        check_clock(clock_ns)


@pytest.mark.parametrize("export", [to_hls4ml, to_rtl])
def test_a_part_with_a_command_in_it_writes_nothing(tmp_path, export):
    with pytest.raises(ExportError, match="is no name of a device"):
        export(network(), tmp_path / "p", part=INJECTION, verify=False)
    with pytest.raises(ExportError, match=r"min_rows is 1000000000000, which takes .* TB in memory; .*give fewer rows"):
        export(network(), tmp_path / "p", min_rows=10**12)
    assert not list(tmp_path.iterdir())


def test_the_command_and_its_yaml_file_refuse_it(tmp_path, capsys):
    pytest.importorskip("yaml")
    network().save(tmp_path / "m")
    (tmp_path / "m.yml").write_text(f"HGQModel: m\nOutputDir: p\nPart: '{INJECTION}'\n")
    assert main(["export", str(tmp_path / "m"), "--part", INJECTION, "--no-verify"]) == 2
    assert main(["export", "--config", str(tmp_path / "m.yml"), "--no-verify"]) == 2
    assert main(["export", str(tmp_path / "m"), "--rows", "1000000000000"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and all("is no name of a device" in line for line in said[:2]) and "give fewer rows" in said[2]
    assert {path.name for path in tmp_path.iterdir()} <= {"m", "m.yml", ".m_hls4ml.lock", ".p.lock"}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"part": INJECTION}, "is no name of a device"),
        ({"top": "a; exec x"}, "has the name 'a; exec x'"),
        ({"sources": ["a}; exec x {"]}, "has the name"),
        ({"sources": ["../other.v"]}, "has the name"),
        ({"flavor": "tcl"}, "has the flavor 'tcl'"),
        ({"clock_ns": -1}, "a clock period in ns above 0"),
    ],
)
def test_records_of_rtl_projects_reach_no_script_unchecked(tmp_path, change, message):
    about = {"sources": ["a.v"], "top": "a", "flavor": "verilog", "latency_cycles": 1, "clock_ns": 5.0, "latency_cutoff": 1}
    about |= {"adder_cost": 1.0, "part": DEFAULT_PART}
    (tmp_path / "a.v").write_text("")
    (tmp_path / "hgqjax_rtl.json").write_text(json.dumps(about))
    assert read_rtl(tmp_path).top == "a"
    (tmp_path / "hgqjax_rtl.json").write_text(json.dumps(about | change))
    with pytest.raises(SynthError, match=message):
        read_rtl(tmp_path)
