"""How often each item occurs on each day: what was known of items before a moment, a day at a time. They merge.

A day ends at midnight UTC. Exact moments would take two more shuffles of all targets, by item and back; a table of days
is a combination of counts that every shard reads.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

STATE_ITEM_DAYS = "state/item_days.parquet"
SECONDS_A_DAY = 86_400

Ints = npt.NDArray[np.int64]


def days_of(times: Ints, per_second: int) -> Ints:
    """The day of each time, from 1970 on."""
    found: Ints = times // (SECONDS_A_DAY * per_second)
    return found


@dataclasses.dataclass(frozen=True)
class ItemDays:
    """Events by day and item; each pair once, by day and id.

    Attributes:
        day: `(pairs,)`.
        item: int64 ids, `(pairs,)`.
        events: `(pairs,)`.
    """

    day: Ints
    item: Ints
    events: Ints

    @classmethod
    def of(cls, day: Ints, item: Ints, events: Ints | None = None) -> "ItemDays":
        """Adds up rows of any order, one event each if `events` is left out."""
        events = np.ones(len(day), np.int64) if events is None else events
        order = np.lexsort([item, day])
        day, item, events = day[order], item[order], events[order]
        first = np.flatnonzero(np.r_[True, (day[1:] != day[:-1]) | (item[1:] != item[:-1])][: len(day)])
        return cls(day[first], item[first], np.add.reduceat(events, first) if len(first) else events)

    @classmethod
    def merge(cls, parts: Sequence["ItemDays"]) -> "ItemDays":
        """The counts of all parts together."""
        if len(parts) == 1:
            return parts[0]
        return cls.of(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("day", "item", "events")))

    def before(self, days: Ints) -> Iterator[tuple[int, Ints]]:
        """Each day with the events that every item has before it.

        Args:
            days: rising.

        Yields:
            The day, and `(items,)` in the order of `items`; the array is the same every time, with other content.
        """
        place, total, start = np.searchsorted(self.items, self.item), np.zeros(len(self.items), np.int64), 0
        for day in days.tolist():
            stop = int(np.searchsorted(self.day, day))
            np.add.at(total, place[start:stop], self.events[start:stop])
            start = stop
            yield day, total

    @property
    def items(self) -> Ints:
        """All ids, rising."""
        return np.unique(self.item)

    def state(self) -> pa.Table:
        """What the next run needs: the last day, and all before it as one. Later targets see the same of either."""
        last = int(self.day[-1]) if len(self.day) else 0
        kept = ItemDays.of(np.maximum(self.day, last - 1), self.item, self.events)
        return pa.table({"day": kept.day, "item": kept.item, "events": kept.events})

    @classmethod
    def of_state(cls, table: pa.Table) -> "ItemDays":
        """The inverse of `state`."""
        return cls.of(*(table[name].to_numpy() for name in ("day", "item", "events")))
