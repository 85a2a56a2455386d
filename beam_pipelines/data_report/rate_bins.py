"""Label rates that carry a figure: days put together until there are enough targets, and what chance alone does."""

import dataclasses
import math
from collections.abc import Sequence

from beam_pipelines.data_report.summary import Day

MOST_BINS = 60
FEWEST_TARGETS = 100
_RARER_LABEL = 30  # expected in each bin
_DEVIATIONS = 1.959964  # 95 %


@dataclasses.dataclass(frozen=True)
class RateBin:
    """Days in a row.

    Attributes:
        days: those with targets, in order.
    """

    days: tuple[Day, ...]

    @property
    def targets(self) -> int:
        """All targets of the days."""
        return sum(day.targets for day in self.days)

    @property
    def clicks(self) -> int:
        """The clicked ones."""
        return sum(day.clicks for day in self.days)

    @property
    def rate(self) -> float:
        """Share of clicked targets."""
        return self.clicks / self.targets

    @property
    def interval(self) -> tuple[float, float]:
        """Of the rate, see `interval`."""
        return interval(self.clicks, self.targets)

    @property
    def span(self) -> tuple[float, float]:
        """Where the days begin and end, in days since 1970."""
        return self.days[0].place - 0.5, self.days[-1].place + 0.5

    @property
    def name(self) -> str:
        """Its dates."""
        first, last = self.days[0].day, self.days[-1].day
        return first if first == last else f"{first} to {last}"


def rate_bins(days: Sequence[Day]) -> list[RateBin]:
    """Puts days together, from the first on, until each bin has enough targets for a rate.

    Enough are 100 targets, 30 of the rarer label at the rate of all days, and a sixtieth of all targets. Days that are
    left over at the end join the last bin.

    Args:
        days: in order; those without targets are left out.
    """
    days = [day for day in days if day.targets]
    if not days:
        return []
    whole = RateBin(tuple(days))
    rarer = min(whole.rate, 1 - whole.rate)
    enough = max(FEWEST_TARGETS, math.ceil(_RARER_LABEL / rarer) if rarer else 0, whole.targets / MOST_BINS)
    bins: list[list[Day]] = [[]]
    missing = enough
    for day in days:
        if missing <= 0:
            bins.append([])
            missing = enough
        bins[-1].append(day)
        missing -= day.targets
    if missing > 0 and len(bins) > 1:
        rest = bins.pop()
        bins[-1] += rest
    return [RateBin(tuple(part)) for part in bins]


def spread_by_chance(bins: Sequence[RateBin]) -> bool:
    """Whether one rate for all bins explains theirs: chi-square within two deviations of its mean."""
    whole = RateBin(tuple(day for part in bins for day in part.days))
    variance = whole.rate * (1 - whole.rate)
    square = sum((part.clicks - part.targets * whole.rate) ** 2 / (part.targets * variance) for part in bins)
    freedom = len(bins) - 1
    return square <= freedom + 2 * math.sqrt(2 * freedom)


def interval(clicks: int, targets: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson's), as if targets did not depend on each other; (0, 1) of nothing."""
    if not targets:
        return 0.0, 1.0
    rate, z = clicks / targets, _DEVIATIONS**2 / targets
    middle = (rate + z / 2) / (1 + z)
    half = _DEVIATIONS * math.sqrt(rate * (1 - rate) / targets + z / (4 * targets)) / (1 + z)
    return max(0.0, middle - half), min(1.0, middle + half)
