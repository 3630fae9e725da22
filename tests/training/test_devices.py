"""Where compiled programs are kept."""

import jax
import pytest

from hgqjax.training import devices

SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs", "jax_persistent_cache_min_entry_size_bytes")


@pytest.fixture
def cache(monkeypatch):
    """Where `use_cache` puts programs with these variables of the environment."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}

    def cache(given=None, **variables):
        for name in ("HGQJAX_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        jax.config.update("jax_compilation_cache_dir", given)
        devices.use_cache()
        return jax.config.jax_compilation_cache_dir

    yield cache
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_are_kept_in_the_cache_folder_that_the_user_has(cache, tmp_path):
    kind = devices._processor()
    assert cache(HOME=str(tmp_path)) == str(tmp_path / ".cache" / "hgqjax" / kind)
    assert cache(XDG_CACHE_HOME=str(tmp_path / "x")) == str(tmp_path / "x" / "hgqjax" / kind)
    assert cache(XDG_CACHE_HOME=str(tmp_path), HGQJAX_CACHE=str(tmp_path / "y")) == str(tmp_path / "y" / kind)


def test_the_cache_can_be_switched_off_and_a_users_own_stays(cache, tmp_path):
    assert cache(HGQJAX_CACHE="") is None
    assert cache("mine", HGQJAX_CACHE=str(tmp_path)) == "mine"


def test_each_kind_of_processor_has_its_own(monkeypatch):
    ours = devices._processor()
    monkeypatch.setattr(devices.platform, "machine", lambda: "riscv64")
    assert devices._processor() not in (ours, "") and devices._processor().startswith("riscv64-")
