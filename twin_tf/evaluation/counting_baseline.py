"""A yardstick without learning: count the target's item in the history, and the share of its category.

    score = (behaviours with the target's item) + 0.1 * (share of behaviours with the target's category)

A cluster counts as the behaviours that it stands for.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from twin_tf.evaluation.occurrences import Occurrences
from twin_tf.evaluation.predictions import Predictions
from twin_tf.records import format as records
from twin_tf.records.format import Manifest, SplitName
from twin_tf.records.input_pipeline import load_item_features
from twin_tf.records.record_reader import read_records

CATEGORY_WEIGHT = 0.1


def count_behaviours(
    manifest: Manifest, split: SplitName, category: str, windows: Sequence[int], every: int = 1
) -> dict[int, Predictions]:
    """Predictions of the counting baseline; its scores are no probabilities.

    Args:
        manifest: prepared data.
        split: which targets.
        category: name of the inherent feature whose share is counted; of several values the first.
        windows: how many of the latest behaviours are counted.
        every: take each `every`-th record alone.

    Returns:
        Window -> predictions, in the order of the files.
    """
    kind = item_category(manifest, category)
    users, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int8)]
    scores: dict[int, list[npt.NDArray[np.float32]]] = {window: [np.zeros(0, np.float32)] for window in windows}
    keys = [records.HISTORY_ITEM, records.TARGET_ITEM, records.TARGET_LABEL, records.TARGET_HISTORY_END]
    keys += [records.HISTORY_COUNT] if manifest.schema.history.clustered else []
    for user, record in read_records(manifest, split, keys, every):
        history, items, label, ends = (record[key] for key in keys[:4])
        sizes = record.get(records.HISTORY_COUNT, np.ones_like(history))
        same_item, same_kind = Occurrences(history, sizes), Occurrences(kind[history], sizes)
        before = np.concatenate([[0], np.cumsum(sizes)])
        for window, found in scores.items():
            starts = np.maximum(ends - window, 0)
            share = same_kind.count(kind[items], starts, ends) / np.maximum(before[ends] - before[starts], 1)
            score = same_item.count(items, starts, ends) + CATEGORY_WEIGHT * share
            found.append(score.astype(np.float32))
        labels.append(label.astype(np.int8))
        users.append(np.full(len(label), user))
    user_column, label_column = np.concatenate(users), np.concatenate(labels)
    return {window: Predictions(user_column, label_column, np.concatenate(found)) for window, found in scores.items()}


def item_category(manifest: Manifest, category: str) -> npt.NDArray[np.int32]:
    """Of each item row its index of an inherent feature, of several values the first; int32 `(items,)`."""
    features, _ = load_item_features(manifest.directory, manifest.schema)
    return features[:, manifest.schema.inherent_slices[category].start]
