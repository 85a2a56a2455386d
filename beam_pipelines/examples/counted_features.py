"""Features counted of items and users: of each target as of the start of its day, and as of the end of the data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_pipelines.examples.day_counts import DayCounts, counted_values, days_of
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.schema import FeatureSchema

Columns = dict[str, npt.NDArray[Any]]


class CountedFeatures:
    """The counted features of a shard's users.

    Args:
        schema: the schema.
        encoder: of the schema.
        items: what happened to each item on each day.
        events: of the shard, of this run: `user`, `time`, `flags`.
        before: what the previous run knows of its users.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        encoder: FeatureEncoder,
        items: DayCounts,
        events: Columns,
        before: Sequence[DayCounts] = (),
    ) -> None:
        self._schema, self._encoder, self._items = schema, encoder, items
        self._per_second = schema.events.time.per_second
        self.users = DayCounts.merge([DayCounts.of_events(events, events["user"], self._per_second), *before])

    def add(self, events: Columns) -> None:
        """Adds an index column for each feature to events: `user`, `item_id`, `time`."""
        day = days_of(events["time"], self._per_second)
        overall = self._items.overall(day)
        sides = ((self._schema.counted_item, self._items, "item_id"), (self._schema.counted_user, self.users, "user"))
        for features, days, key in sides:
            counts = days.before(day, events[key]) if features else overall
            for feature in features:
                events[feature.name] = self._encoder.encode(feature.name, counted_values(feature, counts, overall))

    def latest(self, users: npt.NDArray[np.int64]) -> Columns:
        """User feature -> its index as of the end of the data, `(users,)`."""
        end = np.full(len(users), self._items.end)
        counts, overall = self.users.before(end, users), self._items.overall(end)
        features = self._schema.counted_user
        return {f.name: self._encoder.encode(f.name, counted_values(f, counts, overall)) for f in features}
