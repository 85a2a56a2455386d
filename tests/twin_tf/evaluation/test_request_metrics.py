"""AUC and NDCG within requests, beside constants computed by hand and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from twin_tf.evaluation.bootstrap import resample
from twin_tf.evaluation.evaluation_text import requests_sentence
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
    assert (found.to_plain()["grouped_by"], found.without_id) == ("user and time", None)
    assert found.ratios["request_auc"].above.tolist() == [1, 0] and found.ratios["request_auc"].below.tolist() == [2, 0]


def test_ids_tell_requests_of_one_moment_apart_and_join_moments():
    """User 1: two requests at one time; user 2: one over two times, with an id of user 1; one target without."""
    predictions = of([1, 1, 1, 1, 2, 2, 2], [1, 0, 0, 1, 1, 0, 1], [0.1, 0.9, 0.2, 0.8, 0.6, 0.5, 0.4])
    time = np.array([5, 5, 5, 5, 5, 6, 6])
    found = request_metrics(predictions, time, np.array([8, 8, 9, 9, 8, 8, 0]))
    assert (found.requests, found.targets, found.without_id) == (3, 6, 1)
    assert found.auc == pytest.approx(2 / 3)
    assert found.ndcg == pytest.approx((1 / np.log2(3) + 2) / 3)
    assert found.grouped_by == "user and request id"
    assert found.ratios["request_auc"].above.tolist() == [1, 1] and found.ratios["request_auc"].below.tolist() == [2, 1]
    intervals = {"request_auc": [0.5, 1.0], "request_ndcg": None}
    assert requests_sentence(found.to_plain(), intervals) == (
        "within 3 requests (6 targets; the same user and request id, both labels): auc 0.6667 (0.5000 to 1.0000), "
        f"ndcg {found.ndcg:.4f} (no interval); targets without a request id, left out: 1"
    )


def test_a_user_without_any_request_id_keeps_a_place_among_the_users():
    found = request_metrics(of([1, 2, 2], [1, 0, 1], [0.5, 0.4, 0.9]), np.zeros(3, int), np.array([0, 4, 4]))
    assert (found.requests, found.auc, found.without_id) == (1, 1.0, 1)
    assert found.ratios["request_auc"].below.tolist() == [0, 1]


def test_without_any_id_requests_go_by_time():
    predictions, time = of([1, 1], [1, 0], [0.5, 0.4]), np.array([3, 3])
    by_time = request_metrics(predictions, time)
    for nothing in (np.zeros(0, np.int64), np.zeros(2, np.int64)):
        found = request_metrics(predictions, time, nothing)
        assert found.to_plain() == by_time.to_plain()
    assert "left out" not in requests_sentence(by_time.to_plain(), dict.fromkeys(("request_auc", "request_ndcg")))


def test_ids_that_no_two_targets_share_make_no_request():
    found = request_metrics(of([1, 1, 1], [1, 0, 1], [0.5, 0.4, 0.3]), np.zeros(3, int), np.array([7, 8, 0]))
    assert (found.requests, found.auc, found.ndcg) == (0, None, None)
    assert requests_sentence(found.to_plain(), {}) == (
        "no metrics by request: no two targets with both labels share user and request id; targets without a request "
        "id, left out: 1"
    )


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
