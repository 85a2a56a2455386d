"""The figure of results, drawn from `results.yaml` alone."""

from pathlib import Path

import yaml
from canvas import INK, LINE, SOFT, STYLE, save
from matplotlib import pyplot as plt

DATA = Path(__file__).with_name("results.yaml")
NOTE = (
    "Test targets lie after all training data. The Complete Journey: learning rates that were chosen for TWIN, for "
    "all. Simulated lives: TWIN-V2 clusters by at most 20.\n"
    "MovieLens, Instacart and Ta Feng: defaults, fixed before the first training. Rates and counting need no training."
)
TWIN, OTHER = "#2f6fbf", "#9aa5b1"


class Results:
    """GAUC of each system, a panel a data set; best first.

    Args:
        figure: what is drawn.
    """

    def __init__(self, figure: "plt.Figure") -> None:
        self.figure = figure

    def save(self, path: Path) -> None:
        """Writes the figure; the suffix says in which format."""
        save(self.figure, path)


def results() -> Results:
    """Draws `results.yaml`."""
    data_sets = yaml.safe_load(DATA.read_text(encoding="utf-8"))["data_sets"]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 3, figsize=(10, 5.6))
        for axis, data in zip(axes.flat, data_sets, strict=False):
            systems = sorted(data["systems"], key=lambda system: system["gauc"])
            for place, system in enumerate(systems):
                colour = TWIN if system["name"].startswith("TWIN") else OTHER
                axis.plot([0.5, system["gauc"]], [place, place], color=colour, linewidth=1.2, alpha=0.5)
                axis.errorbar(system["gauc"], place, xerr=system.get("std"), fmt="o", color=colour, capsize=3)
                label = f"{system['gauc']:.4f}".lstrip("0")
                axis.annotate(
                    label, (system["gauc"], place), (7, 0), textcoords="offset points", fontsize=8, va="center"
                )
            axis.set_yticks(range(len(systems)), [system["name"] for system in systems], fontsize=9, color=INK)
            for tick, system in zip(axis.get_yticklabels(), systems, strict=True):
                tick.set_weight("bold" if system["name"].startswith("TWIN") else "normal")
            axis.set_xlim(0.5, 0.88)
            axis.set_xticks([0.5, 0.6, 0.7, 0.8], [".5", ".6", ".7", ".8"], fontsize=8, color=SOFT)
            axis.set_ylim(-0.6, 5.6 - (6 - len(systems)))
            seeds = "1 seed" if data["seeds"] == 1 else f"{data['seeds']} seeds"
            axis.set_title(f"{data['name']}\n", fontsize=9.5, weight="bold", color=INK, loc="left", pad=-2)
            axis.text(0, 1.02, f"GAUC, {seeds}", transform=axis.transAxes, fontsize=8, color=SOFT)
            axis.tick_params(length=0)
            axis.grid(axis="x", color=LINE, linewidth=0.4, alpha=0.5)
            axis.spines["left"].set_visible(False)
            axis.spines["bottom"].set_color(LINE)
        figure.tight_layout(w_pad=1.2, h_pad=1.5, rect=(0, 0.09, 1, 1))
        figure.text(0.01, 0.01, NOTE, fontsize=8, color=SOFT, linespacing=1.4)
    return Results(figure)
