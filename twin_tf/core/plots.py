"""What all figures share: colours, size, and bytes that never differ. No TensorFlow."""

import io
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Blue, orange, light blue, grey, green. The first three stay apart for colour-blind eyes; use the others beside them
# only where place or label says the same.
COLOURS = ("#1b6ca8", "#e08e45", "#7fb3d5", "#9a9a9a", "#5b8c5a")
MARKERS = "os^DvP*X<>ph"
"""Tell systems apart where there are more than colours can."""

GREY = "#6b6b6b"
DPI = 110

LABEL_WIDTH = 20
"""Letters of a label beside the axes; longer ones have several lines."""

LEAST_SPAN = 0.02
"""Of an axis of AUC or GAUC: differences in the fourth digit must not look like a gulf."""


def new_figure(
    width: float = 8.0, height: float = 4.0, rows: Sequence[float] = (1.0,), columns: int = 1
) -> tuple[Figure, Any]:
    """An empty figure without the upper and right frame.

    Args:
        width: in inches.
        height: in inches.
        rows: relative heights of the parts, from the top; they share the x axis.
        columns: parts side by side, in place of several rows; they share the y axis.

    Returns:
        The figure and its axes: one object, or an array of them with several rows or columns.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(len(rows), columns, sharex=columns == 1, sharey=columns > 1, height_ratios=list(rows))
    for part in figure.axes:
        part.spines[["top", "right"]].set_visible(False)
    return figure, axes


def png(figure: Figure) -> bytes:
    """The figure as a PNG; equal figures are equal bytes (no date, no version in it)."""
    content = io.BytesIO()
    figure.set_dpi(DPI)
    FigureCanvasAgg(figure).print_png(content, metadata={"Software": None})  # draws once, where `savefig` draws twice
    return content.getvalue()


def fitting_limits(values: Sequence[float], also: Iterable[float] = ()) -> tuple[float, float]:
    """Ends of an axis that fits what is shown.

    Args:
        values: all of them lie within.
        also: those of them too that leave `values` half of the axis.
    """
    low, high = min(values), max(values)
    span = max(high - low, LEAST_SPAN)
    near = [value for value in also if low - span / 2 <= value <= high + span / 2]
    low, high = min([low, *near]), max([high, *near])
    room = max(0.06 * (high - low), (LEAST_SPAN - (high - low)) / 2)
    return low - room, high + room


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Places for labels: as near to the wanted ones as can be, in their order, and `gap` apart at least."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    groups: list[list[float]] = []  # sum, count: neighbours that touch move together
    for rank, index in enumerate(order):
        groups.append([wanted[index] - rank * gap, 1.0])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, count = groups.pop()
            groups[-1] = [groups[-1][0] + total, groups[-1][1] + count]
    level = [total / count for total, count in groups for _ in range(int(count))]
    places = [0.0] * len(wanted)
    for rank, index in enumerate(order):
        places[index] = level[rank] + rank * gap
    return places


Ends = tuple[float, float]


class Quality(NamedTuple):
    """A row of `quality_dots`.

    Attributes:
        label: of the row.
        gauc: with every seed; None where there is none.
        auc: likewise.
        gauc_ends: lower and upper end of its interval; None if it has none.
        auc_ends: likewise.
    """

    label: str
    gauc: Sequence[float | None]
    auc: Sequence[float | None]
    gauc_ends: Ends | None = None
    auc_ends: Ends | None = None

    @property
    def mean_gauc(self) -> float:
        """Over the seeds; below all others without one."""
        return statistics.fmean(_known(self.gauc)) if _known(self.gauc) else float("-inf")


def quality_dots(systems: Sequence[Quality], title: str, yardsticks: Sequence[Quality] = ()) -> Figure:
    """GAUC and AUC as dots, the best GAUC on top: means over the seeds, with every seed and an interval.

    Whiskers are the given intervals; where no system has any, the standard deviation over seeds. The axes fit the
    systems; a yardstick that is too far away is an arrow at the edge, beside its figure.

    Args:
        systems: what is shown.
        title: of the figure, to which is added what the whiskers are.
        yardsticks: what needs no network, in rows of their own below.
    """
    upper, lower = (sorted(rows, key=lambda row: -row.mean_gauc) for rows in (systems, yardsticks))
    heads = 1 if lower else 0
    figure = Figure(figsize=(8.0, 1.25 + 0.3 * (len(upper) + len(lower) + heads)), layout="constrained")
    whiskers = _whiskers(upper)
    parts = figure.subplots(1, 2, sharey=True)
    for axes, metric in zip(parts, ("gauc", "auc"), strict=True):
        _quality_panel(axes, metric, upper, lower, whiskers)
    names = [row.label for row in upper] + ["needs no network:"] * heads + [row.label for row in lower]
    parts[0].set_yticks([-place for place in range(len(names))], names)
    parts[0].set_ylim(0.6 - max(len(names), 1), 0.6)
    for tick in parts[0].get_yticklabels()[len(upper) :]:
        tick.set_color(GREY)
    figure.suptitle(title + (f"; whiskers: {whiskers}" if whiskers else ""), x=0.01, ha="left", fontsize=11)
    handles = {text: handle for axes in parts for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower right", ncols=len(handles), frameon=False, fontsize=9)
    return figure


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _whiskers(systems: Sequence[Quality]) -> str:
    """What the whiskers of a figure are; empty if there are none."""
    if any(row.gauc_ends or row.auc_ends for row in systems):
        return "95 % over users"
    many = any(len(_known(values)) > 1 for row in systems for values in (row.gauc, row.auc))
    return "standard deviation over seeds" if many else ""


def _quality_panel(axes: Any, metric: str, upper: Sequence[Quality], lower: Sequence[Quality], whiskers: str) -> None:
    """One metric of `quality_dots`."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel(f"{metric.upper()} (0.5 = guessing)")
    rows = [(-place, row) for place, row in enumerate(upper)]
    rows += [(-len(upper) - 1 - place, row) for place, row in enumerate(lower)]
    seen: list[float] = []
    beside = {"va": "center", "fontsize": 9, "annotation_clip": False}
    several = any(len(_known(getattr(one, metric))) > 1 for one in upper)
    for place, row in rows:
        values, ends = _known(getattr(row, metric)), getattr(row, f"{metric}_ends")
        mean = statistics.fmean(values) if values else None
        text = "-" if mean is None else f"{mean:.4f}"
        axes.annotate(text, (1.03, place), xycoords=axes.get_yaxis_transform(), **beside)
        if mean is None or place <= -len(upper):
            continue
        if ends is None and whiskers.startswith("standard") and len(values) > 1:
            ends = (mean - statistics.stdev(values), mean + statistics.stdev(values))
        if ends is not None:
            axes.plot(ends, [place, place], "|-", color=COLOURS[0], linewidth=1.4, markersize=7, zorder=2)
        if len(values) > 1:
            below = [place - 0.27] * len(values)
            axes.plot(values, below, "o", color=COLOURS[0], alpha=0.4, markersize=3.5, label="one seed")
        name = "mean over the seeds" if several else "system, one seed"
        axes.plot([mean], [place], "o", color=COLOURS[0], markersize=5.5, label=name, zorder=3)
        seen += [*values, *(ends or ())]
    known = {place: _known(getattr(row, metric)) for place, row in rows[len(upper) :]}
    flat = {place: statistics.fmean(values) for place, values in known.items() if values}
    low, high = fitting_limits(seen or list(flat.values()) or [0.5], flat.values())
    axes.set_xlim(low, high)
    for place, value in flat.items():
        off = "" if low <= value <= high else "<" if value < low else ">"
        look = {"color": COLOURS[1], "markersize": 7, "clip_on": False, "linestyle": "none"}
        axes.plot(
            [min(max(value, low), high)], [place], marker=off or "D", label="off the axis" if off else None, **look
        )
    if flat and low <= max(flat.values()) <= high:
        axes.axvline(
            max(flat.values()), color=COLOURS[1], linewidth=1, linestyle="--", zorder=1, label="best without a network"
        )


class Line(NamedTuple):
    """A system in `length_lines`: its label, its rows of `by_history_length` with every seed, and how it is drawn."""

    label: str
    seeds: Sequence[Sequence[Mapping[str, Any]]]
    colour: str
    style: str = "o-"


def length_lines(lines: Sequence[Line], title: str, fewest: int = 0) -> Figure | None:
    """GAUC of systems by the number of behaviours before the target, means over the seeds.

    Whiskers are two standard errors over users, where the rows have `gauc_error`.

    Args:
        lines: what is shown; the classes are those of the system that has most.
        title: of the figure.
        fewest: classes with fewer targets are left out.

    Returns:
        The figure; None if no class has a GAUC.
    """
    most: Sequence[Mapping[str, Any]] = max((line.seeds[0] for line in lines), key=len, default=[])
    classes = [row for row in most if row["gauc"] is not None and row["targets"] >= fewest]
    if not classes:
        return None
    figure, axes = new_figure(height=4.4)
    ends = []
    for number, line in enumerate(lines):
        aside = 0.05 * (number - (len(lines) - 1) / 2)  # so that whiskers do not hide one another
        points = []
        for place, one in enumerate(classes):
            rows = [row for rows in line.seeds for row in rows if row["from"] == one["from"]]
            if rows and all(row["gauc"] is not None for row in rows):
                errors = [row.get("gauc_error") for row in rows]
                error = 0.0 if None in errors else 2 * statistics.fmean(_known(errors))
                points.append((place + aside, statistics.fmean(row["gauc"] for row in rows), error))
        if points:
            x, y, error_bars = zip(*points, strict=True)
            whiskers = {"yerr": error_bars, "elinewidth": 1} if any(error_bars) else {}
            axes.errorbar(x, y, fmt=line.style, color=line.colour, markersize=5, **whiskers)
            ends.append((line, x[-1], y[-1]))
    axes.set_xlim(-0.3, len(classes) - 0.7)
    label_ends(axes, [(line.label, line.colour, x, y) for line, x, y in ends])
    axes.set_xticks(range(len(classes)), [_class_tick(row) for row in classes], fontsize=9)
    axes.set_xlabel("behaviours before the target (targets in the class)")
    axes.set_ylabel("GAUC, ± 2 standard errors over users" if axes.collections else "GAUC")
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(axis="y", alpha=0.3)
    return figure


def _class_tick(row: Mapping[str, Any]) -> str:
    span = f"{row['from']:,}\nor more" if row["to"] is None else f"{row['from']:,} to\n{row['to'] - 1:,}"
    return f"{span}\n({row['targets']:,})"


def label_ends(axes: Any, ends: Sequence[tuple[str, str, float, float]]) -> None:
    """Names lines to the right of the axes, each joined to where it ends.

    Args:
        axes: whose limits of x are final; those of y are kept.
        ends: label, colour, and x and y of the last point of each.
    """
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    left, right = axes.get_xlim()
    column = right + 0.02 * (right - left)
    names = [textwrap.fill(label, LABEL_WIDTH) for label, *_ in ends]
    lines = max((name.count("\n") + 1 for name in names), default=1)
    places = spread([y for *_, y in ends], (0.03 + 0.035 * lines) * (high - low))
    for (_, colour, x, y), label, place in zip(ends, names, places, strict=True):
        joined = {"arrowstyle": "-", "color": colour, "linewidth": 0.8, "alpha": 0.7, "shrinkA": 1, "shrinkB": 4}
        axes.annotate(label, (x, y), (column, place), fontsize=9, va="center", arrowprops=joined, annotation_clip=False)
