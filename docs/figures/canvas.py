"""Boxes, arrows and rows of cells on one axis, in the colours of the documentation."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

INK, SOFT, LINE = "#1f2933", "#5f6c7b", "#9aa5b1"
PAPER = "#f5f7fa"
BLUE, GREEN, ORANGE, PURPLE, YELLOW = "#d6e6fb", "#d5efdc", "#fde3c8", "#e6dcf7", "#fff3c4"
STRONG = {BLUE: "#2f6fbf", GREEN: "#2f8f4e", ORANGE: "#c8701b", PURPLE: "#7550b8", YELLOW: "#b58a00", PAPER: LINE}
"""Fill -> line of a box."""

STYLE = {
    "font.family": "DejaVu Sans",
    "svg.fonttype": "path",  # looks alike wherever it is read
    "svg.hashsalt": "twin",  # the same drawing gives the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
}

Point = tuple[float, float]


class Canvas:
    """A drawing of `width` x `height` units, 1 unit an inch; y grows downwards.

    Args:
        width: of the drawing.
        height: of the drawing.
    """

    def __init__(self, width: float, height: float) -> None:
        with plt.rc_context(STYLE):
            self.figure, self.axis = plt.subplots(figsize=(width, height))
        self.axis.set_xlim(0, width)
        self.axis.set_ylim(height, 0)
        self.axis.axis("off")
        self.figure.subplots_adjust(0, 0, 1, 1)

    def box(
        self,
        corner: Point,
        size: Point,
        text: str = "",
        fill: str = PAPER,
        *,
        note: str = "",
        dashed: bool = False,
        bold: bool = False,
        font: float = 10,
    ) -> None:
        """A rounded box with a text in its middle and, below it, a smaller note."""
        (x, y), (width, height) = corner, size
        self.axis.add_patch(
            FancyBboxPatch(
                (x + 0.06, y + 0.06),
                width - 0.12,
                height - 0.12,
                boxstyle="round,pad=0.06",
                facecolor=fill,
                edgecolor=STRONG.get(fill, LINE),
                linewidth=1.1,
                linestyle="--" if dashed else "-",
            )
        )
        lift = 0.095 * (note.count("\n") + 1) if note else 0.0
        self.text((x + width / 2, y + height / 2 - lift), text, font=font, bold=bold)
        if note:
            drop = 0.095 * (text.count("\n") + 1)
            self.text((x + width / 2, y + height / 2 + drop), note, font=font - 1.5, colour=SOFT)

    def text(
        self,
        place: Point,
        text: str,
        *,
        font: float = 9,
        colour: str = INK,
        bold: bool = False,
        align: str = "center",
    ) -> None:
        """A text around a place, or from it with `align="left"`."""
        weight = "bold" if bold else "normal"
        self.axis.text(
            *place, text, fontsize=font, color=colour, ha=align, va="center", weight=weight, linespacing=1.35
        )

    def arrow(self, start: Point, end: Point, label: str = "", *, bend: float = 0.0, dashed: bool = False) -> None:
        """An arrow; its label lies above its middle."""
        self.axis.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>",
                mutation_scale=11,
                color=SOFT,
                linewidth=1.2,
                linestyle="--" if dashed else "-",
                shrinkA=0,
                shrinkB=0,
                connectionstyle=f"arc3,rad={bend}",
            )
        )
        if label:
            middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - 0.13)
            self.text(middle, label, font=8.5, colour=SOFT)

    def cells(self, corner: Point, texts: Sequence[str], size: Point, fills: Sequence[str], *, font: float = 8) -> None:
        """A row of cells, one a text."""
        for number, (text, fill) in enumerate(zip(texts, fills, strict=True)):
            x = corner[0] + number * size[0]
            self.axis.add_patch(
                Rectangle((x, corner[1]), *size, facecolor=fill, edgecolor=STRONG.get(fill, LINE), linewidth=0.8)
            )
            self.text((x + size[0] / 2, corner[1] + size[1] / 2), text, font=font)

    def save(self, path: Path) -> None:
        """Writes the drawing; the suffix says in which format."""
        save(self.figure, path)


def save(figure: "plt.Figure", path: Path) -> None:
    """Writes a figure without the date, so that an unchanged one is an unchanged file."""
    with plt.rc_context(STYLE):
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, facecolor="white", dpi=110, metadata=metadata)
    plt.close(figure)
