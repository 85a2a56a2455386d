import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin_tf.metrics import auc, compute_metrics


def pairwise_auc(labels, scores):
    wins = [(p > n) + 0.5 * (p == n) for p in scores[labels == 1] for n in scores[labels == 0]]
    return np.mean(wins) if wins else np.nan


def test_hand_computed():
    metrics = compute_metrics([1, 0, 1, 0, 1, 1], [0.9, 0.1, 0.4, 0.4, 0.2, 0.3], [1, 1, 2, 2, 3, 3])
    assert metrics.gauc == pytest.approx((2 * 1.0 + 2 * 0.5) / 4)
    assert metrics.users_of_one_class == 1
    assert metrics.users == 3
    assert metrics.auc == pytest.approx(
        pairwise_auc(np.array([1, 0, 1, 0, 1, 1]), np.array([0.9, 0.1, 0.4, 0.4, 0.2, 0.3]))
    )
    assert metrics.calibration == pytest.approx((2.3 / 6) / (4 / 6))
    wanted = -np.mean(np.log([0.9, 0.9, 0.4, 0.6, 0.2, 0.3]))
    assert metrics.logloss == pytest.approx(wanted)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=60))
def test_auc_and_gauc_equal_the_pairwise_definition(rows):
    labels, scores, users = (np.array(column) for column in zip(*rows, strict=True))
    metrics = compute_metrics(labels, scores / 4, users)
    np.testing.assert_allclose(metrics.auc, pairwise_auc(labels, scores), equal_nan=True)
    parts = [(pairwise_auc(labels[users == u], scores[users == u]), (users == u).sum()) for u in set(users)]
    parts = [(value, size) for value, size in parts if np.isfinite(value)]
    wanted = np.average([v for v, _ in parts], weights=[s for _, s in parts]) if parts else np.nan
    np.testing.assert_allclose(metrics.gauc, wanted, equal_nan=True)


def test_one_class_has_no_auc():
    assert np.isnan(auc([1, 1], [0.2, 0.4]))


def test_nothing_to_evaluate_is_said():
    with pytest.raises(ValueError, match="the split is empty"):
        compute_metrics([], [], [])
    with pytest.raises(ValueError, match="2 labels, 1 predictions and 2 users must be as many"):
        compute_metrics([1, 0], [0.5], [1, 1])
