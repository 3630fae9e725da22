"""SVHN, the cropped digits of house numbers (format 2): images of 32 x 32 pixels in three colours, labels 0 .. 9.

The official files are MATLAB's, one for training, one for the test, and ``extra`` with easier digits for training. Pixels are divided by
256, so that the 8-bit words of the hardware are the pixels themselves (the HGQ paper divides by 255). Neighbouring digits come from one
house number, so that no split here is random: validation rows are the last of the training file (in the paper a random tenth).
Source: Netzer et al., http://ufldl.stanford.edu/housenumbers, for non-commercial use.
"""

import hashlib
import os
import pathlib
import sys
import zlib
from collections.abc import Mapping

import numpy as np

from hgqjax.data.arrays import read_npz
from hgqjax.data.dataset import DataError, pixel_scaler
from hgqjax.data.download import download
from hgqjax.data.openml import default_cache_dir
from hgqjax.data.rows import Rows, make_rows, sha256_of
from hgqjax.errors import first_line

ADDRESS = "http://ufldl.stanford.edu/housenumbers"
TRAIN, TEST, EXTRA = "train_32x32.mat", "test_32x32.mat", "extra_32x32.mat"
MD5 = {
    TRAIN: "e26dedcc434d2e4c54c9b2d4a06d8373",
    TEST: "eb5a983be6a315427106f1b164d9cef3",
    EXTRA: "a93ce644f1a588dc4d68dda5feec44a7",
}
NAME, NAME_EXTRA, NAME_SUBSET = "SVHN", "SVHN with extra", "SVHN test-subset, block split"
SOURCE = "SVHN cropped digits (http://ufldl.stanford.edu/housenumbers), photographs of house numbers."
CLASSES = tuple("0123456789")
COLOURS = ("red", "green", "blue")
SHAPE = (32, 32, 3)


def read(
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    extra: bool = False,
    address: str = ADDRESS,
    md5: Mapping[str, str] = MD5,
    timeout_s: float = 60.0,
) -> Rows:
    """The official files, 246 MB, with ``extra`` 1.6 GB; downloads what the cache lacks.

    Args:
      cache_dir: its folder ``svhn`` keeps the files; None is ``default_cache_dir()``.
      extra: train on the extra digits, too.
      address, md5: of the files; others are for tests and mirrors.
      timeout_s: how long a server may stay silent, seconds.

    Raises: DataError where there is no network and no good copy in the cache.

    >>> import tempfile
    >>> read(tempfile.mkdtemp(), address="http://127.0.0.1:9", timeout_s=1.0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    hgqjax.data.dataset.DataError: http://127.0.0.1:9/train_32x32.mat: cannot be downloaded (...); without a network, give ...
    """
    folder = (default_cache_dir() if cache_dir is None else pathlib.Path(cache_dir)) / "svhn"
    for name in _names(extra):
        path = folder / name
        if not path.is_file() or _md5_of(path) != md5[name]:
            print(f"downloading {address}/{name} to {path}", file=sys.stderr)
            download(f"{address}/{name}", path, checksum=f"md5:{md5[name]}", timeout_s=timeout_s)
    return _read_folder(folder, extra, NAME_EXTRA if extra else NAME)


def read_path(path: str | os.PathLike[str], *, extra: bool = False) -> Rows:
    """SVHN digits that lie here already.

    Args:
      path: a folder with ``train_32x32.mat`` and ``test_32x32.mat`` (and ``extra_32x32.mat``), split as they are; or one such .mat file, or
        an .npz with ``x``, uint8, (rows, 32, 32, 3), and ``y``, 0 .. 9, of the first rows of the test file. A file is split into
        blocks: the first 80 % are for training, 10 % for validation, 10 % for the test.
      extra: of a folder, train on the extra digits, too.

    The name of what is read is "SVHN" only where a folder holds the official files, by their checksums.
    Raises: DataError where a file is missing, cannot be read, or is not SVHN.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        lacking = [name for name in _names(extra) if not (path / name).is_file()]
        if lacking:
            raise DataError(f"{path}: has no file {' and no file '.join(lacking)}, which SVHN needs")
        official = all(_md5_of(path / name) == MD5[name] for name in _names(extra))
        return _read_folder(path, extra, (NAME_EXTRA if extra else NAME) if official else f"SVHN files in {path.absolute().name}")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file or folder")
    if extra:
        raise DataError(f"{path}: is a file, but svhn_extra needs a folder with {', '.join(_names(True))}")
    if path.suffix.lower() not in (".mat", ".npz"):
        raise DataError(f"{path}: is no SVHN file; give a folder with {TRAIN} and {TEST}, a .mat or an .npz file")
    is_mat = path.suffix.lower() == ".mat"
    x, y = _read_mat(path) if is_mat else _read_npz(path)
    trained, known = len(x) * 8 // 10, len(x) * 9 // 10
    parts = (trained, known - trained, len(x) - known)
    name = f"SVHN {path.name}, block split" if is_mat else NAME_SUBSET
    return _rows(str(path), name, f"{SOURCE} The file {path.name}, given by its path.", sha256_of(path), x, y, parts)


def _names(extra: bool) -> tuple[str, ...]:
    return (TRAIN, TEST, EXTRA) if extra else (TRAIN, TEST)


def _read_folder(folder: pathlib.Path, extra: bool, name: str) -> Rows:
    """Rows in the order of their parts: extra, the training file, the test file; sha256 of the checksums of the files."""
    order = (EXTRA, TRAIN, TEST) if extra else (TRAIN, TEST)
    found = [_read_mat(folder / file) for file in order]
    n_train, n_test = len(found[-2][1]), len(found[-1][1])
    n_extra = sum(len(y) for _, y in found[:-2])
    n_val = round(0.1 * n_train)
    digest = hashlib.sha256("".join(sha256_of(folder / file) for file in order).encode()).hexdigest()
    x, y = (np.concatenate(part) for part in zip(*found, strict=True))
    return _rows(str(folder), name, SOURCE, digest, x, y, (n_extra + n_train - n_val, n_val, n_test))


def _rows(where: str, name: str, source: str, sha256: str, x: np.ndarray, y: np.ndarray, parts: tuple[int, int, int]) -> Rows:
    about = {"where": where, "name": name, "source": source, "sha256": sha256, "classes": CLASSES, "feature_names": COLOURS}
    return make_rows(x=x, y=y, scaler=pixel_scaler(SHAPE), parts=parts, **about)


def _read_mat(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (rows, 32, 32, 3) and labels 0 .. 9 of a MATLAB 5 file with X (32, 32, 3, rows) and y 1 .. 10, where 10 is the digit 0."""
    import scipy.io

    try:
        content = scipy.io.loadmat(path, variable_names=["X", "y"])
    except (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, NotImplementedError, MemoryError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as a MATLAB 5 file ({first_line(error)})") from None
    except scipy.io.matlab.MatReadError as error:
        raise DataError(f"{path}: cannot be read as a MATLAB 5 file ({first_line(error)})") from None
    lacking = [name for name in ("X", "y") if not isinstance(content.get(name), np.ndarray)]
    if lacking:
        raise DataError(f"{path}: has no array {' and no array '.join(lacking)}, so it is no SVHN file of cropped digits")
    x, y = content["X"], content["y"]
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[:3] != SHAPE:
        raise DataError(f"{path}: X has type {x.dtype} and shape {x.shape}, but SVHN's is uint8, (32, 32, 3, rows)")
    n = x.shape[3]
    if y.shape not in ((n, 1), (1, n), (n,)) or y.dtype.kind not in "iuf":
        raise DataError(f"{path}: y has type {y.dtype} and shape {y.shape}, but must be numbers, ({n}, 1)")
    y = _whole(y.reshape(n), 1, 10, path)
    return np.ascontiguousarray(x.transpose(3, 0, 1, 2)), y % 10


def _read_npz(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    content = read_npz(path, ("x", "y"))
    lacking = [name for name in ("x", "y") if name not in content]
    if lacking:
        raise DataError(f"{path}: has no array {' and no array '.join(lacking)}, so it is no file of SVHN digits")
    x, y = content["x"], content["y"]
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[1:] != SHAPE:
        raise DataError(f"{path}: x has type {x.dtype} and shape {x.shape}, but SVHN digits are uint8, (rows, 32, 32, 3)")
    if y.shape != (len(x),) or y.dtype.kind not in "iuf":
        raise DataError(f"{path}: y has type {y.dtype} and shape {y.shape}, but must be numbers, ({len(x)},)")
    return x, _whole(y, 0, 9, path)


def _whole(y: np.ndarray, low: int, high: int, path: pathlib.Path) -> np.ndarray:
    strange = ~((y >= low) & (y <= high) & (y == np.floor(y)))
    if strange.any():
        raise DataError(f"{path}: label {y[strange.argmax()]} at index {strange.argmax()} must be a whole number, {low} .. {high}")
    return y.astype(np.int32)


def _md5_of(path: pathlib.Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
