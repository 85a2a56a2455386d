"""The content of a prepared directory's `report.json`, checked, and what it says in words."""

import dataclasses
import datetime
import json
from collections.abc import Iterator, Mapping
from typing import Any

from twin_tf.core.dataclass_yaml import ConfigError, build
from twin_tf.features.event_times import PER_SECOND, Unit
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
class SplitTargets:
    """The targets of one split.

    Attributes:
        users: that have a target in it.
        targets: how many.
        clicks: clicked ones.
        strangers: users in it that have no target in the train split.
        stranger_targets: their targets.
        new_item_targets: targets whose item is in no event that training sees.
        median: half of the targets see at most so many behaviours.
        p90: nine in ten see at most so many.
        bins: (low, high, targets that see low <= behaviours < high), rising; powers of two after [0, 1).
    """

    users: int
    targets: int
    clicks: int
    strangers: int
    stranger_targets: int
    new_item_targets: int
    median: int
    p90: int
    bins: tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class DataSummary:
    """The content of `report.json`.

    Attributes:
        schema: the schema's name.
        fingerprint: of the schema.
        unit: of the times in `split`.
        counts: rows in, rows out.
        split: the moments between the splits, and what the data are split by.
        history_lengths: behaviours a user.
        days: in order; days without events are left out.
        unknown: split -> feature -> share of its values that encode as unknown; None where there is no value at all.
        coverage: log -> column -> share of rows with a value.
        bytes: split or `histories` -> bytes of its record files.
        events_stored: the same -> behaviours stored in them.
        cut: multi-valued feature -> `items` that have more than `max_values` values, and the `values` that they lose.
        warnings: one sentence each.
        splits: split -> its targets; empty in reports of earlier code, as `untrained`.
        untrained: split -> feature -> share of the values of its targets that have an index of their own though no
            event that training sees has them; of inherent features and of vocabularies of users.
    """

    schema: str
    fingerprint: str
    unit: Unit
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
    splits: Mapping[str, SplitTargets] = dataclasses.field(default_factory=dict)
    untrained: Mapping[str, Mapping[str, float | None]] = dataclasses.field(default_factory=dict)

    def seconds(self, timestamp: int) -> float:
        """A moment of the split in seconds since 1970."""
        return timestamp / PER_SECOND[self.unit]

    @property
    def features(self) -> list[str]:
        """Every feature of `unknown`: the one that is new most often in any split first, equal ones by name."""
        names = sorted({name for shares in self.unknown.values() for name in shares})
        return sorted(names, key=lambda name: -self.most_often_new(name)[1])

    def new_values(self, split: str, feature: str) -> tuple[float, float] | None:
        """Shares of a split's values that are unknown, and known but never trained; None where there is no value."""
        unknown = self.unknown.get(split, {}).get(feature)
        return None if unknown is None else (unknown, self.untrained.get(split, {}).get(feature) or 0.0)

    def most_often_new(self, feature: str) -> tuple[str, float]:
        """The split in which values are unknown or untrained most often, and their share; -1 without values."""
        shares = [(split, self.new_values(split, feature)) for split in SPLITS]
        return max(
            ((split, -1.0 if share is None else sum(share)) for split, share in shares), key=lambda found: found[1]
        )

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
    binned = {"history_lengths": summary.history_lengths.bins}
    binned.update({f"splits.{name}": split.bins for name, split in summary.splits.items()})
    for name, bins in binned.items():
        for number, bin_ in enumerate(bins):
            if len(bin_) != 3 or bin_[0] >= bin_[1]:
                raise ConfigError(f"{place}.{name}.bins[{number}] must be low, high, count, not {list(bin_)}")
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
