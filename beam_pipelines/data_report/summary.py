"""The content of a prepared directory's `report.json`, checked, and what it says in words."""

import dataclasses
import datetime
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from twin_tf.core.dataclass_yaml import ConfigError, build
from twin_tf.core.markdown import code
from twin_tf.records.format import Counts, SplitTimes

REPORT = "report.json"
SPLITS = ("train", "valid", "test")
LOGS = ("events", "items", "users")


@dataclasses.dataclass(frozen=True)
class HistoryLengths:
    """How many behaviours the users have.

    Attributes:
        users: users.
        mean: behaviours a user.
        median: half of the users have at most so many.
        p90: nine in ten have at most so many.
        p99: 99 in 100.
        longest: the longest history.
        cut: users with more than `max_length`.
        max_length: behaviours that a target sees at most.
        bins: (low, high, users with low <= behaviours < high), rising; powers of two after [0, 1).
    """

    users: int
    mean: float
    median: float
    p90: float
    p99: float
    longest: int
    cut: int
    max_length: int
    bins: tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class Day:
    """A local day with events: its ISO date, behaviours, targets and clicked targets."""

    day: str
    behaviours: int
    targets: int
    clicks: int

    def __post_init__(self) -> None:
        try:
            datetime.date.fromisoformat(self.day)
        except ValueError as error:
            raise ConfigError(f"day must be a date such as 2024-01-31, not {self.day!r}") from error

    @property
    def place(self) -> float:
        """The middle of the day, in days since 1970."""
        return datetime.date.fromisoformat(self.day).toordinal() - datetime.date(1970, 1, 1).toordinal() + 0.5


@dataclasses.dataclass(frozen=True)
class DataSummary:
    """The content of `report.json`.

    Attributes:
        schema: the schema's name.
        fingerprint: of the schema.
        unit: of the times in `split`.
        counts: rows in, rows out.
        split: the moments between the splits.
        history_lengths: behaviours a user.
        days: in order; days without events are left out.
        unknown: split -> feature -> share of its values that encode as unknown; None where there is no value at all.
        coverage: log -> column -> share of rows with a value.
        bytes: split or `histories` -> bytes of its record files.
        events_stored: the same -> behaviours stored in them.
        cut: multi-valued feature -> `items` that have more than `max_values` values, and the `values` that they lose.
        warnings: one sentence each.
    """

    schema: str
    fingerprint: str
    unit: Literal["s", "ms"]
    counts: Counts
    split: SplitTimes
    history_lengths: HistoryLengths
    days: tuple[Day, ...]
    unknown: Mapping[str, Mapping[str, float | None]]
    coverage: Mapping[str, Mapping[str, float]]
    bytes: Mapping[str, int]
    events_stored: Mapping[str, int]
    cut: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def seconds(self, timestamp: int) -> float:
        """A moment of the split in seconds since 1970."""
        return timestamp / 1000 if self.unit == "ms" else float(timestamp)

    @property
    def features(self) -> list[str]:
        """Every feature of `unknown`: the one with the largest share in any split first, equal ones by name."""
        names = sorted({name for shares in self.unknown.values() for name in shares})
        return sorted(names, key=lambda name: -self.largest_unknown(name)[1])

    def largest_unknown(self, feature: str) -> tuple[str, float]:
        """The split in which the feature is unknown most often, and the share; -1 where it has no values."""
        shares = [(split, self.unknown.get(split, {}).get(feature)) for split in SPLITS]
        return max(((split, -1.0 if share is None else share) for split, share in shares), key=lambda found: found[1])

    def columns(self) -> Iterator[tuple[str, str, float]]:
        """(log, column, share of rows with a value): log by log, the emptiest column first."""
        for log in LOGS:
            shares = self.coverage.get(log, {})
            yield from ((log, column, shares[column]) for column in sorted(shares, key=lambda c: (shares[c], c)))


def parse(text: str, place: str) -> DataSummary:
    """Reads the text of a `report.json`.

    Args:
        text: the file's text.
        place: its path, for messages.

    Raises:
        ConfigError: it is not JSON, lacks a key, or holds a value of another type.
    """
    try:
        data: Any = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{place} is not valid JSON: {error}") from error
    summary = build(DataSummary, data, place)
    for number, bin_ in enumerate(summary.history_lengths.bins):
        if len(bin_) != 3 or bin_[0] >= bin_[1]:
            raise ConfigError(f"{place}.history_lengths.bins[{number}] must be low, high, users, not {list(bin_)}")
    return summary


def percent(share: float) -> str:
    """A share as people read it; nothing that is not 0 or 100 % is shown as such."""
    if share in (0.0, 1.0):
        return f"{share * 100:.0f} %"
    if share < 0.0001:
        return "< 0.01 %"
    if share > 0.9999:
        return "> 99.99 %"
    decimals = 2 if share < 0.01 or share >= 0.995 else 1
    return f"{share * 100:.{decimals}f} %"


def number(value: float) -> str:
    """A count, or a mean with up to three digits behind the point."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3f}".rstrip("0")


def reading_of_history_lengths(summary: DataSummary) -> str:
    """One sentence on the history lengths."""
    lengths = summary.history_lengths
    if not lengths.users:
        return "There are no users, so there are no histories."
    sentence = (
        f"Half of the users have at most {_behaviours(lengths.median)}, nine in ten at most {number(lengths.p90)}, and "
        f"the longest history has {number(lengths.longest)}; "
    )
    if lengths.cut:
        return sentence + (
            f"{number(lengths.cut)} of {number(lengths.users)} users ({percent(lengths.cut / lengths.users)}) have "
            f"more than max_length = {number(lengths.max_length)}, so their targets see the latest ones only."
        )
    return sentence + f"nobody has more than max_length = {number(lengths.max_length)}, so every history is whole."


def reading_of_label_rate(summary: DataSummary) -> str:
    """One sentence on the label rate a day."""
    days = [day for day in summary.days if day.targets]
    if not days:
        return "There are no targets, so there is no label rate."
    targets, clicks = sum(day.targets for day in days), sum(day.clicks for day in days)
    sentence = f"{percent(clicks / targets)} of the {number(targets)} targets of {_days(len(days))} are clicked"
    if len(days) == 1:
        return f"{sentence}, all on {days[0].day}."
    low = min(days, key=lambda day: day.clicks / day.targets)
    high = max(days, key=lambda day: day.clicks / day.targets)
    if low.clicks * high.targets == high.clicks * low.targets:
        return f"{sentence}, the same share every day."
    return (
        f"{sentence}: least on {low.day} ({percent(low.clicks / low.targets)} of {number(low.targets)}), most on "
        f"{high.day} ({percent(high.clicks / high.targets)} of {number(high.targets)})."
    )


def reading_of_unknown(summary: DataSummary) -> str:
    """One sentence on the values that encode as unknown."""
    names = summary.features
    if not names or summary.largest_unknown(names[0])[1] < 0:
        return "There are no values to encode."
    worst = names[0]
    split, share = summary.largest_unknown(worst)
    if share == 0:
        return "Every value of every feature is known in every split."
    trained = summary.unknown.get("train", {}).get(worst)
    against = "" if split == "train" or trained is None else f", against {percent(trained)} in train"
    known = sum(summary.largest_unknown(name)[1] == 0 for name in names)
    rest = f"; {known} of {len(names)} features have no unknown value in any split" if known else ""
    return f"{code(worst)} is unknown most often: {percent(share)} of its values in {split}{against}{rest}."


def reading_of_coverage(summary: DataSummary) -> str:
    """One sentence on how many rows have a value."""
    columns = list(summary.columns())
    if not columns:
        return "There are no columns."
    gaps = [found for found in columns if found[2] < 1]
    if not gaps:
        return f"Every one of the {len(columns)} columns has a value in every row."
    log, column, share = min(gaps, key=lambda found: found[2])
    return (
        f"{code(column)} of the {log} log is the emptiest column, with a value in {percent(share)} of the rows; "
        f"{len(columns) - len(gaps)} of {len(columns)} columns have one in every row."
    )


def _behaviours(count: float) -> str:
    return f"{number(count)} behaviour" + ("" if count == 1 else "s")


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{number(count)} days"
