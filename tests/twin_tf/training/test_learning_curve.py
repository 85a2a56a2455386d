"""The learning curve: bounded, the same after a kill, as CSV, and as a figure whatever it is given."""

import csv
import io
import struct

import pytest

from twin_tf.training.figures import learning_curve
from twin_tf.training.learning_curve import MOST_POINTS, add_point, curve_csv, curve_rows, steps_a_point

TABLES = {"item": 0.5, "user": 0.2}


def point(steps, loss=0.5, weight=4.0):
    return {"steps": steps, "loss_sum": loss * weight, "weight": weight, "moved": {"item": steps / 100}}


def grown(count, stretch=5):
    curve = []
    for number in range(1, count + 1):
        curve = add_point(curve, point(number * stretch, number, 2.0), stretch)
    return curve


@pytest.mark.parametrize(
    ("steps", "expected"), [(0, 1), (7, 1), (40, 2), (201, 10), (999, 49), (1000, 50), (10**6, 50)]
)
def test_a_short_epoch_has_twenty_points_and_a_long_one_a_point_every_fifty_steps(steps, expected):
    assert steps_a_point(steps) == expected
    assert steps < 20 or steps // expected >= 20


@pytest.mark.parametrize("count", [1, MOST_POINTS, MOST_POINTS + 1, 5 * MOST_POINTS + 3])
def test_however_long_a_run_its_curve_is_bounded_and_loses_no_loss(count):
    curve = grown(count)
    assert len(curve) == min(count, MOST_POINTS) or MOST_POINTS // 2 < len(curve) <= MOST_POINTS
    assert sum(one["loss_sum"] for one in curve) == pytest.approx(2 * count * (count + 1) / 2)
    assert sum(one["weight"] for one in curve) == 2 * count
    steps = [one["steps"] for one in curve]
    assert steps == sorted({*steps}) and steps[-1] == 5 * count
    assert curve[-1]["moved"] == point(5 * count)["moved"]


def test_a_short_last_stretch_joins_the_point_before():
    curve = add_point([point(10, 1.0, 4.0)], point(14, 3.0, 4.0), 10)
    assert curve_rows(curve) == [{"steps": 14, "loss": 2.0, "moved": {"item": 0.14}}]
    assert [one["steps"] for one in add_point(curve, point(20), 10)] == [14, 20]


def test_the_csv_has_a_row_for_every_look():
    curve = curve_rows([point(10, 0.75), point(20, 0.5)])
    valid = [{"steps": steps, "auc": 0.7, "gauc": gauc, "logloss": 0.6} for steps, gauc in ((20, None), (25, 0.65))]
    rows = list(csv.DictReader(io.StringIO(curve_csv(curve, valid))))
    assert [row["steps"] for row in rows] == ["10", "20", "25"]
    assert [row["loss"] for row in rows] == ["0.75", "0.5", ""]
    assert [row["valid_gauc"] for row in rows] == ["", "", "0.65"]
    assert [row["moved_item"] for row in rows] == ["0.1", "0.2", ""]
    assert curve_csv([], []) == "steps,loss,valid_auc,valid_gauc,valid_logloss\n"


def height(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, found = struct.unpack(">II", png[16:24])
    assert width == 880
    return found


def test_a_part_without_figures_is_left_out():
    curve = [{"steps": steps, "loss": 1 / steps, "moved": TABLES} for steps in range(1, 20)]
    valid = [{"steps": 10, "gauc": 0.6}, {"steps": 19, "gauc": None}]
    whole = learning_curve(curve, valid, 10, ("item rate", 0.55), [*TABLES])
    without = learning_curve(curve, valid[1:], 10, ("item rate", 0.55), [*TABLES])
    bare = learning_curve(curve, [], 19)
    assert height(whole) > height(without) > height(bare)


def test_one_point_is_drawn_and_none_is_not():
    assert learning_curve([], [{"steps": 10, "gauc": 0.6}], 10) is None
    assert height(learning_curve([{"steps": 1, "loss": 0.7, "moved": {"$x_": 0.0}}], [], 1, None, ["$x_", "gone"]))
