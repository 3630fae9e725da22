"""The published numbers: every one has its place, none is from memory."""

import csv
from pathlib import Path

import pytest

from hgqjax import published

FOLDER = Path(published.__file__).parent
ROWS = [(name, row) for name in published.NAMES for row in published.read(name)]
ONLY_FROM_MEMORY = {  # numbers of the papers' tables that this project knows from no source that can be read
    "svhn": {69_407, 47_314, 150_981, 145_089, 0.939, 0.931, 0.919},
    "muon": {39_413, 34_460, 24_941, 37_867, 1.95, 1.97, 2.09},
    "jets": {6_236, 3_162, 1_540, 565, 468, 256, 48_321, 6_698},
    "plf": set(),
}


def test_every_file_is_one_table_and_is_in_the_package():
    assert {path.stem for path in FOLDER.glob("*.csv")} == {*published.NAMES, "recipes"}
    with pytest.raises(ValueError, match="published is 'tops'; legal are jets, svhn, muon, plf"):
        published.read("tops")


@pytest.mark.parametrize(("name", "row"), ROWS, ids=lambda v: v if isinstance(v, str) else v.name)
def test_a_row_says_where_it_was_read(name, row):
    assert row.kind in published.KINDS and row.name and row.dataset and row.split
    assert row.accuracy is None or row.resolution_mrad is None
    assert row.accuracy is None or 0.5 < row.accuracy < 1
    assert (row.how == "measured here") == (row.kind == "released network") and "memory" not in row.source
    numbers = {row.accuracy, row.resolution_mrad, row.ebops, row.lut, row.ff, row.latency_ns}
    assert numbers != {None} and not numbers & ONLY_FROM_MEMORY[name]
    if row.how != "measured here":
        mark, bracket, _ = row.source.partition("]")
        assert bracket and any(mark.partition(":")[0] == known.partition("]")[0].partition(":")[0] for known in published.MARKS)


def test_recipes_belong_to_rows():
    with (FOLDER / "recipes.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert any((n, p.version) == (row["table"], row["version"]) and row["dataset"] in ("", p.dataset) for n, p in ROWS), row
            assert row["source"].startswith(("[AE scripts]", "[CODE: "))
    for name, row in ROWS:
        assert row.kind != "HGQ" or not row.version or published.recipe(name, row.version, row.dataset), row
    assert published.recipe("svhn", "v1/v2", "SVHN with extra").steps_per_epoch == -(-597_062 // 2048)


def test_data_sets_have_their_table():
    assert published.name_for("muon (simulated)") == "muon" and published.name_for("SVHN test-subset, block split") == "svhn"
    assert published.name_for("my rows") is None
