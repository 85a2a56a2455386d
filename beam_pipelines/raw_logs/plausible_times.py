"""Which times of a log cannot be meant: in the future, or far from all others.

A reader sees a chunk, so a bound of its own must be given: `--as-of` and `--not-before` make rows beyond them
malformed. What is far from the rest shows when the whole log was counted by days, and then it stops the job. The rule:

1. Rows in 1970 are far if a tenth of the log lies after 1980: zeros, counters, or numbers of a larger unit (1700000000
   seconds are the 20th of January 1970 in milliseconds).
2. Rows behind a stretch without any row are far, if it is longer than a year and longer than the middle 98 % of the
   larger side; the smaller side is the one that is far.

With `--not-before` the rule is not asked: who names a bound has looked.
"""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from twin_tf.features.event_times import PER_SECOND, UNIT_NAMES, TimeColumn

_DAY = 86_400
_YEAR = 365
_DAYS_UNTIL_1980 = 3652
_MANY = 0.1
_TRIMMED = 0.01  # of the larger side, at either end
_SANE = (10**8, 4 * 10**9)  # seconds from 1973 to 2096: an earlier time is a counter, not a date


def looks_like(column: TimeColumn, time: int) -> str | None:
    """Another unit in which a time would be a date from 1973 to 2096, which it is not in the column's; None: none."""
    for unit, per_second in PER_SECOND.items():
        if unit != column.unit and _SANE[0] * per_second <= time <= _SANE[1] * per_second:
            return unit
    return None


def in_the_future(column: TimeColumn, time: int, latest: int) -> str:
    """Why a time later than the latest sound one is malformed."""
    unit = looks_like(column, time)
    reason = f"{column.column} is in the future: {time}"
    if unit is None or time * column.per_second > latest * PER_SECOND[unit]:
        return reason
    return f"{reason}; the log seems to be in {UNIT_NAMES[unit]} (schema.events.time.unit: {unit})"


def too_early(column: TimeColumn, time: int) -> str:
    """Why a time earlier than `--not-before` is malformed."""
    unit = looks_like(column, time)
    seems = f"; it looks like {UNIT_NAMES[unit]}" if unit is not None else ""
    return f"{column.column} is earlier than --not-before: {time} ({date(time // (_DAY * column.per_second))}){seems}"


def all_of_another_unit(column: TimeColumn, earliest: int, latest: int) -> str | None:
    """A larger unit that all times of a log seem to be in, as in the column's they lie in the first weeks of 1970."""
    unit = looks_like(column, earliest)
    larger = unit is not None and PER_SECOND[unit] < column.per_second
    return unit if larger and looks_like(column, latest) == unit else None


@dataclasses.dataclass
class TimeCounts:
    """Rows by day, and those of 1970 by how long their numbers are; parts merge in any order.

    Attributes:
        days: days since 1970 (UTC) -> rows.
        units: unit that a time of 1970 looks like -> rows.
    """

    days: dict[int, int] = dataclasses.field(default_factory=dict)
    units: dict[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, column: TimeColumn, times: npt.NDArray[np.int64]) -> "TimeCounts":
        """Counts sound times."""
        days = times // (_DAY * column.per_second)
        found, counts = np.unique(days, return_counts=True)
        early, units = times[days < _YEAR], {}
        for unit, per_second in PER_SECOND.items():
            low, high = (bound * per_second for bound in _SANE)
            rows = int(((early >= low) & (early <= high)).sum())
            if rows and unit != column.unit:
                units[unit] = rows
        return cls(dict(zip(found.tolist(), counts.tolist(), strict=True)), units)

    @classmethod
    def merge(cls, parts: Sequence["TimeCounts"]) -> "TimeCounts":
        """The counts of all parts together."""
        total = cls()
        for part in parts:
            for day, rows in part.days.items():
                total.days[day] = total.days.get(day, 0) + rows
            for unit, rows in part.units.items():
                total.units[unit] = total.units.get(unit, 0) + rows
        return total

    def fault(self, column: TimeColumn, log: str) -> str | None:
        """The sentence about rows that are far from the rest, or None.

        Args:
            column: the schema's.
            log: as sentences name it.
        """
        far, (first, last) = far_days(self.days)
        if not far:
            return None
        rows = sum(self.days[day] for day in far)
        seems = [
            f"{count:,} look like {UNIT_NAMES[unit]}"
            for unit, count in sorted(self.units.items())
            if min(far) < _YEAR <= first
        ]
        if seems:
            seems.append(f"schema.events.time.unit is {column.unit}")
        bound = f"--not-before={date(first)}" if min(far) < first else f"--as-of={date(last + 1)}"
        return (
            f"{rows:,} of {sum(self.days.values()):,} rows of {log} have a time far from the rest "
            f"({_dates(far)}, but most lie from {date(first)} to {date(last)})"
            f"{''.join(f'; {one}' for one in seems)}; mend the log, or put them into dead_letters with {bound}, or "
            "take them all with --not-before=1970-01-01"
        )


def far_days(days: Mapping[int, int]) -> tuple[list[int], tuple[int, int]]:
    """The days whose rows are far from the rest, by the rule at the top of this module, and the span of the rest.

    Args:
        days: day since 1970 -> rows.
    """
    if not days:
        return [], (0, 0)
    place = np.array(sorted(days), np.int64)
    rows = np.array([days[day] for day in place.tolist()], np.int64)
    low, high = 0, len(place)
    if rows[place >= _DAYS_UNTIL_1980].sum() >= _MANY * rows.sum():
        low = int(np.searchsorted(place, _YEAR))
    while high - low > 1:
        gaps = np.diff(place[low:high])
        cut = low + 1 + int(gaps.argmax())
        kept = (cut, high) if rows[low:cut].sum() <= rows[cut:high].sum() else (low, cut)
        larger = slice(*kept)
        span = _at_rank(place[larger], rows[larger], 1 - _TRIMMED) - _at_rank(place[larger], rows[larger], _TRIMMED)
        if gaps.max() <= max(_YEAR, span):
            break
        low, high = kept
    far = [*place[:low].tolist(), *place[high:].tolist()]
    return far, (int(place[low]), int(place[high - 1]))


def _at_rank(place: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], share: float) -> int:
    running = np.cumsum(rows)
    found = np.searchsorted(running, min(int(share * running[-1]), running[-1] - 1), side="right")
    return int(place[found])


def date(day: int) -> str:
    """`2026-01-31`, for a day since 1970; the number itself beyond the calendar."""
    try:
        return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()
    except OverflowError:
        return f"day {day}"


def _dates(days: Sequence[int]) -> str:
    shown = [date(day) for day in days]
    return shown[0] if len(shown) == 1 else " and ".join(shown) if len(shown) == 2 else f"{shown[0]} to {shown[-1]}"
