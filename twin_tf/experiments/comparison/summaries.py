"""What `report.json` says of systems: means over seeds with intervals, and TWIN's lead over each, paired by seed."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_tf.evaluation.user_figures import UserFigures, gauc_difference

METRICS = ("auc", "gauc", "logloss")

Plain = Mapping[str, Any]


def summary(results: Sequence[Plain]) -> dict[str, float | None]:
    """`{metric}_mean`, `_std`, `_low` and `_high` over the seeds.

    The deviation is None for a single seed. The ends are the means of the seeds' own 95 % by bootstrap over users, None
    where a seed has none.
    """
    found: dict[str, float | None] = {}
    for metric in METRICS:
        values = [result[metric] for result in results]
        found[f"{metric}_mean"] = statistics.fmean(values)
        found[f"{metric}_std"] = statistics.stdev(values) if len(values) > 1 else None
        ends = [(result.get("intervals") or {}).get(metric) for result in results]
        known = [one for one in ends if one is not None]
        for place, end in enumerate(("low", "high")):
            whole = len(known) == len(ends)
            found[f"{metric}_{end}"] = statistics.fmean(one[place] for one in known) if whole else None
    return found


def paired(mine: Sequence[Plain], theirs: Sequence[Plain], metric: str) -> list[float]:
    """The differences, first less second, of the seeds that both have."""
    other = {result["seed"]: result[metric] for result in theirs}
    return [result[metric] - other[result["seed"]] for result in mine if result["seed"] in other]


def deviation(values: Sequence[float]) -> float | None:
    """The standard deviation; None of a single value."""
    return statistics.stdev(values) if len(values) > 1 else None


def beyond_noise(by_seed: Sequence[float], low: float | None, high: float | None) -> bool | None:
    """Whether a difference is more than noise: all seeds agree in its sign, and its interval over users has no 0 in it.

    Returns:
        None where the seeds agree, but there is no interval: not known.
    """
    if not (min(by_seed) > 0 or max(by_seed) < 0):
        return False
    return None if low is None or high is None else low > 0 or high < 0


def paired_gauc(mine: Sequence[Plain], theirs: Sequence[Plain]) -> dict[str, Any] | None:
    """GAUC of the first less that of the second over the seeds that both have; None if they share none.

    Returns:
        `mean`, `std` (None for a single seed), `n`, `by_seed`, `low` and `high` (95 % by bootstrap over users, None
        where an evaluation did not keep its users' figures) and `beyond_noise`.
    """
    by_seed = paired(mine, theirs, "gauc")
    if not by_seed:
        return None
    other = {result["seed"]: result for result in theirs}
    both = [(result, other[result["seed"]]) for result in mine if result["seed"] in other]
    kept = [[_users(one) for one in pair] for pair in both]
    pairs = [(first, second) for first, second in kept if first is not None and second is not None]
    low, high = (gauc_difference(pairs) if len(pairs) == len(both) else None) or (None, None)
    return {
        "mean": statistics.fmean(by_seed),
        "std": deviation(by_seed),
        "n": len(both),
        "by_seed": by_seed,
        "low": low,
        "high": high,
        "beyond_noise": beyond_noise(by_seed, low, high),
    }


def noise_text(lead: Plain | None, around: str = "{}") -> str:
    """The interval of a lead and whether it is more than noise, in words; empty without an interval.

    Args:
        lead: of `paired_gauc`.
        around: what the words stand in.
    """
    if lead is None or lead["low"] is None:
        return ""
    more = "more" if lead["beyond_noise"] else "no more"
    return around.format(f"95 % over users {lead['low']:+.4f} to {lead['high']:+.4f}, {more} than noise")


def _users(result: Plain) -> UserFigures | None:
    return UserFigures.load(Path(result["run"]), "test") if "run" in result else None


def ablated(results: Mapping[str, Sequence[Plain]], key: str) -> dict[str, float | None]:
    """Means, and TWIN's lead with the same seeds."""
    found = summary(results[key])
    for metric in ("auc", "gauc"):
        by_seed = paired(results.get("twin", ()), results[key], metric)
        found[f"{metric}_lead"] = statistics.fmean(by_seed) if by_seed else None
    return found


def by_length(results: Sequence[Plain]) -> list[dict[str, Any]]:
    """Classes of history length with the means of GAUC and of its standard error; None where a seed has none."""
    found = []
    for seeds in zip(*(result["by_history_length"] for result in results), strict=True):
        row = {name: seeds[0][name] for name in ("from", "to", "targets")}
        for name in ("gauc", "gauc_error"):
            values = [one.get(name) for one in seeds]
            row[name] = None if None in values else statistics.fmean(values)
        found.append(row)
    return found
