"""A baseline without learning: count the target's item in the history, and the share of its category.

    score = (behaviours with the target's item) + 0.1 * (share of behaviours with the target's category)

Every learned system should beat it.
"""

import numpy as np
import numpy.typing as npt

from twin_tf.data import load_item_features, make_dataset
from twin_tf.metrics import Metrics, compute_metrics
from twin_tf.records import Manifest, SplitName

CATEGORY_WEIGHT = 0.1


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
        history = batch.history.item[0, : int(batch.history.length[0])]
        starts = np.maximum(ends - window, 0)
        same_item = _counts(history, items, starts, ends)
        same_kind = _counts(kind[history], kind[items], starts, ends)
        scores.append(same_item + CATEGORY_WEIGHT * same_kind / np.maximum(ends - starts, 1))
        labels.append(batch.label[0, :count])
        users.append(np.repeat(batch.user_id, count))
    return compute_metrics(np.concatenate(labels), np.concatenate(scores), np.concatenate(users))


def _counts(
    history: npt.NDArray[np.int32],
    wanted: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int32],
    ends: npt.NDArray[np.int32],
) -> npt.NDArray[np.float64]:
    """How often each wanted value occurs in `history[start:end]`."""
    order = np.argsort(history, kind="stable")
    ranked = history[order]
    low, high = np.searchsorted(ranked, wanted, side="left"), np.searchsorted(ranked, wanted, side="right")
    counts = [
        np.searchsorted(order[a:b], end) - np.searchsorted(order[a:b], start)
        for a, b, start, end in zip(low, high, starts, ends, strict=True)
    ]
    return np.array(counts, np.float64)
