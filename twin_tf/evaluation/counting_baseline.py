"""A baseline without learning: count the target's item in the history, and the share of its category.

    score = (behaviours with the target's item) + 0.1 * (share of behaviours with the target's category)

A cluster counts as the behaviours that it stands for. Every learned system should beat it.
"""

import numpy as np
import numpy.typing as npt

from twin_tf.evaluation.metrics import Metrics, compute_metrics
from twin_tf.records.corrupt_records import corrupt_records_named
from twin_tf.records.format import Manifest, SplitName
from twin_tf.records.input_pipeline import load_item_features, make_dataset

CATEGORY_WEIGHT = 0.1
WHOLE = "whole history"


def counting_baselines(manifest: Manifest, category: str) -> dict[int, tuple[str, Metrics]]:
    """Label and metrics of the test split, by how many of the latest behaviours are counted; 0 for all."""
    longest = manifest.schema.history.max_length
    with corrupt_records_named(manifest):
        return {
            window: (label, evaluate_counting(manifest, "test", category, window or longest))
            for window, label in ((100, f"counting by {category}, latest 100"), (0, f"counting by {category}, {WHOLE}"))
        }


def evaluate_counting(manifest: Manifest, split: SplitName, category: str, window: int) -> Metrics:
    """Metrics of the counting baseline (log loss and calibration mean nothing for it).

    Args:
        manifest: prepared data.
        split: which targets.
        category: name of the inherent feature whose share is counted; of several values the first.
        window: how many of the latest behaviours are counted.
    """
    schema = manifest.schema
    features, _ = load_item_features(manifest.directory, schema)
    kind = features[:, schema.inherent_slices[category].start]
    users, labels, scores = [], [], []
    for batch in make_dataset(manifest, split, window, 1).as_numpy_iterator():
        count = int(batch.targets.count[0])
        items, ends = batch.targets.item[0, :count], batch.targets.end[0, :count]
        length = int(batch.history.length[0])
        history, sizes = batch.history.item[0, :length], batch.history.count[0, :length]
        starts, before = np.maximum(ends - window, 0), np.concatenate([[0], np.cumsum(sizes)])
        same_item = _counts(history, sizes, items, starts, ends)
        same_kind = _counts(kind[history], sizes, kind[items], starts, ends)
        scores.append(same_item + CATEGORY_WEIGHT * same_kind / np.maximum(before[ends] - before[starts], 1))
        labels.append(batch.label[0, :count])
        users.append(np.repeat(batch.user_id, count))
    return compute_metrics(np.concatenate(labels), np.concatenate(scores), np.concatenate(users))


def _counts(
    history: npt.NDArray[np.int32],
    sizes: npt.NDArray[np.int32],
    wanted: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int32],
    ends: npt.NDArray[np.int32],
) -> npt.NDArray[np.float64]:
    """How many behaviours with each wanted value `history[start:end]` stands for."""
    order = np.argsort(history, kind="stable")
    ranked, before = history[order], np.concatenate([[0], np.cumsum(sizes[order])])
    low, high = np.searchsorted(ranked, wanted, side="left"), np.searchsorted(ranked, wanted, side="right")
    counts = [
        before[a + np.searchsorted(order[a:b], end)] - before[a + np.searchsorted(order[a:b], start)]
        for a, b, start, end in zip(low, high, starts, ends, strict=True)
    ]
    return np.array(counts, np.float64)
