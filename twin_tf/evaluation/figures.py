"""The figures of an evaluation: one function each, what `evaluate_run` returns in, PNG bytes out. Needs matplotlib.

Each says None where there is nothing to draw. Whiskers are 95 % everywhere, over users.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import FuncFormatter

from twin_tf.core.plots import COLOURS, new_figure, png

MOST_VALUES = 10
"""Of a slicing with more values those with most targets are drawn."""

LONGEST_NAME = 28
DEVIATIONS = 1.96
_MOST_OFF = 2.0  # a calibration beyond this factor is written at the edge
_GREY = "#555555"
_WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
_DOTS = {"fmt": "o", "markersize": 5, "elinewidth": 1.5, "capsize": 2.5}

Row = Mapping[str, Any]


def reliability_diagram(rows: Sequence[Row], split: str) -> bytes | None:
    """Observed over predicted click rate of each tenth of the targets by score.

    Args:
        rows: of `slices.reliability`.
        split: whose targets they are.
    """
    if not rows:
        return None
    figure, axes = new_figure(width=7.0, height=5.4)
    predicted, observed = ([row[name] for row in rows] for name in ("predicted", "observed"))
    errors = [DEVIATIONS * (row["error"] or 0.0) for row in rows]
    ends = [value + error for value, error in zip(observed, errors, strict=True)]
    top = min(1.0, max(*predicted, *ends) * 1.08) or 1.0
    axes.plot([0, top], [0, top], color=_GREY, linestyle="dashed", linewidth=1, label="predicted = observed")
    known = any(row["error"] is not None for row in rows)
    label = "a tenth of the targets, by score" + ("; whiskers 95 % over users" if known else "")
    axes.errorbar(predicted, observed, errors if known else None, color=COLOURS[0], label=label, **_DOTS)
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.3g} %"))
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_xlabel("predicted click rate, mean of the tenth")
    axes.set_ylabel("observed click rate of the same targets")
    axes.set_title(f"Predicted and observed click rates, {split} split", loc="left")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return png(figure)


def slice_dots(slices: Mapping[str, Sequence[Row]], whole: Row, split: str) -> bytes | None:
    """AUC and calibration of each slice with intervals, the whole split as a line.

    Args:
        slices: name -> rows with `value`, `targets`, metrics and `intervals`; a single row is the split: not drawn.
        whole: metrics of the split.
        split: whose targets they are.
    """
    lines: list[tuple[str, Row | None]] = []
    for name, rows in slices.items():
        known = [row for row in rows if row["auc"] is not None]
        most = sorted(known, key=lambda row: -row["targets"])[:MOST_VALUES]
        shown = [row for row in known if any(row is one for one in most)]
        if shown and len(rows) > 1:
            part = f", {len(shown)} of {len(rows)}" if len(shown) < len(rows) else ""
            lines.append((f"{_short(name)}{part}", None))
            lines += [(f"{_short(str(row['value']))}  ({row['targets']:,})", row) for row in shown]
    if not lines:
        return None
    figure, (auc, calibration) = new_figure(height=1.4 + 0.23 * len(lines), columns=2)
    for axes, metric in ((auc, "auc"), (calibration, "calibration")):
        points: list[tuple[int, Row]] = []
        for place, (_, row) in enumerate(lines):
            if row is not None and row[metric] is not None:
                points.append((place, row))
                _dot(axes, row, metric, place, COLOURS[0])
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
    _limit_calibration(calibration, points)
    if whole["auc"] is not None:
        auc.axvline(whole["auc"], color=COLOURS[1], linewidth=1.5, label=f"whole split, AUC {whole['auc']:.3f}")
    calibration.axvline(1.0, color=_GREY, linestyle="dashed", linewidth=1, label="as many clicks as predicted")
    auc.set_yticks(range(len(lines)), [name for name, _ in lines], fontsize=9, parse_math=False)
    for tick, (_, row) in zip(auc.get_yticklabels(), lines, strict=True):
        tick.set_fontweight("bold" if row is None else "normal")
    auc.set_ylim(len(lines) - 0.4, -0.6)
    auc.set_xlabel("AUC within the slice (0.5 = guessing)")
    calibration.set_xlabel("predicted clicks / clicks")
    title = f"Slices of the {split} split, 95 % over users: different targets in each"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return png(figure)


def history_worth(rows: Sequence[Row], split: str) -> bytes | None:
    """GAUC of the same targets with their histories cut; whiskers are those of the paired difference to whole ones.

    Args:
        rows: of `history_worth`, the whole histories (`history` None) last.
        split: whose targets they are.
    """
    known = [row for row in rows if row["gauc"] is not None]
    if len(known) < 2 or known[-1]["history"] is not None:
        return None
    figure, axes = new_figure()
    whole = known[-1]["gauc"]
    axes.axhline(whole, color=COLOURS[1], linewidth=1.5, label=f"whole histories, GAUC {whole:.4f}")
    cuts = sorted(known[:-1], key=lambda row: row["history"])
    places, values = list(range(len(cuts))), [row["gauc"] for row in cuts]
    off: list[list[float]] = [[], []]
    for row in cuts:
        gap = row["less"]["gauc"] or {"difference": 0.0, "low": None, "high": None}
        for side, end, sign in ((off[0], gap["low"], -1), (off[1], gap["high"], 1)):
            side.append(0.0 if end is None else max(0.0, sign * (end - gap["difference"])))
    axes.plot([*places, len(cuts)], [*values, whole], color=COLOURS[2], linewidth=1.5, zorder=1)
    label = "cut histories; whiskers: 95 % of the difference to whole ones"
    axes.errorbar(places, values, off, color=COLOURS[0], label=label, **_DOTS)
    axes.plot([len(cuts)], [whole], "o", color=COLOURS[1])
    for place, value in enumerate([*values, whole]):
        axes.annotate(f"{value:.4f}", (place, value), xytext=(7, -13), textcoords="offset points", fontsize=9)
    axes.set_xticks(range(len(cuts) + 1), [*(f"{row['history']:,}" for row in cuts), "all"])
    axes.set_xlim(-0.4, len(cuts) + 0.6)
    axes.margins(y=0.15)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_xlabel("latest behaviours that are left of each history (not to scale)")
    axes.set_ylabel("GAUC")
    axes.set_title(f"GAUC of the same targets with their histories cut, {split} split", loc="left")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return png(figure)


def beside_yardsticks(systems: Sequence[Row], split: str) -> bytes | None:
    """AUC and GAUC of the model and of what needs no network, the model first, and its figure as a line.

    Args:
        systems: rows of `label`, `auc`, `gauc` and `intervals`.
        split: whose targets they are.
    """
    if len(systems) < 2:
        return None
    figure, both = new_figure(height=1.5 + 0.36 * len(systems), columns=2)
    for axes, metric in zip(both, ("auc", "gauc"), strict=True):
        for place, row in enumerate(systems):
            if row[metric] is None:
                axes.text(
                    0.02, place, "none", transform=axes.get_yaxis_transform(), va="center", color=_GREY, fontsize=9
                )
                continue
            value = row[metric]
            _dot(axes, row, metric, place, COLOURS[0] if place == 0 else COLOURS[1])
            axes.annotate(
                f"{value:.4f}",
                (value, place),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                bbox=_WHITE,
            )
        if systems[0][metric] is not None:
            axes.axvline(systems[0][metric], color=COLOURS[0], linewidth=1, linestyle="dashed", zorder=0)
        axes.margins(x=0.15)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"{metric.upper()} (0.5 = guessing)")
    names = [str(row["label"]) for row in systems]
    both[0].set_yticks(range(len(systems)), names, parse_math=False)
    both[0].set_ylim(len(systems) - 0.4, -0.7)
    title = f"The model beside what needs no network, {split} split, 95 % over users"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return png(figure)


def _dot(axes: Any, row: Row, metric: str, place: int, colour: str) -> None:
    """A figure with its interval as a whisker; hollow if it has none."""
    value, ends = row[metric], row["intervals"].get(metric)
    off = None if ends is None else [[max(0.0, value - ends[0])], [max(0.0, ends[1] - value)]]
    fill = "white" if ends is None else colour
    axes.errorbar([value], [place], xerr=off, color=colour, markerfacecolor=fill, **_DOTS)


def _limit_calibration(axes: Any, points: Sequence[tuple[int, Row]]) -> None:
    """An axis around 1; what lies far to the right is written at the edge, for it would crush the rest."""
    near = [row for _, row in points if row["calibration"] <= _MOST_OFF]
    ends = [end for row in near for end in (row["calibration"], *(row["intervals"].get("calibration") or ()))]
    left, right = max(0.0, min([0.9, *ends]) - 0.05), min(_MOST_OFF, max([1.1, *ends]) + 0.05)
    axes.set_xlim(left, right)
    for place, row in points:
        if row["calibration"] > _MOST_OFF:
            text = f"{row['calibration']:.3g} >"
            axes.text(right, place, text, ha="right", va="center", fontsize=9, bbox=_WHITE)


def _short(name: str) -> str:
    one_line = " ".join(name.split())
    return one_line if len(one_line) <= LONGEST_NAME else f"{one_line[: LONGEST_NAME - 1]}…"
