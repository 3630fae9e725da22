"""Published results to stand beside ours: one csv a benchmark, every number with the place where it was read.

Columns: name, dataset, split, accuracy (0 .. 1), ebops (bit operations per inference), lut, dsp, latency_ns, lut_percent and
dsp_percent (share of the part that `source` names), source, kind. An empty cell: no source was found; nothing is entered from memory.
Marks of `source`: see `MARKS`. Accuracies in checkpoint names ([AE]) are of VALIDATION rows and rounded to 0.001.

``jets.csv``: OpenML 42468 and CERNBox are two data sets; the same method scores about one point more on OpenML. Neither is
"jets (re-simulated)". For a fair comparison on that one we ran the networks that the HGQ authors released on its rows, scaled by the
real scaler: accuracy 0.7235 at 530 EBOPs and 0.7450 at 2571 on all 176 760 rows, and 0.7388 at 1572, 0.7560 at 7229 and 0.7577 at 13285 on
58 870 balanced rows of the same simulation (there the first two score 0.7233 and 0.7433): kind "released network".
"""

import csv
import dataclasses
from pathlib import Path

NAMES = ("jets",)
MARKS = {
    "[AE]": "the accuracy on validation rows and the EBOPs in the name of a checkpoint that the authors released",
    "[PAPER: x]": "the text of paper x",
    "[2nd: x]": "a secondary source that quotes the paper",
}
KINDS = ("HGQ", "another method", "released network")
_FITS = {"jets (re-simulated)": "jets", "OpenML 42468": "jets"}


@dataclasses.dataclass(frozen=True)
class Published:
    """One row; None where no source gives the number."""

    name: str
    dataset: str
    split: str
    accuracy: float
    ebops: float | None
    lut: float | None
    dsp: float | None
    latency_ns: float | None
    lut_percent: float | None
    dsp_percent: float | None
    source: str
    kind: str


def read(name: str) -> list[Published]:
    """The rows of the benchmark `name`, in the order of the file; raises ValueError for an unknown name.

    >>> next((p.name, p.dataset, p.split, p.accuracy, p.ebops) for p in read("jets"))
    ('HGQ v3', 'OpenML 42468', 'validation', 0.771, 13285.0)
    """
    if name not in NAMES:
        raise ValueError(f"published is {name!r}; legal are {', '.join(NAMES)}")
    text = {f.name for f in dataclasses.fields(Published) if f.type is str}
    with Path(__file__).with_name(f"{name}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [Published(**{k: v if k in text else float(v) if v else None for k, v in row.items()}) for row in rows]


def name_for(dataset: str) -> str | None:
    """The benchmark whose results stand beside those on `dataset` (its name in the manifest); None where there is none.

    >>> name_for("jets (re-simulated)"), name_for("muons")
    ('jets', None)
    """
    return _FITS.get(dataset)
