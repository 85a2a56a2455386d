"""The counting baseline against a loop over the decoded records."""

import numpy as np
import pytest

from tests.twin_tf.small_run import decode
from twin_tf.evaluation.counting_baseline import count_behaviours
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
    expected = compute_metrics(labels, scores, users)
    found = count_behaviours(manifest, "test", "topic", (window,))[window].metrics
    assert (found.targets, found.users) == (expected.targets, expected.users)
    assert found.auc == pytest.approx(expected.auc, abs=1e-12)
    assert found.gauc == pytest.approx(expected.gauc, abs=1e-12)


def test_the_whole_history_counts_for_more_than_the_latest_behaviours(manifest):
    counted = count_behaviours(manifest, "train", "topic", (20, 400))
    assert counted[400].metrics.auc > counted[20].metrics.auc + 0.02
