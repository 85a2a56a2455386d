"""What needs no model: how often an item, and a user, was clicked before.

Of each target strictly earlier targets count, so none of its own moment.

* Item rate: `(clicks + 10 r) / (targets + 10)` over the earlier targets of the item; r is the rate of all earlier ones.
* Item + user rate: a logistic regression of two numbers, the logits of the item's and of the user's rate, fitted on the
  targets of the training part.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from twin_tf.evaluation.metrics import Metrics, compute_metrics
from twin_tf.records.format import SplitTimes

PRIOR_TARGETS = 10.0
"""How many targets at the overall rate a rate starts with."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class ShownTargets(NamedTuple):
    """All targets of a log, `(n,)` each, in any order: whole numbers for users and items, times, labels 0 or 1."""

    user: Ints
    item: Ints
    time: Ints
    label: Ints


def yardsticks(shown: ShownTargets, split: SplitTimes) -> dict[str, Metrics]:
    """Metrics of `item_rate` and `item_user_rate` on the test part."""
    overall = earlier_rate(np.zeros_like(shown.item), shown, np.full(len(shown.item), 0.5))
    item, user = (earlier_rate(keys, shown, overall) for keys in (shown.item, shown.user))
    train, test = shown.time < split.train_until, shown.time >= split.test_from
    logits = np.log(np.stack([item, user], axis=1))
    logits -= np.log1p(-np.stack([item, user], axis=1))
    fitted = LogisticRegression(C=1e6).fit(logits[train], shown.label[train])
    scores = {"item_rate": item, "item_user_rate": fitted.predict_proba(logits)[:, 1]}
    return {name: compute_metrics(shown.label[test], score[test], shown.user[test]) for name, score in scores.items()}


def earlier_rate(keys: Ints, shown: ShownTargets, prior: Floats) -> Floats:
    """Smoothed click rate of each target's key over the strictly earlier targets with the same key, `(n,)`.

    Args:
        keys: what is counted by, `(n,)`.
        shown: the targets.
        prior: of each target, the rate without any earlier target of its key, `(n,)`.
    """
    order = np.lexsort((shown.time, keys))
    key, time = keys[order], shown.time[order]
    clicks = np.concatenate([[0], np.cumsum(shown.label[order])])
    new_key = np.append(True, key[1:] != key[:-1])
    place = np.arange(len(key))
    key_start = np.maximum.accumulate(np.where(new_key, place, 0))
    timestamp_start = np.maximum.accumulate(np.where(new_key | np.append(True, time[1:] != time[:-1]), place, 0))
    rate = np.empty(len(key))
    clicked, seen = clicks[timestamp_start] - clicks[key_start], timestamp_start - key_start
    rate[order] = (clicked + PRIOR_TARGETS * prior[order]) / (seen + PRIOR_TARGETS)
    return rate
