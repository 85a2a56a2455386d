"""How an event's time is written, and what it is as a whole number: the same for pipelines and clients.

Records and requests hold whole numbers of `unit` since 1970 (UTC). A log may hold just that, or text with `format`.

Example:
    >>> parse_times(TimeColumn("ts", "ms", format="iso8601", timezone="Europe/Berlin"), ["2023-11-14 23:13:20.25"])
    (array([1700000000250]), array([False]))
"""

import dataclasses
import datetime
import functools
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.time_zones import IntArray, UtcOffsets, find_zone, fixed_offset, utc_offsets

Unit = Literal["s", "ms", "us", "ns"]
PER_SECOND: dict[str, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
UNIT_NAMES: dict[str, str] = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

ISO8601 = "iso8601"
LARGEST = (1 << 63) - 1
EXACT_FLOATS = 1 << 53
"""From here on a float stands for several whole numbers."""

_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?)?"
    r"(?: ?(?:([Zz]|UTC)|([+-])(\d\d)(?::?(\d\d))?))?",
    re.ASCII,
)
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_DAY = 86_400
_PROBE = datetime.datetime(2023, 11, 24, 22, 13, 20, tzinfo=datetime.timezone.utc)


@dataclasses.dataclass(frozen=True)
class TimeColumn:
    """The event time. Records and requests keep it as a whole number of `unit` since 1970 (UTC).

    Attributes:
        column: the raw column. It holds whole numbers of `unit` (a fraction is cut off), or text if there is a
            `format`; timestamps and dates of Parquet and BigQuery need neither.
        unit: of whole numbers, in the log without a `format`, in records and requests always.
        utc_offset_hours: how far the clock of `hour_of_day`, `day_of_week` and of dates in reports is ahead of UTC.
        format: how text is to be read: `iso8601`, with or without a zone, or a format of Python's `strptime`.
        timezone: IANA name of the zone of that clock, summer time included, in place of `utc_offset_hours`; also of
            text, timestamps and dates that name no zone. UTC if left out.
    """

    column: str
    unit: Unit = "s"
    utc_offset_hours: float = 0.0
    format: str | None = None
    timezone: str | None = None

    def __post_init__(self) -> None:
        if self.timezone is not None:
            find_zone(self.timezone)
        if self.utc_offset_hours and (self.timezone is not None or self.format is not None):
            key = "timezone" if self.timezone is not None else "format"
            raise ConfigError(f"utc_offset_hours does not go with {key}: name the zone in 'timezone' instead")
        if self.format is not None and self.format != ISO8601:
            _check_format(self.format)

    @property
    def per_second(self) -> int:
        """Time units in a second."""
        return PER_SECOND[self.unit]

    @property
    def utc_offsets(self) -> UtcOffsets:
        """How far the local clock is ahead of UTC."""
        return fixed_offset(int(self.utc_offset_hours * 3600)) if self.timezone is None else utc_offsets(self.timezone)

    def local_seconds(self, time: IntArray) -> IntArray:
        """What the local clock shows at times of records, in whole seconds since 1970 of that clock; same shape."""
        seconds = np.asarray(time, np.int64) // self.per_second
        return seconds + self.utc_offsets.at(seconds)


def _check_format(format_: str) -> None:
    said = re.sub("%%", "", format_)
    if "%Z" in said:
        raise ConfigError(f"format {format_!r}: the name of a zone is not read; use %z, or name it in 'timezone'")
    try:
        same = datetime.datetime.strptime(_PROBE.strftime(format_), format_).date() == _PROBE.date()
    except ValueError as error:
        raise ConfigError(f"format {format_!r} is neither {ISO8601} nor one of strptime: {error}") from None
    if not same:
        raise ConfigError(f"format {format_!r} does not say year, month and day; see Python's strptime")


def parse_times(column: TimeColumn, texts: Sequence[str]) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """Times written as the column's `format` says.

    Returns:
        `(texts,)` whole numbers of `unit` since 1970 (UTC), rounded down, and `(texts,)` which texts are none, or no
        time that 64 bits hold; those are 0.
    """
    read = _read_iso if column.format == ISO8601 else functools.partial(_read_strptime, column.format or "")
    found = [read(text.strip()) for text in texts]
    bad = np.array([one is None for one in found], bool)
    seconds, offsets, nanoseconds = (np.array(part, np.int64) for part in _columns(found))
    local = np.array([one is not None and one[1] is None for one in found], bool)
    if column.timezone is not None and local.any():
        offsets[local] = seconds[local] - utc_offsets(column.timezone).to_utc(seconds[local])
    seconds -= offsets
    bad |= np.abs(seconds) >= LARGEST // column.per_second
    times = np.where(bad, 0, seconds) * column.per_second + nanoseconds * column.per_second // 10**9
    return np.where(bad, 0, times), bad


def to_unit(column: TimeColumn, times: IntArray, per_second: int) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """Whole numbers of another unit as those of the column's, rounded down, and which ones 64 bits cannot hold."""
    if per_second >= column.per_second:
        return times // (per_second // column.per_second), np.zeros(len(times), bool)
    factor = column.per_second // per_second
    bad = np.abs(times) > LARGEST // factor
    return np.where(bad, 0, times) * factor, bad


_Read = tuple[int, int | None, str]
"""Seconds on the clock of a text, the offset of that clock if it says one, and digits of a second's fraction."""


def _columns(found: Sequence[_Read | None]) -> tuple[list[int], list[int], list[int]]:
    """Seconds, offsets and nanoseconds, 0 where there is none."""
    rows = [(0, 0, 0) if one is None else (one[0], one[1] or 0, _nanoseconds(one[2])) for one in found]
    seconds, offsets, nanoseconds = zip(*rows, strict=True) if rows else ((), (), ())
    return list(seconds), list(offsets), list(nanoseconds)


def _nanoseconds(digits: str) -> int:
    return int(digits.ljust(9, "0")[:9]) if digits else 0


def _read_iso(text: str) -> _Read | None:
    found = _ISO.fullmatch(text)
    days = None if found is None else _days(found[1])
    if found is None or days is None:
        return None
    _, hour, minute, second, fraction, utc, sign, ahead, more = found.groups()
    if hour is None:
        return None if utc or sign else (_DAY * days, None, "")
    if hour > "23" or minute > "59" or (second or "") > "59" or (ahead or "") > "23" or (more or "") > "59":
        return None
    seconds = _DAY * days + 3600 * int(hour) + 60 * int(minute) + int(second or 0)
    if not sign:
        return seconds, 0 if utc else None, fraction or ""
    offset = 3600 * int(ahead) + 60 * int(more or 0)
    return seconds, -offset if sign == "-" else offset, fraction or ""


@functools.lru_cache(maxsize=1 << 12)
def _days(date: str) -> int | None:
    """Days since 1970 of `2026-01-31`; None of a date that no calendar has."""
    try:
        return datetime.date(int(date[:4]), int(date[5:7]), int(date[8:])).toordinal() - _EPOCH
    except ValueError:
        return None


def _read_strptime(format_: str, text: str) -> _Read | None:
    try:
        found = datetime.datetime.strptime(text, format_)
    except ValueError:
        return None
    ahead = found.utcoffset()
    seconds = _DAY * (found.toordinal() - _EPOCH) + 3600 * found.hour + 60 * found.minute + found.second
    offset = None if ahead is None else int(ahead.total_seconds())
    return seconds, offset, f"{found.microsecond:06d}"
