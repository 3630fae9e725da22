"""The published numbers: every one has its place, none is from memory."""

import csv
from pathlib import Path

import pytest

from hgqjax.data import muon
from hgqjax.reports import published

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
    assert published.name_for("my rows") is None and published.name_for("CERNBox") == "jets"
    assert published.name_for(muon.AUTHORS_NAME) == "muon" and muon.AUTHORS_NAME in {row.dataset for _, row in ROWS}


def test_numbers_keep_the_digits_that_were_read():
    assert [p.shown for p in published.read("muon") if p.name.startswith("TGC")] == ["2"]
    assert {p.shown for p in published.read("jets") if p.accuracy == 0.75} == {"75.0"} and "76.86" in {p.shown for _, p in ROWS}
    assert all(bool(p.shown) == (p.score is not None) for _, p in ROWS)
    assert all(float(p.shown) == pytest.approx(100 * p.score if p.accuracy else p.score) for _, p in ROWS if p.shown)


def test_rows_that_papers_quote_are_there():
    plf = {(p.name, p.dataset): p for p in published.read("plf")}
    jedi = [p for (name, _), p in plf.items() if name.startswith("JEDI-linear")]
    assert len(jedi) == 20 and all(None not in (p.accuracy, p.ebops, p.lut, p.ff, p.latency_ns) and not p.artifact for p in jedi)
    large = plf["JEDI-linear, permutation invariant", "Zenodo 3602260, 64 x 16"]
    assert (large.shown, large.ebops, large.lut, large.ff, large.latency_ns) == ("82.36", 214_320, 192_063, 91_667, 93.2)
    assert [p.shown for p in published.read("plf") if p.name.startswith("MLP-Mixer")] == ["81.39", "80.99", "80.26", "77.26"]
    jets = {(p.name, p.shown, p.lut) for p in published.read("jets")}
    assert {("FINNAS-C", "74.53", 16_233), ("AmigoLUT", "72.9", 1_243), ("TreeLUT I", "75.6", 2_234)} <= jets
    assert sum(p.artifact and "da4ml" in p.source for p in published.read("jets")) == 8  # released, too
