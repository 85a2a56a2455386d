"""Each user's AUC of an evaluation, kept in the run, so that runs can be compared without scoring them again."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from twin_tf.evaluation.bootstrap import DRAWS, interval, user_auc, user_weights
from twin_tf.evaluation.predictions import Predictions


class UserFigures(NamedTuple):
    """`(users,)` each, in rising order of the ids.

    Attributes:
        user: int64 raw ids.
        targets: how many each has.
        auc: NaN where a user's targets have a single label.
    """

    user: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    auc: npt.NDArray[np.float64]

    @classmethod
    def of(cls, predictions: Predictions) -> "UserFigures":
        """Of all targets of a split."""
        user, code, targets = np.unique(predictions.user, return_inverse=True, return_counts=True)
        return cls(user, targets.astype(np.int64), user_auc(predictions, code, len(user)))

    def save(self, run: Path, split: str) -> None:
        """Writes `evaluation-<split>-users.npz` into a run."""
        np.savez_compressed(_path(run, split), **self._asdict())

    @classmethod
    def load(cls, run: Path, split: str) -> "UserFigures | None":
        """What `save` wrote; None where it did not."""
        if not _path(run, split).is_file():
            return None
        with np.load(_path(run, split)) as kept:
            return cls(*(kept[name] for name in cls._fields))


def _path(run: Path, split: str) -> Path:
    return run / f"evaluation-{split}-users.npz"


def gauc_difference(pairs: Sequence[tuple[UserFigures, UserFigures]], draws: int = DRAWS) -> list[float] | None:
    """95 % of the mean difference in GAUC of some pairs, first less second, by bootstrap over users.

    Args:
        pairs: for example one a seed, all on the same targets.
        draws: how many.

    Returns:
        Lower and upper end; None without pairs, or if two of them have other targets.
    """
    every = [one for pair in pairs for one in pair]
    if not every or len(every[0].user) < 2:
        return None
    first = every[0]
    for other in every[1:]:
        if not (np.array_equal(first.user, other.user) and np.array_equal(first.targets, other.targets)):
            return None
    weight = np.where(np.isfinite(first.auc), first.targets, 0)
    gap = np.mean([np.nan_to_num(mine.auc) - np.nan_to_num(theirs.auc) for mine, theirs in pairs], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = [(weights @ (gap * weight)) / (weights @ weight) for weights in user_weights(len(weight), draws)]
    return interval(np.concatenate(found))
