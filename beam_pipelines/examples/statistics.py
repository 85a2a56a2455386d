"""Figures for the data report, gathered where the records are made: lengths, days, splits. They merge."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_pipelines.examples.event_batches import BEHAVIOUR, LABEL, SPLIT, TARGET
from beam_pipelines.examples.user_histories import earlier_behaviours
from beam_pipelines.examples.value_counts import Histogram
from twin_tf.features.schema import UNKNOWN, Feature, FeatureSchema
from twin_tf.records.format import TARGET_SPLITS, SplitName

DAY = 86_400

Ints = npt.NDArray[np.int64]


def _nothing() -> Histogram:
    return Histogram(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclasses.dataclass
class SplitStatistics:
    """The targets of one split.

    Attributes:
        users: that have a target in it.
        targets: how many.
        clicks: clicked ones.
        strangers: users in it that have no target in the train split.
        stranger_targets: their targets.
        new_item_targets: targets whose item no event has that training sees.
        lengths: behaviours that each target sees, at most `history.max_length`.
    """

    users: int = 0
    targets: int = 0
    clicks: int = 0
    strangers: int = 0
    stranger_targets: int = 0
    new_item_targets: int = 0
    lengths: Histogram = dataclasses.field(default_factory=_nothing)

    @classmethod
    def merge(cls, parts: Sequence["SplitStatistics"]) -> "SplitStatistics":
        """The figures of all parts together."""
        total = cls()
        for name in ("users", "targets", "clicks", "strangers", "stranger_targets", "new_item_targets"):
            setattr(total, name, sum(getattr(part, name) for part in parts))
        total.lengths = Histogram.merge([_nothing(), *(part.lengths for part in parts)])
        return total


@dataclasses.dataclass
class DataStatistics:
    """Figures of some users.

    Attributes:
        lengths: behaviours of each user ever, before they are cut to `history.max_length`.
        behaviours: their days, counted from 1970 in local time.
        targets: days of the targets.
        clicks: days of the clicked targets.
        unknown: (split, feature) -> values that are unknown, values.
        untrained: (split, inherent feature) -> values of targets that are known but that training never sees.
        indices: (split, user feature whose vocabulary comes from the users log) -> indices of its targets' users.
        splits: split -> its targets.
        undrawn: negatives that could not be drawn.
        clicked_new_items: where negatives are drawn, clicked targets whose item has no event on an earlier day.
    """

    lengths: Histogram = dataclasses.field(default_factory=_nothing)
    behaviours: Histogram = dataclasses.field(default_factory=_nothing)
    targets: Histogram = dataclasses.field(default_factory=_nothing)
    clicks: Histogram = dataclasses.field(default_factory=_nothing)
    unknown: dict[tuple[str, str], tuple[int, int]] = dataclasses.field(default_factory=dict)
    untrained: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    indices: dict[tuple[str, str], Histogram] = dataclasses.field(default_factory=dict)
    splits: dict[str, SplitStatistics] = dataclasses.field(default_factory=dict)
    undrawn: int = 0
    clicked_new_items: int = 0

    @classmethod
    def of(
        cls,
        schema: FeatureSchema,
        events: Mapping[str, npt.NDArray[Any]],
        user_features: Mapping[str, npt.NDArray[Any]],
        unknown_items: npt.NDArray[np.uint8],
        untrained_items: npt.NDArray[np.uint8],
        new: npt.NDArray[np.bool_],
        seen: Mapping[SplitName, Ints],
    ) -> "DataStatistics":
        """Looks at the events of some users.

        Args:
            schema: the schema.
            events: as `user_histories.build_records` takes them, `split` of behaviours too.
            user_features: feature -> the index of each event's user, `(events,)`.
            unknown_items: `(items, bytes)` by row: which inherent features are unknown, packed bits.
            untrained_items: likewise: the item itself, then the features whose values training never sees.
            new: `(events,)` False for events of an earlier run: they count for the lengths alone.
            seen: split -> targets by how many behaviours they see, `(max_length + 1,)`.
        """
        flags, times = events["flags"], events["time"]
        behaviour, target = (flags & BEHAVIOUR) != 0, (flags & TARGET) != 0
        days = schema.events.time.local_seconds(times) // DAY
        users = events["user"]
        everyone, owner = np.unique(users, return_inverse=True)
        lengths = np.bincount(owner[behaviour], minlength=len(everyone)) + earlier_behaviours(events, everyone)
        found = cls(
            Histogram.of(lengths),
            Histogram.of(days[behaviour & new]),
            Histogram.of(days[target]),
            Histogram.of(days[target & ((flags & LABEL) != 0)]),
        )
        number = events[SPLIT]
        trained_users = np.bincount(owner[target & (number == 0)], minlength=len(everyone)) > 0
        for place, name in enumerate(TARGET_SPLITS):
            mine = number == place
            targets = mine & target
            items, bits = events["item"][targets], len(schema.inherent)
            unknown = np.unpackbits(unknown_items[items], axis=1, count=bits)
            untrained = np.unpackbits(untrained_items[items], axis=1, count=bits + 1)
            for column, feature in enumerate(schema.inherent):
                found.unknown[name, feature.name] = (int(unknown[:, column].sum()), len(items))
                found.untrained[name, feature.name] = int(untrained[:, column + 1].sum())
            for feature in schema.stored_cross:
                found._count(name, feature.name, events[feature.name][mine & behaviour & new])
            for feature in schema.stored_target:
                found._count(name, feature.name, events[feature.name][targets])
            for feature in schema.user:
                found._count(name, feature.name, user_features[feature.name][targets])
                if from_users_log(feature):
                    found.indices[name, feature.name] = Histogram.of(user_features[feature.name][targets])
            each = np.bincount(owner[targets], minlength=len(everyone))
            found.splits[name] = SplitStatistics(
                users=int((each > 0).sum()),
                targets=len(items),
                clicks=int((flags[targets] & LABEL).sum()),
                strangers=int(((each > 0) & ~trained_users).sum()),
                stranger_targets=int(each[~trained_users].sum()),
                new_item_targets=int(untrained[:, 0].sum()),
                lengths=Histogram(np.flatnonzero(seen[name]), seen[name][seen[name] > 0]),
            )
        return found

    def _count(self, split: str, feature: str, values: npt.NDArray[Any]) -> None:
        self.unknown[split, feature] = (int((values == UNKNOWN).sum()), len(values))

    @classmethod
    def merge(cls, parts: Sequence["DataStatistics"]) -> "DataStatistics":
        """The figures of all parts together."""
        if not parts:
            return cls()
        total = cls()
        for name in ("lengths", "behaviours", "targets", "clicks"):
            setattr(total, name, Histogram.merge([getattr(part, name) for part in parts]))
        for part in parts:
            for key, (unknown, values) in part.unknown.items():
                before = total.unknown.get(key, (0, 0))
                total.unknown[key] = (before[0] + unknown, before[1] + values)
            for key, untrained in part.untrained.items():
                total.untrained[key] = total.untrained.get(key, 0) + untrained
        for key in parts[0].indices:
            total.indices[key] = Histogram.merge([part.indices[key] for part in parts if key in part.indices])
        total.undrawn = sum(part.undrawn for part in parts)
        total.clicked_new_items = sum(part.clicked_new_items for part in parts)
        for name in TARGET_SPLITS:
            total.splits[name] = SplitStatistics.merge([part.splits[name] for part in parts if name in part.splits])
        return total

    def untrained_values(self, split: str, feature: Feature) -> int | None:
        """Values of a split's targets that the vocabulary knows and training never sees; None: nobody counted them."""
        if feature.role == "inherent":
            return self.untrained.get((split, feature.name), 0)
        if not from_users_log(feature):
            return None
        found, trained = (self.indices.get((name, feature.name), _nothing()) for name in (split, "train"))
        never = ~np.isin(found.keys, trained.keys) & (found.keys != UNKNOWN)
        return int(found.counts[never].sum())


def from_users_log(feature: Feature) -> bool:
    """Whether a feature's vocabulary holds values of users that may have no target in the train split."""
    return feature.role == "user" and feature.encoding_or_fail.kind == "vocabulary"
