"""Exact metrics over a whole split: AUC, GAUC, log loss, calibration. Streaming, NumPy alone."""

import dataclasses
import math
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

PROBABILITY_FLOOR = 1e-7
_PIECE = 1 << 20  # targets looked at together: bounds what a result needs beside the targets themselves

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Keys = npt.NDArray[np.unsignedinteger[Any]]


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Quality of predictions on a split.

    GAUC is the mean of the users' own AUCs. Users whose targets are all clicks, or all none, have no AUC: they are left
    out and counted. The three GAUCs differ in what a user weighs.

    Attributes:
        auc: area under the ROC curve; ties count half. NaN if only one class is present.
        gauc: weighted by impressions, the user's number of targets: the paper's GAUC.
        gauc_error: its standard error over users; None of a single user with an AUC.
        gauc_by_clicks: weighted by the user's number of clicks.
        gauc_uniform: every user weighs the same.
        logloss: mean binary cross-entropy in nats.
        calibration: expected over observed clicks: sum of the predictions over number of clicks; NaN without clicks.
        targets: how many targets.
        clicks: how many of them were clicked.
        users: how many users.
        users_of_one_class: users whom GAUC leaves out.
    """

    auc: float
    gauc: float
    gauc_error: float
    gauc_by_clicks: float
    gauc_uniform: float
    logloss: float
    calibration: float
    targets: int
    clicks: int
    users: int
    users_of_one_class: int

    def to_plain(self) -> dict[str, Any]:
        """A mapping for JSON, which knows no NaN: what means nothing is None."""
        values = dataclasses.asdict(self)
        return {name: None if value != value else value for name, value in values.items()}


class MetricsAccumulator:
    """Takes predictions batch by batch; its result is a function of the set of them, whatever their order and batches.

    It holds 4 bytes a target (the probability, whose sign bit no probability needs, and the label in that bit's place)
    and 12 bytes a stretch of neighbouring targets of one user, with up to 1/16 spare; `result` takes 13 bytes a target
    and 50 a user more while it works.

    Example:
        >>> accumulator = MetricsAccumulator()
        >>> accumulator.update([1, 0], [0.9, 0.2], [7, 7])
        >>> accumulator.update([0, 1], [0.4, 0.4], [8, 8])
        >>> accumulator.result().gauc
        0.75
    """

    def __init__(self) -> None:
        self._keys = array("I")  # bits of the float32 probability, which order as numbers do, and below them the label
        self._users = array("q")  # of each stretch
        self._lengths = array("I")

    def update(self, label: npt.ArrayLike, probability: npt.ArrayLike, user: npt.ArrayLike) -> None:
        """Adds targets.

        Args:
            label: `(n,)`, 1 for a click, else 0.
            probability: `(n,)`, taken as float32. A score that is no probability (from 0 on) makes a sound AUC and
                GAUC; log loss and calibration mean nothing then.
            user: `(n,)` integer user ids; cheapest if the targets of a user stand together.

        Raises:
            ValueError: arrays of different lengths, a label that is neither 0 nor 1, or a probability that is negative
                or not finite; nothing has been added then.
        """
        labels, users = np.asarray(label), np.asarray(user, np.int64)
        scores = np.asarray(probability, np.float32) + np.float32(0)  # -0.0 becomes 0.0
        if not len(labels) == len(scores) == len(users):
            raise ValueError(f"{len(labels)} labels, {len(scores)} predictions and {len(users)} users must be as many")
        if not len(labels):
            return
        wrong = (labels != 0) & (labels != 1)
        if wrong.any():
            raise ValueError(f"labels must be 0 or 1, not {labels[wrong][0]}")
        wrong = ~(np.isfinite(scores) & (scores >= 0))
        if wrong.any():
            raise ValueError(f"predictions must be finite and not negative, not {scores[wrong][0]}")
        starts = np.concatenate([[0], np.flatnonzero(users[1:] != users[:-1]) + 1])
        lengths = np.diff(np.append(starts, len(users)))
        self._keys.frombytes((scores.view(np.uint32) << 1 | labels.astype(np.uint32)).tobytes())
        self._users.frombytes(users[starts].tobytes())
        self._lengths.frombytes(lengths.astype(np.uint32).tobytes())

    def targets(self) -> tuple[Ints, npt.NDArray[np.int8], npt.NDArray[np.float32]]:
        """What has been added so far, in order: user ids, labels and probabilities, `(n,)` each."""
        keys = np.frombuffer(self._keys, np.uint32)
        users = np.repeat(np.frombuffer(self._users, np.int64), np.frombuffer(self._lengths, np.uint32))
        return users, (keys & np.uint32(1)).astype(np.int8), (keys >> np.uint32(1)).view(np.float32)

    def result(self) -> Metrics:
        """The metrics of what has been added so far.

        Raises:
            ValueError: nothing has been added.
        """
        if not self._keys:
            raise ValueError("no targets to evaluate: the split is empty")
        users = self._users_auc()
        keys = np.frombuffer(self._keys, np.uint32).copy()
        keys.sort()
        targets, clicks = len(keys), int(users.clicks.sum())
        pairs = clicks * (targets - clicks)
        expected, cross_entropy = _sums(keys)
        usable = np.isfinite(users.auc)

        def gauc(weight: npt.NDArray[Any]) -> float:
            return float(np.average(users.auc[usable], weights=weight[usable])) if usable.any() else math.nan

        return Metrics(
            auc=_twice_won(keys) / (2 * pairs) if pairs else math.nan,
            gauc=gauc(users.targets),
            gauc_error=_standard_error(users.auc[usable], users.targets[usable]),
            gauc_by_clicks=gauc(users.clicks),
            gauc_uniform=gauc(np.ones(len(usable))),
            logloss=cross_entropy / targets,
            calibration=expected / clicks if clicks else math.nan,
            targets=targets,
            clicks=clicks,
            users=len(usable),
            users_of_one_class=int((~usable).sum()),
        )

    def _users_auc(self) -> "_Users":
        lengths = np.frombuffer(self._lengths, np.uint32)
        ids, place = np.unique(np.frombuffer(self._users, np.int64), return_inverse=True)
        keys = np.repeat(place.astype(np.uint64), lengths)
        keys <<= np.uint64(32)
        keys |= np.frombuffer(self._keys, np.uint32)
        keys.sort()
        targets = np.bincount(place, weights=lengths, minlength=len(ids)).astype(np.int64)
        users = _Users(np.full(len(ids), np.nan), targets, np.zeros(len(ids), np.int64))
        for first, last, begin, end in _pieces_of_whole_users(targets):
            _score_users(keys[begin:end], users, slice(first, last))
        return users


def _standard_error(values: Floats, weights: Ints) -> float:
    """Of a weighted mean of independent values; NaN for less than two of them."""
    if len(values) < 2:
        return math.nan
    residuals = weights * (values - np.average(values, weights=weights))
    return float(np.sqrt(len(values) / (len(values) - 1) * np.square(residuals).sum()) / weights.sum())


def compute_metrics(label: npt.ArrayLike, probability: npt.ArrayLike, user: npt.ArrayLike) -> Metrics:
    """The metrics of arrays that are there as a whole; arguments and errors as those of `MetricsAccumulator.update`.

    Raises:
        ValueError: no targets too.
    """
    accumulator = MetricsAccumulator()
    accumulator.update(label, probability, user)
    return accumulator.result()


@dataclasses.dataclass(frozen=True)
class _Users:
    """Of each user, in the order of their ids: AUC (NaN for one class), number of targets, number of clicks."""

    auc: Floats
    targets: Ints
    clicks: Ints


def _pieces_of_whole_users(targets: Ints) -> Iterator[tuple[int, int, int, int]]:
    """(first user, one past the last, their first target, one past the last) of about `_PIECE` targets each."""
    ends = np.cumsum(targets)
    first = begin = 0
    while first < len(ends):
        last = max(first + 1, int(np.searchsorted(ends, begin + _PIECE, side="right")))
        end = int(ends[last - 1])
        yield first, last, begin, end
        first, begin = last, end


def _score_users(keys: Keys, users: _Users, chosen: slice) -> None:
    """Fills in AUC and clicks of the users whose sorted keys (place among the users << 32 | key) are given."""
    clicked, others = _by_label(keys)
    targets = users.targets[chosen]
    place = (clicked >> np.uint64(31)).astype(np.int64) - chosen.start
    clicks = np.bincount(place, minlength=len(targets))
    missed = targets - clicks
    below = np.concatenate([[0], np.cumsum(_twice_below(clicked, others))])
    ends = np.cumsum(clicks)
    earlier_users = 2 * clicks * (np.cumsum(missed) - missed)
    won = below[ends] - below[ends - clicks] - earlier_users
    pairs = clicks * missed
    users.clicks[chosen] = clicks
    users.auc[chosen] = np.divide(won, 2 * pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def _twice_won(keys: Keys) -> int:
    """Twice the pairs of a click and a non-click in which the click scores higher, ties counting half."""
    clicked, others = _by_label(keys)
    return sum(
        int(_twice_below(clicked[place : place + _PIECE], others).sum()) for place in range(0, len(clicked), _PIECE)
    )


def _by_label(keys: Keys) -> tuple[Keys, Keys]:
    """The clicks and the others, without their labels."""
    one = keys.dtype.type(1)
    click = (keys & one).astype(bool)
    return keys[click] >> one, keys[~click] >> one


def _twice_below(clicked: Keys, others: Keys) -> Ints:
    """For each click twice the number of non-clicks that score lower, ties counting half; both are sorted."""
    return np.searchsorted(others, clicked, side="left") + np.searchsorted(others, clicked, side="right")


def _sums(keys: Keys) -> tuple[float, float]:
    """Sum of the predictions, and of the binary cross-entropies in nats."""
    expected, cross_entropy = [], []
    for place in range(0, len(keys), _PIECE):
        part = keys[place : place + _PIECE]
        score = (part >> np.uint32(1)).view(np.float32).astype(np.float64)
        clipped = np.clip(score, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
        expected.append(float(score.sum()))
        cross_entropy.append(-float(np.log(np.where(part & np.uint32(1), clipped, 1 - clipped)).sum()))
    return math.fsum(expected), math.fsum(cross_entropy)
