"""Slices, their worst, and reliability, on targets whose figures are known."""

import numpy as np
import pytest

from twin_tf.evaluation import slices
from twin_tf.evaluation.metrics import compute_metrics
from twin_tf.evaluation.predictions import Predictions


def made(targets=2_000, users=100, seed=0):
    rng = np.random.default_rng(seed)
    score = rng.random(targets).astype(np.float32)
    return Predictions(rng.integers(0, users, targets), (rng.random(targets) < score).astype(np.int8), score)


def test_a_slice_has_the_metrics_of_its_targets():
    predictions, code = made(), np.random.default_rng(1).integers(3, 6, 2_000)
    rows = slices.slice_rows(predictions, code)
    assert [value for value, _ in rows] == [3, 4, 5]
    for value, row in rows:
        inside = code == value
        wanted = compute_metrics(predictions.label[inside], predictions.score[inside], predictions.user[inside])
        assert {**row, "intervals": None} == {**wanted.to_plain(), "intervals": None}
        assert row["intervals"]["auc"][0] < row["auc"] < row["intervals"]["auc"][1]


def test_of_many_values_those_with_most_targets_are_shown(monkeypatch):
    monkeypatch.setattr(slices, "MOST_VALUES", 2)
    code = np.repeat([9, 1, 5], [700, 300, 1_000])
    assert [value for value, _ in slices.slice_rows(made(), code)] == [5, 9]


def test_deciles_of_true_probabilities_are_reliable():
    predictions = made(20_000, 4_000)
    rows = slices.reliability(predictions)
    assert [row["targets"] for row in rows] == [2_000] * 10
    assert [row["from"] for row in rows] == sorted(row["from"] for row in rows)
    for row in rows:
        assert abs(row["predicted"] - row["observed"]) < 4 * row["error"]
        binomial = np.sqrt(row["observed"] * (1 - row["observed"]) / row["targets"])
        assert row["error"] == pytest.approx(binomial, rel=0.1), "users are as many as targets nearly"


@pytest.mark.parametrize("score, rows", [(np.full(50, 0.5), 1), (np.repeat([0.1, 0.9], 25), 2)])
def test_equal_scores_share_a_row(score, rows):
    predictions = Predictions(np.zeros(50, np.int64), np.tile([0, 1], 25).astype(np.int8), score.astype(np.float32))
    found = slices.reliability(predictions)
    assert len(found) == rows and sum(row["targets"] for row in found) == 50
    assert {row["error"] for row in found} == {None}, "of one user nothing is known"


def row(value, auc, interval):
    return {"value": value, "auc": auc, "targets": 10, "intervals": {"auc": interval}}


def test_the_worst_slice_is_surely_low_not_small():
    found = slices.worst_slices(
        {
            "day": [row("monday", 0.55, [0.54, 0.56]), row("sunday", 0.40, [0.10, 0.80])],
            "items": [row("new", 0.50, None), row("known", 0.60, [0.59, 0.61])],
            "user": [row("known", 0.45, [0.44, 0.46])],  # all of them: no slice
        }
    )
    assert [(one["slice"], one["value"]) for one in found] == [("day", "monday"), ("items", "known"), ("day", "sunday")]


def test_the_csv_has_a_line_a_slice():
    predictions = made(50, 1)
    rows = [{"value": "a", **slices.judged(predictions)}]
    head, line = slices.slices_csv({"day": rows}).splitlines()
    cells = dict(zip(head.split(","), line.split(","), strict=True))
    assert (cells["slice"], cells["value"], cells["targets"], cells["users"]) == ("day", "a", "50", "1")
    assert float(cells["auc"]) == rows[0]["auc"] and cells["auc_low"] == ""
