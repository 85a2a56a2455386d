"""Records as NumPy arrays, in the order of the files: for what looks at data without a model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from twin_tf.core.keras_api import tf
from twin_tf.records import format as records
from twin_tf.records.format import SPLITS, Manifest, SplitName
from twin_tf.records.packing import unpack
from twin_tf.records.shard_files import shard_files

RECORDS_AT_ONCE = 64
_TIMES = (records.HISTORY_TIME, records.TARGET_TIME)

Ints = npt.NDArray[np.int64]


def read_records(
    manifest: Manifest, split: SplitName, keys: Sequence[str], every: int = 1
) -> Iterator[tuple[int, dict[str, Ints]]]:
    """The records of a split.

    Args:
        manifest: of the prepared data.
        split: which records.
        keys: of packed arrays, see `twin_tf.records.format`.
        every: take each `every`-th record alone.

    Yields:
        The raw user id, and key -> int64 `(n,)`; times are those of the logs.

    Raises:
        ConfigError: a shard is missing or is not the one that the manifest lists.
    """
    spec: dict[str, Any] = {key: tf.io.FixedLenFeature([], tf.string) for key in keys}
    spec[records.USER_ID] = tf.io.FixedLenFeature([], tf.int64)
    paths = shard_files(manifest, split)
    dataset = tf.data.TFRecordDataset(paths) if paths else tf.data.Dataset.from_tensor_slices(np.zeros(0, "S1"))
    dataset = dataset.shard(every, 0).batch(RECORDS_AT_ONCE)
    origin = {key: manifest.time_origin if key in _TIMES else 0 for key in keys}
    for batch in dataset.map(lambda serialized: tf.io.parse_example(serialized, spec)).as_numpy_iterator():
        for place, user in enumerate(batch[records.USER_ID].tolist()):
            yield user, {key: unpack(batch[key][place], manifest.widths[key]) + origin[key] for key in keys}


class TargetColumns(NamedTuple):
    """Targets of some splits, `(n,)` each, in the order of the files.

    Attributes:
        split: int8 place in `SPLITS`.
        record: int32 number of the record in its split.
        user: int64 raw user ids.
        item: int32 item rows.
        time: int64, in the unit of the logs.
        label: int8, 0 or 1.
        request: int64 ids, 0 for none; empty where the data have none, see `Events.request`.
    """

    split: npt.NDArray[np.int8]
    record: npt.NDArray[np.int32]
    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int32]
    time: npt.NDArray[np.int64]
    label: npt.NDArray[np.int8]
    request: npt.NDArray[np.int64] = np.zeros(0, np.int64)

    def of(self, split: SplitName) -> npt.NDArray[np.bool_]:
        """Which targets are of a split."""
        return self.split == SPLITS.index(split)


def read_targets(
    manifest: Manifest, splits: Sequence[SplitName], every: Mapping[SplitName, int] | None = None
) -> TargetColumns:
    """The targets of some splits, 26 bytes each, 8 more where the data have ids of requests.

    Args:
        manifest: of the prepared data.
        splits: which; an empty one has none.
        every: of a split each so manieth record is taken alone; all of one that is not named.
    """
    keys = [records.TARGET_ITEM, records.TARGET_TIME, records.TARGET_LABEL]
    keys += [records.TARGET_REQUEST] if manifest.schema.events.request is not None else []
    empty_columns: list[npt.NDArray[Any]] = list(_NO_TARGETS)
    none = tuple(empty_columns[: 3 + len(keys)])
    parts = [none]
    for split in splits:
        step = (every or {}).get(split, 1)
        for number, (user, record) in enumerate(read_records(manifest, split, keys, step)):
            count, same = len(record[records.TARGET_ITEM]), (SPLITS.index(split), number * step, user)
            parts.append((*(np.full(count, value) for value in same), *(record[key] for key in keys)))
    columns = zip(none, zip(*parts, strict=True), strict=True)
    return TargetColumns(*(np.concatenate(column).astype(empty.dtype) for empty, column in columns))


def read_users(manifest: Manifest, split: SplitName) -> Ints:
    """Who has targets in a split: raw user ids, int64, rising, each once."""
    users = {user for user, _ in read_records(manifest, split, ())}
    return np.array(sorted(users), np.int64)


_NO_TARGETS = TargetColumns(*(np.zeros(0, dtype) for dtype in ("i1", "i4", "i8", "i4", "i8", "i1")))
