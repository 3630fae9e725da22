import atexit
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # one for the session: xdist's workers and the commands that tests start inherit it
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="hgqjax-jax-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")  # da4ml's solver would compile itself for 97 s; in Python it needs less than a second here
# what compiles faster is compiled again: to write it takes longer
os.environ |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}

import hypothesis
import jax
import jaxtyping
import pytest

for _setting in ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs", "jax_persistent_cache_min_entry_size_bytes"):
    _given = os.environ[_setting.upper()]  # a plugin may have imported JAX before they were there
    jax.config.update(_setting, {"dir": str, "secs": float}.get(_setting.rpartition("_")[2], int)(_given))
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.devices()  # starts JAX with one device, whatever a command that a test calls asks for
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True)
hypothesis.settings.register_profile("first failure", hypothesis.settings.get_profile("tests"), phases=[hypothesis.Phase.generate])
hypothesis.settings.register_profile("new examples", hypothesis.settings.get_profile("tests"), derandomize=False, database=None)
hypothesis.settings.load_profile("tests")
gc.set_threshold(100_000, 50, 100)  # traces make many objects: by default the search for cycles takes a tenth of the time

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def pytest_collection_finish():
    gc.collect()
    gc.freeze()  # what was imported is there to stay: it need not be searched again


@pytest.fixture(scope="session")
def shared():
    """The folder of shared data and golden values; tests that need it are skipped where it is missing."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared with real data and golden values is not here")
    return SHARED


@pytest.fixture
def annotations_unchecked(monkeypatch):
    """Annotations are not checked at run time, as for users: the check would refuse an unknown mode before its own error does."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


class Copy:
    """The package and its tests in a folder of their own, to be changed and tested there."""

    def __init__(self, path: Path):
        self.path = path
        for name in ("hgqjax", "tests"):
            shutil.copytree(ROOT / name, path / name)  # with the bytecode, which is that of all files but those that are changed
        shutil.copy(ROOT / "pyproject.toml", path)
        where = self._python("-c", "import importlib.util as found; print(found.find_spec('hgqjax').origin)")
        assert Path(where.stdout.strip()).is_relative_to(path)

    def replace(self, file: str, old: str, new: str) -> None:
        """Changes the one place in `file` that reads `old`."""
        text = (self.path / file).read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
        (self.path / file).write_text(text.replace(old, new))

    def pytest(self, *arguments: str) -> subprocess.CompletedProcess:
        return self._python("-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)

    def _python(self, *arguments):
        environment = os.environ | {"PYTHONPATH": str(self.path), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run([sys.executable, *arguments], cwd=self.path, env=environment, text=True, capture_output=True)


@pytest.fixture
def package_copy(tmp_path):
    return Copy(tmp_path)


@pytest.fixture
def interruptible():
    """Interrupts are heard, though a shell may have started the tests in the background, where they are not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
