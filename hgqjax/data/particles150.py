"""The public particle-level jets, Zenodo 3602260: 880 000 simulated jets of up to 150 constituents with 16 features, in two archives.

``hls4ml_LHCjet_150p_train.tar.gz`` (620 000 jets) and ``hls4ml_LHCjet_150p_val.tar.gz`` (260 000, the papers' test rows) hold ``.h5`` files
with ``jetConstituentList`` (jets, 150, 16), by falling pT, and ``jets`` (jets, 59), whose columns 53 to 57 are one-hot labels g, q, w,
z, t. The last tenth of the training jets, in the order of the files, are for validation.

Preprocessing as published (JEDI-linear, arXiv:2508.15468): float16; constituents below 2 GeV become zeros; each feature is scaled by its
mean and deviation over jets and constituents together, zeros included. "3 features" are pT, and eta and phi relative to the jet.
"""

import hashlib
import io
import os
import pathlib
import sys
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from hgqjax.archives import ArchiveError, check_memory
from hgqjax.data.dataset import DataError
from hgqjax.data.download import download
from hgqjax.data.openml import default_cache_dir
from hgqjax.data.particles import scaler_of, without_soft
from hgqjax.data.rows import JET_CLASSES, Rows, make_rows, sha256_of
from hgqjax.errors import first_line

ADDRESS = "https://zenodo.org/records/3602260/files"
TRAIN, TEST = "hls4ml_LHCjet_150p_train.tar.gz", "hls4ml_LHCjet_150p_val.tar.gz"
NAME = "LHC jets of 150 particles (Zenodo 3602260)"
SOURCE = "The hls4ml LHC jet dataset of 150 particles (https://zenodo.org/records/3602260), simulated LHC jets."
MOST = 150
FEATURES = ("px", "py", "pz", "e", "e_rel", "pt", "pt_rel", "eta", "eta_rel", "eta_rot", "phi", "phi_rel", "phi_rot")
FEATURES += ("delta_r", "cos_theta", "cos_theta_rel")
"""In the order of the files."""
THREE = (FEATURES.index("pt"), FEATURES.index("eta_rel"), FEATURES.index("phi_rel"))
LABELS = slice(53, 58)
"""Columns of ``jets``."""


def parse(text: str) -> tuple[int, int, str]:
    """Constituents, features and path of "16", "16x3", "16x16" or "16x3:PATH".

    Raises: DataError where there are not so many.

    >>> parse("32"), parse("32x16:nets")
    ((32, 3, ''), (32, 16, 'nets'))
    """
    sizes, _, path = text.partition(":")
    constituents, _, features = sizes.partition("x")
    features = features if "x" in sizes else "3"
    if not constituents.isdecimal() or not 1 <= int(constituents) <= MOST or features not in ("3", "16"):
        raise DataError(f"particles150:{sizes} is unknown; give 1 .. {MOST} constituents and 3 or 16 features, e.g. particles150:16x3")
    return int(constituents), int(features), path


def read(
    constituents: int,
    features: int = 3,
    folder: str | os.PathLike[str] | None = None,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    address: str = ADDRESS,
    timeout_s: float = 60.0,
) -> Rows:
    """The hardest constituents of all jets.

    Args:
      constituents: how many of each jet, 1 .. 150.
      features: 3 (pT, eta and phi relative to the jet) or 16.
      folder: with the two archives, or with what they hold, folders ``train`` and ``val``; None downloads what the cache lacks, 3 GB.
      cache_dir: its folder ``particles150`` keeps the archives; None is ``default_cache_dir()``.
      address: of the archives; another one is for tests and mirrors. timeout_s: how long a server may stay silent, seconds.

    Raises: DataError where there is no network and no copy, a file is damaged, or it holds something else.
    """
    if folder is None:
        folder = (default_cache_dir() if cache_dir is None else pathlib.Path(cache_dir)) / "particles150"
        for name in (TRAIN, TEST):
            if not (folder / name).is_file():
                print(f"downloading {address}/{name} to {folder / name}", file=sys.stderr)
                download(f"{address}/{name}", folder / name, timeout_s=timeout_s)
    folder = pathlib.Path(folder)
    columns, digest, found = THREE if features == 3 else tuple(range(16)), hashlib.sha256(), []
    for archive, inside in ((TRAIN, "train"), (TEST, "val")):
        blocks = [(name, *_block(content, name, constituents, columns)) for name, content in _files(folder, archive, inside, digest)]
        if not blocks:
            raise DataError(f"{folder}: {archive} or its folder {inside} has no .h5 file")
        found.append([np.concatenate([block[n] for block in blocks]) for n in (1, 2)])
    (x_train, y_train), (x_test, y_test) = found
    known = len(x_train) - max(1, len(x_train) // 10)
    about = {"where": str(folder), "name": NAME, "source": SOURCE, "sha256": digest.hexdigest(), "classes": JET_CLASSES}
    about |= {"feature_names": tuple(FEATURES[n] for n in columns), "parts": (known, len(x_train) - known, len(x_test))}
    scaler = scaler_of(x_train)
    return make_rows(x=np.concatenate([x_train, x_test]), y=np.concatenate([y_train, y_test]), scaler=scaler, **about)


def _files(folder: pathlib.Path, archive: str, inside: str, digest) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the .h5 files of one part, in order of their names; their checksums go into `digest`."""
    if (folder / inside).is_dir():
        for path in sorted((folder / inside).glob("*.h5")):
            digest.update(sha256_of(path).encode())
            yield str(path), path.read_bytes()
        return
    path = folder / archive
    if not path.is_file():
        raise DataError(f"{folder}: has neither {archive} nor a folder {inside}, which the jets of 150 particles need")
    digest.update(sha256_of(path).encode())
    try:
        with tarfile.open(path) as members:
            names = sorted((member for member in members if member.isfile() and member.name.endswith(".h5")), key=lambda m: m.offset)
            for member in names:
                check_memory(member.size, f"{member.name} of {path}", copies=2)
                stream = members.extractfile(member)
                assert stream is not None, "a file of an archive has a content"
                yield f"{path}: {member.name}", stream.read()
    except ArchiveError as error:
        raise DataError(str(error)) from None
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as a .tar.gz archive ({first_line(error)})") from None


def _block(content: bytes, name: str, constituents: int, columns: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Constituents, float16, without the soft ones, and labels of one .h5 file."""
    try:
        import h5py
    except ImportError:
        raise DataError(f"{name}: reading .h5 files needs h5py; pip install 'hgqjax[interop]'") from None
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            lists: Any = file["jetConstituentList"]
            jets: Any = file["jets"]
            shapes = lists.shape, jets.shape
            if len(shapes[0]) != 3 or shapes[0][1] < constituents or shapes[0][2] < 16 or shapes[1] != (shapes[0][0], 59):
                raise DataError(
                    f"{name}: jetConstituentList and jets have shapes {shapes[0]} and {shapes[1]}; "
                    f"(jets, {MOST}, 16) and (jets, 59) are needed"
                )
            x, one_hot = lists[:, :constituents, :16].astype(np.float32), jets[:, LABELS]
    except DataError:
        raise
    except Exception as error:  # whatever the library makes of a damaged file
        raise DataError(f"{name}: has no jets of 150 particles ({first_line(error)})") from None
    if not np.all(np.isfinite(x)) or not np.all((one_hot == 0) | (one_hot == 1)) or not np.all(one_hot.sum(axis=1) == 1):
        raise DataError(f"{name}: a constituent is not finite, or columns 53 to 57 of jets are no labels with one 1 in each row")
    return without_soft(x, FEATURES.index("pt"))[:, :, columns].astype(np.float16), one_hot.argmax(axis=1).astype(np.int32)
