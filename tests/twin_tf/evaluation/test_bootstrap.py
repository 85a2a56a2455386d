"""A draw is the metrics of users that are copied as often as it says, and intervals hold what they should."""

import numpy as np
import pytest

from twin_tf.evaluation.bootstrap import Ratio, interval, paired_difference, resample, user_auc, user_weights
from twin_tf.evaluation.metrics import compute_metrics
from twin_tf.evaluation.predictions import Predictions


def made(users=30, targets=600, seed=0, strength=1.0):
    """Targets in no order, with ties in the score and users of one class."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, targets) * 7
    label = (rng.random(targets) < 0.2 + 0.5 * (user % 3 == 0)).astype(np.int8)
    label[user == 7] = 0
    score = np.round(1 / (1 + np.exp(-strength * (label - 0.5) - rng.normal(size=targets))), 2)
    return Predictions(user, label, score.astype(np.float32))


def copied(predictions, weights):
    """The metrics of users that stand there several times, each under another name."""
    ids = np.unique(predictions.user)
    parts = []
    for place, (one, times) in enumerate(zip(ids, weights, strict=True)):
        inside = predictions.user == one
        for copy in range(times):
            name = np.full(inside.sum(), place * 100 + copy)
            parts.append((predictions.label[inside], predictions.score[inside], name))
    return compute_metrics(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def test_every_draw_is_the_metrics_of_copied_users():
    predictions = made()
    found = resample(predictions, draws=7)
    for number, weights in enumerate(np.concatenate(list(user_weights(found.users, 7)))):
        wanted = copied(predictions, weights)
        for metric in ("auc", "gauc", "logloss", "calibration"):
            assert found.draws[metric][number] == pytest.approx(getattr(wanted, metric), rel=1e-6), metric


def test_a_users_auc_is_that_of_its_targets_alone():
    predictions = made()
    ids, code = np.unique(predictions.user, return_inverse=True)
    found = user_auc(predictions, code, len(ids))
    for one, auc in zip(ids, found, strict=True):
        inside = predictions.user == one
        alone = compute_metrics(predictions.label[inside], predictions.score[inside], predictions.user[inside])
        assert auc == pytest.approx(alone.auc, nan_ok=True)


def test_draws_are_the_same_at_every_call_and_whatever_is_held_together(monkeypatch):
    first = np.concatenate(list(user_weights(11, 50)))
    monkeypatch.setattr("twin_tf.evaluation.bootstrap._AT_ONCE", 30)
    np.testing.assert_array_equal(np.concatenate(list(user_weights(11, 50))), first)
    assert first.shape == (50, 11) and (first.sum(axis=1) == 11).all()


def test_intervals_hold_the_figure_and_narrow_with_more_users():
    few, many = made(users=20, targets=2_000), made(users=2_000, targets=200_00)
    widths = []
    for predictions in (few, many):
        low, high = resample(predictions).intervals()["auc"]
        assert low < predictions.metrics.auc < high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_a_difference_is_paired_by_user():
    """A system that is a little better for every user: the figures' intervals overlap, the difference is clear."""
    worse = made(users=40, targets=4_000, strength=0.3)
    better = worse._replace(score=(worse.score + 0.01 * worse.label).astype(np.float32))
    draws = [resample(one) for one in (better, worse)]
    mine, theirs = (one.intervals()["auc"] for one in draws)
    assert mine[0] < theirs[1], "as figures they overlap"
    found = paired_difference(better.metrics.auc, worse.metrics.auc, draws[0].draws["auc"], draws[1].draws["auc"])
    assert found is not None and found.beyond_noise and 0 < found.low < found.difference < found.high
    none = paired_difference(worse.metrics.auc, worse.metrics.auc, draws[1].draws["auc"], draws[1].draws["auc"])
    assert none == (0.0, 0.0, 0.0) and not none.beyond_noise


def test_what_has_no_figure_has_no_interval():
    one_user = Predictions(np.zeros(4, np.int64), np.array([0, 1, 0, 1], np.int8), np.full(4, 0.5, np.float32))
    assert set(resample(one_user).intervals().values()) == {None}
    one_class = Predictions(np.arange(4), np.zeros(4, np.int8), np.full(4, 0.5, np.float32))
    found = resample(one_class).intervals()
    assert found["auc"] is None and found["gauc"] is None and found["logloss"] is not None
    assert interval(np.array([np.nan, np.nan, 1.0])) is None
    assert paired_difference(None, 0.5, np.ones(2), np.ones(2)) is None


def test_another_figure_is_drawn_beside_them():
    predictions = made(users=3, targets=50)
    found = resample(predictions, {"share": Ratio(np.array([1.0, 0.0, 2.0]), np.array([2.0, 4.0, 2.0]))}, draws=5)
    weights = np.concatenate(list(user_weights(3, 5)))
    np.testing.assert_allclose(found.draws["share"], weights @ [1, 0, 2] / (weights @ [2, 4, 2]))
