"""tb_data through hls4ml's own test bench, compiled by g++."""

import subprocess

import numpy as np
import pytest
from hls4ml_networks import Network

from hgqjax.export.gate import ExportError
from hgqjax.export.hls4ml import testbench, to_hls4ml


def two_outputs():
    net = Network((4,), seed=1)
    first = net.quantize(net.relu(net.dense(net.last, 3)))
    net.dense(first, 2)
    return net.model(first, net.last)


def test_rows_and_outputs_are_exact(tmp_path):
    model = two_outputs()
    project = to_hls4ml(model, tmp_path / "p", verify=False, min_rows=500).path
    x, y = (np.loadtxt(project / "tb_data" / name) for name in (testbench.INPUTS, testbench.OUTPUTS))
    assert x.shape == (100, 4) and np.array_equal(x, x.astype(np.float32)) and len(np.unique(y, axis=0)) >= 10
    np.testing.assert_array_equal(y, np.concatenate(model.evaluate(x), axis=1))
    with pytest.raises(ExportError, match=r"^csim left no tb_data/csim_results.log$"):
        testbench.compared(project, "csim")


@pytest.mark.slow
def test_the_test_bench_of_hls4ml_gives_the_same(tmp_path):
    project = to_hls4ml(two_outputs(), tmp_path / "p", verify=False, min_rows=500).path
    sources = ["firmware/myproject.cpp", "myproject_test.cpp", "-o", "bench"]
    flags = ["-O0", "-w", "-std=c++17", "-Ifirmware/ap_types", '-DWEIGHTS_DIR="firmware/weights"']
    subprocess.run(["g++", *flags, *sources], cwd=project, check=True)
    subprocess.run(["./bench"], cwd=project, check=True, capture_output=True)
    assert testbench.compared(project, "csim") == 500


def test_ties_are_printed_in_two_ways_and_a_wrong_digit_is_seen(tmp_path):
    folder = tmp_path / testbench.FOLDER
    folder.mkdir()
    (folder / testbench.OUTPUTS).write_text("-0.2578125 1.5\n0.33203125 -2\n")
    results = folder / testbench.RESULTS["csim"]
    for tie in ("-0.257812", "-0.257813"):
        results.write_text(f"{tie} 1.5 \n0.332031 -2 \n")
        assert testbench.compared(tmp_path, "csim") == 4
    results.write_text("-0.257814 1.5 \n0.332031 -2 \n")
    with pytest.raises(ExportError, match=r"^csim differs in 1 of 4 outputs; first: output 0 of row 0 should be -0.257812, is -0.257814$"):
        testbench.compared(tmp_path, "csim")
