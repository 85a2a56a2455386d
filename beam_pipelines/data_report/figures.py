"""The figures of the data report. Needs matplotlib; `data_report` imports it only where that is installed.

All have one size, that of a slide; each function draws one, or says None where the axis would be empty. What does not
fit on one is left out, and said so: the page lists everything.
"""

import datetime
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.dates import AutoDateLocator, DateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from beam_pipelines.data_report.rate_bins import RateBin, rate_bins
from beam_pipelines.data_report.summary import LOGS, SPLITS, DataSummary, Day, number, percent
from twin_tf.core.plots import COLOURS, new_figure, png
from twin_tf.features.time_zones import UtcOffsets

WIDTH, HEIGHT = 9.6, 5.4
SPLIT_COLOURS = dict(zip(SPLITS, (COLOURS[2], COLOURS[1], COLOURS[0]), strict=True))
LOG_COLOURS = dict(zip(LOGS, (COLOURS[0], COLOURS[1], COLOURS[2]), strict=True))
MOST_FEATURES = 6
MOST_COLUMNS = 22
LONGEST_NAME = 34

_SMALL, _SMALLER = 10, 9
_GREY = "#555555"
_WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
_FAR_DAYS, _FEW_TARGETS = 30, 0.0005  # days so far from all others, with so small a share of the targets, are not drawn
_FIRST_DAY, _LAST_DAY = (
    float((date - datetime.date(1970, 1, 1)).days) for date in (datetime.date.min, datetime.date.max)
)
_LEAST_SPAN = 0.01  # an axis of shares never ends below 1 %


def draw(summary: DataSummary, offsets: UtcOffsets) -> dict[str, bytes]:
    """All figures that have something to show.

    Args:
        summary: what to show.
        offsets: how far the local days are ahead of UTC, in which the split moments are.

    Returns:
        File name -> PNG.
    """
    figures = {
        "history_lengths.png": history_lengths(summary),
        "label_rate.png": label_rate(summary, offsets),
        "never_trained.png": never_trained(summary),
        "coverage.png": coverage(summary),
    }
    return {name: png(figure) for name, figure in figures.items() if figure is not None}


def history_lengths(summary: DataSummary) -> Figure | None:
    """Bars of each split's targets by the number of behaviours that they see, on a logarithmic axis.

    None without targets, or where no target sees any behaviour.
    """
    shown = {name: summary.splits[name] for name in SPLITS if name in summary.splits and summary.splits[name].targets}
    edges = sorted({edge for split in shown.values() for low, high, _ in split.bins for edge in (low, high)})
    if len(edges) < 3:
        return None
    figure, axes = new_figure(WIDTH, HEIGHT)
    axes.set_title("How many behaviours a target sees", loc="left")
    place = {edge: number for number, edge in enumerate(edges)}
    width = 0.86 / len(shown)
    for order, (name, split) in enumerate(shown.items()):
        left = [place[low] + 0.07 + order * width for low, _, _ in split.bins]
        shares = [count / split.targets for _, _, count in split.bins]
        label = f"{name}: median {number(split.median)}, p90 {number(split.p90)}"
        axes.bar(left, shares, width=width * 0.94, align="edge", color=SPLIT_COLOURS[name], label=label)
    step = -(-len(edges) // 12)
    axes.set_xticks(range(0, len(edges), step), [f"{edge:,}" for edge in edges[::step]], fontsize=_SMALL)
    axes.set_xlim(0, len(edges) - 1)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_formatter(FuncFormatter(_axis_percent))
    limit = number(summary.history_lengths.max_length)
    axes.set_xlabel(f"behaviours before the target, from each number up to the next (at most max_length = {limit})")
    axes.set_ylabel("share of the split's targets")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def label_rate(summary: DataSummary, offsets: UtcOffsets) -> Figure | None:
    """The share of clicked targets over time with its 95 % intervals, the targets behind it, and where splits begin.

    Days are put together until they carry a figure (`rate_bins`). None where that leaves a single point or nothing.
    """
    days, far = _without_strays([day for day in summary.days if day.targets])
    bins = rate_bins(days)
    if len(bins) < 2:
        return None
    figure, (rate, volume) = new_figure(WIDTH, HEIGHT, rows=(3, 1))
    strays = (
        f" (not shown: {len(far)} day(s) far away, with {sum(day.targets for day in far):,} targets)" if far else ""
    )
    rate.set_title("Share of clicked targets" + strays, loc="left")
    starts, stops = ([part.span[end] for part in bins] for end in (0, 1))
    widths = [stop - start for start, stop in zip(starts, stops, strict=True)]
    lows, highs = ([part.interval[end] for part in bins] for end in (0, 1))
    heights = [high - low for low, high in zip(lows, highs, strict=True)]
    band = "95 % interval if targets are independent (hidden where thinner than the line)"
    rate.bar(starts, heights, widths, lows, align="edge", color=COLOURS[2], alpha=0.45, linewidth=0, label=band)
    label = f"rate of {_most_days(bins)}"
    rate.hlines([part.rate for part in bins], starts, stops, color=COLOURS[0], linewidth=2.5, label=label)
    rate.set_ylim(0, max(_LEAST_SPAN, *highs) * 1.15)
    rate.yaxis.set_major_formatter(FuncFormatter(_axis_percent))
    rate.set_ylabel("clicked targets")
    a_day = [part.targets / width for part, width in zip(bins, widths, strict=True)]
    volume.bar(starts, a_day, widths, align="edge", color=COLOURS[3], edgecolor="white", linewidth=0.3)
    volume.set_ylim(0, max(a_day) * 1.15)
    volume.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    volume.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    volume.set_ylabel("targets a day")
    first, last = starts[0], stops[-1]
    spare = (last - first) * 0.02
    left, right = max(first - spare, _FIRST_DAY), min(last + spare, _LAST_DAY)
    volume.set_xlim(left, right)
    for axes in (rate, volume):
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    _date_axis(volume, [day.place for day in days])
    volume.set_xlabel("date (local days)")
    if summary.split.by == "time":
        _mark_splits(summary, offsets, (rate, volume), left, right)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _most_days(bins: Sequence[RateBin]) -> str:
    most = max(round(part.span[1] - part.span[0]) for part in bins)
    return "a day" if most == 1 else f"stretches of up to {most:,} days"


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


def _mark_splits(summary: DataSummary, offsets: UtcOffsets, both: Sequence[Any], left: float, right: float) -> None:
    """Lines at the split moments in view, and each split's name over its stretch."""
    moments = [summary.seconds(timestamp) for timestamp in (summary.split.valid_from, summary.split.test_from)]
    timestamps = [(moment + int(offsets.at(np.array(moment)))) / 86_400 for moment in moments]
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


def never_trained(summary: DataSummary) -> Figure | None:
    """Bars by split: targets of users and items that training never sees, and features' values that say nothing known.

    Features with values that are known but never trained come first, then those that are unknown most often.

    A hatched part has a row of its own in its table, which no event trains; the rest encodes as unknown. None where
    training sees everything.
    """
    rows: list[tuple[str, dict[str, tuple[float, float]]]] = []
    splits = {name: split for name, split in summary.splits.items() if split.targets}
    for title, part in (("targets of new users", "stranger_targets"), ("targets of new items", "new_item_targets")):
        if splits:
            rows.append((title, {name: (getattr(found, part) / found.targets, 0.0) for name, found in splits.items()}))
    some = [name for name in summary.features if summary.most_often_new(name)[1] > 0]
    some.sort(key=lambda name: not any((summary.new_values(split, name) or (0, 0))[1] for split in SPLITS))
    for feature in some[:MOST_FEATURES]:
        shares = {name: summary.new_values(name, feature) for name in SPLITS}
        rows.append((f"values of {feature}", {name: found for name, found in shares.items() if found is not None}))
    if not any(sum(found) for _, shares in rows for found in shares.values()):
        return None
    figure, axes = new_figure(WIDTH, HEIGHT)
    title = "New users and items; values unknown or never trained"
    axes.set_title(title + _shown_of(len(some[:MOST_FEATURES]), len(some), "features"), loc="left")
    height = 0.8 / len(SPLITS)
    size = _SMALL if len(rows) <= 5 else _SMALLER
    for order, split in enumerate(SPLITS):
        places = [place + (order - 1) * height for place in range(len(rows))]
        found = [shares.get(split) for _, shares in rows]
        for half, hatch in ((0, None), (1, "////")):
            widths = [pair[half] if pair else 0.0 for pair in found]
            before = [pair[0] if pair and half else 0.0 for pair in found]
            bars = axes.barh(places, widths, height * 0.92, before, color=SPLIT_COLOURS[split], linewidth=0)
            for bar in bars:
                bar.set(hatch=hatch, edgecolor="white")
        for place, pair in zip(places, found, strict=True):
            label = "no values" if pair is None else percent(sum(pair))
            end = sum(pair or (0.0,))
            axes.annotate(label, (end, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=size)
    _name_rows(axes, [name for name, _ in rows])
    axes.set_xlim(0, max(_LEAST_SPAN, *(sum(found) for _, shares in rows for found in shares.values())) * 1.12)
    axes.xaxis.set_major_formatter(FuncFormatter(_axis_percent))
    axes.set_xlabel("share of the split's targets, or of its values")
    axes.tick_params(axis="y", length=0)
    patches = [Patch(color=SPLIT_COLOURS[name], label=name) for name in SPLITS]
    if any(found[1] for _, shares in rows for found in shares.values()):
        hatched = "hatched: has a row of its own, never trained"
        patches.append(Patch(facecolor="#bbbbbb", edgecolor="white", hatch="////", label=hatched))
    figure.legend(handles=patches, loc="outside lower center", ncols=4, frameon=False)
    return figure


def coverage(summary: DataSummary) -> Figure | None:
    """Bars of the share of rows with a value, by log and column; the emptiest first. None without columns."""
    columns = list(summary.columns())
    if not columns:
        return None
    figure, axes = new_figure(WIDTH, HEIGHT)
    emptiest = set(sorted(columns, key=lambda found: found[2])[:MOST_COLUMNS])
    shown = [found for found in columns if found in emptiest]
    axes.set_title("Rows with a value" + _shown_of(len(shown), len(columns), "columns, the emptiest"), loc="left")
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
