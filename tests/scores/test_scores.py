"""Scores: each against its formula in numpy, while training and on exact outputs, with weights and without; words; refusals."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgqjax import scores
from hgqjax.config import from_json, to_json
from hgqjax.scores import autoencoder, curves

RNG = np.random.default_rng(0)
WEIGHT = RNG.integers(0, 4, 60).astype(np.float32)
LABELS = (np.arange(60) % 2).astype(np.int32)
SEPARATED = np.round(RNG.normal(size=(60, 1)) + LABELS[:, None], 1).astype(np.float32), LABELS  # with ties, as quantized outputs have
CASES = [
    (scores.Accuracy(), RNG.normal(size=(60, 3)).astype(np.float32), RNG.integers(0, 3, 60).astype(np.int32)),
    (scores.Resolution(), RNG.normal(size=(60, 1)).astype(np.float32), RNG.normal(size=60).astype(np.float32)),
    (scores.Resolution(window=1.0), RNG.normal(size=(60, 1)).astype(np.float32), RNG.normal(size=60).astype(np.float32)),
    (scores.BinaryAccuracy(), RNG.normal(size=(60, 1)).astype(np.float32), RNG.integers(0, 2, 60).astype(np.int32)),
    (scores.Auc(), *SEPARATED),
    (scores.Auc(background_rate=0.2), *SEPARATED),
    (scores.Efficiency(background_rate=0.3), *SEPARATED),
    (scores.LabelAccuracy(), RNG.normal(size=(60, 3)).astype(np.float32), RNG.integers(0, 2, (60, 3)).astype(np.int32)),
    (scores.Reconstruction(), RNG.normal(size=(60, 4)).astype(np.float32), RNG.normal(size=(60, 4)).astype(np.float32)),
    (scores.Resolution(window=1.5), RNG.normal(size=(60, 2)).astype(np.float32), RNG.normal(size=(60, 2)).astype(np.float32)),
]
each = pytest.mark.parametrize(("score", "outputs", "y"), CASES, ids=[repr(score) for score, _, _ in CASES])


def of_rows(score, outputs, y, weight=None):
    """Score, loss and further shares within compiled code."""

    @jax.jit
    def all_of(*arguments):
        return score.value(*arguments), score.loss(*arguments), score.further(*arguments)

    return all_of(jnp.asarray(outputs), jnp.asarray(y), None if weight is None else jnp.asarray(weight))


def test_every_score_is_tested_and_has_a_name_for_the_command():
    leaves = {kind for kind in vars(scores).values() if isinstance(kind, type) and issubclass(kind, scores.AbstractScore)}
    leaves -= {scores.AbstractScore}
    assert {type(score) for score, _, _ in CASES} == leaves == set(scores.NAMES.values())
    assert set(scores.FITTING) <= {kind for leaf in leaves for kind in leaf.kinds}


@each
def test_what_training_sees_is_what_the_exact_evaluator_measures(score, outputs, y):
    for weight in (None, WEIGHT):
        value, loss, further = of_rows(score, outputs, y, weight)
        found = score.measure(outputs.astype(np.float64), y, weight)
        assert float(value) == pytest.approx(found["score"], rel=1e-5) and np.isfinite(loss) and np.shape(loss) == ()
        assert set(further) == set(score.shares) == set(found) - {"score", "error"}
        for name, share in further.items():
            assert float(share) == pytest.approx(found[name], rel=1e-5, abs=1e-6) and 0 <= share <= 1
        assert score.error(found, len(y)) > 0


@each
def test_whole_weights_are_repeated_rows_and_equal_ones_are_none(score, outputs, y):
    repeated = [np.repeat(rows, WEIGHT.astype(int), axis=0) for rows in (outputs, y)]
    weighted, plain = score.measure(outputs, y, WEIGHT), score.measure(*repeated)
    for name in ("score", *score.shares):
        assert weighted[name] == pytest.approx(plain[name], rel=1e-12)
    value, loss, _ = of_rows(score, outputs, y, WEIGHT)
    again, mean, _ = of_rows(score, *repeated)
    assert float(value) == pytest.approx(float(again), rel=1e-5)
    assert float(loss) == pytest.approx(float(mean) * WEIGHT.mean(), rel=1e-5)
    equal, none = score.measure(outputs, y, np.full(60, 0.5, np.float32)), score.measure(outputs, y)
    assert equal["score"] == pytest.approx(none["score"]) and score.error(equal, 60) == pytest.approx(score.error(none, 60))


@each
def test_the_error_is_the_scatter_over_repeated_draws(score, outputs, y):
    """Bootstrap: the standard deviation of the score over rows that are drawn again."""
    rng = np.random.default_rng(1)
    for weight in (None, WEIGHT):
        draws = []
        for _ in range(400):
            rows = rng.integers(0, 60, 60)
            draws.append(score.measure(outputs[rows], y[rows], None if weight is None else weight[rows])["score"])
        error = score.error(score.measure(outputs, y, weight), 60)
        if isinstance(score, scores.Efficiency):  # which leaves the scatter of the threshold out
            assert 0 < error < np.std(draws)
        else:
            assert error == pytest.approx(np.std(draws), rel=0.2)


@each
def test_they_survive_json_and_the_command_line(score, outputs, y):
    assert from_json(scores.AbstractScore, to_json(score)) == score == scores.parse(scores.spelled(score))
    assert hash(score) == hash(dataclasses.replace(score))
    assert score.merit(1.0) == (1.0 if score.higher_is_better else -1.0)
    assert score.name in score.label("mrad") and score.explained("mrad").endswith(". ")
    assert scores.of_model({"score": to_json(score)}) == score


def test_by_hand():
    outputs, y = np.array([[1.0], [-1.0], [2.0], [math.nan], [5.0]]), np.zeros(5)
    windowed = scores.Resolution(window=2.0)
    value, loss, further = of_rows(windowed, outputs[:3], y[:3])
    assert float(value) == 1.0 and float(loss) == 2.0 and float(further["outliers"]) == pytest.approx(1 / 3)  # the loss has them all
    assert windowed.measure(outputs, y)["outliers"] == 0.6 and windowed.measure(outputs, y)["score"] == 1.0
    outside = windowed.measure(outputs[2:], y[2:])
    assert (outside["score"], outside["outliers"]) == (2.0, 1.0) and windowed.error(outside, 3) is None
    assert float(of_rows(windowed, outputs[2:], y[2:])[0]) == 2.0
    assert scores.Resolution().measure(outputs[:3], y[:3])["score"] == pytest.approx(2**0.5)
    assert scores.Accuracy().measure(np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([0, 0])) == {"score": 0.5}  # the first of equals


def test_words():
    accuracy, resolution = scores.Accuracy(), scores.Resolution(window=30.0)
    assert accuracy.text({"score": 0.75}, 400) == "accuracy 75.00 +- 2.17 %" and accuracy.text({"score": 0.75}) == "accuracy 75.00 %"
    found = {"score": 1.9, "error": 0.0123, "outliers": 0.001}
    assert resolution.text(found, 400, "mrad") == "resolution 1.9 +- 0.012 mrad, outliers 0.10 %"
    assert resolution.cell(1.9, 0.0123) == "1.900 ± 0.012" and accuracy.cell(0.75, 0.0217) == "75.00 ± 2.17"
    assert (accuracy.label("mrad"), resolution.label("mrad"), resolution.label()) == ("accuracy (%)", "resolution (mrad)", "resolution")
    assert accuracy.brief(0.75) == "75.0%" and resolution.brief(1.9) == "1.9"
    assert resolution.share_label("outliers", "mrad") == "outliers (30 mrad and more)"
    assert resolution.within(5.0) is resolution and scores.Resolution().within(5.0).window == 5.0 and accuracy.within(5.0) is accuracy


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("recall", "there is no score 'recall'; legal are accuracy, binary, auc, efficiency, labels, resolution"),
        ("resolution:window=-1", "window is -1.0; a finite number above 0 is needed"),
        ("resolution:windw=1", "resolution has the unknown field 'windw'"),
        ("auc:background_rate=2", "background_rate is 2.0; a number between 0 and 1 is needed"),
        ("resolution:window=x", "resolution.window is 'x'; a value of type float is needed"),
    ],
)
def test_mistakes_in_a_name_are_one_sentence(text, sentence):
    with pytest.raises(scores.ScoreError, match=sentence.replace("(", r"\(")) as caught:
        scores.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("score", "outputs", "y", "sentence"),
    [
        (scores.Accuracy(), (1,), np.array([0, 1]), "the network has 1 output, but a network of classes needs 2 or more"),
        (scores.Accuracy(), (3,), np.array([0, 3]), "labels of y run from 0 to 3, but the network has 3 outputs; legal are 0 to 2"),
        (scores.Accuracy(), (3,), np.array([-1, 2]), "labels of y run from -1 to 2"),
        (scores.Accuracy(), (3,), np.array([0.5, 1.0]), "y has shape .* and type float64, .* an accuracy needs one whole number"),
        (scores.Auc(), (2,), np.array([0, 1]), "and the network has 2 outputs; for the AUC of two classes each row needs a label"),
        (scores.BinaryAccuracy(), (1,), np.array([0, 2]), "labels of y run from 0 to 2; for a network of one logit legal are 0 and 1"),
        (scores.LabelAccuracy(), (2,), np.zeros((5, 3), int), "several labels at once need a column of 0 and 1 for each output"),
        (scores.LabelAccuracy(), (2,), np.array([[0, 2]]), "labels of y run from 0 to 2; legal are 0 and 1"),
        (scores.Resolution(), (1,), np.zeros((5, 2)), "y has 2 numbers of type float64 for each row, but the network has 1 output"),
        (scores.Resolution(), (2,), np.zeros(5), "y has one number of type float64 for each row, but the network has 2 outputs"),
    ],
)
def test_labels_that_do_not_fit_outputs_are_refused(score, outputs, y, sentence):
    with pytest.raises(scores.ScoreError, match=sentence):
        score.check(outputs, y)


def test_area_and_efficiency_are_those_of_all_pairs_and_thresholds():
    outputs, y = SEPARATED
    for weight in (np.ones(60), WEIGHT.astype(float)):
        signal, background = (np.flatnonzero(y == label) for label in (1, 0))
        pairs = weight[signal][:, None] * weight[background]
        above = outputs[signal] - outputs[background].T
        area = np.sum(pairs * ((above > 0) + 0.5 * (above == 0))) / pairs.sum()
        assert scores.Auc().measure(outputs, y, weight)["score"] == pytest.approx(area, rel=1e-12)
        fpr, tpr = curves.roc(outputs[:, 0], y == 1, weight)
        assert np.trapezoid(tpr, fpr) == pytest.approx(area, rel=1e-12) and (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
        for rate in (0.05, 0.1, 0.3, 0.9):
            best = 0.0
            for threshold in outputs[:, 0]:
                passing = outputs[:, 0] >= threshold
                if np.sum(weight * passing * (y == 0)) <= rate * weight[background].sum() + 1e-9:
                    best = max(best, np.sum(weight * passing * (y == 1)) / weight[signal].sum())
            assert scores.Efficiency(background_rate=rate).measure(outputs, y, weight)["score"] == pytest.approx(best, rel=1e-12)


def test_a_batch_of_one_class_has_no_area():
    outputs, ones = jnp.array([[0.5], [1.0]]), jnp.array([1, 1])
    assert float(scores.Auc().value(outputs, ones)) == 0.5 and np.isfinite(scores.Auc().loss(outputs, ones))
    found = scores.Auc().measure(np.asarray(outputs), np.asarray(ones))
    assert found["score"] == 0.5 and scores.Auc().error(found, 2) is None
    assert scores.Efficiency().measure(np.asarray(outputs), 1 - np.asarray(ones))["score"] == 0.0


def test_a_trigger_of_an_autoencoder():
    rng = np.random.default_rng(2)
    background, signal = rng.normal(size=(300, 4)), 3 * rng.normal(size=(100, 4))
    found = autoencoder.anomaly(background, signal, 0.1)
    sizes = [np.mean(rows**2, axis=1) for rows in (background, signal)]
    assert found["score"] == pytest.approx(np.mean(sizes[1][:, None] > sizes[0])) and 0 < found["error"] < 0.05
    assert found["efficiency"] == np.mean(sizes[1] > np.sort(sizes[0])[-31])


@each
def test_what_reports_draw_counts_every_row(score, outputs, y):
    for weight in (None, WEIGHT):
        found = json.loads(json.dumps(score.curves(outputs.astype(np.float64), y, weight)))
        total = 60 if weight is None else WEIGHT.sum()
        assert found
        if "confusion" in found:
            table = np.array(found["confusion"])
            ones = np.ones(60) if weight is None else weight
            assert table.sum() == pytest.approx(total)
            assert [table[n].sum() for n in range(len(table))] == pytest.approx([ones[y == n].sum() for n in range(len(table))])
            if score.name == "accuracy":
                assert np.trace(table) / total == pytest.approx(score.measure(outputs, y, weight)["score"])
        for curve in found.get("roc", []):
            background, signal = np.array(curve["background"]), np.array(curve["signal"])
            assert (background[0], signal[0], background[-1], signal[-1]) == (0, 0, 1, 1) and np.all(np.diff(signal) >= 0)
        for bars in found.get("residuals", []):
            many = score.name == "reconstruction error" and len(found["residuals"]) == 1
            assert sum(bars["counts"]) + bars["outside"] == pytest.approx(total * (outputs.shape[1] if many else 1))
            assert score.window in (None, bars["edges"][-1])


@pytest.mark.parametrize("score", [scores.Accuracy(), scores.BinaryAccuracy(), scores.LabelAccuracy(), scores.Resolution()], ids=repr)
def test_the_divergence_is_that_of_what_outputs_stand_for(score):
    several = isinstance(score, scores.Accuracy)  # one question with several answers
    width = 3 if several else 2 if isinstance(score, scores.LabelAccuracy) else 1
    a, b = (jnp.asarray(RNG.normal(size=(7, width)), jnp.float32) for _ in range(2))

    def shares(outputs):
        """Probabilities of the possible answers, those of each question in the last axis."""
        z = np.asarray(outputs, np.float64)
        z = z if several else np.stack([z, 0 * z], -1)
        return np.exp(z) / np.exp(z).sum(-1, keepdims=True)

    if isinstance(score, scores.Resolution):
        expected = float(np.mean((a - b) ** 2)) / 2
    else:
        expected = np.sum(shares(b) * np.log(shares(b) / shares(a))) / 7
    assert float(score.divergence(a, b)) == pytest.approx(expected, rel=1e-4) and expected > 0
    assert abs(float(score.divergence(a, a))) < 1e-6
