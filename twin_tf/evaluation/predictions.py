"""Predictions of some system for the targets of a split: what all that judges it starts from."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from twin_tf.evaluation.metrics import Metrics, compute_metrics


class Predictions(NamedTuple):
    """Some targets with a score each, `(n,)` each.

    Attributes:
        user: int64 user ids.
        label: 0 or 1.
        score: float32, from 0 on.
    """

    user: npt.NDArray[np.int64]
    label: npt.NDArray[np.int8]
    score: npt.NDArray[np.float32]

    def at(self, places: npt.NDArray[Any]) -> "Predictions":
        """Some of the targets: `places` are positions, or true where a target is wanted."""
        return Predictions(self.user[places], self.label[places], self.score[places])

    @property
    def metrics(self) -> Metrics:
        """Computed anew at every call.

        Raises:
            ValueError: there are no targets.
        """
        return compute_metrics(self.label, self.score, self.user)
