"""What a training's figures say about what can be concluded from it, in sentences. No TensorFlow."""

from collections.abc import Mapping
from typing import Any

from twin_tf.evaluation.verdicts import not_beaten

FEW_STEPS = 200
"""With fewer steps than this, Adam's mean of squared gradients, which remembers about 1,000, has hardly filled."""


def findings(report: Mapping[str, Any]) -> list[str]:
    """Sentences on a run's `report.json`; none where all is as it should be.

    Args:
        report: may be of an earlier run; nothing is said of what it does not hold.
    """
    found = []
    valid, yardsticks = report["kept"]["valid"], report.get("yardsticks")
    if valid and yardsticks:
        found.append(not_beaten(valid, yardsticks, "on the validation records the model"))
    longest, top_k = report.get("longest_history"), report.get("top_k")
    if longest is not None and top_k is not None and longest <= top_k:
        found.append(
            f"no history is longer than top_k = {top_k:,} (the longest that a target may see has {longest:,}), so TWIN "
            "and DIN see the same behaviours"
        )
    if report["steps"] < FEW_STEPS:
        found.append(
            f"{report['steps']:,} steps are few: with fewer than {FEW_STEPS} the optimisers have hardly begun, and the "
            "figures say little of what the model can reach. Lower training.batch_records, raise training.epochs or "
            "train on more data"
        )
    return [sentence for sentence in found if sentence is not None]
