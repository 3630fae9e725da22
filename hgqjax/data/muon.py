"""Muon tracks in a thin-gap chamber: simulated here, without any file, or read from one. The target is the angle in mrad.

The chamber is that of Sun et al., arXiv:2202.04976: seven gas gaps in three stations (3 + 2 + 2), 50 channels of 18-20 mm each, about
1.5 m from the first station to the last. Rows are ``(50, 7)``, 1 where a channel has a hit. Channel offsets of the gaps (channels are
staggered by thirds in the first station, by halves in the others), lever arms and the range of deflections were fitted by this project so
that the network which the HGQ authors released recovers the true angle (to 1.7 mrad without imperfections); that deflections are uniform,
the inefficiency and the share of neighbour hits are assumptions. Results on these rows are called "muon (simulated)".
"""

import functools
import hashlib
import pathlib
from typing import Any

import numpy as np

from hgqjax.data.dataset import DataError, Scaler
from hgqjax.data.inputs import InputPart
from hgqjax.data.rows import Rows, make_rows, sha256_of

NAME = "muon (simulated)"
AUTHORS_FILE, AUTHORS_NAME = "fake_TGC_0.041_pruned.h5", "fake-TGC (authors' tracks)"
SOURCE = "Muon tracks in a thin-gap chamber, simulated by the hgqjax project (hgqjax.data.muon) after arXiv:2202.04976, not Geant4."
ROWS, MOST_ROWS, SEED = 400_000, 4_000_000, 2026
CHANNELS, UNIT = 50, "mrad"
STATIONS = (slice(0, 3), slice(3, 5), slice(5, 7))
GAPS = ("m1_gap1", "m1_gap2", "m1_gap3", "m2_gap1", "m2_gap2", "m3_gap1", "m3_gap2")
INPUTS = tuple(
    InputPart(
        f"station{n}",
        (CHANNELS, station.stop - station.start),
        tuple(channel * len(GAPS) + gap for channel in range(CHANNELS) for gap in range(station.start, station.stop)),
    )
    for n, station in enumerate(STATIONS, 1)
)
"""The hits of each station, as the published network takes them."""
OFFSETS = np.array([0.0, 1 / 3, 2 / 3, -0.810, -0.310, -0.048, 0.452])
"""Where a track that points to the origin crosses each gap, relative to the first, channels."""
LEVERS = np.array([0.0, 0.48, 0.96, 79.16, 79.99, 79.69, 79.75])
"""How far a deflection shifts the crossing of each gap, channels for a slope of 1."""
POINTING_MRAD, MRAD_PER_CHANNEL, LARGEST_DEFLECTION = 202.019, 1.0910, 0.0285
_BLOCK = 1 << 14


def simulate(rows: int = ROWS, seed: int = SEED, *, inefficiency: float = 0.007, neighbours: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    """Tracks that cross all seven gaps: a straight line from a uniform channel, deflected by a uniform slope from pointing.

    Args:
      rows: how many, 1 .. 4 000 000; the first rows are the same, whatever their number.
      seed: of the random numbers, 0 or more.
      inefficiency: share of crossings without a hit, 0 .. 1.
      neighbours: share of hits that the nearer neighbour channel has, too, 0 .. 0.5; the nearer to its edge, the likelier.

    Returns: hits, uint8, (rows, 50, 7), and angles of the tracks behind the deflection, mrad, float32, (rows,).
    Raises: DataError where an argument is out of range.

    >>> x, y = simulate(1000)
    >>> x.shape, round(float(x.sum(axis=1).mean()), 1), y.dtype.name, np.array_equal(simulate(10)[0], x[:10])
    ((1000, 50, 7), 1.0, 'float32', True)
    """
    if not 1 <= rows <= MOST_ROWS:
        raise DataError(f"rows={rows} is out of range: {NAME} has 1 .. {MOST_ROWS}")
    if seed < 0:
        raise DataError(f"seed={seed} is out of range: it must be 0 or more")
    for name, share, most in (("inefficiency", inefficiency, 1.0), ("neighbours", neighbours, 0.5)):
        if not 0 <= share <= most:
            raise DataError(f"{name}={share} is out of range: it lies between 0 and {most:g}")
    x, y, done = np.zeros((rows, CHANNELS, len(GAPS)), np.uint8), np.empty(rows, np.float32), 0
    block = 0
    while done < rows:
        row, channel, gap, angles = _tracks(np.random.default_rng((seed, block)), inefficiency, neighbours)
        taken = row < rows - done
        x[done + row[taken], channel[taken], gap[taken]] = 1
        count = min(len(angles), rows - done)
        y[done : done + count] = angles[:count]
        done, block = done + count, block + 1
    return x, y


def _tracks(rng: np.random.Generator, inefficiency: float, neighbours: float):
    """Rows, channels and gaps of the hits of one block of tracks, and their angles."""
    start = rng.uniform(-3.0, CHANNELS + 3.0, _BLOCK)
    slope = rng.uniform(-LARGEST_DEFLECTION, LARGEST_DEFLECTION, _BLOCK)
    crossing = start[:, None] + OFFSETS + slope[:, None] * LEVERS
    inside = np.all((crossing >= 0) & (crossing < CHANNELS), axis=1)
    start, slope, crossing = start[inside], slope[inside], crossing[inside]
    angles = 1e3 * np.arctan(np.tan(1e-3 * (POINTING_MRAD + MRAD_PER_CHANNEL * start)) + slope)
    channel = np.floor(crossing).astype(np.int64)
    off_centre = crossing - channel - 0.5
    beside = np.where(off_centre < 0, channel - 1, channel + 1)
    hit = rng.random(crossing.shape) >= inefficiency
    chance = 4.0 * neighbours * np.abs(off_centre)  # neighbours on average
    shared = hit & (rng.random(crossing.shape) < chance) & (beside >= 0) & (beside < CHANNELS)
    (row, gap), (row_beside, gap_beside) = np.nonzero(hit), np.nonzero(shared)
    channels = np.concatenate([channel[row, gap], beside[row_beside, gap_beside]])
    return np.concatenate([row, row_beside]), channels, np.concatenate([gap, gap_beside]), angles


def read(rows: int | None = None) -> Rows:
    """Simulated rows, 400 000 by default, of which the first 70 % are for training, 10 % for validation, 20 % for the test.

    >>> rows = read(1000)
    >>> rows.x.shape, rows.y.dtype.name, rows.parts, rows.unit
    ((1000, 50, 7), 'float32', (700, 100, 200), 'mrad')
    """
    x, y = simulate(ROWS if rows is None else rows)
    digest = hashlib.sha256(np.packbits(x.reshape(len(x), -1), axis=1).tobytes() + y.tobytes()).hexdigest()
    return make_rows(where=NAME, name=NAME, source=SOURCE, sha256=digest, **_fields(x, y))


def is_hits(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape may hold the hits of an .h5 file, (rows, 7, 50)."""
    return len(shape) == 3 and shape[1:] == (len(GAPS), CHANNELS)


def of_hits(x: np.ndarray, y: np.ndarray, path: pathlib.Path) -> Rows:
    """The HGQ authors' ``fake_TGC_0.041_pruned.h5``: ``X`` (rows, 7, 50), ``Y`` angles in mrad; 70/10/20 % after their shuffle, seed 42.

    Under that name the rows are called "fake-TGC (authors' tracks)", as published numbers on them are; others by their file.

    Args:
      x, y: the arrays of the file.
      path: of the file.

    Raises: DataError where they hold something else.
    """
    y = y.reshape(-1) if y.shape == (len(x), 1) else y
    _check_hits(x, y, str(path), "X", "Y")
    order = np.random.default_rng(42).permutation(len(x))
    hits = x.astype(np.uint8).transpose(0, 2, 1)[order]
    source = f"The file {path.name} of muon hits, given by its path."
    name = AUTHORS_NAME if path.name == AUTHORS_FILE else f"muon hits {path.name}"
    return make_rows(where=str(path), name=name, source=source, sha256=sha256_of(path), **_fields(hits, y[order]))


def unpacked(arrays: dict[str, np.ndarray], where: str) -> dict[str, Any]:
    """What an .npz of packed hits holds, as arguments of ``make_rows``: ``x_packed`` (rows, 44), ``y`` (rows,) in mrad, ``splits``.

    Args:
      arrays: of the file; ``splits``, the ends of training, validation and test rows, is 70/10/20 % where it is not there.
      where: what errors call the file.
    """
    packed, y, size = arrays["x_packed"], arrays["y"], CHANNELS * len(GAPS)
    width = -(-size // 8)
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != width:
        raise DataError(
            f"{where}: x_packed has type {packed.dtype} and shape {packed.shape}, but must be uint8, (rows, {width}): "
            f"{CHANNELS} x {len(GAPS)} muon hits a row"
        )
    x = np.unpackbits(packed, axis=1, count=size).reshape(-1, CHANNELS, len(GAPS))
    _check_hits(x, y, where, "x_packed", "y")
    fields = _fields(x, y)
    if "splits" in arrays:
        ends = arrays["splits"]
        parts = np.diff(ends, prepend=0) if ends.shape == (3,) and ends.dtype.kind in "iu" else np.zeros(3)
        if np.any(parts < 1) or ends[-1] != len(x):
            raise DataError(f"{where}: splits must be three rising whole numbers, the last of them the number of rows, {len(x)}")
        fields["parts"] = tuple(int(n) for n in parts)
    return fields | {"name": f"muon hits {pathlib.Path(where).name}"}


def station_masks(x: np.ndarray | None = None, threshold: float = 0.01) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which channels of two stations fire together: pairs whose correlation over the rows is above ``threshold``.

    Args:
      x: hits, (rows, 50, 7), of training rows; 100 000 or more, as chance gives a correlation of one over the root of the rows. None
        takes the default rows of :func:`simulate`, about a second.
      threshold: of the correlation, 0.01 in the HGQ paper.

    Returns: three arrays of bool, (50, 50): first and second station, first and third, second and third. A channel that never or always
      fires is in no pair.
    Source: Sun et al., arXiv:2202.04976; the masks of the HGQ authors' muon network.

    >>> [mask.shape for mask in station_masks(simulate(1000)[0])]
    [(50, 50), (50, 50), (50, 50)]
    """
    x = simulate()[0] if x is None else x
    if x.ndim != 3 or x.shape[1:] != (CHANNELS, len(GAPS)):
        raise DataError(f"x has shape {x.shape}, but must be (rows, {CHANNELS}, {len(GAPS)})")
    gaps = np.moveaxis(x != 0, 2, 0)
    fires = [functools.reduce(np.logical_or, gaps[station]).astype(np.float32) for station in STATIONS]
    n = len(x)
    means = [np.mean(f, axis=0, dtype=np.float64) for f in fires]
    deviations = [np.sqrt(m * (1.0 - m)) for m in means]
    masks = []
    for a, b in ((0, 1), (0, 2), (1, 2)):
        together = (fires[a].T @ fires[b]).astype(np.float64) / n  # whole numbers below 2**24: exact
        masks.append(together - np.outer(means[a], means[b]) > threshold * np.outer(deviations[a], deviations[b]))
    return tuple(m & np.outer(deviations[a] > 0, deviations[b] > 0) for m, (a, b) in zip(masks, ((0, 1), (0, 2), (1, 2)), strict=True))


def _fields(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    train, trained = len(x) * 7 // 10, len(x) * 8 // 10
    scaler = Scaler(np.zeros(x.shape[1:]), np.ones(x.shape[1:]))
    parts = (train, trained - train, len(x) - trained)
    about = {"feature_names": GAPS, "scaler": scaler, "unit": UNIT, "parts": parts, "inputs": INPUTS}
    return {"x": x, "y": y, "classes": None} | about


def _check_hits(x: np.ndarray, y: np.ndarray, where: str, x_name: str, y_name: str) -> None:
    if x.dtype.kind not in "biuf" or not np.all((x == 0) | (x == 1)):
        raise DataError(f"{where}: {x_name} must hold hits, 0 or 1, and nothing else")
    if y.shape != (len(x),) or y.dtype.kind not in "iuf":
        raise DataError(
            f"{where}: {y_name} has type {y.dtype} and shape {y.shape}, but must hold an angle in mrad for each of {len(x)} rows"
        )
