"""Records of raw histories to records of clustered ones: every target with the last clustering before it."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from beam_pipelines.clustering.cluster_user import Behaviours, HistoryClusterer, joined
from twin_tf.config import ClusterConfig
from twin_tf.features.schema import FeatureSchema
from twin_tf.records import format as keys
from twin_tf.records.format import Manifest
from twin_tf.records.packing import from_bits, pack, unpack, width_of

Ints = npt.NDArray[np.int64]
Example = Mapping[str, int | bytes]

_DAY = 86_400


def clustering_moments(manifest: Manifest, settings: ClusterConfig) -> tuple[int, ...]:
    """When histories are clustered: where the splits begin, every `period_days`, and behind the latest event.

    Args:
        manifest: of the prepared data.
        settings: how to cluster.
    """
    period = max(1, round(settings.period_days * _DAY * manifest.schema.events.time.per_second))
    split, end = manifest.split, manifest.last_time + 1
    first = split.valid_from - (split.valid_from - manifest.time_origin) // period * period
    moments = {moment for moment in (*range(first, end, period), split.valid_from, split.test_from) if moment < end}
    return tuple(sorted({*moments, end}))


def clustered_widths(manifest: Manifest, settings: ClusterConfig) -> dict[str, int]:
    """Packed key -> bytes a value, of clustered records."""
    gone = {keys.value_key(f.name) for f in manifest.schema.kept_values}
    gone |= {keys.pending_key(f.name) for f in manifest.schema.stored_cross}
    kept = {key: width for key, width in manifest.widths.items() if key not in gone}
    return {**kept, keys.HISTORY_COUNT: width_of(settings.gamma)}


class RecordClusterer:
    """Clusters the records of one split, given in their order: by user and time.

    A user's behaviours before a moment are clustered once, when the first record with a target behind it comes.

    Args:
        schema: of the raw records.
        manifest: of them.
        clusterer: of histories.
        settings: how to cluster.
    """

    def __init__(
        self, schema: FeatureSchema, manifest: Manifest, clusterer: HistoryClusterer, settings: ClusterConfig
    ) -> None:
        self._schema = schema
        self._manifest = manifest
        self._clusterer = clusterer
        self._settings = settings
        self._moments = np.array(clustering_moments(manifest, settings), np.int64)
        self._widths = clustered_widths(manifest, settings)
        self._last: tuple[int, int, Behaviours, Ints] | None = None

    def compress(self, record: Example) -> Iterator[tuple[Example, int, int, int]]:
        """A record in as many as there are clusterings that its targets attend to.

        Yields:
            Each with its entries, its targets, and the behaviours that the entries stand for. A record without targets
            (of `histories/`) gives one, of everything there is.
        """
        history, count = self.history(record), _whole(record, keys.TARGET_LENGTH)
        if not count:
            entries, _ = self.entries(record, history, int(self._moments[-1]), len(history))
            yield self._packed(record, entries, slice(0, 0), np.zeros(0, np.int64)), len(entries), 0, len(history)
            return
        ends = self._array(record, keys.TARGET_HISTORY_END)
        moments = self.moments(self._array(record, keys.TARGET_TIME) + self._manifest.time_origin)
        starts = np.flatnonzero(np.r_[True, moments[1:] != moments[:-1]])
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), count], strict=True):
            entries, _ = self.entries(record, history, int(moments[start]), int(ends[stop - 1]))
            end = ends[start:stop] + len(entries) - int(ends[stop - 1])
            stands_for = int(entries.count.sum())
            yield self._packed(record, entries, slice(start, stop), end), len(entries), stop - start, stands_for

    def moments(self, times: Ints) -> Ints:
        """The last moment of clustering before targets shown at `times`; the beginning of time where there is none."""
        return np.r_[self._manifest.time_origin, self._moments][np.searchsorted(self._moments, times, side="right")]

    def entries(self, record: Example, history: Behaviours, moment: int, stop: int) -> tuple[Behaviours, Ints]:
        """The first `stop` behaviours: those before the moment in clusters, but for the latest; the rest as it is.

        Args:
            record: whose `user/id` counts.
            history: of `history(record)`.
            moment: of clustering.
            stop: how many behaviours.

        Returns:
            The entries, and the entry of each of the `stop` behaviours, -1 where it is older than the longest history.
        """
        before = int(np.searchsorted(history.time[:stop], moment, side="left"))
        user = _whole(record, keys.USER_ID)
        if self._last is None or self._last[:2] != (user, moment):
            first = max(0, before - self._schema.history.max_length)
            old = max(before - self._settings.recent, first)
            clusters, place = self._clusterer.compress(history.at(slice(first, old)))
            places = np.concatenate([np.full(first, -1), place, len(clusters) + np.arange(before - old)])
            self._last = (user, moment, joined([clusters, history.at(slice(old, before))]), places)
        older, places = self._last[2:]
        since = len(older) + np.arange(stop - before)
        return joined([older, history.at(slice(before, stop))]), np.r_[places[len(places) - before :], since]

    def history(self, record: Example) -> Behaviours:
        """A record's behaviours."""
        schema, length = self._schema, _whole(record, keys.HISTORY_LENGTH)
        return Behaviours(
            self._array(record, keys.HISTORY_ITEM),
            self._array(record, keys.HISTORY_TIME) + self._manifest.time_origin,
            {f.name: self._array(record, keys.history_key(f.name)) for f in schema.stored_cross},
            {f.name: from_bits(self._array(record, keys.value_key(f.name))) for f in schema.kept_values},
            np.ones(length, np.int64),
        )

    def _array(self, record: Example, key: str) -> Ints:
        data = record[key]
        assert isinstance(data, bytes)
        return unpack(data, self._manifest.widths[key])

    def _packed(self, record: Example, entries: Behaviours, targets: slice, ends: Ints) -> Example:
        """The record with other entries and some of its targets."""
        columns = {
            keys.HISTORY_ITEM: entries.item,
            keys.HISTORY_TIME: entries.time - self._manifest.time_origin,
            keys.HISTORY_COUNT: entries.count,
            keys.TARGET_HISTORY_END: ends,
            **{keys.history_key(name): index for name, index in entries.cross.items()},
        }
        packed: dict[str, int | bytes] = {key: pack(column, self._widths[key]) for key, column in columns.items()}
        packed.update({keys.HISTORY_LENGTH: len(entries), keys.TARGET_LENGTH: targets.stop - targets.start})
        for key, value in record.items():
            if key in packed or (isinstance(value, bytes) and key not in self._widths):
                continue
            if isinstance(value, bytes):
                value = value[targets.start * self._widths[key] : targets.stop * self._widths[key]]
            packed[key] = value
        return packed


def _whole(record: Example, key: str) -> int:
    value = record[key]
    assert isinstance(value, int)
    return value
