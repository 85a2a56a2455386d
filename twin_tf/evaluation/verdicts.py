"""What figures say, in one sentence. No TensorFlow."""

from collections.abc import Mapping
from typing import Any


def best_yardstick(yardsticks: Mapping[str, Mapping[str, Any]], metric: str) -> str | None:
    """The key of the best by a metric of which more is better; None if none has it."""
    known = {key: found[metric] for key, found in yardsticks.items() if found[metric] is not None}
    return max(known, key=lambda key: known[key]) if known else None


def not_beaten(
    metrics: Mapping[str, Any], yardsticks: Mapping[str, Mapping[str, Any]], name: str = "the model"
) -> str | None:
    """One sentence if a model does not beat the best yardstick by AUC or GAUC, else None.

    Args:
        metrics: of the model, for JSON.
        yardsticks: key -> metrics and `label`, for JSON.
        name: of the model.
    """
    parts = []
    for metric in ("auc", "gauc"):
        best = best_yardstick(yardsticks, metric)
        if best is not None and metrics[metric] is not None and metrics[metric] <= yardsticks[best][metric]:
            other = yardsticks[best]
            parts.append(f"{metric.upper()} {metrics[metric]:.4f} against {other[metric]:.4f} of {other['label']}")
    return f"{name} does not beat what needs no network: {', '.join(parts)}" if parts else None


NAMES = {"auc": "AUC", "gauc": "GAUC", "logloss": "log loss", "request_auc": "AUC by request"}
"""Metrics of which a sentence tells the difference."""


def against_sentence(other: str, less: Mapping[str, Mapping[str, Any] | None]) -> str:
    """One sentence: a run's figures less those of another one, and whether that is more than noise.

    Args:
        other: the other run's name.
        less: metric -> `difference`, `low`, `high`, `beyond_noise`; None where there is no difference.
    """
    parts = []
    for metric, name in NAMES.items():
        gap = less.get(metric)
        if gap is not None:
            ends = "no interval" if gap["low"] is None else f"95 % {gap['low']:+.4f} to {gap['high']:+.4f}"
            verdict = "more than noise" if gap["beyond_noise"] else "no more than noise"
            parts.append(f"{name} {gap['difference']:+.4f} ({ends}: {verdict})")
    return f"against {other}: {', '.join(parts)}" if parts else f"against {other}: there is no figure to compare"
