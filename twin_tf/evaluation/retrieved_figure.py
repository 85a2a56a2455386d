"""The figure of `retrieved_behaviours`. No TensorFlow."""

from collections.abc import Mapping
from typing import Any

from twin_tf.core.plots import COLOURS, new_figure, png


def retrieved_figure(user: Mapping[str, Any]) -> bytes:
    """The history of a user as ticks along the days before each target, the retrieved with their weight; PNG bytes."""
    figure, _ = new_figure(height=5.2, rows=[1.0] * len(user["targets"]))
    for axis, target in zip(figure.axes, user["targets"], strict=True):
        highest = 100 * max(target["weights"], default=0.01)
        axis.plot(target["seen_days"], [-0.06 * highest] * target["seen"], "|", color=COLOURS[3], markersize=7)
        for own, colour, marker, label in (
            (False, COLOURS[0], "o", "retrieved, other"),
            (True, COLOURS[1], "D", f"retrieved, the target's own {target['category']}"),
        ):
            points = zip(target["days"], target["weights"], target["same"], strict=True)
            chosen = [(days, 100 * weight) for days, weight, same in points if same == own]
            days, weights = [place for place, _ in chosen], [weight for _, weight in chosen]
            axis.vlines(days, 0, weights, color=colour, linewidth=1.2)
            shown = f"{label} ({len(chosen)}: {sum(weights):.0f} % of the weight)"
            axis.plot(days, weights, marker, color=colour, markersize=4, label=shown)
        axis.set_ylim(-0.15 * highest, 1.3 * highest)
        axis.set_ylabel("weight, %")
        done = "clicked" if target["label"] else "not clicked"
        name = f"{done}: {_short(target['name'])} (the model gives {target['probability']:.0%})"
        axis.set_title(name, loc="left", fontsize=10)
        axis.legend(frameon=False, fontsize=8, loc="upper left", ncols=2, borderaxespad=0.1)
    figure.axes[-1].invert_xaxis()
    figure.axes[-1].set_xlabel("days before the target; grey: every behaviour that it sees")
    figure.suptitle(f"User {user['user']}: what the model looks at", x=0.01, ha="left")
    return png(figure)


def _short(name: str, longest: int = 60) -> str:
    whole = name if len(name) <= longest else f"{name[: longest - 1]}…"
    return whole.replace("$", r"\$")  # matplotlib would read formulas
