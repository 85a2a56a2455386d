"""Exact metrics over a whole split: AUC, GAUC, log loss, calibration. NumPy alone."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
PROBABILITY_FLOOR = 1e-7


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Quality of predictions on a split.

    Attributes:
        auc: area under the ROC curve; ties count half. NaN if only one class is present.
        gauc: per-user AUC, weighted by the user's number of targets; users with one class are left out.
        logloss: mean binary cross-entropy in nats.
        calibration: mean prediction over observed click rate; NaN without clicks.
        targets: how many targets.
        users: how many users.
        users_of_one_class: users whom GAUC leaves out.
    """

    auc: float
    gauc: float
    logloss: float
    calibration: float
    targets: int
    users: int
    users_of_one_class: int

    def to_plain(self) -> dict[str, Any]:
        """A mapping for JSON, which knows no NaN: what means nothing is None."""
        values = dataclasses.asdict(self)
        return {name: None if value != value else value for name, value in values.items()}


def compute_metrics(label: npt.ArrayLike, probability: npt.ArrayLike, user: npt.ArrayLike) -> Metrics:
    """All metrics.

    Args:
        label: `(n,)`, 1 for a click, else 0.
        probability: `(n,)`.
        user: `(n,)` user ids.

    Raises:
        ValueError: no targets, or arrays of different lengths.
    """
    labels = np.asarray(label, np.float64)
    scores = np.asarray(probability, np.float64)
    users = np.asarray(user)
    if not len(labels):
        raise ValueError("no targets to evaluate: the split is empty")
    if not len(labels) == len(scores) == len(users):
        raise ValueError(f"{len(labels)} labels, {len(scores)} predictions and {len(users)} users must be as many")
    clipped = np.clip(scores, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    per_user = auc_by_group(labels, scores, users)
    usable = np.isfinite(per_user.auc)
    weight = per_user.size[usable]
    return Metrics(
        auc=auc(labels, scores),
        gauc=float(np.average(per_user.auc[usable], weights=weight)) if usable.any() else float("nan"),
        logloss=float(-np.mean(labels * np.log(clipped) + (1 - labels) * np.log1p(-clipped))),
        calibration=float(scores.mean() / labels.mean()) if labels.any() else float("nan"),
        targets=len(labels),
        users=len(per_user.size),
        users_of_one_class=int((~usable).sum()),
    )


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the ROC curve: the chance that a click scores above a non-click, ties counting half."""
    values = np.asarray(labels, np.float64)
    return float(auc_by_group(values, np.asarray(scores, np.float64), np.zeros(len(values), np.int64)).auc[0])


@dataclasses.dataclass(frozen=True)
class GroupAuc:
    """Per group, in the order of the sorted group ids: id, AUC (NaN for one class) and number of targets."""

    group: npt.NDArray[Any]
    auc: FloatArray
    size: npt.NDArray[np.int64]


def auc_by_group(labels: FloatArray, scores: FloatArray, groups: npt.NDArray[Any]) -> GroupAuc:
    """AUC of every group at once, by the Mann-Whitney rank sum with mean ranks for ties."""
    ids, group = np.unique(groups, return_inverse=True)
    order = np.lexsort((scores, group))
    group, score, label = group[order], scores[order], labels[order]
    size = np.bincount(group, minlength=len(ids))
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    new_tie = np.ones(len(group), bool)
    new_tie[1:] = (group[1:] != group[:-1]) | (score[1:] != score[:-1])
    tie = np.cumsum(new_tie) - 1
    first = np.flatnonzero(new_tie)
    last = np.append(first[1:], len(group)) - 1
    rank = ((first + last) / 2.0)[tie] - start[group] + 1.0
    clicks = np.bincount(group, weights=label, minlength=len(ids))
    rank_sum = np.bincount(group, weights=rank * label, minlength=len(ids))
    pairs = clicks * (size - clicks)
    with np.errstate(invalid="ignore", divide="ignore"):
        result = (rank_sum - clicks * (clicks + 1) / 2) / pairs
    return GroupAuc(ids, np.where(pairs > 0, result, np.nan), size)
