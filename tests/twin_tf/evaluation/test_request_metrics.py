"""AUC and NDCG within requests, beside constants computed by hand and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from twin_tf.evaluation.bootstrap import resample
from twin_tf.evaluation.predictions import Predictions
from twin_tf.evaluation.request_metrics import request_metrics


def of(user, label, score):
    return Predictions(np.array(user), np.array(label, np.int8), np.array(score, np.float32))


def test_a_request_is_what_a_user_was_shown_at_one_time():
    """User 1: a request in the wrong order, one in the right one; user 2: at the same time, and of clicks alone."""
    predictions = of([1, 1, 1, 1, 2, 2], [1, 0, 0, 1, 1, 1], [0.1, 0.9, 0.2, 0.8, 0.5, 0.6])
    found = request_metrics(predictions, np.array([5, 5, 6, 6, 5, 5]))
    assert (found.requests, found.targets) == (2, 4)
    assert found.auc == pytest.approx(0.5)
    assert found.ndcg == pytest.approx((1 / np.log2(3) + 1) / 2)
    assert found.to_plain()["grouped_by"] == "user and time"
    assert found.ratios["request_auc"].above.tolist() == [1, 0] and found.ratios["request_auc"].below.tolist() == [2, 0]


def test_figures_equal_those_of_scikit_learn_with_ties():
    rng = np.random.default_rng(4)
    user, time = rng.integers(0, 5, 300), rng.integers(0, 9, 300)
    label, score = (rng.random(300) < 0.3).astype(np.int8), np.round(rng.random(300), 1).astype(np.float32)
    auc, ndcg = [], []
    for one in range(5):
        for moment in range(9):
            inside = (user == one) & (time == moment)
            if len(set(label[inside])) == 2:
                auc.append(roc_auc_score(label[inside], score[inside]))
                ndcg.append(ndcg_score([label[inside]], [score[inside]]))
    found = request_metrics(Predictions(user, label, score), time)
    assert found.requests == len(auc)
    assert (found.auc, found.ndcg) == (pytest.approx(np.mean(auc)), pytest.approx(np.mean(ndcg)))


def test_targets_that_are_alone_make_no_request():
    found = request_metrics(of([1, 1, 2], [1, 0, 1], [0.5, 0.4, 0.3]), np.array([1, 2, 1]))
    assert (found.requests, found.targets, found.auc, found.ndcg) == (0, 0, None, None)
    intervals = resample(of([1, 1, 2], [1, 0, 1], [0.5, 0.4, 0.3]), found.ratios).intervals()
    assert intervals["request_auc"] is None


def test_requests_have_intervals_over_users():
    rng = np.random.default_rng(2)
    user = np.repeat(np.arange(200), 6)
    predictions = of(user, np.tile([1, 0, 0, 0, 0, 1], 200), rng.random(1200))
    found = request_metrics(predictions, np.zeros(1200, np.int64))
    low, high = resample(predictions, found.ratios).intervals()["request_auc"]
    assert low < found.auc < high and found.requests == 200
