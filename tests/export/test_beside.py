"""Two projects in one program: the gate's second project, and real ones of the same layers with other weights."""

import dataclasses
import json

import numpy as np
import pytest
from hls4ml_networks import Network

from hgqjax.export.gate import ExportError, gate_rows
from hgqjax.export.hls4ml import compiled, to_hls4ml
from hgqjax.export.hls4ml.backends import BACKENDS
from hgqjax.export.hls4ml.compiled import Library
from hgqjax.export.project import GATE_FILE


def mlp():
    net = Network((4,), seed=1)
    net.quantize(net.relu(net.dense(net.last, 3, name="first")))
    net.dense(net.last, 2, name="second")
    return net.model()


def namespace(project):
    return json.loads((project / GATE_FILE).read_text())["namespace"]


def test_weights_outside_the_namespace_are_found(tmp_path):
    """As hls4ml has them where no namespace is asked for: one array of both."""
    project = to_hls4ml(mlp(), tmp_path / "p", verify=False).path
    weights = project / "firmware/weights/w3.h"
    weights.write_text(weights.read_text().replace("w3[12];", 'w3[12] asm("w3");'))
    library = compiled.build_library(project, "-O0", keep_objects=True)
    with pytest.raises(ExportError, match="defines the data w3, outside its namespace myproject_"):
        compiled.check_symbols(library, namespace(project))
    x = gate_rows(mlp(), min_rows=500)
    with pytest.raises(ExportError, match=r"computes with what is not its own: \d+ of 400 output words of the (second )?project differ"):
        compiled.check_beside(project, library, "myproject", namespace(project), x, [2])
    assert not [path for path in project.rglob("*") if path.suffix == ".o" or path.name.endswith("_aside")]


SETTINGS = [
    {},
    {"strategy": "distributed_arithmetic"},
    {"strategy": "resource"},
    {"backend": "VivadoAccelerator"},
    {"backend": "Catapult"},
    {"backend": "oneAPI", "strategy": "resource"},
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_two_projects_in_one_program(settings, tmp_path):
    """The same names, shapes and types, other weights; in both orders of loading."""
    first = mlp()
    turned = [
        dataclasses.replace(op, kernel=dataclasses.replace(op.kernel, integers=-op.kernel.integers)) if op.name == "first" else op
        for op in first.operations
    ]
    models = [first, dataclasses.replace(first, operations=tuple(turned))]
    x = gate_rows(first, min_rows=200)
    expected = [model.evaluate(x) for model in models]
    assert np.any(expected[0] != expected[1])
    projects = [to_hls4ml(model, tmp_path / str(n), verify=False, **settings).path for n, model in enumerate(models)]
    build = BACKENDS[settings.get("backend", "Vitis")].build
    libraries = [build(project, "myproject") if build else compiled.build_library(project, "-O0") for project in projects]
    for order in ((0, 1), (1, 0)):
        found = compiled.run_libraries([Library(libraries[n]) for n in order], "myproject", x, [2])
        for n, values in zip(order, found, strict=True):
            np.testing.assert_array_equal(values[0], expected[n])
