"""Reports of tools that are not here, read from texts in their format. Every number in them is made up for this test."""

import pytest
from made_up_reports import CSYNTH, TIMING, UTILIZATION

from hgqjax.synth import ecp5, vitis, vivado
from hgqjax.synth.settings import SynthError, ToolError


def test_utilization():
    assert vivado.parse_utilization(UTILIZATION) == {
        **{"lut1": 8, "lut2": 700, "lut3": 400, "lut4": 100, "lut5": 40, "lut6": 300, "lut": 1548, "lut_sites": 1234},
        **{"srl": 4, "ff": 567, "carry8": 89, "muxf7": 3, "muxf8": 1, "bram": 1.5, "dsp": 2},
    }


@pytest.mark.parametrize("row", ["CLB LUTs", "CLB Registers"])
def test_utilization_without_its_rows_is_refused(row):
    with pytest.raises(SynthError, match="no report_utilization: it has no row 'CLB"):
        vivado.parse_utilization("\n".join(line for line in UTILIZATION.splitlines() if row not in line))


def test_utilization_of_older_devices_and_before_placement():
    text = UTILIZATION.replace("CLB LUTs  ", "Slice LUTs*").replace("CLB Registers", "Slice Registers")
    found = vivado.parse_utilization(text)
    assert (found["lut_sites"], found["ff"]) == (1234, 567)


@pytest.mark.parametrize(("wns", "slack"), [(" 0.123", 0.123), ("-0.250", -0.25), ("    NA", None)])
def test_timing_summary(wns, slack):
    assert vivado.parse_timing(TIMING.format(wns=wns)) == slack


@pytest.mark.parametrize("text", ["", "WNS(ns)      TNS(ns)\n-------  -------\n", TIMING.format(wns="  what")])
def test_what_is_no_timing_summary_is_refused(text):
    with pytest.raises(SynthError, match="no report_timing_summary"):
        vivado.parse_timing(text)


def test_csynth():
    assert vitis.parse_csynth(CSYNTH) == {
        **{"lut": 6666, "ff": 555, "dsp": 4, "bram": 1.5, "tool_version": "2023.2", "latency_cycles": 7, "clock_ns": 5.0},
        **{"fmax_mhz": 312.5, "family": "xcvu13p-flga2577-2-e, estimated by HLS", "fmax_family": "xcvu13p-flga2577-2-e, estimated by HLS"},
    }
    assert vitis.parse_csynth(CSYNTH.replace(">7<", ">undef<"))["latency_cycles"] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no xml", "syntax error"),
        (CSYNTH.replace("<LUT>6666</LUT>", ""), "it has no LUT"),
        (CSYNTH.replace("6666", "many"), "invalid literal"),
        (CSYNTH.replace("EstimatedClockPeriod", "Other"), "it has no EstimatedClockPeriod"),
    ],
)
def test_what_is_no_csynth_is_refused(text, message):
    with pytest.raises(SynthError, match=f"the text is no csynth.xml: .*{message}"):
        vitis.parse_csynth(text)


def test_fmax_is_of_the_slowest_clock():
    report = {"fmax": {"a": {"achieved": 90.126, "constraint": 200.0}, "b": {"achieved": 70.0, "constraint": 200.0}}, "utilization": {}}
    assert ecp5.fmax(report) == 70.0
    with pytest.raises(ToolError, match="names no clock"):
        ecp5.fmax({"fmax": {}})
