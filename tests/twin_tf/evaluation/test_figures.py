"""Each figure of an evaluation opens whatever it is given, and is not drawn where there is nothing to draw."""

import struct

import pytest

from tests.twin_tf.evaluations import judged_result
from twin_tf.evaluation import figures

CASES = {
    "usual": {"cuts": (10, 50, 200)},
    "one class": {"rate": 0.0, "cuts": (10,)},
    "one user": {"users": 1, "cuts": (10,)},
    "one day": {"days": 1, "cuts": (10,)},
    "one target": {"users": 1, "each": 1, "cuts": (10,)},
    "no slices of its own": {"slices": (), "cuts": (10,)},
}


def size(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def systems(result):
    model = {"label": "the model", **result["metrics"], "intervals": result["intervals"]}
    return [model, *result["yardsticks"].values()]


@pytest.mark.parametrize("case", CASES)
def test_figures_open_whatever_they_are_given(case):
    result = judged_result(**CASES[case])
    ranked = result["metrics"]["auc"] is not None
    assert size(figures.reliability_diagram(result["reliability"], "test")) >= (770, 500)
    slices = figures.slice_dots(result["slices"], result["metrics"], "test")
    worth = figures.history_worth(result["history_worth"], "test")
    assert (slices is None, worth is None) == (not ranked, not ranked)
    assert not ranked or (size(slices)[0], size(worth)[0]) == (880, 880)
    assert size(figures.beside_yardsticks(systems(result), "test"))[0] == 880


def test_nothing_is_drawn_of_nothing():
    whole = {"auc": None}
    assert figures.reliability_diagram([], "test") is None
    assert figures.slice_dots({}, whole, "test") is None
    assert figures.slice_dots({"day": [], "user": []}, whole, "test") is None
    assert figures.slice_dots({"user": judged_result()["slices"]["user"][:1]}, whole, "test") is None
    assert figures.history_worth([], "test") is None
    assert figures.history_worth(judged_result(cuts=(10,))["history_worth"][-1:], "test") is None
    assert figures.beside_yardsticks(systems(judged_result())[:1], "test") is None


def test_equal_figures_are_equal_bytes_and_other_figures_others():
    first, again, other = (judged_result(skill=skill) for skill in (1.0, 1.0, 2.0))
    drawn = [figures.reliability_diagram(one["reliability"], "test") for one in (first, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
def test_names_of_values_are_no_markup():
    row = judged_result()["slices"]["device"][0]
    rows = [{**row, "value": value} for value in ("$x_", "a$b$c", "x" * 90, "\\frac{", "two\nlines", "日本")]
    figures.slice_dots({"$device_": rows}, {"auc": 0.7}, "test")


def test_of_many_values_the_largest_are_drawn_and_a_calibration_far_off_is_at_the_edge():
    row = judged_result()["slices"]["device"][0]
    few = [{**row, "value": str(number), "targets": number} for number in range(figures.MOST_VALUES + 5)]
    tall = figures.slice_dots({"device": few}, {"auc": 0.7}, "test")
    assert size(tall) == size(figures.slice_dots({"device": few[5:]}, {"auc": 0.7}, "test"))
    far = {**row, "calibration": 60.0, "intervals": {"auc": None, "calibration": [20.0, 90.0]}}
    assert size(figures.slice_dots({"device": [far, row]}, {"auc": None}, "test"))[0] == 880
    assert figures.slice_dots({"device": [{**row, "auc": None}]}, {"auc": 0.7}, "test") is None
