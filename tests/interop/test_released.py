"""All networks that HGQ2's authors released, where the folder HGQJAX_RELEASED has clones of their repositories (docs/networks.md)."""

import os
from pathlib import Path

import numpy as np
import pytest

from hgqjax import resources
from hgqjax.interop import InteropError, load_hgq2

pytest.importorskip("h5py")
FOLDER = Path(os.environ.get("HGQJAX_RELEASED") or "/nonexistent")
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="HGQJAX_RELEASED names no folder with the released networks")


def files(pattern: str) -> list[Path]:
    return sorted(FOLDER.rglob(pattern)) if FOLDER.is_dir() else []


def test_every_network_is_there():
    assert len([path for path in files("*.keras") if "da4ml-ae" not in path.parts]) == 46


@pytest.mark.slow
@pytest.mark.parametrize("path", [*files("*.keras"), *files("da4ml-ae/**/*.h5")], ids=lambda path: path.stem)
def test_each_is_read_and_evaluates(path):
    description = load_hgq2(path)
    rng = np.random.default_rng(0)
    x = tuple(rng.integers(-64, 64, (4, *op.shape)) / 16 for op in description.inputs)
    y = description.evaluate(x)
    assert np.all(np.isfinite(y)) and np.ptp(y) > 0
    assert sum(float(v) for v in resources.ebops(description).values()) > 0


@pytest.mark.parametrize("path", files("alkaid-ae/**/*.h5"), ids=lambda path: path.stem)
def test_networks_of_qkeras_are_named(path):
    with pytest.raises(InteropError, match="it is an HDF5 file with layers of QKeras .*, and not of HGQ2"):
        load_hgq2(path)
