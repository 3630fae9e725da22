"""One file from the network, complete and with the right checksum, or none."""

import logging
import os
import pathlib
import tempfile
from typing import Any

from hgqjax.data.dataset import DataError


def download(url: str, path: pathlib.Path, *, checksum: str | None = None, timeout_s: float = 60.0) -> None:
    """Write what ``url`` answers to ``path``; the file appears at once and whole, and nothing stays behind after an error.

    Args:
      url: http or https.
      path: of the file; missing folders are made, an older file is replaced.
      checksum: "md5:<hexadecimal>" or "sha256:<hexadecimal>"; None takes any complete answer.
      timeout_s: how long the server may stay silent, seconds.

    Raises: DataError where the server cannot be reached or refuses, the answer is cut short, or the checksum differs.

    >>> download("http://127.0.0.1:9/rows.arff", pathlib.Path("rows.arff"), checksum="md5:00", timeout_s=1.0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    hgqjax.data.dataset.DataError: http://127.0.0.1:9/rows.arff: cannot be downloaded (...); without a network, give ...
    """
    try:
        import pooch
    except ImportError:
        raise DataError(f"{url}: downloads need pooch; pip install 'hgqjax[run]'") from None
    pooch.get_logger().setLevel(logging.ERROR)  # what it would say of its cache does not hold for the temporary folder
    server: Any = pooch.HTTPDownloader(timeout=timeout_s, headers={"User-Agent": "hgqjax"})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.part-") as folder:
            os.replace(pooch.retrieve(url, known_hash=checksum and checksum.lower(), fname=path.name, path=folder, downloader=server), path)
    except OSError as error:  # those of requests, too
        raise DataError(f"{url}: cannot be downloaded ({error}); without a network, give the path of a local copy") from None
    except ValueError:  # pooch's own, where the checksum differs
        raise DataError(f"{url}: the download is not the file of checksum {checksum}; it is thrown away") from None
