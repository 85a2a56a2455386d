"""What all figures share: colours, size, and bytes that never differ. No TensorFlow."""

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

# Blue, orange, light blue, grey, green. The first three stay apart for colour-blind eyes; use the others beside them
# only where place or label says the same.
COLOURS = ("#1b6ca8", "#e08e45", "#7fb3d5", "#9a9a9a", "#5b8c5a")
DPI = 110


def new_figure(width: float = 8.0, height: float = 4.0, rows: Sequence[float] = (1.0,)) -> tuple[Figure, Any]:
    """An empty figure without the upper and right frame.

    Args:
        width: in inches.
        height: in inches.
        rows: relative heights of the parts, from the top; they share the x axis.

    Returns:
        The figure and its axes: one object, or an array of them with several rows.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(len(rows), 1, sharex=True, height_ratios=list(rows))
    for part in figure.axes:
        part.spines[["top", "right"]].set_visible(False)
    return figure, axes


def png(figure: Figure) -> bytes:
    """The figure as a PNG; equal figures are equal bytes (no date, no version in it)."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    return content.getvalue()
