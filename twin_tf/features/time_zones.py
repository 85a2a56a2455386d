"""Time zones as tables: how far a local clock is ahead of UTC, with summer time, from the tz database.

A zone is a few hundred steps. NumPy and a TensorFlow graph look them up in the same way, by `searchsorted`, so the two
cannot differ, and a served graph holds the steps that it was trained with.

Example:
    >>> berlin = utc_offsets("Europe/Berlin")
    >>> berlin.at(np.array([1_700_000_000, 1_690_000_000])) // 3600      # in November, in July
    array([1, 2])
"""

import dataclasses
import datetime
import functools
import zoneinfo

import numpy as np
import numpy.typing as npt

from twin_tf.core.dataclass_yaml import ConfigError, nearest

IntArray = npt.NDArray[np.int64]

LAST_YEAR = 2100
"""Steps are known from 1970 to the beginning of this year; before and after, the nearest offset holds."""

_DAY = 86_400


@dataclasses.dataclass(frozen=True)
class UtcOffsets:
    """Seconds that a local clock is ahead of UTC.

    Attributes:
        starts: `(n,)` int64, rising: moments in seconds since 1970 (UTC) from which the next offset holds.
        offsets: `(n + 1,)` int64 seconds; the first holds before `starts[0]`.
    """

    starts: IntArray
    offsets: IntArray

    def at(self, seconds: IntArray) -> IntArray:
        """The offset at moments of UTC, in seconds since 1970; same shape."""
        found: IntArray = self.offsets[np.searchsorted(self.starts, seconds, side="right")]
        return found

    def to_utc(self, local: IntArray) -> IntArray:
        """What a local clock shows, in seconds since 1970 of that clock, as seconds of UTC; same shape.

        An hour that the clock shows twice is its first one; one that it skips counts as if it had not been skipped.
        """
        switch = self.starts + np.maximum(self.offsets[:-1], self.offsets[1:])
        found: IntArray = local - self.offsets[np.searchsorted(switch, local, side="right")]
        return found


def fixed_offset(seconds: int) -> UtcOffsets:
    """A clock that is always so many seconds ahead of UTC."""
    return UtcOffsets(np.zeros(0, np.int64), np.array([seconds], np.int64))


@functools.lru_cache(maxsize=64)
def utc_offsets(timezone: str) -> UtcOffsets:
    """The steps of an IANA time zone.

    Raises:
        ConfigError: no such zone.
    """
    zone = find_zone(timezone)

    def offset(seconds: int) -> int:
        found = datetime.datetime.fromtimestamp(seconds, zone).utcoffset()
        return 0 if found is None else _DAY * found.days + found.seconds

    last = int(datetime.datetime(LAST_YEAR, 1, 1, tzinfo=datetime.timezone.utc).timestamp())
    starts, offsets = [], [offset(0)]
    for day in range(0, last, _DAY):
        if offset(day + _DAY) == offsets[-1]:
            continue
        low, high = day, day + _DAY  # the offset is another at `high`
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle) == offsets[-1] else (low, middle)
        starts.append(high)
        offsets.append(offset(high))
    return UtcOffsets(np.array(starts, np.int64), np.array(offsets, np.int64))


def find_zone(timezone: str) -> zoneinfo.ZoneInfo:
    """The zone of an IANA name.

    Raises:
        ConfigError: no such zone; the nearest name is given.
    """
    try:
        return zoneinfo.ZoneInfo(timezone)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        known = zoneinfo.available_timezones()
        close = nearest(timezone, known) if known else "; the tz database is missing: pip install tzdata"
        hint = close if "did you mean" in close or not known else ", for example Europe/Berlin"
        raise ConfigError(f"timezone {timezone!r} is no IANA time zone{hint}") from None
