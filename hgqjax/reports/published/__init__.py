"""Published results to stand beside ours: one csv a benchmark, every number with the place where it was read.

Columns: name, dataset, split, accuracy (0 .. 1) or resolution_mrad, ebops (bit operations per inference), lut, dsp, ff, latency_ns,
lut_percent and dsp_percent (share of the part that `source` names), test_rows (where the number is known), version (of the paper: its
key in ``recipes.csv``, which has the length of the training), source, kind. An empty cell: no source was found; nothing is entered
from memory. Marks of `source`: see `MARKS`. Scores in checkpoint names ([AE]) are of VALIDATION rows, accuracies there rounded to 0.001
or 0.0001, resolutions there too small where tracks lie outside `WINDOW_MRAD`: these count as residuals of 0.

``jets.csv``: OpenML 42468 and CERNBox are two data sets; the same method scores about one point more on OpenML. Neither is
"jets (re-simulated)". For a fair comparison on that one we ran the networks that the HGQ authors released on its rows, scaled by the
real scaler, on all 176 760 rows: kind "released network". Its EBOPs are those that the authors published, `luts_predicted` are ours
(`hgqjax.resources.Luts`), both scores and LUTs by ``hgqjax zoo FOLDER --data jets``.

``svhn.csv``, ``muon.csv``: the paper's Tables II and III were found in no readable source, so what is there comes from other places.
``plf.csv``: jets by their particles; hgqjax has no such data set, so nothing of ours stands beside it. JEDI-linear and MLP-Mixer are other
networks than those of the HGQ papers.
"""

import csv
import dataclasses
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from hgqjax.scores import AbstractScore, Accuracy, Resolution

NAMES = ("jets", "svhn", "muon", "plf")
WINDOW_MRAD = 30.0
"""The resolutions of HGQ in ``muon.csv`` are of residuals below this."""
MARKS = {
    "[AE]": "the accuracy on validation rows and the EBOPs in the name of a checkpoint that the authors released",
    "[AE results: x]": "the result files of the artifact of x",
    "[AE scripts]": "the scripts of the authors' artifact",
    "[CODE: x]": "the authors' code or configuration x",
    "[PAPER: x]": "the text of paper x",
    "[2nd: x]": "a secondary source that quotes the paper",
    "[FIG: x]": "digitised from figure x",
}
KINDS = ("HGQ", "another method", "released network")
_FITS = {"jets (re-simulated)": "jets", "OpenML 42468": "jets", "CERNBox": "jets"}
_FITS |= {"muon (simulated)": "muon", "fake-TGC (authors' tracks)": "muon"}
_FITS |= {"particles (re-simulated)": "plf", "LHC jets of 150 particles (Zenodo 3602260)": "plf"}
_FITS |= dict.fromkeys(("SVHN", "SVHN with extra", "SVHN test-subset, block split"), "svhn")
_HOW = {"[AE": "read", "[CODE": "read", "[PAPER": "read", "[2nd": "second-hand", "[FIG": "digitised"}


@dataclasses.dataclass(frozen=True)
class Published:
    """One row; None where no source gives the number."""

    name: str
    dataset: str
    split: str
    accuracy: float | None
    resolution_mrad: float | None
    ebops: float | None
    lut: float | None
    dsp: float | None
    ff: float | None
    latency_ns: float | None
    lut_percent: float | None
    dsp_percent: float | None
    test_rows: float | None
    version: str
    source: str
    kind: str
    written: str
    """The accuracy or resolution, digit for digit as the file has it."""
    luts_predicted: float | None = None
    """By `hgqjax.resources.Luts`, of a network that was measured here."""

    @property
    def shown(self) -> str:
        """The accuracy in percent, or the resolution in mrad, with the digits that were read; "" where there is neither."""
        return self.written if self.accuracy is None else f"{Decimal(self.written).scaleb(2):f}"

    @property
    def score(self) -> float | None:
        """The accuracy, 0 .. 1, or the resolution, mrad; None where there is neither."""
        return self.resolution_mrad if self.accuracy is None else self.accuracy

    @property
    def label(self) -> str:
        """Name and unit of the score, as `AbstractScore.label` gives it; "" where there is none."""
        return "" if self.score is None else scored(self).label("mrad")

    @property
    def how(self) -> str:
        """How the numbers came here: read, second-hand, digitised, or measured here (with a released network)."""
        return next((how for mark, how in _HOW.items() if self.source.startswith(mark)), "measured here")

    @property
    def artifact(self) -> bool:
        """Whether it is a network that the authors released: a checkpoint of an artifact, or one that was run here."""
        return (self.source.startswith("[AE") and "checkpoint" in self.source) or self.kind == "released network"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How long the networks of one version of a paper were trained; `dataset` is "" where it is the same for all."""

    table: str
    version: str
    dataset: str
    epochs: int
    batch_size: int
    steps_per_epoch: int | None
    """Computed from the number of training rows; None where that was found nowhere."""
    source: str

    @property
    def mark(self) -> str:
        """The mark of `source`, in its brackets.

        >>> recipe("jets", "v3", "CERNBox").mark
        '[AE scripts]'
        """
        return self.source[: self.source.index("]") + 1]


def scored(row: Published) -> AbstractScore:
    """What the score of a row is; resolutions of HGQ are of residuals below `WINDOW_MRAD`.

    >>> scored(read("jets")[0]).name, scored(read("muon")[0]).window
    ('accuracy', 30.0)
    """
    if row.resolution_mrad is None:
        return Accuracy()
    return Resolution(window=None if row.kind == "another method" else WINDOW_MRAD)


def read(name: str) -> list[Published]:
    """The rows of the benchmark `name`, in the order of the file; raises ValueError for an unknown name.

    >>> next((p.name, p.dataset, p.split, p.accuracy, p.ebops, p.how) for p in read("jets"))
    ('HGQ v3', 'OpenML 42468', 'validation', 0.771, 13285.0, 'read')
    >>> [p.shown for p in read("jets") if p.lut == 12250], [p.shown for p in read("muon")][1:3]
    (['76.9'], ['2.010', '2.377'])
    """
    if name not in NAMES:
        raise ValueError(f"published is {name!r}; legal are {', '.join(NAMES)}")
    text = {f.name for f in dataclasses.fields(Published) if f.type is str}
    found = []
    for row in _rows(name):
        fields: dict[str, Any] = {k: v if k in text else float(v) if v else None for k, v in row.items()}
        found.append(Published(**fields, written=row["accuracy"] or row["resolution_mrad"]))
    return found


def beside(dataset: str, which: str | None) -> list[Published]:
    """The rows that stand beside a run on `dataset` (its name in the manifest): of "same" those on the same data set, of a benchmark's name
    all of that benchmark, of None none. ValueError for another name.

    >>> len(beside("jets (re-simulated)", "same")), len(beside("tops", "same")), len(beside("tops", "jets")) > 50
    (5, 0, True)
    """
    if which == "same":
        name = name_for(dataset)
        return [] if name is None else [row for row in read(name) if row.dataset == dataset]
    return [] if which is None else read(which)


def recipe(table: str, version: str, dataset: str) -> Recipe | None:
    """The training behind rows of that `version` and data set; None where no source says.

    >>> recipe("jets", "v3", "CERNBox").epochs, recipe("jets", "", "CERNBox")
    (200000, None)
    """
    for row in _rows("recipes"):
        if (row["table"], row["version"]) == (table, version) and row["dataset"] in ("", dataset):
            fields: dict[str, Any] = dict(row)
            fields |= {k: int(row[k]) if row[k] else None for k in ("epochs", "batch_size", "steps_per_epoch")}
            return Recipe(**fields)
    return None


def name_for(dataset: str) -> str | None:
    """The benchmark whose results stand beside those on `dataset` (its name in the manifest); None where there is none.

    >>> name_for("jets (re-simulated)"), name_for("tops")
    ('jets', None)
    """
    return _FITS.get(dataset)


def marks(sources: Iterable[str]) -> dict[str, str]:
    """Those of `MARKS` that occur in `sources`.

    >>> list(marks(["[AE scripts]", "read: [PAPER: FINNAS] Table II"]))
    ['[AE scripts]', '[PAPER: x]']
    """
    text = "\n".join(sources)
    return {mark: meaning for mark, meaning in MARKS.items() if mark.removesuffix(" x]") in text}


def _rows(name: str) -> list[dict[str, str]]:
    with Path(__file__).with_name(f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
