"""The data set that comes with hgqjax: 176 760 jets, re-simulated by this project, in 6.5 MB, every float32 bit for bit.

They imitate the 16 observables of OpenML 42468 ``hls4ml_lhc_jets_hlf`` and are not its rows; results on them are called
"jets (re-simulated)". Classes are balanced and rows shuffled. They are scaled by mean and scale of the 664 000 training rows of the
real file, so that a network trained here reads real rows scaled in the same way.

The file holds 11 of the 16 columns as four byte planes each (bytes of one significance compress together) and the multiplicity as a
whole number. The other four follow from those: one is a copy, three are ratios, stored as the few units in the last place by
which the formula misses. ``scripts/simulate_jets.py`` makes the file.
"""

import pathlib

import numpy as np

from hgqjax.data.dataset import DataError, Scaler
from hgqjax.data.rows import JET_CLASSES, JET_FEATURES, Rows, make_rows, sha256_of

FILE = pathlib.Path(__file__).with_name("jets_resim.npz")
NAME = "jets (re-simulated)"
SOURCE = (
    "LHC jets re-simulated by the hgqjax project with Pythia 8 (scripts/simulate_jets.py) after the recipe of OpenML 42468, "
    "not rows of that file."
)
COPIED = {"d2_a1_b1_mmdt": "d2_b1_mmdt"}
CORRECTED = ("c2_b1_mmdt", "c2_b2_mmdt", "d2_a1_b2_mmdt")
PLANES = tuple(f for f in JET_FEATURES if f not in (*COPIED, *CORRECTED, "multiplicity"))


def read() -> Rows:
    """All embedded rows in physical units (GeV where a unit applies), with the real scaler.

    >>> rows = read()
    >>> rows.x.shape, rows.x.dtype.name, np.bincount(rows.y).tolist()
    ((176760, 16), 'float32', [35352, 35352, 35352, 35352, 35352])
    """
    with np.load(FILE, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file}
    return make_rows(
        where=FILE.name,
        name=NAME,
        source=SOURCE,
        sha256=sha256_of(FILE),
        x=unpack(arrays),
        y=arrays["y"],
        classes=JET_CLASSES,
        feature_names=JET_FEATURES,
        scaler=Scaler(arrays["scaler_mean"].astype(np.float64), arrays["scaler_scale"].astype(np.float64)),
    )


def pack(x: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays from which :func:`unpack` gives ``x`` back, bit for bit.

    Args:
      x: float32, (rows, 16), columns as in ``JET_FEATURES``.

    Raises: DataError where a column is not what its formula says, or a multiplicity is not a whole number below 65536.

    >>> x = read().x[:100]
    >>> np.array_equal(unpack(pack(x)).view(np.int32), x.view(np.int32))
    True
    """
    columns = {name: np.ascontiguousarray(x[:, j]) for j, name in enumerate(JET_FEATURES)}
    count = columns["multiplicity"]
    if not np.array_equal(count, count.astype(np.uint16)):
        raise DataError("multiplicity does not pack: it must be a whole number, 0 .. 65535")
    for name, original in COPIED.items():
        if not np.array_equal(_bits(columns[name]), _bits(columns[original])):
            raise DataError(f"{name} does not pack: it must equal {original}")
    corrections = []
    for name, predicted in _predict(columns).items():
        miss = _bits(columns[name]).astype(np.int64) - _bits(predicted)
        if np.abs(miss).max() > 127:
            raise DataError(f"{name} does not pack: it must follow from other columns to 127 units in the last place")
        corrections.append(miss.astype(np.int8))
    stored = np.stack([columns[name] for name in PLANES]).astype("<f4")
    planes = stored.view(np.uint8).reshape(len(PLANES), len(x), 4).transpose(0, 2, 1)
    return {
        "planes": np.ascontiguousarray(planes),
        "corrections": np.stack(corrections),
        "multiplicity": count.astype("<u2"),
    }


def unpack(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Rows, float32, (rows, 16), from the arrays of :func:`pack`.

    >>> x = read().x[:3]
    >>> unpack(pack(x))[:, -1].tolist() == x[:, -1].tolist()
    True
    """
    planes = np.ascontiguousarray(arrays["planes"].transpose(0, 2, 1))
    columns = dict(zip(PLANES, planes.view("<f4")[..., 0].astype(np.float32), strict=True))
    columns["multiplicity"] = arrays["multiplicity"].astype(np.float32)
    for (name, predicted), miss in zip(_predict(columns).items(), arrays["corrections"], strict=True):
        columns[name] = (_bits(predicted) + miss.astype(np.int32)).view(np.float32)
    for name, original in COPIED.items():
        columns[name] = columns[original]
    return np.stack([columns[name] for name in JET_FEATURES], axis=1)


def _predict(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns ``CORRECTED``, nearly, from stored ones: c2 = c1 d2, and d2_a1_b2 = e3 / e2^1.5 of its two powers.

    Only products, quotients and roots in float64: IEEE 754 fixes their every bit, so that all machines agree.
    """
    c1_b1, c1_b2 = columns["c1_b1_mmdt"].astype(np.float64), columns["c1_b2_mmdt"].astype(np.float64)
    d2_b1, d2_b2 = columns["d2_b1_mmdt"].astype(np.float64), columns["d2_b2_mmdt"].astype(np.float64)
    mixed = d2_b1 * (c1_b1 * c1_b1 * c1_b1) / (c1_b2 * np.sqrt(c1_b2))
    return {name: v.astype(np.float32) for name, v in zip(CORRECTED, (c1_b1 * d2_b1, c1_b2 * d2_b2, mixed), strict=True)}


def _bits(column: np.ndarray) -> np.ndarray:
    return column.view(np.int32)
