"""Gradient-boosted trees over a dozen numbers that anybody would try first: the strongest of the yardsticks.

scikit-learn's HistGradientBoostingClassifier with fixed settings, fitted on targets of the training part. Every number
is of strictly earlier events (`FEATURES`); what never happened is missing.
"""

import numpy as np
import numpy.typing as npt

from twin_tf.evaluation.counting_baseline import item_category
from twin_tf.evaluation.earlier_rates import EarlierRates
from twin_tf.evaluation.occurrences import Occurrences
from twin_tf.records import format as records
from twin_tf.records.format import Manifest, SplitName
from twin_tf.records.record_reader import TargetColumns, read_records

FEATURES = (
    "logit of the item's click rate",
    "logit of the user's click rate",
    "earlier targets of the item (log)",
    "earlier targets of the user (log)",
    "behaviours (log)",
    "behaviours with the item (log)",
    "latest behaviours with the item (log)",
    "share of behaviours with the category",
    "share of the latest behaviours with the category",
    "time since the latest behaviour (log)",
    "time since the latest with the item (log)",
    "time since the latest with the category (log)",
)
LATEST = 100
"""How many behaviours are the latest."""

FITTED_TARGETS = 200_000
"""About how many targets of the training part the trees are fitted on, those of evenly spaced records."""

SETTINGS = {
    "max_iter": 300, "learning_rate": 0.05, "max_leaf_nodes": 15, "min_samples_leaf": 40, "random_state": 0,
    "early_stopping": True, "validation_fraction": 0.15, "n_iter_no_change": 10,
}  # fmt: skip
"""They stop early by a part of the training targets: without that, they overfit a few thousand targets badly."""

FEWEST = 20
"""Clicks, and non-clicks, without which nothing is fitted."""

Floats = npt.NDArray[np.float32]


def tree_scores(
    manifest: Manifest,
    asked: tuple[SplitName, int],
    category: str,
    targets: TargetColumns,
    rates: EarlierRates,
    every: int,
) -> Floats | None:
    """Probability of the targets of a split, float32 `(n,)` in the order of the files.

    Args:
        manifest: prepared data.
        asked: of a split, which is not the training part, each so manieth record.
        category: name of an inherent feature; of several values the first.
        targets: of the training part and of the split, at least.
        rates: of these targets.
        every: `targets` has each so manieth record of the training part.

    Returns:
        None where the training targets have fewer than `FEWEST` clicks or non-clicks.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    every *= max(1, -(-int(targets.of("train").sum()) // FITTED_TARGETS))
    fitted = targets.of("train") & (targets.record % every == 0)
    clicks = int(targets.label[fitted].sum())
    if min(clicks, int(fitted.sum()) - clicks) < FEWEST:
        return None
    kind = item_category(manifest, category)
    trees = HistGradientBoostingClassifier(**SETTINGS)
    trees.fit(_features(manifest, "train", kind, rates, fitted, every), targets.label[fitted])
    split, spacing = asked
    chosen = targets.of(split) & (targets.record % spacing == 0)
    numbers = _features(manifest, split, kind, rates, chosen, spacing)
    found: Floats = trees.predict_proba(numbers)[:, 1].astype(np.float32)
    return found


def _features(
    manifest: Manifest,
    split: SplitName,
    kind: npt.NDArray[np.int32],
    rates: EarlierRates,
    chosen: npt.NDArray[np.bool_],
    every: int,
) -> Floats:
    """`(n, features)` of the chosen targets, which are those of every so manieth record of a split."""
    seen = np.log1p(np.stack([rates.item_targets[chosen], rates.user_targets[chosen]], axis=1))
    keys = [records.HISTORY_ITEM, records.HISTORY_TIME, records.TARGET_ITEM, records.TARGET_TIME]
    keys += [records.TARGET_HISTORY_END]
    keys += [records.HISTORY_COUNT] if manifest.schema.history.clustered else []
    parts = [_of_record(record, kind) for _, record in read_records(manifest, split, keys, every)]
    return np.concatenate([rates.logits[chosen], seen, np.concatenate(parts)], axis=1).astype(np.float32)


def _of_record(record: dict[str, npt.NDArray[np.int64]], kind: npt.NDArray[np.int32]) -> Floats:
    """The numbers of a record's targets that are of its history, `(m, 8)`."""
    history, times = record[records.HISTORY_ITEM], record[records.HISTORY_TIME]
    items, now, ends = record[records.TARGET_ITEM], record[records.TARGET_TIME], record[records.TARGET_HISTORY_END]
    sizes = record.get(records.HISTORY_COUNT, np.ones_like(history))
    same_item, same_kind = Occurrences(history, sizes), Occurrences(kind[history], sizes)
    before, kinds, first = np.concatenate([[0], np.cumsum(sizes)]), kind[items], np.zeros_like(ends)
    recent = np.maximum(ends - LATEST, 0)

    def share(start: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        total = before[ends] - before[start]
        return np.where(total > 0, same_kind.count(kinds, start, ends) / np.maximum(total, 1), np.nan)

    def since(position: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        then = np.append(times, 0)[position]
        return np.where(position >= 0, np.log1p(np.maximum(now - then, 0)), np.nan)

    columns = [
        np.log1p(before[ends]),
        np.log1p(same_item.count(items, first, ends)),
        np.log1p(same_item.count(items, recent, ends)),
        share(first),
        share(recent),
        since(ends - 1),
        since(same_item.last(items, ends)),
        since(same_kind.last(kinds, ends)),
    ]
    return np.stack(columns, axis=1).astype(np.float32)
