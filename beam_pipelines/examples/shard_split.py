"""Which split each event of a user shard belongs to, and which events training sees."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_pipelines.examples.event_batches import BEHAVIOUR, SPLIT, TARGET
from beam_pipelines.examples.user_hash import mixed
from twin_tf.features.schema import FeatureSchema, Split
from twin_tf.records.format import SplitTimes

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Events = Mapping[str, npt.NDArray[Any]]

COLUMNS = ("user", "time", "flags", SPLIT)
"""What splits look at; `split` is there only where a column says how to split."""

_NEVER = np.iinfo(np.int64).max


@dataclasses.dataclass(frozen=True)
class ShardSplit:
    """The split of the users of one shard.

    Attributes:
        rule: the schema's.
        times: the moments between the splits.
        users: with targets, rising; empty with `by: time`, as what follows.
        starts: `(users, 2)` when validation and testing begin for each, with `by: user_time`.
        trained_until: of each, the time of its last training target; -1 without any.
    """

    rule: Split
    times: SplitTimes
    users: Ints
    starts: Ints
    trained_until: Ints

    @classmethod
    def of(cls, schema: FeatureSchema, times: SplitTimes, tables: Iterable[Events]) -> "ShardSplit":
        """Looks at all targets of a shard.

        Args:
            schema: the schema.
            times: the moments between the splits.
            tables: the shard's events in any order and number: `user`, `time`, `flags`, and `split` with `by: column`;
                not read with `by: time`.
        """
        rule, none = schema.split, np.zeros(0, np.int64)
        if rule.by == "time":
            return cls(rule, times, none, np.zeros((0, 2), np.int64), none)
        names = ("user", "time", *([SPLIT] if rule.by == "column" else []))
        parts = []
        for table in tables:
            mask = (table["flags"] & TARGET) != 0
            parts.append({name: table[name][mask] for name in names})
        targets = {name: np.concatenate([none, *(part[name] for part in parts)]) for name in names}
        order = np.lexsort([targets["time"], targets["user"]])
        users, first, counts = np.unique(targets["user"][order], return_index=True, return_counts=True)
        starts = _starts(rule, targets["time"][order], first, counts)
        found = cls(rule, times, users, starts, np.full(len(users), -1, np.int64))
        training = found.numbers(targets) == 0
        place = np.searchsorted(users, targets["user"][training])
        np.maximum.at(found.trained_until, place, targets["time"][training])
        return found

    def numbers(self, events: Events) -> Ints:
        """The place in `SPLITS` of each event, -1 for none.

        Args:
            events: `user` and `time`, `(events,)` each, and `split` with `by: column`.

        Returns:
            `(events,)`; of an event that is no target, where a target in its place would be.
        """
        if self.rule.by == "time":
            return self.times.numbers(events["time"])
        if self.rule.by == "user_time":
            place, known = self._places(events["user"])
            starts = np.where(known[:, None], self.starts[place] if len(self.users) else _NEVER, _NEVER)
            found: Ints = (events["time"][:, None] >= starts).sum(axis=1)
            return found
        return numbers_by_row(self.rule, events)

    def filled_numbers(self, events: Events) -> Ints:
        """The same as `numbers`, but with `by: column` a behaviour whose row says nothing trains if training sees it.

        Args:
            events: as for `numbers`, and `flags`.
        """
        found = self.numbers(events)
        if self.rule.by != "column":
            return found
        silent = (found < 0) & ((events["flags"] & TARGET) == 0)
        return np.where(silent & self.seen(events), 0, found)

    def seen(self, events: Events) -> Mask:
        """Which events training sees, `(events,)`: they count in vocabularies and quantiles.

        With `by: time` all before the training window ends, else the training targets and each behaviour before its
        user's last training target.

        Args:
            events: as for `numbers`, and `flags`.
        """
        if self.rule.by == "time":
            early: Mask = events["time"] < self.times.train_until
            return early
        place, known = self._places(events["user"])
        until = np.where(known, self.trained_until[place] if len(self.users) else -1, -1)
        behaviour, target = ((events["flags"] & flag) != 0 for flag in (BEHAVIOUR, TARGET))
        found: Mask = (target & (self.numbers(events) == 0)) | (behaviour & (events["time"] < until))
        return found

    def _places(self, users: Ints) -> tuple[Ints, Mask]:
        """The place of each user in `users`, and whether it is there."""
        place = np.minimum(np.searchsorted(self.users, users), max(0, len(self.users) - 1))
        known = self.users[place] == users if len(self.users) else np.zeros(len(users), bool)
        return place, known


def numbers_by_row(rule: Split, events: Events) -> Ints:
    """The place in `SPLITS` of each event where its own row says it: with `by: user` and `by: column`; -1 for none."""
    if rule.by == "column":
        return events[SPLIT].astype(np.int64)
    # twice mixed: the shard of a user is the first mix modulo the number of shards, and must not say its split
    share = (mixed(mixed(events["user"])) >> np.uint64(11)).astype(np.float64) / (1 << 53)
    return np.searchsorted([rule.train, rule.train + rule.valid], share + 1e-12, side="right")


def columns_of(table: pa.Table) -> Events:
    """The columns of a table of events that splits look at."""
    names = [name for name in COLUMNS if name in table.column_names]
    return {name: table[name].to_numpy() for name in names}


def _starts(rule: Split, times: Ints, first: Ints, counts: Ints) -> Ints:
    """When validation and testing begin for each user; targets at one moment stay together, and some always train.

    Args:
        rule: the split.
        times: of the targets, by user and time.
        first: of each user, the place of its first target.
        counts: of each user, its targets.
    """
    if not len(counts):
        return np.zeros((0, 2), np.int64)
    ranks = [np.maximum(1, np.floor(share * counts + 1e-9)) for share in (rule.train, rule.train + rule.valid)]
    found = np.stack([_at_rank(times, first, counts, rank.astype(np.int64)) for rank in ranks], axis=1)
    found[found[:, 0] <= times[first]] = _NEVER
    return found


def _at_rank(times: Ints, first: Ints, counts: Ints, rank: Ints) -> Ints:
    return np.where(rank < counts, times[first + np.minimum(rank, counts - 1)], _NEVER)
