"""The learning curve of a run: its loss and how far its tables moved, in a bounded number of points. No TensorFlow."""

from collections.abc import Mapping, Sequence
from typing import Any

from twin_tf.evaluation.slices import as_csv

CURVE = "learning_curve.csv"

LONGEST_STRETCH = 50
"""Steps of a point at most, until points are merged: a look at the loss waits for the device."""

FEWEST_POINTS = 20
"""Points of an epoch at least, if it has as many steps."""

MOST_POINTS = 400
"""Of a curve: neighbours are merged, so that a checkpoint stays small."""

VALID = ("auc", "gauc", "logloss")
"""Metrics of the valid split beside the points."""

Point = dict[str, Any]
"""`steps` (done), `loss_sum` and `weight` (of the targets since the point before), `moved` (table -> share)."""


def steps_a_point(epoch_steps: int) -> int:
    """How many steps a point covers.

    Args:
        epoch_steps: about so many are in an epoch.
    """
    return min(LONGEST_STRETCH, max(1, epoch_steps // FEWEST_POINTS))


def add_point(curve: Sequence[Point], point: Point, stretch: int) -> list[Point]:
    """The curve with one point more; a pure function, so that a resumed run has the curve of an uninterrupted one.

    Args:
        curve: so far.
        point: the new one; of less than half a stretch, as at the end of an epoch, it joins the point before.
        stretch: steps of a point.
    """
    if curve and 2 * (point["steps"] - curve[-1]["steps"]) < stretch:
        return [*curve[:-1], _merged([curve[-1], point])]
    points = [*curve, point]
    if len(points) <= MOST_POINTS:
        return points
    return [_merged(points[place : place + 2]) for place in range(0, len(points), 2)]


def _merged(points: Sequence[Point]) -> Point:
    sums = {name: sum(point[name] for point in points) for name in ("loss_sum", "weight")}
    return {**points[-1], **sums}


def curve_rows(curve: Sequence[Point]) -> list[dict[str, Any]]:
    """What a report says of each point: `steps`, `loss` (mean since the point before), `moved`."""
    return [
        {"steps": one["steps"], "loss": one["loss_sum"] / one["weight"], "moved": one["moved"]}
        for one in curve
        if one["weight"]
    ]


def curve_csv(curve: Sequence[Mapping[str, Any]], valid: Sequence[Mapping[str, Any]]) -> str:
    """The learning curve as CSV, one row for every number of steps at which anything was measured.

    Args:
        curve: of `curve_rows`.
        valid: evaluations, with `steps`.
    """
    tables = list(curve[-1]["moved"]) if curve else []
    points, found = {one["steps"]: one for one in curve}, {one["steps"]: one for one in valid}
    rows = []
    for steps in sorted({*points, *found}):
        point, metrics = points.get(steps, {}), found.get(steps, {})
        moved = point.get("moved", {})
        rows.append((steps, point.get("loss"), *(metrics.get(name) for name in VALID), *(moved.get(t) for t in tables)))
    return as_csv(("steps", "loss", *(f"valid_{name}" for name in VALID), *(f"moved_{t}" for t in tables)), rows)
