"""Figures of quality: what is on them, and that nothing to draw is no figure."""

from typing import Any

import pytest
from matplotlib.figure import Figure

from twin_tf.core.plots import Line, Quality, fitting_limits, length_lines, png, quality_dots, spread


def texts(figure: Figure) -> list[str]:
    """Every text of a figure that a reader can see."""
    figure.draw_without_rendering()
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    found += [label.get_text() for axes in figure.axes for label in [*axes.get_xticklabels(), *axes.get_yticklabels()]]
    found += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return [*found, *(axes.get_title("left") for axes in figure.axes), figure.get_suptitle()]


def test_an_axis_fits_the_systems_and_what_is_near_them() -> None:
    low, high = fitting_limits([0.79, 0.80], [0.481, 0.785])
    assert 0.77 < low < 0.785 and 0.80 < high < 0.81
    assert fitting_limits([0.79, 0.80]) == fitting_limits([0.79, 0.80], [0.481])
    low, high = fitting_limits([0.8000, 0.8001])
    assert high - low == pytest.approx(0.02), "four digits are no gulf"
    assert fitting_limits([0.5]) == pytest.approx((0.49, 0.51))


def test_labels_are_spread_in_their_order() -> None:
    assert spread([], 1.0) == [] and spread([3.0], 1.0) == [3.0]
    assert spread([5.0, 0.0, 9.0], 1.0) == [5.0, 0.0, 9.0]
    places = spread([2.0, 2.0, 2.2], 1.0)
    assert sorted(places) == places and sum(places) == pytest.approx(6.2)
    assert all(later - earlier >= 1 - 1e-9 for earlier, later in zip(places, places[1:], strict=False))


def test_the_best_system_is_on_top_and_a_far_yardstick_at_the_edge() -> None:
    systems = [
        Quality("low", [0.70, 0.71], [0.72, 0.73], (0.69, 0.72), (0.71, 0.74)),
        Quality("high", [0.75, 0.76], [0.77, 0.78], (0.74, 0.77), (0.76, 0.79)),
    ]
    yardsticks = [Quality("item rate", [0.481], [0.49]), Quality("counting", [0.69], [0.70])]
    figure = quality_dots(systems, "Both", yardsticks)
    left = figure.axes[0]
    assert [label.get_text() for label in left.get_yticklabels()] == [
        "high", "low", "needs no network:", "counting", "item rate",
    ]  # fmt: skip
    assert left.get_xlim()[0] > 0.66, "the axis is not squashed"
    arrows = [line for line in left.lines if line.get_marker() == "<"]
    assert [float(line.get_xdata()[0]) for line in arrows] == [left.get_xlim()[0]]
    assert {"0.4810", "0.7550", "off the axis", "best without a network", "one seed"} <= set(texts(figure))
    assert figure.get_suptitle() == "Both; whiskers: 95 % over users"


@pytest.mark.parametrize(
    ("systems", "title"),
    [
        ([], "T"),
        ([Quality("one", [0.7], [0.71])], "T"),
        ([Quality("two seeds", [0.7, 0.71], [0.71, 0.72])], "T; whiskers: standard deviation over seeds"),
        ([Quality("one class", [None], [0.71]), Quality("a", [0.6], [0.7])], "T"),
        ([Quality("nothing", [None], [None])], "T"),
    ],
)
def test_whiskers_are_what_there_is(systems: list[Quality], title: str) -> None:
    for yardsticks in ([], [Quality("item rate", [0.6], [0.61]), Quality("none", [None], [None])]):
        figure = quality_dots(systems, "T", yardsticks)
        assert figure.get_suptitle() == title and png(figure).startswith(b"\x89PNG")
        assert texts(figure).count("-") == 2 * len(yardsticks[1:]) + sum(
            value == [None] for row in systems for value in (row.gauc, row.auc)
        )


def row(low: int, high: int | None, gauc: float | None, **changes: Any) -> dict[str, Any]:
    return {"from": low, "to": high, "targets": 500, "gauc": gauc, **changes}


def test_lines_are_named_where_they_end_and_have_whiskers_of_two_errors() -> None:
    rows = [row(0, 50, 0.6, gauc_error=0.02), row(50, None, 0.7, gauc_error=0.01)]
    figure = length_lines([Line("TWIN", [rows], "#1b6ca8"), Line("DIN", [rows[1:]], "#e08e45", "s-")], "T")
    assert figure is not None
    assert {"TWIN", "DIN", "0 to\n49\n(500)", "50\nor more\n(500)", "T"} <= set(texts(figure))
    (bars,) = figure.axes[0].containers[0].lines[2]
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert ends == [pytest.approx([0.56, 0.64]), pytest.approx([0.68, 0.72])]
    assert figure.axes[0].get_ylabel() == "GAUC, ± 2 standard errors over users"


@pytest.mark.parametrize("lines", [[], [Line("a", [[]], "k")], [Line("a", [[row(0, None, None)]], "k")]])
def test_no_class_with_a_gauc_is_no_figure(lines: list[Line]) -> None:
    assert length_lines(lines, "T") is None


def test_small_classes_are_left_out() -> None:
    line = Line("a", [[row(0, 50, 0.9, targets=3), row(50, None, 0.7)]], "k")
    figure = length_lines([line], "T", fewest=100)
    assert figure is not None and [label.get_text() for label in figure.axes[0].get_xticklabels()] == [
        "50\nor more\n(500)"
    ]
    assert figure.axes[0].get_ylabel() == "GAUC"
