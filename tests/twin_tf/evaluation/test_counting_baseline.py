"""The counting baseline against a loop over the decoded records."""

import numpy as np
import pytest

from tests.twin_tf.small_run import decode
from twin_tf.evaluation.counting_baseline import _counts, evaluate_counting
from twin_tf.evaluation.metrics import compute_metrics
from twin_tf.records.input_pipeline import load_item_features

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("window", [1, 25, 400])
def test_counting_is_the_formula_over_the_latest_behaviours(manifest, prepared, window):
    features, _ = load_item_features(prepared, manifest.schema)
    topic = features[:, 2]
    users, labels, scores = [], [], []
    for record in decode(manifest, "test"):
        for item, end, label in zip(*(record[f"target/{n}"] for n in ("item", "history_end", "label")), strict=True):
            past = record["history/item"][max(0, end - window) : end]
            same_topic = [topic[other] == topic[item] for other in past]
            scores.append(sum(past == item) + 0.1 * (np.mean(same_topic) if same_topic else 0.0))
            labels.append(label)
            users.append(record["user/id"])
    expected, found = compute_metrics(labels, scores, users), evaluate_counting(manifest, "test", "topic", window)
    assert (found.targets, found.users) == (expected.targets, expected.users)
    assert found.auc == pytest.approx(expected.auc, abs=1e-12)
    assert found.gauc == pytest.approx(expected.gauc, abs=1e-12)


def test_the_whole_history_counts_for_more_than_the_latest_behaviours(manifest):
    shallow, deep = (evaluate_counting(manifest, "train", "topic", window) for window in (20, 400))
    assert deep.auc > shallow.auc + 0.02


def test_a_cluster_counts_as_the_behaviours_it_stands_for():
    history, sizes = np.array([3, 4, 3], np.int32), np.array([2, 1, 5], np.int32)
    starts, ends = np.array([0, 0, 1, 0, 0], np.int32), np.array([3, 1, 3, 2, 3], np.int32)
    assert _counts(history, sizes, np.array([3, 3, 3, 4, 9], np.int32), starts, ends).tolist() == [7, 2, 5, 1, 0]
