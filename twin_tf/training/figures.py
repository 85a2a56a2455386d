"""The figure of a training. Needs matplotlib."""

from collections.abc import Mapping, Sequence
from typing import Any

from twin_tf.core.plots import COLOURS, new_figure, png

MOST_TABLES = 6
_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
_COLOURS = (*COLOURS, "#333333")


def learning_curve(
    curve: Sequence[Mapping[str, Any]],
    valid: Sequence[Mapping[str, Any]],
    kept: int,
    yardstick: tuple[str, float] | None = None,
    tables: Sequence[str] = (),
) -> bytes | None:
    """Loss, validation GAUC, and how far tables moved, over the steps, one below the other.

    A part without any figure is left out.

    Args:
        curve: points with `steps`, `loss` and `moved`.
        valid: evaluations with `steps` and `gauc`, perhaps `gauc_error`.
        kept: steps of the weights that the run hands on.
        yardstick: label and GAUC of the best that needs no network.
        tables: those to draw, at most `MOST_TABLES` of them.

    Returns:
        A PNG; None of a run of earlier code, which kept no points.
    """
    if not curve:
        return None
    judged = [one for one in valid if one["gauc"] is not None]
    shown = [name for name in tables if name in curve[-1]["moved"]][:MOST_TABLES]
    shown.sort(key=lambda name: -curve[-1]["moved"][name])  # the legend as the lines end
    parts = ["loss", *(["gauc"] if judged else []), *(["moved"] if shown else [])]
    figure, axes = new_figure(height=1.2 + 1.9 * len(parts), rows=[1.0] * len(parts))
    of = dict(zip(parts, [axes] if len(parts) == 1 else axes, strict=True))
    steps = [one["steps"] for one in curve]
    mark = "o-" if len(steps) <= 60 else "-"
    of["loss"].plot(steps, [one["loss"] for one in curve], mark, color=COLOURS[0], markersize=3)
    of["loss"].set_ylabel("training loss, mean\nsince the point before")
    if judged:
        places, values = [one["steps"] for one in judged], [one["gauc"] for one in judged]
        error = judged[-1].get("gauc_error")
        label = "the model" + ("" if error is None else f"\n(standard error {error:.2g})")
        of["gauc"].plot(places, values, "o-", color=COLOURS[0], markersize=5, label=label)
        if yardstick is not None:
            of["gauc"].axhline(yardstick[1], color=COLOURS[1], linestyle="dashed", label=yardstick[0])
        of["gauc"].set_ylabel("GAUC of the\nvalidation records")
        of["gauc"].margins(y=0.15)
    for name, colour, style in zip(shown, _COLOURS, _STYLES, strict=False):
        moved = [one["moved"][name] for one in curve]
        of["moved"].plot(steps, moved, linestyle=style, color=colour, linewidth=1.8, label=name)
    if shown:
        of["moved"].set_ylim(bottom=0)
        of["moved"].set_ylabel("tables: distance from\nstart / norm at start")
    for part, one in of.items():
        one.axvline(kept, color="#555555", linewidth=1, linestyle=":")
        one.grid(alpha=0.3)
        one.set_axisbelow(True)
        if part != "loss":
            legend = one.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
            for text in legend.get_texts():
                text.set_parse_math(False)
    last = of[parts[-1]]
    last.set_xlabel("optimiser steps (dotted: the weights that the run hands on)")
    last.set_xlim(0, max(*steps, kept) * 1.02)
    names = {"loss": "training loss", "gauc": "validation GAUC", "moved": "movement of the tables"}
    of["loss"].set_title(f"Learning curve: {', '.join(names[part] for part in parts)}", loc="left")
    return png(figure)
