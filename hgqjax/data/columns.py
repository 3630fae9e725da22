"""Which columns of a file are features, targets, weights and parts: what a run says about its file, and what the names say otherwise."""

import dataclasses
import difflib
import pathlib

from hgqjax.config import check_several
from hgqjax.data.dataset import DataError, Kind

FEATURES = "features"
"""The target of an autoencoder: the scaled features themselves."""
LABELS = ("class", "jet_type", "label", "target", "y")
WEIGHTS = ("weight", "weights", "sample_weight", "event_weight")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns of a table, or the arrays of a file, are; what is empty here is found by the names in the file.

    >>> Columns(target=("mass",)).given
    ('target',)
    """

    target: tuple[str, ...] = ()
    """Columns (or arrays) to be predicted: one with labels or numbers, several with numbers, several with 0 and 1, or the word "features"
    for an autoencoder. By default the column called class, jet_type, label, target or y."""
    features: tuple[str, ...] = ()
    """Columns that are inputs, in this order. By default all that have no other use."""
    inputs: tuple[str, ...] = ()
    """Of a network with several inputs, instead of features: NAME=COLUMN,COLUMN for each, or NAME=ARRAY of an .npz or .h5 file; NAME
    alone is the array or column of that name."""
    weight: str = ""
    """Column with the weight of each row in loss and score. By default the one called weight, weights, sample_weight or event_weight."""
    split: str = ""
    """Column that says of each row whether it is for training (train), validation (val) or the test (test). By default rows are split at
    random."""
    validation_data: str = ""
    """File with the validation rows, of the same columns. By default they are part of the data."""
    test_data: str = ""
    """File with the test rows, of the same columns. By default they are part of the data."""
    table: str = ""
    """Table in an .h5 file, or tree in a .root file, where there are several."""
    target_is: Kind | None = None
    """What the target is: classes (one of several), labels (each of several yes or no) or regression (numbers). By default text and whole
    numbers are classes, several columns of 0 and 1 are labels, and other numbers are a regression."""
    unit: str = ""
    """Unit of the target of a regression, such as GeV, for tables and figures."""

    def __post_init__(self):
        check_several(self, "target", "features", "inputs")
        for name in ("target", "features"):
            names = getattr(self, name)
            if len(set(names)) < len(names) or "" in names:
                raise ValueError(f"{name} is {names}; each column can be named once")
        if self.inputs and self.features:
            raise ValueError("features and inputs exclude each other; inputs name the columns of each input")
        names = self.of_inputs()
        columns = [column for parts in names.values() for column in parts]
        if len(names) < len(self.inputs) or len(set(columns)) < len(columns) or not all(map(str.isidentifier, names)) or "" in columns:
            legal = "NAME=COLUMN,COLUMN for each is needed, each name a word, each column once"
            raise ValueError(f"inputs is {' '.join(self.inputs)}; {legal}")
        if len(self.inputs) == 1:
            raise ValueError(f"inputs has one input, {self.inputs[0]!r}; features are for a network of one")
        if self.split and (self.validation_data or self.test_data):
            raise ValueError("split and files of their own for validation_data or test_data exclude each other; give one of them")
        if self.unit and self.target_is in ("classes", "labels"):
            raise ValueError(f"unit is {self.unit!r}, but target_is {self.target_is!r}; only the numbers of a regression have a unit")

    def of_inputs(self) -> dict[str, tuple[str, ...]]:
        """Name of each input -> its columns or arrays.

        >>> Columns(inputs=("jet=pt,mass", "met")).of_inputs()
        {'jet': ('pt', 'mass'), 'met': ('met',)}
        """
        pairs = (text.partition("=") for text in self.inputs)
        return {name: tuple(columns.split(",")) if equals else (name,) for name, equals, columns in pairs}

    def flat(self) -> "Columns":
        """With the columns of all inputs as features, one input behind the other."""
        features = tuple(column for columns in self.of_inputs().values() for column in columns)
        return dataclasses.replace(self, inputs=(), features=features or self.features)

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the fields that say something."""
        return tuple(field.name for field in dataclasses.fields(self) if getattr(self, field.name) != field.default)

    def absolute(self) -> "Columns":
        """With whole paths, so that the same is read from every folder."""
        paths = {name: getattr(self, name) for name in ("validation_data", "test_data")}
        return dataclasses.replace(self, **{name: str(pathlib.Path(path).absolute()) for name, path in paths.items() if path})

    def of_rows(self) -> "Columns":
        """Of one file whose rows are not split: columns by their names only."""
        return dataclasses.replace(self, split="", validation_data="", test_data="")


def known(name: str, names, where: str, what: str = "column") -> str:
    """``name``, which must be among ``names``. Raises: DataError with the nearest of them.

    >>> known("mas", ("mass", "width"), "rows.csv")
    Traceback (most recent call last):
    hgqjax.data.dataset.DataError: rows.csv: has no column 'mas' (did you mean 'mass'?); it has mass, width
    """
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise DataError(f"{where}: has no {what} {name!r}{hint}; it has {listed(names)}")


def listed(names) -> str:
    """At most eight names for an error.

    >>> listed("abcdefghij")
    'a, b, c, d, e, f, g, h and 2 more'
    """
    names = tuple(names)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "none"
