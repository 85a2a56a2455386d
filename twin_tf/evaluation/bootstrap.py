"""95 % intervals by bootstrap over users: for a figure, and for the difference of two systems on the same targets.

Users are drawn with replacement, each with all its targets, for targets of one user are no independent witnesses. What
is drawn are whole numbers, how often each user counts: nothing is copied. Two systems get the same draws, so that what
makes a draw easy or hard for both cancels in their difference.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from twin_tf.evaluation.metrics import PROBABILITY_FLOOR
from twin_tf.evaluation.predictions import Predictions

DRAWS = 200
SEED = 1
_AT_ONCE = 1 << 22  # weights of users that are held together

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Interval = list[float] | None


class Ratio(NamedTuple):
    """A figure that is a sum over users divided by another one; `(users,)` each."""

    above: Floats
    below: Floats


class Resampled(NamedTuple):
    """A system's figures with every draw.

    Attributes:
        users: how many there are.
        draws: metric -> `(draws,)`; NaN where a draw has no such figure.
    """

    users: int
    draws: Mapping[str, Floats]

    def intervals(self) -> dict[str, Interval]:
        """Metric -> lower and upper end, see `interval`."""
        return {name: interval(values) if self.users > 1 else None for name, values in self.draws.items()}


def resample(predictions: Predictions, more: Mapping[str, Ratio] | None = None, draws: int = DRAWS) -> Resampled:
    """AUC, GAUC, log loss and calibration with every draw.

    Args:
        predictions: all targets; two systems that are to be compared have the same users.
        more: name -> another figure to draw, its users in rising order of their ids.
        draws: how many.

    Returns:
        `auc`, `gauc`, `logloss`, `calibration` and those of `more`.
    """
    ids, code = np.unique(predictions.user, return_inverse=True)
    ratios = {**_ratios(predictions, code, len(ids)), **(more or {})}
    ranking = _Ranking(predictions, code)
    above = np.stack([np.nan_to_num(ratio.above) for ratio in ratios.values()], axis=1)
    below = np.stack([ratio.below for ratio in ratios.values()], axis=1)
    sums: list[Floats] = []
    auc: list[float] = []
    for weights in user_weights(len(ids), draws):
        with np.errstate(invalid="ignore", divide="ignore"):
            sums.append((weights @ above) / (weights @ below))
        auc += [ranking.auc(row) for row in weights]
    found = dict(zip(ratios, np.concatenate(sums).T, strict=True))
    return Resampled(len(ids), {"auc": np.array(auc), **found})


def user_weights(users: int, draws: int = DRAWS) -> Iterator[npt.NDArray[np.int32]]:
    """How often each user counts, `(some draws, users)`; the same at every call."""
    generator = np.random.default_rng(SEED)
    some = max(1, _AT_ONCE // users)
    for first in range(0, draws, some):
        rows = [
            np.bincount(generator.integers(0, users, users), minlength=users)
            for _ in range(first, min(first + some, draws))
        ]
        yield np.stack(rows).astype(np.int32)


def interval(values: Floats) -> Interval:
    """The middle 95 % of the draws; None if a figure is missing in too many of them to tell."""
    known = values[np.isfinite(values)]
    if len(known) < 0.9 * len(values) or not len(known):
        return None
    low, high = np.quantile(known, [0.025, 0.975])
    return [float(low), float(high)]


class Difference(NamedTuple):
    """A system's figure less that of another one on the same targets.

    Attributes:
        difference: the figure.
        low: lower end of its interval; None if there is none.
        high: upper end.
    """

    difference: float
    low: float | None
    high: float | None

    @property
    def beyond_noise(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def paired_difference(
    mine: float | None, theirs: float | None, my_draws: Floats, their_draws: Floats
) -> Difference | None:
    """The difference of two systems' figures; None if one has none.

    Args:
        mine: a figure over all targets.
        theirs: that of the other system.
        my_draws: `(draws,)`, of `resample`.
        their_draws: `(draws,)`, of the same users.
    """
    if mine is None or theirs is None:
        return None
    ends = interval(my_draws - their_draws)
    return Difference(mine - theirs, *((None, None) if ends is None else ends))


def _ratios(predictions: Predictions, code: Ints, users: int) -> dict[str, Ratio]:
    def total(values: npt.NDArray[np.floating] | None = None) -> Floats:
        return np.bincount(code, weights=values, minlength=users).astype(np.float64)

    label, score = predictions.label.astype(bool), predictions.score.astype(np.float64)
    clipped = np.clip(score, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    targets, clicks = total(), total(label.astype(np.float64))
    auc = user_auc(predictions, code, users)
    weight = np.where(np.isfinite(auc), targets, 0.0)
    return {
        "gauc": Ratio(auc * weight, weight),
        "logloss": Ratio(total(-np.log(np.where(label, clipped, 1 - clipped))), targets),
        "calibration": Ratio(total(score), clicks),
    }


def user_auc(predictions: Predictions, code: Ints, users: int) -> Floats:
    """AUC of each user, `(users,)`; ties count half, NaN for one class."""
    order = np.lexsort((predictions.score, code))
    user, score, label = code[order], predictions.score[order], predictions.label[order].astype(np.int64)
    missed = np.concatenate([[0], np.cumsum(1 - label)])
    new = np.append(True, (user[1:] != user[:-1]) | (score[1:] != score[:-1]))[: len(user)]
    starts = np.flatnonzero(new)
    tie = np.cumsum(new) - 1
    ends = np.append(starts[1:], len(user))
    own_start = np.searchsorted(user, user[starts])
    twice_below = missed[starts] + missed[ends] - 2 * missed[own_start]
    won = np.bincount(user, weights=label * twice_below[tie], minlength=users)
    clicks = np.bincount(user, weights=label, minlength=users)
    pairs = clicks * (np.bincount(user, minlength=users) - clicks)
    return np.divide(won, 2 * pairs, out=np.full(users, np.nan), where=pairs > 0)


class _Ranking:
    """What the AUC of weighted users needs: sorted once, walked at every draw."""

    def __init__(self, predictions: Predictions, code: Ints) -> None:
        order = np.argsort(predictions.score, kind="stable")
        click = predictions.label[order].astype(bool)
        score, user = predictions.score[order], code[order].astype(np.int32)
        self._clicked, self._missed = user[click], user[~click]
        self._low = np.searchsorted(score[~click], score[click], side="left").astype(np.int32)
        self._high = np.searchsorted(score[~click], score[click], side="right").astype(np.int32)

    def auc(self, weights: npt.NDArray[np.int32]) -> float:
        """AUC of targets that count as often as their users do; NaN for one class."""
        clicks = weights[self._clicked]
        missed = np.zeros(len(self._missed) + 1, np.int64)
        np.cumsum(weights[self._missed], out=missed[1:])
        pairs = float(clicks.sum(dtype=np.int64)) * float(missed[-1])
        won = float(clicks @ (missed[self._low] + missed[self._high])) / 2
        return won / pairs if pairs else float("nan")
