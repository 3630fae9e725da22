"""The site of docs/: it builds without a warning, its notebooks run, and a browser shows it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import browser
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_what_they_print(path):
    cells = json.loads(path.read_text())["cells"]
    assert cells[0]["cell_type"] == "markdown" and "".join(cells[0]["source"]).startswith("# ")
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.synth
def test_the_site_builds_with_its_notebooks_run(tmp_path):
    """Links that lead nowhere, pages that no one finds and a notebook that fails stop the build."""
    site = tmp_path / "site"
    environment = os.environ | {"HGQJAX_NOTEBOOKS": "true", "NO_MKDOCS_2_WARNING": "1", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-4000:]
    for notebook in NOTEBOOKS:
        page = (site / "tutorials" / f"{notebook.stem}.html").read_text()
        assert "words on" in page and "rows equal" in page  # what its gate said
    assert "LUT sites" in (site / "tutorials" / "to_fpga.html").read_text()
    assert all(name in (site / "api" / "layers.html").read_text() for name in ("Dense", "MultiHeadAttention", "Arguments"))
    if browser.CHROMIUM is None:
        pytest.skip("chromium is not installed; scripts/test installs it")
    with browser.Browser(tmp_path / "profile") as chromium:
        for page in ("index", "how-to/beta", "api/quantizers", "tutorials/own_data"):
            for width in (1280, 400):
                chromium.open(site / f"{page}.html", width, dark=width == 400)
                assert chromium.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width], page
                assert chromium.evaluate("[...document.images].every(i => i.naturalWidth > 0)"), page
        assert not chromium.said
