"""A system's figures over a whole split, and their difference to another system's. No TensorFlow."""

from typing import Any, NamedTuple

from twin_tf.evaluation.bootstrap import Resampled, paired_difference, resample
from twin_tf.evaluation.predictions import Predictions
from twin_tf.evaluation.request_metrics import Ints, RequestMetrics, request_metrics

COMPARED = ("auc", "gauc", "logloss", "request_auc", "request_ndcg")
"""Figures of which differences are reported."""


class Judged(NamedTuple):
    """A system's figures over a whole split, and what differences to it are computed from."""

    figures: dict[str, Any]
    requests: RequestMetrics | None
    draws: Resampled

    @classmethod
    def of(cls, predictions: Predictions, time: Ints | None = None, request: Ints | None = None) -> "Judged":
        """Judges predictions; within requests too if it is known when targets were shown, see `request_metrics`."""
        figures, requests = predictions.metrics.to_plain(), None
        if time is not None:
            requests = request_metrics(predictions, time, request)
            figures |= {"request_auc": requests.auc, "request_ndcg": requests.ndcg}
        return cls(figures, requests, resample(predictions, requests.ratios if requests else None))

    def less(self, other: "Judged") -> dict[str, dict[str, Any] | None]:
        """Metric -> the difference to another system on the same targets, its interval, and `beyond_noise`."""
        found: dict[str, dict[str, Any] | None] = {}
        for metric in COMPARED:
            if metric in self.draws.draws and metric in other.draws.draws:
                draws = (self.draws.draws[metric], other.draws.draws[metric])
                gap = paired_difference(self.figures[metric], other.figures[metric], *draws)
                found[metric] = None if gap is None else {**gap._asdict(), "beyond_noise": gap.beyond_noise}
        return found
