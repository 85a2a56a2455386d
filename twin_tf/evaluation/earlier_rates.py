"""How often an item, and a user, was clicked before: two yardsticks that need no model.

Of each target strictly earlier targets count, so neither its own label nor any of its own moment.

* Item rate: `(clicks + 10 r) / (targets + 10)` over the earlier targets of the item; r is the rate of all earlier ones.
* Item + user rate: a logistic regression of two numbers, the logits of the item's and of the user's rate, fitted on the
  targets of the training part.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

PRIOR_TARGETS = 10.0
"""How many targets at the overall rate a rate starts with."""

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]


class EarlierRates(NamedTuple):
    """Of each target, `(n,)` each.

    Attributes:
        item: click rate of its item before it.
        user: click rate of its user before it.
        item_targets: earlier targets of its item.
        user_targets: earlier targets of its user.
    """

    item: Floats
    user: Floats
    item_targets: npt.NDArray[np.int64]
    user_targets: npt.NDArray[np.int64]

    @property
    def logits(self) -> Floats:
        """`(n, 2)`: of the item's and the user's rate."""
        rates = np.stack([self.item, self.user], axis=1)
        found: Floats = np.log(rates) - np.log1p(-rates)
        return found


def earlier_rates(user: Ints, item: Ints, time: Ints, label: Ints) -> EarlierRates:
    """Smoothed click rates; arguments `(n,)` each, in any order: whole numbers, times, labels 0 or 1."""
    overall, _ = earlier_rate(np.zeros_like(item), time, label, np.full(len(item), 0.5))
    item_rate, item_targets = earlier_rate(item, time, label, overall)
    user_rate, user_targets = earlier_rate(user, time, label, overall)
    return EarlierRates(item_rate, user_rate, item_targets, user_targets)


def earlier_rate(keys: Ints, time: Ints, label: Ints, prior: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Smoothed click rate of each target's key over the strictly earlier targets with the same key, and their number.

    Args:
        keys: what is counted by, `(n,)`.
        time: `(n,)`.
        label: `(n,)`, 0 or 1.
        prior: of each target, the rate without any earlier target of its key, `(n,)`.

    Returns:
        Rates and numbers, `(n,)` each.
    """
    order = np.lexsort((time, keys))
    key, sorted_time = keys[order], time[order]
    clicks = np.concatenate([[0], np.cumsum(label[order], dtype=np.int64)])
    new_key = np.append(True, key[1:] != key[:-1])[: len(key)]
    new_time = np.append(True, sorted_time[1:] != sorted_time[:-1])[: len(key)]
    place = np.arange(len(key))
    key_start = np.maximum.accumulate(np.where(new_key, place, 0))
    timestamp_start = np.maximum.accumulate(np.where(new_key | new_time, place, 0))
    rate, number = np.empty(len(key)), np.empty(len(key), np.int64)
    clicked, seen = clicks[timestamp_start] - clicks[key_start], timestamp_start - key_start
    rate[order] = (clicked + PRIOR_TARGETS * prior[order]) / (seen + PRIOR_TARGETS)
    number[order] = seen
    return rate, number


def combined_rate(rates: EarlierRates, label: Ints, train: npt.NDArray[np.bool_]) -> Floats | None:
    """Item + user rate of each target, `(n,)`; None where the training targets have a single label.

    Args:
        rates: of the targets.
        label: `(n,)`, 0 or 1; those of training targets alone are looked at.
        train: `(n,)`, which targets are of the training part.
    """
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(label[train])) < 2:
        return None
    logits = rates.logits
    found: Floats = LogisticRegression(C=1e6).fit(logits[train], label[train]).predict_proba(logits)[:, 1]
    return found
