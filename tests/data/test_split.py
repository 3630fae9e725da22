"""Index arrays against what scikit-learn 1.9.1 gave: train_test_split(np.arange(n), test_size=0.2, random_state=42)."""

import numpy as np
import pytest

from hgqjax.data import DataError, split, split_blocks


def test_small_split_is_that_of_scikit_learn():
    train, val, test = split(10)
    assert test.tolist() == [8, 1]
    assert [*train, *val] == [5, 0, 7, 2, 9, 4, 3, 6]
    assert val.tolist() == [6]


def test_split_of_the_public_file_is_that_of_scikit_learn():
    train, val, test = split(830_000)
    assert (len(train), len(val), len(test)) == (597_600, 66_400, 166_000)
    assert test[:5].tolist() == [751634, 86353, 230730, 5812, 817200]
    assert train[:5].tolist() == [277184, 48441, 739630, 35870, 709798]
    assert val[-3:].tolist() == [131932, 671155, 121958]


@pytest.mark.parametrize("n", [12, 23, 101, 1000])
def test_parts_hold_every_index_once(n):
    assert np.array_equal(np.sort(np.concatenate(split(n))), np.arange(n))


def test_test_rows_round_up_and_stay_when_validation_grows():
    small, large = split(23), split(23, validation_fraction=0.5)
    assert small[2].tolist() == large[2].tolist() == [15, 9, 0, 8, 17]
    assert [len(part) for part in small] == [16, 2, 5]
    assert [len(part) for part in large] == [9, 9, 5]


def test_seed_changes_the_split():
    assert not np.array_equal(split(100)[2], split(100, seed=43)[2])


@pytest.mark.parametrize(
    "n, options, message",
    [
        (5, {}, "5 rows are too few: .* leave 4 training, 0 validation and 1 test rows"),
        (100, {"validation_fraction": 1.0}, r"validation_fraction=1.0 is out of range: it lies between 0 and 1"),
        (100, {"test_fraction": 0.0}, r"test_fraction=0.0 is out of range"),
        (100, {"seed": 2**32}, r"seed=4294967296 is out of range"),
        (100, {"seed": -1}, r"seed=-1 is out of range: it lies between 0 and 4294967295"),
    ],
)
def test_bad_arguments(n, options, message):
    with pytest.raises(DataError, match=message):
        split(n, **options)


def test_blocks_lie_one_behind_the_other():
    assert split_blocks((70, 10, 20)) == (slice(0, 70), slice(70, 80), slice(80, 100))
    assert split_blocks((70, 10, 20), 10) == (slice(0, 7), slice(70, 71), slice(80, 82))
    assert split_blocks((70, 10, 20), validation_fraction=0.5) == (slice(0, 40), slice(40, 80), slice(80, 100))


def test_blocks_out_of_range():
    with pytest.raises(DataError, match="3 rows are too few: they would leave 2 training, 0 validation and 1 test rows"):
        split_blocks((70, 10, 20), 3)
    with pytest.raises(DataError, match="validation_fraction=1.0 is out of range"):
        split_blocks((70, 10, 20), validation_fraction=1.0)
