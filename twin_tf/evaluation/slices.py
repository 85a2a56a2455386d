"""An evaluation in parts: by slice, the worst of them, and reliability by decile."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from twin_tf.evaluation.bootstrap import resample
from twin_tf.evaluation.predictions import Predictions

MOST_VALUES = 50
"""Of a slice with more values those with most targets are shown."""

WORST = 10
DECILES = 10

Ints = npt.NDArray[np.int64]
Row = dict[str, Any]


def judged(predictions: Predictions) -> Row:
    """Metrics of some targets, and `intervals`: metric -> lower and upper end of its 95 %."""
    return {**predictions.metrics.to_plain(), "intervals": resample(predictions).intervals()}


def slice_rows(predictions: Predictions, code: Ints) -> list[tuple[int, Row]]:
    """Metrics of the targets of each value.

    Args:
        predictions: all targets.
        code: `(n,)`, the value of each target.

    Returns:
        Value and metrics with intervals, in rising order of the values; at most `MOST_VALUES` of them.
    """
    values, number = np.unique(code, return_counts=True)
    shown = np.sort(values[np.argsort(-number, kind="stable")[:MOST_VALUES]])
    order = np.argsort(code, kind="stable")
    starts, ends = (np.searchsorted(code[order], shown, side=side) for side in ("left", "right"))
    rows = []
    for value, start, end in zip(shown.tolist(), starts, ends, strict=True):
        rows.append((value, judged(predictions.at(np.sort(order[start:end])))))
    return rows


def reliability(predictions: Predictions) -> list[Row]:
    """Predicted and observed click rates by decile of the score.

    Returns:
        Rows of `from` and `to` (scores), `targets`, `predicted` and `observed` (means), and `error`, the standard error
        of the observed rate over users; equal scores share a row, so there may be fewer than ten.
    """
    edges = np.unique(np.quantile(predictions.score, np.arange(1, DECILES) / DECILES, method="inverted_cdf"))
    decile = np.searchsorted(edges, predictions.score, side="left")
    rows = []
    for number in np.unique(decile):
        inside = decile == number
        score, label = predictions.score[inside], predictions.label[inside].astype(np.float64)
        observed = label.mean()
        _, owner = np.unique(predictions.user[inside], return_inverse=True)
        residual = np.bincount(owner, weights=label - observed)
        users = len(residual)
        error = np.sqrt(users / (users - 1) * np.square(residual).sum()) / len(label) if users > 1 else None
        rows.append(
            {
                "from": float(score.min()),
                "to": float(score.max()),
                "targets": len(label),
                "predicted": float(score.mean(dtype=np.float64)),
                "observed": float(observed),
                "error": None if error is None else float(error),
            }
        )
    return rows


def worst_slices(slices: Mapping[str, Sequence[Row]]) -> list[Row]:
    """The slices whose AUC is surely low: by the upper end of its interval, so that no small one is here by chance.

    Args:
        slices: name -> rows of `value` and metrics.

    Returns:
        At most ten of the rows with an interval, the worst first, with `slice`, the name. Of a name with a single row,
        which is the whole split, none.
    """
    several = {name: rows for name, rows in slices.items() if len(rows) > 1}
    known = [
        {"slice": name, **row} for name, rows in several.items() for row in rows if row["intervals"]["auc"] is not None
    ]
    return sorted(known, key=lambda row: row["intervals"]["auc"][1])[:WORST]


def slices_csv(slices: Mapping[str, Sequence[Row]]) -> str:
    """All slices as one table: `slice`, `value`, sizes, metrics and the ends of their intervals."""
    metrics = ("auc", "gauc", "logloss", "calibration")
    ends = [f"{metric}_{end}" for metric in metrics for end in ("low", "high")]
    head = ("slice", "value", "targets", "clicks", "users", *metrics, *ends)
    lines = []
    for name, rows in slices.items():
        for row in rows:
            bounds = [end for metric in metrics for end in row["intervals"][metric] or (None, None)]
            lines.append((name, row["value"], *(row[column] for column in head[2:9]), *bounds))
    return as_csv(head, lines)


def as_csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV; None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
