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
