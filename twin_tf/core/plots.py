"""What all figures share: colours, size, and bytes that never differ. No TensorFlow."""

import io
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

# Blue, orange, light blue, grey, green. The first three stay apart for colour-blind eyes; use the others beside them
# only where place or label says the same.
COLOURS = ("#1b6ca8", "#e08e45", "#7fb3d5", "#9a9a9a", "#5b8c5a")
DPI = 110


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
    figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    return content.getvalue()


class Quality(NamedTuple):
    """A system in `quality_bars`: its label, and its AUC and GAUC with every seed."""

    label: str
    auc: Sequence[float]
    gauc: Sequence[float]


def quality_bars(systems: Sequence[Quality], title: str, line: tuple[str, float] | None = None) -> bytes:
    """AUC and GAUC of systems, the first on top: means over the seeds, and their standard deviation as a whisker.

    Args:
        systems: what is shown.
        title: of the figure.
        line: a label and a GAUC, drawn as a line.
    """
    figure, axes = new_figure(height=0.9 + 0.65 * len(systems))
    every = [] if line is None else [line[1]]
    shown = list(systems)[::-1]
    for offset, metric, colour in ((0.2, "auc", COLOURS[0]), (-0.2, "gauc", COLOURS[2])):
        values: list[Sequence[float]] = [getattr(system, metric) for system in shown]
        means = [statistics.fmean(value) for value in values]
        spread = [statistics.stdev(value) if len(value) > 1 else 0.0 for value in values]
        places = [place + offset for place in range(len(shown))]
        whiskers = {"xerr": spread} if any(spread) else {}
        bars = axes.barh(places, means, height=0.36, color=colour, label=metric.upper(), **whiskers)
        clear = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # of the line
        axes.bar_label(bars, [f"{mean:.4f}" for mean in means], padding=4, fontsize=9, bbox=clear)
        every += means
    if line is not None:
        axes.axvline(line[1], color=COLOURS[1], linewidth=1.5, label=f"{line[0]}, GAUC")
    axes.set_xlim(max(0.0, min(0.5, min(every) - 0.02)), max(every) + 0.04)
    axes.set_yticks(range(len(shown)), [system.label for system in shown])
    axes.set_xlabel("area under the curve (0.5 = guessing)")
    axes.set_title(title, loc="left")
    figure.legend(loc="outside lower right", ncols=3, frameon=False)
    return png(figure)


class Line(NamedTuple):
    """A system in `length_lines`: its label, its rows of `by_history_length` with every seed, and how it is drawn."""

    label: str
    seeds: Sequence[Sequence[Mapping[str, Any]]]
    colour: str
    style: str = "o-"


def length_lines(lines: Sequence[Line], title: str, fewest: int = 0) -> bytes:
    """GAUC of systems by the number of behaviours before the target, means over the seeds.

    Args:
        lines: what is shown; the classes are those of the system that has most.
        title: of the figure.
        fewest: classes with fewer targets are left out.
    """
    figure, axes = new_figure()
    most = max((line.seeds[0] for line in lines), key=len)
    classes = [row for row in most if row["gauc"] is not None and row["targets"] >= fewest]
    for line in lines:
        points = []
        for place, one in enumerate(classes):
            rows = [row["gauc"] for rows in line.seeds for row in rows if row["from"] == one["from"]]
            if rows and None not in rows:
                points.append((place, statistics.fmean(rows)))
        x, y = [place for place, _ in points], [gauc for _, gauc in points]
        axes.plot(x, y, line.style, color=line.colour, label=line.label)
    spans = [f"{row['from']:,}+" if row["to"] is None else f"{row['from']:,} to {row['to'] - 1:,}" for row in classes]
    ticks = [f"{span}\n({row['targets']:,})" for span, row in zip(spans, classes, strict=True)]
    axes.set_xticks(range(len(classes)), ticks, fontsize=8)
    axes.set_xlabel("behaviours before the target (targets in the class)")
    axes.set_ylabel("GAUC")
    axes.set_title(title, loc="left")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    return png(figure)
