"""One file from the network, complete and with the right checksum, or none."""

import hashlib
import http.client
import os
import pathlib
import tempfile
import urllib.error
import urllib.request

from hgqjax.data.dataset import DataError

_BLOCK = 1 << 20


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
    name, _, expected = (checksum or "md5:").partition(":")
    digest = hashlib.new(name, usedforsecurity=False)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.part-", delete=False) as file:
            temporary = pathlib.Path(file.name)
            _transfer(url, file, digest, timeout_s)
        if checksum is not None and digest.hexdigest() != expected.lower():
            raise DataError(f"{url}: {name} of the download is {digest.hexdigest()}, but must be {expected}; it is thrown away")
        os.replace(temporary, path)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, DataError):
            raise
        hint = "without a network, give the path of a local copy"
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{url}: cannot be downloaded ({str(reason) or type(reason).__name__}); {hint}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _transfer(url: str, file, digest, timeout_s: float) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "hgqjax"})
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        length, got = answer.headers.get("Content-Length"), 0
        while block := answer.read(_BLOCK):
            file.write(block)
            digest.update(block)
            got += len(block)
    if length is not None and got != int(length):
        raise DataError(f"{url}: the transfer ended after {got} of {length} bytes; it is thrown away")
