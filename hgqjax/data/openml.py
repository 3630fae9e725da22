"""OpenML 42468 ``hls4ml_lhc_jets_hlf``: 830 000 simulated LHC jets, 16 observables, 5 classes; the data of the HGQ papers.

The file (ARFF, text) is downloaded once into a cache. Its address and md5 checksum are those that OpenML publishes in the description
of the data set; both are kept beside the file, so that a cached file is checked, and used, without a network.
"""

import hashlib
import json
import os
import pathlib
import sys

from hgqjax.data.columns import Columns
from hgqjax.data.dataset import DataError
from hgqjax.data.download import download
from hgqjax.data.rows import JET_CLASSES, JET_FEATURES, Rows, make_rows, sha256_of
from hgqjax.data.tables import choose, read_table

NAME = "OpenML 42468"
SOURCE = "OpenML data set 42468 hls4ml_lhc_jets_hlf (https://www.openml.org/d/42468), simulated LHC jets."
DESCRIPTION_URL = "https://www.openml.org/api/v1/json/data/42468"


def read(cache_dir: str | os.PathLike[str] | None = None, *, description_url: str = DESCRIPTION_URL, timeout_s: float = 60.0) -> Rows:
    """All rows in physical units, classes in the order g, q, w, z, t; downloads what the cache lacks.

    Args:
      cache_dir: folder that keeps ``openml_42468.arff`` and its description; None is :func:`default_cache_dir`.
      description_url: where OpenML describes the data set; another one is for tests and mirrors.
      timeout_s: how long a server may stay silent, seconds.

    Raises: DataError where there is no network and no good copy in the cache, or the file is not this data set.

    >>> import tempfile
    >>> read(tempfile.mkdtemp(), description_url="http://127.0.0.1:9/", timeout_s=1.0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    hgqjax.data.dataset.DataError: http://127.0.0.1:9/: cannot be downloaded (...); without a network, give ...
    """
    folder = default_cache_dir() if cache_dir is None else pathlib.Path(cache_dir)
    path = folder / "openml_42468.arff"
    if not _is_cached(path):
        _fill_cache(path, description_url, timeout_s)
    table = choose(read_table(path), Columns(), str(path))
    if set(table["feature_names"]) != set(JET_FEATURES) or set(table["classes"] or ()) != set(JET_CLASSES):
        raise DataError(f"{path}: is not hls4ml_lhc_jets_hlf, which has the features {', '.join(JET_FEATURES)}")
    return make_rows(where=str(path), name=NAME, source=SOURCE, sha256=sha256_of(path), **table)


def default_cache_dir() -> pathlib.Path:
    """``hgqjax`` in ``$XDG_CACHE_HOME``, or in ``~/.cache``.

    >>> default_cache_dir().name
    'hgqjax'
    """
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "hgqjax"


def _is_cached(path: pathlib.Path) -> bool:
    try:
        _, expected = _parse(path.with_suffix(".json"))
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == expected
    except (OSError, DataError):
        return False


def _fill_cache(path: pathlib.Path, description_url: str, timeout_s: float) -> None:
    description = path.with_suffix(".json")
    download(description_url, description, timeout_s=timeout_s)
    url, md5 = _parse(description)
    print(f"downloading {url} to {path}", file=sys.stderr)
    download(url, path, checksum=f"md5:{md5}", timeout_s=timeout_s)


def _parse(description: pathlib.Path) -> tuple[str, str]:
    """Address of the data file and its md5, from OpenML's description."""
    try:
        content = json.loads(description.read_text(encoding="utf-8"))["data_set_description"]
        return str(content["url"]), str(content["md5_checksum"]).lower()
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{description}: is no OpenML description with a url and an md5_checksum") from None
