"""The figures of a comparison, one message each. A function returns None where there is nothing to draw."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from twin_tf.core.plots import (
    COLOURS,
    GREY,
    MARKERS,
    Ends,
    Line,
    Quality,
    fitting_limits,
    length_lines,
    new_figure,
    quality_dots,
)
from twin_tf.experiments.comparison.systems import SYSTEMS

JsonDict = Mapping[str, Any]
Results = Mapping[str, Sequence[JsonDict]]

OTHERS = ("#e08e45", "#5b8c5a", "#a06cb0", "#7a7a7a", "#b8961a", "#d1495b", "#3d8b8b", "#7a5c3e", "#5aa0cc", "#4b4a9e")
"""Colours of the systems beside TWIN's, which is `COLOURS[0]`. None is told by its colour alone."""

NAMED, BEST = ("avg_pooling", "din", "twin"), 2
"""Systems of figure 5, and how many of the best others: more lines than these cannot be told apart."""

FAR = 4.0
"""A difference that is so many times the median one is off the axis, beside its figure: the others need the room."""

LEAST_LEADS = 0.004
"""Of an axis of differences in GAUC, whose margins grow with it."""

LEAST_SHARES = 10.0
"""Of an axis of shares in %."""


class Look(NamedTuple):
    """How a system is drawn.

    Attributes:
        colour: of line and marker.
        marker: its form.
        line: its style.
        face: colour of the marker's inside.
    """

    colour: str
    marker: str
    line: str
    face: str


def look_of(key: str, keys: Sequence[str]) -> Look:
    """A system's look, the same in all figures; those of `--also` are black, dashed and hollow.

    Args:
        key: of the system.
        keys: of all that are drawn.
    """
    if key == "twin":
        return Look(COLOURS[0], MARKERS[0], "-", COLOURS[0])
    if key in SYSTEMS:
        place = [other for other in SYSTEMS if other != "twin"].index(key)
        colour = OTHERS[place % len(OTHERS)]
        return Look(colour, MARKERS[1 + place % (len(MARKERS) - 1)], "-", colour)
    place = [own for own in keys if own not in SYSTEMS].index(key)
    return Look("black", MARKERS[place % len(MARKERS)], "--", "white")


def quality(summaries: Mapping[str, JsonDict], results: Results, labels: Mapping[str, str], yardsticks: Any) -> Figure:
    """GAUC and AUC of systems, and of what needs no network.

    Args:
        summaries: key -> `{auc,gauc}_low` and `_high`, of the systems that are shown.
        results: key -> metrics with every seed.
        labels: key -> name.
        yardsticks: key -> `label` and metrics.
    """
    systems = []
    for key, found in summaries.items():
        gauc, auc = ([result[metric] for result in results[key]] for metric in ("gauc", "auc"))
        systems.append(Quality(labels[key], gauc, auc, _ends(found, "gauc"), _ends(found, "auc")))
    known = [Quality(found["label"], [found["gauc"]], [found["auc"]]) for found in yardsticks.values()]
    return quality_dots(systems, "GAUC and AUC on the test split", known)


def _ends(found: JsonDict, metric: str) -> Ends | None:
    low, high = found.get(f"{metric}_low"), found.get(f"{metric}_high")
    return None if low is None or high is None else (low, high)


def paired(leads: Mapping[str, JsonDict], labels: Mapping[str, str]) -> Figure | None:
    """GAUC of TWIN less that of each other system, the smallest lead on top; hollow: no more than noise.

    Args:
        leads: key -> `mean`, `low`, `high`, `by_seed` and `beyond_noise`, see `summaries.paired_gauc`.
        labels: key -> name.
    """
    if not leads:
        return None
    rows = sorted(leads.items(), key=lambda row: row[1]["mean"])
    figure, axes = new_figure(height=1.5 + 0.3 * len(rows))
    reach = [max(abs(value) for value in _values(lead)) for lead in leads.values()]
    limit = FAR * statistics.median(reach)
    near = [value for lead in leads.values() if abs(lead["mean"]) <= limit for value in _values(lead)]
    left, right = min([0.0, *near]), max([0.0, *near])
    room = 0.06 * max(right - left, LEAST_LEADS)
    left, right = left - room, right + room
    axes.axvline(0, color="black", linewidth=1)
    for place, (_, lead) in enumerate(rows):
        y, mean, noise = -place, lead["mean"], not lead["beyond_noise"]
        off = abs(mean) > limit
        look = {"color": COLOURS[0], "markerfacecolor": "white" if noise else COLOURS[0], "linestyle": "none"}
        name = "more than noise" if not noise else "no more than noise"
        if lead["beyond_noise"] is None:
            name, look["markerfacecolor"] = "noise not known", "#c8c8c8"
        if not off:
            if lead["low"] is not None:
                axes.plot([lead["low"], lead["high"]], [y, y], color=COLOURS[0], linewidth=1.6, zorder=2)
            if lead["n"] > 1:
                axes.plot(lead["by_seed"], [y] * lead["n"], "|", color=COLOURS[1], markersize=9, label="one seed")
            axes.plot([mean], [y], marker="o", markersize=7, zorder=3, label=name, **look)
        else:
            edge, marker = (right, ">") if mean > 0 else (left, "<")
            axes.plot([edge], [y], marker=marker, markersize=8, clip_on=False, label=f"off the axis, {name}", **look)
        seeds = f"{mean:+.4f}  ({lead['n']} seed{'s' if lead['n'] > 1 else ''})"
        where = {"xycoords": axes.get_yaxis_transform(), "va": "center", "fontsize": 9, "annotation_clip": False}
        axes.annotate(seeds, (1.03, y), **where)
    axes.set_xlim(left, right)
    axes.set_yticks([-place for place in range(len(rows))], [labels[key] for key, _ in rows])
    axes.set_ylim(0.6 - len(rows), 0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("GAUC of TWIN less the system's, same seeds and targets (right of 0: TWIN is ahead)")
    intervals = any(lead["low"] is not None for lead in leads.values())
    title = "TWIN's lead in GAUC on the test split" + ("; whiskers: 95 % over users" if intervals else "")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    _legend_below(figure)
    return figure


def _values(lead: JsonDict) -> list[float]:
    return [value for value in (lead["mean"], lead["low"], lead["high"], *lead["by_seed"]) if value is not None]


def _legend_below(figure: Figure) -> None:
    """One entry of each kind, whatever the number of times that it was drawn."""
    found = {text: line for axes in figure.axes for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(found.values(), found, loc="outside lower right", ncols=4, frameon=False, fontsize=9)


def _mean_gauc(found: Sequence[JsonDict]) -> float:
    return statistics.fmean(result["gauc"] for result in found)


def shown_by_length(results: Results) -> list[str]:
    """The systems of `by_length`."""
    others = sorted((k for k in results if k not in NAMED), key=lambda k: -_mean_gauc(results[k]))
    return [key for key in results if key in (*NAMED, *others[:BEST])]


def by_length(results: Results, labels: Mapping[str, str]) -> Figure | None:
    """GAUC of some systems by history length."""
    lines = []
    for key in shown_by_length(results):
        look = look_of(key, list(results))
        rows = [result["by_history_length"] for result in results[key]]
        lines.append(Line(labels[key], rows, look.colour, f"{look.marker}{look.line}"))
    return length_lines(lines, "GAUC by history length; each class holds other targets, mostly of other users")


def consistency(curves: Mapping[str, Sequence[JsonDict]], labels: Mapping[str, str]) -> Figure | None:
    """Hits of the true top-100 by the size of the GSU's output, one curve a system; the legend in their order."""
    if not curves:
        return None
    figure, axes = new_figure(height=4.6)
    order = sorted(curves, key=lambda key: -_hits_at(curves[key], 100))
    for key in order:
        sizes, hits = [row["size"] for row in curves[key]], [100 * row["share"] for row in curves[key]]
        thick = {"linewidth": 2.6, "zorder": 5} if key == "twin" else {"linewidth": 1.2}
        look = look_of(key, list(curves))
        drawn = {"color": look.colour, "markerfacecolor": look.face, "markersize": 5.5}
        name = f"{labels[key]}: {100 * _hits_at(curves[key], 100):.0f} %"
        axes.plot(sizes, hits, f"{look.marker}{look.line}", label=name, **drawn, **thick)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.axvline(100, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel("behaviours that the search may retrieve")
    axes.set_ylabel("of the ESU's own top-100, retrieved, %")
    axes.set_ylim(0, 104)
    figure.suptitle(
        "How much of what its attention ranks highest each search retrieves", x=0.01, ha="left", fontsize=11
    )
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right center", frameon=False, fontsize=9, title="at 100 (dotted line)", title_fontsize=9)
    return figure


def _hits_at(rows: Sequence[JsonDict], size: int) -> float:
    """The share at a size, or at the largest one below it; 0 where there is none."""
    return max((row["share"] for row in rows if row["size"] <= size), default=0.0)


def ground_truth(shares: Mapping[str, JsonDict], results: Results, labels: Mapping[str, str]) -> Figure | None:
    """GAUC over the share of relevant behaviours that the search retrieves, one point a system, named at the edge."""
    if not shares:
        return None
    figure, axes = new_figure(height=4.6)
    values = {key: _mean_gauc(results[key]) for key in shares}
    low, high = fitting_limits(list(values.values()))
    order = sorted(shares, key=lambda key: -values[key])
    for key in order:
        look = look_of(key, list(shares))
        size = {"markersize": 11, "zorder": 2} if key == "twin" else {"markersize": 8, "zorder": 3}
        drawn = {"color": look.colour, "markerfacecolor": look.face, "marker": look.marker, "linestyle": "none"}
        where, name = [100 * shares[key]["recall"]], f"{labels[key]}: {values[key]:.4f}"
        axes.plot(where, [values[key]], label=name, **drawn, **size)
    axes.set_xlim(-3, 103)
    axes.set_ylim(low, high)
    axes.set_xlabel("of the behaviours with the target's planted interest, retrieved, %")
    axes.set_ylabel("GAUC on the test split, mean over the seeds")
    figure.suptitle(
        "What a search finds of the planted interests, and the GAUC of its system", x=0.01, ha="left", fontsize=11
    )
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right center", frameon=False, fontsize=9, title="best GAUC first", title_fontsize=9)
    return figure


def table_age(rows: Sequence[JsonDict]) -> Figure | None:
    """Hits by the age of the projection table, and how far the projections have moved since."""
    if not rows:
        return None
    figure, axes = new_figure(height=3.8)
    ages, hits = [row["age"] for row in rows], [100 * row["share"] for row in rows]
    axes.plot(ages, hits, "o-", color=COLOURS[0])
    for age, hit in zip(ages, hits, strict=True):
        axes.annotate(f"{hit:.1f}", (age, hit), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    span = max(LEAST_SHARES, max(hits) - min(hits))
    bottom = max(0.0, min(min(hits) - 0.15 * span, max(hits) - span))
    axes.set_ylim(bottom, max(hits) + 0.15 * span)
    axes.set_xticks(ages, [_age_tick(row) for row in rows], fontsize=9)
    moved = (
        ""
        if any(row.get("moved") is None for row in rows)
        else "\n(below: how far the projections moved since, of their norm)"
    )
    axes.set_xlabel(f"training steps since the table was computed{moved}")
    cut = "" if bottom == 0 else f"\n(axis from {bottom:.0f} %)"
    axes.set_ylabel(f"of the true top-100, found, %{cut}")
    axes.set_title("What TWIN's search finds in an ageing projection table", loc="left", fontsize=11)
    axes.grid(axis="y", alpha=0.3)
    return figure


def _age_tick(row: JsonDict) -> str:
    return f"{row['age']:,}" if row.get("moved") is None else f"{row['age']:,}\n{100 * row['moved']:.1f} %"


def ablations(
    keys: Sequence[str], results: Results, extras: Mapping[str, JsonDict], labels: Mapping[str, str]
) -> Figure:
    """GAUC of the first seed beside request time."""
    figure = Figure(figsize=(8.0, 1.4 + 0.45 * len(keys)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    order = list(keys)[::-1]
    values = [results[key][0]["gauc"] for key in order]
    times = [extras[key]["latency"]["p50_ms"] for key in order]
    names = [labels[key] for key in order]
    ends = [(results[key][0].get("intervals") or {}).get("gauc") for key in order]
    for place, end in enumerate(ends):
        if end is not None:
            left.plot(end, [place, place], color=COLOURS[0], linewidth=1.6)
    left.plot(values, range(len(order)), "o", markersize=8, color=COLOURS[0])  # no bars: the axis does not begin at 0
    for place, value in enumerate(values):
        left.annotate(f"{value:.4f}", (value, place), (0, 8), textcoords="offset points", ha="center", fontsize=9)
    left.set_yticks(range(len(order)), names)
    left.grid(axis="x", alpha=0.3)
    left.set_xlim(*fitting_limits([*values, *(value for end in ends for value in end or ())]))
    left.set_ylim(-0.5, len(order) - 0.3)
    left.set_xlabel("GAUC, first seed" + ("\n(whiskers: 95 % over users)" if any(ends) else ""))
    right.bar_label(right.barh(range(len(order)), times, color=GREY), fmt="%.1f", padding=3, fontsize=9)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    right.set_xlim(0, max(times) * 1.25)
    right.set_xlabel("milliseconds a request\n(10,000 behaviours, 100 candidates)")
    figure.suptitle("TWIN without its parts: GAUC and request time", x=0.01, ha="left", fontsize=11)
    return figure
