"""The figures of the data report. Needs matplotlib; `data_report` imports it only where that is installed.

All have one size, that of a slide. What does not fit on one is left out, and said so: the page lists everything.
"""

import datetime
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.dates import AutoDateLocator, DateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from beam_pipelines.data_report.summary import LOGS, SPLITS, DataSummary, Day, HistoryLengths, number, percent
from twin_tf.core.plots import COLOURS, new_figure, png

WIDTH, HEIGHT = 9.6, 5.4
SPLIT_COLOURS = dict(zip(SPLITS, (COLOURS[2], COLOURS[1], COLOURS[0]), strict=True))
LOG_COLOURS = dict(zip(LOGS, (COLOURS[0], COLOURS[1], COLOURS[2]), strict=True))
MOST_FEATURES = 10
MOST_COLUMNS = 22
LONGEST_NAME = 34

_SMALL, _SMALLER = 9, 8
_GREY = "#555555"
_WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
_FAR_DAYS, _FEW_TARGETS = 30, 0.0005  # days so far from all others, with so small a share of the targets, are not drawn
_FIRST_DAY, _LAST_DAY = (
    float((date - datetime.date(1970, 1, 1)).days) for date in (datetime.date.min, datetime.date.max)
)
_LEAST_SPAN = 0.01  # an axis of shares never ends below 1 %


def draw(summary: DataSummary, offset_hours: float) -> dict[str, bytes]:
    """All figures.

    Args:
        summary: what to show.
        offset_hours: how far the local days are ahead of UTC, in which the split moments are.

    Returns:
        File name -> PNG.
    """
    return {
        "history_lengths.png": png(history_lengths(summary.history_lengths)),
        "label_rate.png": png(label_rate(summary, offset_hours)),
        "unknown_rate.png": png(unknown_rate(summary)),
        "coverage.png": png(coverage(summary)),
    }


def history_lengths(lengths: HistoryLengths) -> Figure:
    """Bars of users by the number of their behaviours, on a logarithmic axis; median, p90 and limit marked."""
    figure, axes = new_figure(WIDTH, HEIGHT)
    axes.set_title("How many behaviours the users have", loc="left")
    if not lengths.bins or not lengths.users:
        return _empty(figure, axes, "There are no users.")
    users = [bin_[2] for bin_ in lengths.bins]
    bars = axes.bar([place + 0.5 for place in range(len(users))], users, width=0.94, color=COLOURS[2])
    if len(users) <= 16:
        labels = axes.bar_label(bars, [f"{count:,}" if count else "" for count in users], padding=2, fontsize=_SMALLER)
        _in_front(labels)
    marks = (
        (lengths.median, COLOURS[0], "solid", f"median {number(lengths.median)}"),
        (lengths.p90, COLOURS[0], "dashed", f"p90 {number(lengths.p90)}"),
        (lengths.max_length, COLOURS[1], "solid", f"max_length {number(lengths.max_length)}"),
    )
    for value, colour, style, label in marks:
        place = _place(lengths, value)
        if place is None:
            label += " (beyond the right end)"
            axes.plot([], [], color=colour, linestyle=style, label=label)
        else:
            axes.axvline(place, color=colour, linestyle=style, linewidth=2, label=label)
    edges = [bin_[0] for bin_ in lengths.bins] + [lengths.bins[-1][1]]
    step = -(-len(edges) // 12)
    axes.set_xticks(range(0, len(edges), step), [f"{edge:,}" for edge in edges[::step]], fontsize=_SMALL)
    axes.set_xlim(0, len(users))
    axes.set_ylim(0, max(1, *users) * 1.1)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("behaviours of a user, from each number up to the next (logarithmic)")
    axes.set_ylabel("users")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _place(lengths: HistoryLengths, value: float) -> float | None:
    """Where a number of behaviours lies on the axis of bins: each is one wide; None beyond the last."""
    for place, (low, high, _) in enumerate(lengths.bins):
        if low <= value < high:
            return place + (value - low + 0.5) / (high - low) if float(value).is_integer() else place + 0.5
    return None


def label_rate(summary: DataSummary, offset_hours: float) -> Figure:
    """The share of clicked targets a day, the targets behind it, and where the splits begin."""
    figure, (rate, volume) = new_figure(WIDTH, HEIGHT, rows=(3, 1))
    days, far = _without_strays([day for day in summary.days if day.targets])
    strays = (
        f" (not shown: {len(far)} day(s) far away, with {sum(day.targets for day in far):,} targets)" if far else ""
    )
    rate.set_title("Share of clicked targets a day" + strays, loc="left")
    if not days:
        volume.set_visible(False)
        return _empty(figure, rate, "There are no targets.")
    places = [day.place for day in days]
    shares = [day.clicks / day.targets for day in days]
    few = len(days) <= 60
    size, width = (5.0, 1.5) if few else (2.0, 1.0)
    rate.plot(places, shares, color=COLOURS[0], marker="o", markersize=size, linewidth=width, clip_on=False, zorder=3)
    rate.set_ylim(0, max(_LEAST_SPAN, *shares) * 1.18)
    rate.yaxis.set_major_formatter(FuncFormatter(_axis_percent))
    rate.set_ylabel("clicked targets")
    targets = [day.targets for day in days]
    bars = volume.bar(places, targets, width=0.9, color=COLOURS[3], edgecolor=COLOURS[3], linewidth=0.5)
    if len(days) <= 10:
        _in_front(volume.bar_label(bars, [f"{count:,}" for count in targets], padding=2, fontsize=_SMALLER))
    volume.set_ylim(0, max(targets) * 1.25)
    volume.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    volume.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    volume.set_ylabel("targets")
    first, last = min(places) - 0.5, max(places) + 0.5
    spare = (last - first) * 0.02
    left, right = max(first - spare, _FIRST_DAY), min(last + spare, _LAST_DAY)
    volume.set_xlim(left, right)
    for axes in (rate, volume):
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    _date_axis(volume, places)
    _mark_splits(summary, offset_hours, (rate, volume), left, right)
    return figure


def _without_strays(days: Sequence[Day]) -> tuple[list[Day], list[Day]]:
    """Days to draw, and those at either end that a wrong clock has put far away: they would crush the rest."""
    rest, far = list(days), []
    allowed = _FEW_TARGETS * sum(day.targets for day in days)
    for end, beside in ((0, 1), (-1, -2)):
        while len(rest) > 1 and abs(rest[end].place - rest[beside].place) > _FAR_DAYS:
            allowed -= rest[end].targets
            if allowed < 0:
                break
            far.append(rest.pop(end))
    return rest, far


def _date_axis(axes: Any, places: Sequence[float]) -> None:
    axes.xaxis_date()
    if len(places) <= 10 and max(places) - min(places) < 2 * len(places):
        dates = [datetime.date(1970, 1, 1) + datetime.timedelta(days=math.floor(place)) for place in places]
        axes.set_xticks(places, [date.isoformat() for date in dates])
        return
    span = max(places) - min(places)
    axes.xaxis.set_major_locator(AutoDateLocator(maxticks=9))
    axes.xaxis.set_major_formatter(DateFormatter("%Y" if span > 3000 else "%Y-%m" if span > 240 else "%Y-%m-%d"))


def _mark_splits(summary: DataSummary, offset_hours: float, both: Sequence[Any], left: float, right: float) -> None:
    """Lines at the split moments in view, and each split's name over its stretch."""
    timestamps = [
        summary.seconds(timestamp) / 86_400 + offset_hours / 24
        for timestamp in (summary.split.valid_from, summary.split.test_from)
    ]
    for timestamp in set(timestamps):
        if left < timestamp < right:
            for axes in both:
                axes.axvline(timestamp, color=_GREY, linestyle="dashed", linewidth=1)
    ends = [left, *(min(max(timestamp, left), right) for timestamp in timestamps), right]
    stretches = [(name, ends[place], ends[place + 1]) for place, name in enumerate(SPLITS)]
    shown = [(name, start, stop) for name, start, stop in stretches if stop > start]
    level = 0
    for place, (name, start, stop) in enumerate(shown):
        narrow = stop - start < 0.08 * (right - left)
        level = 1 - level if narrow and place else 0  # two short names side by side would run into each other
        both[0].text(
            (start + stop) / 2,
            0.985 - 0.06 * level,
            name,
            transform=both[0].get_xaxis_transform(),
            ha="center",
            va="top",
            color=_GREY,
            fontsize=_SMALL,
            bbox=_WHITE,
        )


def unknown_rate(summary: DataSummary) -> Figure:
    """Bars of the share of unknown values, by feature and split; the features with most first."""
    figure, axes = new_figure(WIDTH, HEIGHT)
    names = summary.features
    shown = names[:MOST_FEATURES]
    axes.set_title(
        "Share of values that are unknown" + _shown_of(len(shown), len(names), "features, most first"), loc="left"
    )
    if not shown or summary.largest_unknown(shown[0])[1] < 0:
        return _empty(figure, axes, "There are no values to encode.")
    span = max(_LEAST_SPAN, summary.largest_unknown(shown[0])[1])
    height = 0.8 / len(SPLITS)
    size = _SMALL if len(shown) <= 5 else 7.5
    for order, split in enumerate(SPLITS):
        shares = [summary.unknown.get(split, {}).get(name) for name in shown]
        places = [place + (order - 1) * height for place in range(len(shown))]
        axes.barh(places, [share or 0.0 for share in shares], height * 0.92, color=SPLIT_COLOURS[split], label=split)
        for place, share in zip(places, shares, strict=True):
            label = "no values" if share is None else percent(share)
            axes.annotate(
                label, (share or 0.0, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=size
            )
    _name_rows(axes, shown)
    axes.set_xlim(0, span * 1.12)
    axes.xaxis.set_major_formatter(FuncFormatter(_axis_percent))
    axes.set_xlabel("share of the values")
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def coverage(summary: DataSummary) -> Figure:
    """Bars of the share of rows with a value, by log and column; the emptiest first."""
    figure, axes = new_figure(WIDTH, HEIGHT)
    columns = list(summary.columns())
    emptiest = set(sorted(columns, key=lambda found: found[2])[:MOST_COLUMNS])
    shown = [found for found in columns if found in emptiest]
    axes.set_title("Rows with a value" + _shown_of(len(shown), len(columns), "columns, the emptiest"), loc="left")
    if not shown:
        return _empty(figure, axes, "There are no columns.")
    place, places = 0.0, []
    for before, found in zip([shown[0], *shown], shown, strict=False):
        place += 1.0 if found[0] == before[0] else 1.6
        places.append(place)
    shares = [share for _, _, share in shown]
    axes.barh(places, [1.0] * len(shown), 0.7, color="#eeeeee")
    bars = axes.barh(places, shares, 0.7, color=[LOG_COLOURS[log] for log, _, _ in shown])
    for bar, share in zip(bars, shares, strict=True):
        middle = bar.get_y() + bar.get_height() / 2
        axes.annotate(
            percent(share), (1.0, middle), xytext=(4, 0), textcoords="offset points", va="center", fontsize=_SMALLER
        )
    _name_rows(axes, [column for _, column, _ in shown], places)
    seen = [log for log in LOGS if any(found[0] == log for found in shown)]
    patches = [Patch(color=LOG_COLOURS[log], label=f"{log} log") for log in seen]
    axes.set_xlim(0, 1.09)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
    axes.xaxis.set_major_formatter(FuncFormatter(_axis_percent))
    axes.set_xlabel("share of the rows of the log")
    axes.tick_params(axis="y", length=0)
    figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _name_rows(axes: Any, names: Sequence[str], places: Sequence[float] | None = None) -> None:
    """Names at the left, the first on top, in rows no higher than a quarter, so that few bars do not swell."""
    where = list(range(len(names))) if places is None else list(places)
    size = _SMALL if len(names) <= 16 else _SMALLER
    axes.set_yticks(where, [_short(name) for name in names], fontsize=size, parse_math=False)
    spare = max(0.0, 4 - len(names)) / 2
    axes.set_ylim(where[-1] + 0.6 + spare, where[0] - 0.6 - spare)


def _in_front(labels: Sequence[Any]) -> None:
    """Keeps lines from striking labels out."""
    for label in labels:
        if label.get_text():
            label.set(bbox=_WHITE, zorder=4)


def _short(name: str) -> str:
    one_line = " ".join(name.split())
    if len(one_line) <= LONGEST_NAME:
        return one_line
    half = (LONGEST_NAME - 1) // 2
    return f"{one_line[:half]}…{one_line[-half:]}"


def _shown_of(shown: int, known: int, what: str) -> str:
    return "" if shown == known else f" ({shown} of {known} {what}; all are in report.md)"


def _axis_percent(value: float, _: int) -> str:
    return f"{value * 100:.3g} %"


def _empty(figure: Figure, axes: Any, sentence: str) -> Figure:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.text(0.5, 0.5, sentence, transform=axes.transAxes, ha="center", va="center", fontsize=14, color=_GREY)
    return figure
