"""Metrics are those of the definitions and of scikit-learn, whatever order and batches the predictions come in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from twin_tf.evaluation import metrics as metrics_module
from twin_tf.evaluation.metrics import MetricsAccumulator, compute_metrics

few_scores = st.integers(0, 4).map(lambda n: n / 4)  # ties everywhere
any_scores = st.floats(0, 1, width=32)
rows = st.lists(
    st.tuples(st.integers(0, 1), few_scores | any_scores, st.sampled_from([3, -(2**40), 2**62, 0])),
    min_size=1,
    max_size=60,
)


def pairwise_auc(labels, scores):
    return np.mean([(p > n) + 0.5 * (p == n) for p in scores[labels == 1] for n in scores[labels == 0]])


def columns(table):
    labels, scores, users = zip(*table, strict=True)
    return np.array(labels), np.array(scores, np.float32), np.array(users)


def test_hand_computed():
    metrics = compute_metrics(
        [1, 0, 1, 0, 1, 1, 0, 1, 0, 0],
        [0.9, 0.1, 0.4, 0.4, 0.2, 0.3, 0.6, 0.5, 0.7, 0.2],
        [1, 1, 2, 2, 3, 3, 4, 4, 4, 4],
    )
    auc = {1: 1.0, 2: 0.5, 4: 1 / 3}
    assert metrics.gauc == pytest.approx((2 * auc[1] + 2 * auc[2] + 4 * auc[4]) / 8)
    assert metrics.gauc_by_clicks == pytest.approx((auc[1] + auc[2] + auc[4]) / 3)
    assert metrics.gauc_uniform == pytest.approx((auc[1] + auc[2] + auc[4]) / 3)
    assert (metrics.targets, metrics.clicks, metrics.users, metrics.users_of_one_class) == (10, 5, 4, 1)
    # Of 25 pairs of a click and a non-click: .9 beats all five, .5 three, .4 two and a half, .3 two, .2 one and a half.
    assert metrics.auc == pytest.approx((5 + 3 + 2.5 + 2 + 1.5) / 25)
    assert metrics.calibration == pytest.approx(4.3 / 5)
    wanted = -np.mean(np.log([0.9, 0.9, 0.4, 0.6, 0.2, 0.3, 0.4, 0.5, 0.3, 0.8]))
    assert metrics.logloss == pytest.approx(wanted)


def test_the_three_weightings_are_impressions_clicks_and_users():
    labels, scores = [1, 1, 1, 0, 1, 0, 0, 0, 0, 0], [0.3, 0.4, 0.6, 0.5, 0.9, 0.1, 0.2, 0.3, 0.4, 0.5]
    metrics = compute_metrics(labels, scores, [1] * 4 + [2] * 6)
    assert metrics.gauc == pytest.approx((4 * (1 / 3) + 6 * 1.0) / 10)
    assert metrics.gauc_by_clicks == pytest.approx((3 * (1 / 3) + 1 * 1.0) / 4)
    assert metrics.gauc_uniform == pytest.approx((1 / 3 + 1.0) / 2)


@pytest.mark.parametrize("auc_of", [pairwise_auc, roc_auc_score], ids=["definition", "scikit-learn"])
@settings(deadline=None)
@given(table=rows, piece=st.sampled_from([1, 3, 1 << 20]))
def test_auc_and_gauc_are_those_of_the_definition_and_of_scikit_learn(auc_of, table, piece):
    labels, scores, users = columns(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics_module, "_PIECE", piece)
        metrics = compute_metrics(labels, scores, users)
    everyone = np.unique(users)
    both = [user for user in everyone if len(set(labels[users == user])) == 2]
    assert (metrics.users, metrics.users_of_one_class) == (len(everyone), len(everyone) - len(both))
    assert (metrics.targets, metrics.clicks) == (len(labels), labels.sum())
    aucs = [auc_of(labels[users == user], scores[users == user]) for user in both]
    for name, weights in (
        ("gauc", [(users == user).sum() for user in both]),
        ("gauc_by_clicks", [labels[users == user].sum() for user in both]),
        ("gauc_uniform", [1 for _ in both]),
    ):
        wanted = np.average(aucs, weights=weights) if both else np.nan
        np.testing.assert_allclose(getattr(metrics, name), wanted, rtol=1e-12, err_msg=name)
    wanted = auc_of(labels, scores) if len(set(labels)) == 2 else np.nan
    np.testing.assert_allclose(metrics.auc, wanted, rtol=1e-12)
    clipped = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    np.testing.assert_allclose(metrics.logloss, -np.mean(np.log(np.where(labels, clipped, 1 - clipped))), rtol=1e-12)
    wanted = scores.sum(dtype=np.float64) / labels.sum() if labels.any() else np.nan
    np.testing.assert_allclose(metrics.calibration, wanted, rtol=1e-12)


@settings(deadline=None)
@given(table=rows, cuts=st.lists(st.integers(0, 60), max_size=4), order=st.randoms(use_true_random=False))
def test_order_and_batches_change_no_bit(table, cuts, order):
    whole = compute_metrics(*columns(table))
    shuffled = order.sample(table, len(table))
    bounds = [0, *sorted(cuts), len(table)]
    accumulator = MetricsAccumulator()
    for begin, end in zip(bounds, bounds[1:], strict=False):
        if shuffled[begin:end]:
            accumulator.update(*columns(shuffled[begin:end]))
    for found in (accumulator.result(), accumulator.result()):
        np.testing.assert_array_equal(list(found.to_plain().values()), list(whole.to_plain().values()))


def test_a_result_in_between_disturbs_nothing():
    accumulator = MetricsAccumulator()
    accumulator.update([1, 0], [0.9, 0.2], [7, 7])
    assert accumulator.result().auc == 1
    accumulator.update([], [], [])
    accumulator.update([0, 1], [0.4, 0.4], [8, 8])
    assert accumulator.result() == compute_metrics([1, 0, 0, 1], [0.9, 0.2, 0.4, 0.4], [7, 7, 8, 8])


def test_what_means_nothing_is_none_in_json():
    plain = compute_metrics([0, 0], [0.2, 0.4], [1, 2]).to_plain()
    assert {name for name, value in plain.items() if value is None} == {
        "auc", "gauc", "gauc_error", "gauc_by_clicks", "gauc_uniform", "calibration",
    }  # fmt: skip
    assert compute_metrics([1, 1], [0.2, 0.4], [1, 2]).calibration == pytest.approx(0.3)


def test_wrong_input_is_said_and_adds_nothing():
    accumulator = MetricsAccumulator()
    with pytest.raises(ValueError, match="the split is empty"):
        accumulator.result()
    for labels, scores, users, message in (
        ([1, 0], [0.5], [1, 1], "2 labels, 1 predictions and 2 users must be as many"),
        ([1, 2], [0.5, 0.5], [1, 1], "labels must be 0 or 1, not 2"),
        ([1, 0], [0.5, np.nan], [1, 1], "predictions must be finite and not negative, not nan"),
        ([1, 0], [0.5, -0.25], [1, 1], r"predictions must be finite and not negative, not -0\.25"),
    ):
        with pytest.raises(ValueError, match=message):
            accumulator.update(labels, scores, users)
    accumulator.update([1, 0], [0.0, -0.0], [1, 1])
    assert accumulator.result().auc == 0.5


def test_the_standard_error_of_gauc_is_over_users():
    """Users with AUC 1, 0.5 and 0, of 2, 2 and 4 targets: by hand."""
    label = [1, 0, 1, 0, 1, 0, 0, 0]
    probability = [0.9, 0.1, 0.5, 0.5, 0.1, 0.5, 0.6, 0.7]
    found = compute_metrics(label, probability, [1, 1, 2, 2, 3, 3, 3, 3])
    residuals = np.array([2, 2, 4]) * (np.array([1, 0.5, 0]) - 3 / 8)
    assert found.gauc == 3 / 8
    assert found.gauc_error == pytest.approx(np.sqrt(3 / 2 * (residuals**2).sum()) / 8, abs=1e-15)
    rng = np.random.default_rng(3)
    users = np.repeat(np.arange(400), 6)
    labels = np.tile([1, 0, 0, 1, 0, 0], 400)

    def drawn():
        return compute_metrics(labels, np.clip(rng.normal(0.4 + 0.1 * labels, 0.1), 0, 1), users)

    several = [drawn() for _ in range(200)]
    spread = np.std([one.gauc for one in several])
    assert np.mean([one.gauc_error for one in several]) == pytest.approx(spread, rel=0.2)
