"""What happened to each item, or to each user, on each day: what was known before a moment, a day at a time.

A day ends at midnight UTC. Exact moments would take two more shuffles of all targets, by item and back; a table of days
is a combination of counts, which merge, that every shard reads.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_pipelines.examples.event_batches import LABEL, TARGET
from beam_pipelines.examples.user_hash import shard_of
from beam_pipelines.examples.value_counts import cut_rows
from twin_tf.features.feature import Feature

STATE_ITEM_DAYS = "state/item_days.parquet"
STATE_USER_DAYS = "state/user_days/"
SECONDS_A_DAY = 86_400

EVENTS, TARGETS, CLICKS = range(3)
"""Columns of `DayCounts.counts`."""
COLUMNS = ("events", "targets", "clicks")

Ints = npt.NDArray[np.int64]


def days_of(times: Ints, per_second: int) -> Ints:
    """The day of each time, from 1970 on."""
    found: Ints = times // (SECONDS_A_DAY * per_second)
    return found


@dataclasses.dataclass(frozen=True)
class DayCounts:
    """Counts by day and key (an item's or a user's id); each pair once, by day and key.

    Attributes:
        day: `(pairs,)`.
        key: int64 ids, `(pairs,)`.
        counts: `(pairs, 3)`: events, targets, clicked targets.
    """

    day: Ints
    key: Ints
    counts: Ints

    @classmethod
    def of_events(cls, events: Mapping[str, Any], key: Ints, per_second: int) -> "DayCounts":
        """Counts events of any order by their `time` and `flags`, `(events,)` each, as `key`."""
        target = (events["flags"] & TARGET) != 0
        counts = np.stack([np.ones(len(key), np.int64), target, target & ((events["flags"] & LABEL) != 0)], axis=1)
        return cls.of(days_of(events["time"], per_second), key, counts.astype(np.int64))

    @classmethod
    def of(cls, day: Ints, key: Ints, counts: Ints) -> "DayCounts":
        """Adds up rows of any order."""
        order = np.lexsort([key, day])
        day, key, counts = day[order], key[order], counts[order]
        first = np.flatnonzero(np.r_[True, (day[1:] != day[:-1]) | (key[1:] != key[:-1])][: len(day)])
        return cls(day[first], key[first], np.add.reduceat(counts, first) if len(first) else counts)

    @classmethod
    def merge(cls, parts: Sequence["DayCounts"]) -> "DayCounts":
        """The counts of all parts together."""
        if len(parts) == 1:
            return parts[0]
        return cls.of(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("day", "key", "counts")))

    def cut(self, parts: int) -> Iterator[tuple[int, "DayCounts"]]:
        """(part, its counts), by a hash of the key."""
        for part, rows in cut_rows(shard_of(self.key, parts), parts):
            yield part, DayCounts(self.day[rows], self.key[rows], self.counts[rows])

    @property
    def keys(self) -> Ints:
        """All keys, rising."""
        return np.unique(self.key)

    @property
    def end(self) -> int:
        """The day after the last."""
        return int(self.day[-1]) + 1 if len(self.day) else 0

    def days_before(self, days: Ints) -> Iterator[tuple[int, Ints]]:
        """Each day with the events that every key has before it.

        Args:
            days: rising.

        Yields:
            The day, and `(keys,)` in the order of `keys`; the array is the same every time, with other content.
        """
        place, total, start = np.searchsorted(self.keys, self.key), np.zeros(len(self.keys), np.int64), 0
        for day in days.tolist():
            stop = int(np.searchsorted(self.day, day))
            np.add.at(total, place[start:stop], self.counts[start:stop, EVENTS])
            start = stop
            yield day, total

    def before(self, day: Ints, key: Ints) -> Ints:
        """Of each query what happened to its key on the days before; `day` and `key` `(n,)` -> `(n, 3)`."""
        if not len(self.day):
            return np.zeros((len(day), len(COLUMNS)), np.int64)
        keys, origin = self.keys, int(self.day[0])
        span = self.end - origin + 1
        order = np.lexsort([self.day, self.key])
        rows = np.searchsorted(keys, self.key[order]) * span + self.day[order] - origin
        running = np.concatenate([np.zeros((1, len(COLUMNS)), np.int64), np.cumsum(self.counts[order], axis=0)])
        place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        first, last = (np.searchsorted(rows, place * span + on) for on in (0, np.clip(day - origin, 0, span - 1)))
        return np.where((keys[place] == key)[:, None], running[last] - running[first], 0)

    def overall(self, day: Ints) -> Ints:
        """Of each day what happened on the days before, whatever the key: `(n,)` -> `(n, 3)`."""
        return DayCounts.of(self.day, np.zeros_like(self.key), self.counts).before(day, np.zeros_like(day))

    def table(self) -> pa.Table:
        """What the next run needs: the last day, and all before it as one. Later targets see the same of either."""
        kept = DayCounts.of(np.maximum(self.day, self.end - 2), self.key, self.counts)
        counts = {name: kept.counts[:, place] for place, name in enumerate(COLUMNS)}
        return pa.table({"day": kept.day, "key": kept.key, **counts})

    @classmethod
    def of_table(cls, table: pa.Table) -> "DayCounts":
        """The inverse of `table`."""
        day, key, *counts = (table[name].to_numpy() for name in ("day", "key", *COLUMNS))
        return cls.of(day, key, np.stack(counts, axis=1))


def counted_values(feature: Feature, counts: Ints, overall: Ints) -> npt.NDArray[np.float64]:
    """The raw values of a counted feature.

    Args:
        feature: with `from`.
        counts: of each target's item or user, `(n, 3)`.
        overall: of everything on the same days, `(n, 3)`.

    Returns:
        `(n,)`: the targets, or `(clicks + smoothing * rate of everything) / (targets + smoothing)`; NaN, which is
        unknown, where there is nothing earlier at all.
    """
    targets = counts[:, TARGETS].astype(np.float64)
    if not (feature.counted or "").endswith("_rate"):
        return targets
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = overall[:, CLICKS] / overall[:, TARGETS]
    return (counts[:, CLICKS] + feature.smoothing * rate) / (targets + feature.smoothing)
