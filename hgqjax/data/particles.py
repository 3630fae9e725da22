"""Particle-level jets that come with hgqjax: the 32 hardest constituents of 53 000 jets, re-simulated by this project, in 8 MB.

They imitate the public set of jets of 150 constituents (Zenodo 3602260, :mod:`hgqjax.data.particles150`) with three of its features and are
not its rows; results on them are called "particles (re-simulated)". The jets come from the same simulation as :mod:`hgqjax.data.jets`.
Rows are ``(constituents, 3)``: pT in GeV, eta and phi relative to the jet, by falling pT, zeros behind the last constituent.

Preprocessing as published (JEDI-linear, arXiv:2508.15468): constituents below 2 GeV become zeros; each feature is scaled by its mean and
deviation over jets and constituents together, zeros included.

The file holds float16 bit for bit, in byte planes: pT as the differences of its words to those of the next constituent, which are small.
``scripts/simulate_jets.py pack-particles`` makes it.
"""

import pathlib

import numpy as np

from hgqjax.data.dataset import DataError, Scaler
from hgqjax.data.rows import JET_CLASSES, Rows, make_rows, sha256_of

FILE = pathlib.Path(__file__).with_name("particles_resim.npz")
NAME = "particles (re-simulated)"
SOURCE = (
    "Constituents of LHC jets, re-simulated by the hgqjax project with Pythia 8 (scripts/simulate_jets.py), not rows of Zenodo 3602260."
)
FEATURES = ("pt", "eta_rel", "phi_rel")
MOST, DEFAULT = 32, 16
"""Constituents that the file has, and that are taken where no number is given."""
PT_MIN = 2.0
"""GeV."""
VALIDATION, TEST = 5_000, 10_000
"""Rows of these parts, which are the last of the file; its rows are in random order."""


def read(constituents: int = DEFAULT) -> Rows:
    """The hardest constituents of all jets of the file.

    Args:
      constituents: how many of each jet, 1 .. 32.

    Raises: DataError where there are not so many.

    >>> rows = read(8)
    >>> rows.x.shape, rows.feature_names, rows.parts
    ((53000, 8, 3), ('pt', 'eta_rel', 'phi_rel'), (38000, 5000, 10000))
    """
    if not 1 <= constituents <= MOST:
        raise DataError(f"particles:{constituents} is out of range: these jets have 1 .. {MOST} constituents")
    with np.load(FILE, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file}
    x = unpack(arrays)[:, :constituents]
    parts = (len(x) - VALIDATION - TEST, VALIDATION, TEST)
    about = {"where": FILE.name, "name": NAME, "source": SOURCE, "sha256": sha256_of(FILE), "classes": JET_CLASSES}
    x = without_soft(x, FEATURES.index("pt"))
    return make_rows(x=x, y=arrays["y"], feature_names=FEATURES, scaler=scaler_of(x[:-TEST]), parts=parts, **about)


def without_soft(x: np.ndarray, pt: int) -> np.ndarray:
    """The same constituents (jets, constituents, features) with zeros for those whose feature number ``pt`` is below 2 GeV."""
    return np.where(x[:, :, pt : pt + 1] < PT_MIN, x.dtype.type(0), x)


def scaler_of(x: np.ndarray) -> Scaler:
    """Mean and deviation of each feature over jets and constituents together, in float64.

    >>> scaler_of(np.array([[[1.0], [3.0]], [[3.0], [1.0]]])).mean.tolist()
    [[2.0], [2.0]]
    """
    total, square = np.zeros(x.shape[2]), np.zeros(x.shape[2])
    for start in range(0, len(x), 10_000):
        block = x[start : start + 10_000].astype(np.float64)
        total, square = total + block.sum((0, 1)), square + (block**2).sum((0, 1))
    count = x.shape[0] * x.shape[1]
    mean = total / count
    deviation = np.sqrt(np.maximum(square / count - mean**2, 0.0))
    return Scaler(*(np.tile(v, (x.shape[1], 1)) for v in (mean, np.where(deviation > 0, deviation, 1.0))))


def pack(x: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays from which :func:`unpack` gives ``x`` back, bit for bit.

    Args:
      x: float16, (jets, 32, 3), features as in ``FEATURES``, by falling pT, which is finite and at least 0.

    Raises: DataError where it is something else.

    >>> x = read(32).x[:100]
    >>> np.array_equal(unpack(pack(x)), x)
    True
    """
    if x.dtype != np.float16 or x.ndim != 3 or x.shape[1:] != (MOST, len(FEATURES)):
        raise DataError(f"constituents have type {x.dtype} and shape {x.shape}, but must be float16, (jets, {MOST}, {len(FEATURES)})")
    pt = x[:, :, 0].view(np.int16).astype(np.int32)  # the words of numbers of at least 0 have the order of the numbers
    steps = -np.diff(pt, axis=1, append=0)
    if not np.all(np.isfinite(x)) or np.any(pt < 0) or np.any(steps < 0):
        raise DataError("constituents do not pack: pT must fall from one to the next and not below 0, and every value be finite")
    words = np.stack([steps.astype(np.uint16), x[:, :, 1].view(np.uint16), x[:, :, 2].view(np.uint16)])
    planes = {"high": words >> 8, "low": words & 255}
    return {name: np.ascontiguousarray(plane.astype(np.uint8).transpose(0, 2, 1)) for name, plane in planes.items()}


def unpack(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Constituents, float16, (jets, 32, 3), from the arrays of :func:`pack`."""
    words = (arrays["high"].astype(np.uint16) << 8 | arrays["low"]).transpose(0, 2, 1)
    pt = np.cumsum(words[0, :, ::-1].astype(np.int32), axis=1)[:, ::-1].astype(np.uint16)
    return np.stack([np.ascontiguousarray(v).view(np.float16) for v in (pt, words[1], words[2])], axis=2)
