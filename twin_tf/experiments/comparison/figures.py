"""The figures of a comparison: one message each, PNG bytes."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from twin_tf.core.plots import COLOURS, Line, Quality, length_lines, new_figure, png, quality_bars
from twin_tf.evaluation.verdicts import best_yardstick
from twin_tf.experiments.comparison.systems import SYSTEMS

JsonDict = Mapping[str, Any]
Results = Mapping[str, Sequence[JsonDict]]

OTHERS = (
    "#e08e45",
    "#5b8c5a",
    "#a06cb0",
    "#9a9a9a",
    "#c2a83e",
    "#d1495b",
    "#3d8b8b",
    "#7a5c3e",
    "#7fb3d5",
    "#555555",
    "#d98cb3",
)
"""Colours of the systems beside TWIN's, which is `COLOURS[0]`; systems of `--also` are black."""

NAMED, BEST = ("avg_pooling", "din", "twin"), 2
"""Systems of figure 5, and how many of the best others: more lines than these cannot be told apart."""


def _colour(key: str) -> str:
    """A system has one colour in all figures, whatever else is in them."""
    others = [other for other in SYSTEMS if other != "twin"]
    if key in others:
        return OTHERS[others.index(key) % len(OTHERS)]
    return COLOURS[0] if key == "twin" else "#000000"


def quality(results: Results, labels: Mapping[str, str], yardsticks: Mapping[str, JsonDict]) -> bytes:
    """AUC and GAUC of every system, the best GAUC on top, and the best of what needs no network as a line."""
    systems = [
        Quality(labels[k], [r["auc"] for r in found], [r["gauc"] for r in found]) for k, found in results.items()
    ]
    systems.sort(key=lambda system: -statistics.fmean(system.gauc))
    best = best_yardstick(yardsticks, "gauc")
    line = None if best is None else (str(yardsticks[best]["label"]), float(yardsticks[best]["gauc"]))
    return quality_bars(systems, "AUC and GAUC of every system on the test split", line)


def _mean_gauc(found: Sequence[JsonDict]) -> float:
    return statistics.fmean(result["gauc"] for result in found)


def by_length(results: Results, labels: Mapping[str, str]) -> bytes:
    """GAUC of some systems by history length."""
    others = sorted((k for k in results if k not in NAMED), key=lambda k: -_mean_gauc(results[k]))
    keys = [key for key in results if key in (*NAMED, *others[:BEST])]
    lines = [Line(labels[key], [r["by_history_length"] for r in results[key]], _colour(key)) for key in keys]
    return length_lines(lines, "GAUC of users with short and with long histories")


def consistency(curves: Mapping[str, Sequence[JsonDict]], labels: Mapping[str, str]) -> bytes:
    """Hits of the true top-100 by the size of the GSU's output, one curve a system."""
    figure, axes = new_figure(width=9.0, height=4.6)
    for key, rows in curves.items():
        sizes, hits = [row["size"] for row in rows], [100 * row["share"] for row in rows]
        thick = {"linewidth": 2.8, "zorder": 5} if key == "twin" else {"linewidth": 1.4}
        axes.plot(sizes, hits, "o-", markersize=3.5, color=_colour(key), label=labels[key], **thick)
    axes.set_xscale("log")
    axes.axvline(100, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel("behaviours that the search retrieves")
    axes.set_ylabel("of the ESU's true top-100, %")
    axes.set_ylim(0, 103)
    axes.set_title("How much of what its attention wants each search retrieves", loc="left")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    return png(figure)


def ground_truth(shares: Mapping[str, JsonDict], results: Results, labels: Mapping[str, str]) -> bytes:
    """GAUC over the share of relevant behaviours that the search retrieves, one point a system."""
    figure, axes = new_figure(width=9.0, height=4.6)
    for key, found in shares.items():
        gauc = _mean_gauc(results[key])
        size = {"s": 90, "zorder": 5} if key == "twin" else {"s": 45}
        axes.scatter([100 * found["recall"]], [gauc], color=_colour(key), label=labels[key], **size)
    axes.set_xlabel("of the behaviours with the target's planted interest, retrieved, %")
    axes.set_ylabel("GAUC")
    axes.set_title("What each search finds of the planted interests, and what its prediction is worth", loc="left")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    return png(figure)


def table_age(rows: Sequence[JsonDict]) -> bytes:
    """Hits by the age of the projection table."""
    figure, axes = new_figure(height=3.4)
    ages, hits = [row["age"] for row in rows], [100 * row["share"] for row in rows]
    axes.plot(ages, hits, "o-", color=COLOURS[0])
    for age, hit in zip(ages, hits, strict=True):
        axes.annotate(f"{hit:.0f}", (age, hit), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.set_ylim(0, 108)
    axes.set_xlabel("training steps since the table was computed")
    axes.set_ylabel("of the true top-100, %")
    axes.set_title("What an ageing projection table loses", loc="left")
    axes.grid(axis="y", alpha=0.3)
    return png(figure)


def ablations(
    keys: Sequence[str], results: Results, extras: Mapping[str, JsonDict], labels: Mapping[str, str]
) -> bytes:
    """GAUC beside request time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 1.0 + 0.5 * len(keys)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    order = list(keys)[::-1]
    quality = [results[key][0]["gauc"] for key in order]
    times = [extras[key]["latency"]["p50_ms"] for key in order]
    names = [labels[key] for key in order]
    left.plot(quality, names, "o", markersize=8, color=COLOURS[0])  # no bars: the axis does not begin at 0
    for value, name in zip(quality, names, strict=True):
        left.annotate(f"{value:.4f}", (value, name), (9, 0), textcoords="offset points", va="center", fontsize=9)
    left.grid(alpha=0.3)
    left.set_xlim(min(quality) - 0.01, max(quality) + 0.015)
    left.margins(y=0.15)
    left.set_xlabel("GAUC")
    right.bar_label(right.barh(names, times, color=COLOURS[1]), fmt="%.1f ms", padding=3, fontsize=9)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    right.set_xlim(0, max(times) * 1.25)
    right.set_xlabel("a request: 10,000 behaviours, 100 candidates")
    figure.suptitle("What TWIN's parts are worth, and what they cost", x=0.01, ha="left")
    return png(figure)
