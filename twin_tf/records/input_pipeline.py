"""Prepared data to batches: a pure function of (files, seed, epoch, step).

Records of similar history length are batched together, so that little of a batch is padding. What no target of a
record can see is dropped before batching.
"""

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.features.encoders import places_in_lists
from twin_tf.features.schema import FIRST_KNOWN, UNKNOWN, FeatureSchema
from twin_tf.records import format as records
from twin_tf.records.batch import Batch, History, Targets
from twin_tf.records.format import Manifest, SplitName
from twin_tf.records.shard_files import shard_files

SHUFFLE_RECORDS = 4096
BUCKETS_PER_DOUBLING = 4
SHORTEST_BUCKET = 32

_as_it_is = tf.autograph.experimental.do_not_convert  # nothing here branches on tensors in Python
_WHOLE = {1: tf.uint8, 2: tf.uint16, 4: tf.int32, 8: tf.int64}
_UNSIGNED = {1: tf.uint8, 2: tf.uint16, 4: tf.uint32, 8: tf.uint64}
"""What TensorFlow decodes numbers of so many bytes as, and what they are."""


def make_dataset(
    manifest: Manifest,
    split: SplitName,
    window: int,
    batch_records: int,
    *,
    shuffle_seed: int | None = None,
    epoch: int = 0,
    every: int = 1,
    share: tuple[int | tf.Tensor, int] = (0, 1),
    skip: int = 0,
    requests: bool = False,
) -> tf.data.Dataset:
    """The batches of one pass over a split.

    Args:
        manifest: of the prepared data.
        split: `train`, `valid`, `test` or `histories`.
        window: behaviours that the model attends to; older ones are dropped.
        batch_records: records in a batch.
        shuffle_seed: None keeps the order of the files; otherwise order depends on this and `epoch` alone.
        epoch: which pass.
        every: take each `every`-th record alone, in the order of the files.
        share: `(i, n)` reads the i-th of n shares alone; together they hold every record once. Whole shards, where
            there are as many as shares, else every n-th record. Each share shuffles and batches what it holds.
        skip: batches to leave out at the start; they are read, but not decoded.
        requests: read the ids of requests too, of data whose schema has them: no model does.

    Returns:
        Elements are `Batch`; the last of each length bucket may be smaller. With `requests` they are pairs of it and
        int64 `(B, C)` ids, 0 for none.

    Raises:
        ConfigError: the split has no records.
    """
    schema = manifest.schema
    paths = shard_files(manifest, split)
    if not any(shard.records for shard in manifest.splits.get(split, ())):
        raise ConfigError(f"the {split} split of {manifest.place} has no records; check the split times and filters")
    if shuffle_seed is not None:
        seed = (shuffle_seed * 1_000_003 + epoch) % 2**31
        paths = [paths[i] for i in np.random.default_rng(seed).permutation(len(paths))]
    options = tf.data.Options()
    options.autotune.enabled = False  # its optimiser can hold up the end of a pass for half a minute
    options.deterministic = True
    index, shares = share
    by_file = len(paths) >= shares
    dataset = tf.data.TFRecordDataset(tf.constant(paths)[index::shares] if by_file else paths).with_options(options)
    if not by_file:
        dataset = dataset.shard(shares, index)
    if every > 1:
        dataset = dataset.shard(every, 0)
    if shuffle_seed is not None:
        dataset = dataset.shuffle(SHUFFLE_RECORDS, seed=seed, reshuffle_each_iteration=False)
    parse = _as_it_is(partial(_parse, manifest, window, requests))
    dataset = dataset.map(parse, num_parallel_calls=2, deterministic=True)
    longest = max(shard.longest for shard in manifest.splits[split])
    boundaries = _bucket_boundaries(min(longest, window + schema.targets.per_record))
    dataset = dataset.bucket_by_sequence_length(
        _as_it_is(lambda record: tf.cast(record[records.HISTORY_LENGTH], tf.int32)),
        bucket_boundaries=boundaries,
        bucket_batch_sizes=[batch_records] * (len(boundaries) + 1),
        no_padding=True,
    )
    if skip:
        dataset = dataset.skip(skip)
    decode = _as_it_is(partial(_with_requests if requests else _to_batch, manifest))
    return dataset.map(decode, num_parallel_calls=2, deterministic=True).prefetch(4)


def load_item_features(
    directory: str | Path, schema: FeatureSchema
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The catalogue.

    Args:
        directory: prepared data or a run; both hold `items/items.parquet`.
        schema: their schema.

    Returns:
        int32 `(items, columns)` by item row, rows 0 (padding) and 1 (unknown) included, with the columns of
        `schema.inherent_slices`, padded with 0 where an item has fewer values, and a column for each of
        `schema.counted_item`, as of the end of the data; int64 `(items,)` raw ids by row, -1 in
        the first two.
    """
    table = pq.read_table(Path(directory) / records.ITEMS)
    rows = table["row"].to_numpy()
    slices = schema.inherent_slices
    width = max(columns.stop for columns in slices.values())
    features = np.zeros((len(rows) + FIRST_KNOWN, width + len(schema.counted_item)), np.int32)
    features[UNKNOWN, [columns.start for columns in slices.values()]] = UNKNOWN
    for column, feature in enumerate(schema.counted_item, width):
        features[rows, column] = table[feature.name].to_numpy()
        features[:FIRST_KNOWN, column] = int(table.schema.metadata[feature.name.encode()])  # of an item without a past
    ids = np.full(len(rows) + FIRST_KNOWN, -1, np.int64)
    ids[rows] = table["id"].to_numpy()
    for name, columns in slices.items():
        if schema.feature(name).multi_valued is None:
            features[rows, columns.start] = table[name].to_numpy()
        else:
            lists = table[name].combine_chunks()
            owner, place = places_in_lists(lists.offsets.to_numpy() - lists.offsets[0].as_py())
            features[rows[owner], columns.start + place] = lists.flatten().to_numpy()
    return features, ids


def load_item_ids(directory: str | Path) -> npt.NDArray[np.int64]:
    """Raw ids by item row, int64 `(items,)`, -1 in rows 0 and 1, of prepared data or a run."""
    table = pq.read_table(Path(directory) / records.ITEMS, columns=["row", "id"])
    ids = np.full(len(table) + FIRST_KNOWN, -1, np.int64)
    ids[table["row"].to_numpy()] = table["id"].to_numpy()
    return ids


def batch_spec(schema: FeatureSchema) -> Batch:
    """The structure of `make_dataset`'s elements, every dimension free."""
    wide32, wide64 = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None], tf.int64)
    single = tf.TensorSpec([None], tf.int32)
    return Batch(
        history=History(wide32, wide64, {f.name: wide32 for f in schema.stored_cross}, single, wide32),
        targets=Targets(wide32, wide64, wide32, {f.name: wide32 for f in schema.stored_target}, single),
        user={f.name: single for f in schema.user},
        user_id=tf.TensorSpec([None], tf.int64),
        label=tf.TensorSpec([None, None], tf.float32),
        weight=tf.TensorSpec([None, None], tf.float32),
    )


def _bucket_boundaries(longest: int) -> list[int]:
    boundaries, width = [], float(SHORTEST_BUCKET)
    while width < longest:
        boundaries.append(round(width))
        width *= 2 ** (1 / BUCKETS_PER_DOUBLING)
    return boundaries


def _packed_keys(schema: FeatureSchema) -> tuple[list[str], list[str]]:
    """The keys of the packed arrays of the history and of the targets."""
    history = [records.HISTORY_ITEM, records.HISTORY_TIME, *(records.history_key(f.name) for f in schema.stored_cross)]
    history += [records.HISTORY_COUNT] if schema.history.clustered else []
    target = [records.TARGET_ITEM, records.TARGET_TIME, records.TARGET_LABEL, records.TARGET_HISTORY_END]
    target += [records.TARGET_WEIGHT] if schema.targets.weight is not None else []
    return history, target + [records.target_key(f.name) for f in schema.stored_target]


def _parse(manifest: Manifest, window: int, requests: bool, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """One record, still packed, without the behaviours that no target of it can see."""
    schema, widths = manifest.schema, manifest.widths
    history, target = _packed_keys(schema)
    target += [records.TARGET_REQUEST] if requests else []
    scalars = [records.USER_ID, records.HISTORY_LENGTH, records.TARGET_LENGTH]
    scalars += [records.user_key(f.name) for f in schema.user]
    spec: dict[str, tf.io.FixedLenFeature] = {key: tf.io.FixedLenFeature([], tf.int64) for key in scalars}
    spec.update({key: tf.io.FixedLenFeature([], tf.string) for key in (*history, *target)})
    record = tf.io.parse_single_example(serialized, spec)
    ends = _unpack(record[records.TARGET_HISTORY_END], widths[records.TARGET_HISTORY_END], tf.int32)
    length = tf.cast(record[records.HISTORY_LENGTH], tf.int32)
    first = tf.cond(tf.size(ends) > 0, lambda: tf.reduce_min(ends), lambda: length)
    dropped = tf.maximum(first - window, 0)
    for key in history:
        record[key] = tf.strings.substr(record[key], dropped * widths[key], (length - dropped) * widths[key])
    record[records.HISTORY_LENGTH] = tf.cast(length - dropped, tf.int64)
    record["dropped"] = dropped
    return record


def _unpack(packed: tf.Tensor, width: int, dtype: tf.DType, length: tf.Tensor | None = None) -> tf.Tensor:
    """What `packing.unpack` does, in the graph: `(..., n)` of `dtype`, padded with zeros to `length`."""
    size = None if length is None else length * width
    if width in _WHOLE:
        unsigned = tf.bitcast(tf.io.decode_raw(packed, _WHOLE[width], fixed_length=size), _UNSIGNED[width])
        return tf.cast(unsigned, dtype)
    data = tf.io.decode_raw(packed, tf.uint8, fixed_length=size)
    data = tf.cast(tf.reshape(data, tf.concat([tf.shape(packed), [-1, width]], 0)), dtype)
    return tf.add_n([part * (1 << 8 * place) for place, part in enumerate(tf.unstack(data, axis=-1))])


def _to_batch(manifest: Manifest, record: dict[str, tf.Tensor]) -> Batch:
    """Packed records to tensors, padded with zeros to the longest of the batch (at least one column)."""
    schema = manifest.schema
    history_length = tf.cast(record[records.HISTORY_LENGTH], tf.int32)
    target_length = tf.cast(record[records.TARGET_LENGTH], tf.int32)

    def unpack(key: str, length: tf.Tensor, dtype: tf.DType = tf.int32) -> tf.Tensor:
        return _unpack(record[key], manifest.widths[key], dtype, tf.maximum(tf.reduce_max(length), 1))

    def times(key: str, length: tf.Tensor) -> tf.Tensor:
        since_origin = unpack(key, length, tf.int64)
        real = tf.sequence_mask(length, tf.shape(since_origin)[1], tf.int64)
        return (since_origin + manifest.time_origin) * real

    items = unpack(records.HISTORY_ITEM, history_length)
    history = History(
        item=items,
        time=times(records.HISTORY_TIME, history_length),
        cross={f.name: unpack(records.history_key(f.name), history_length) for f in schema.stored_cross},
        length=history_length,
        count=unpack(records.HISTORY_COUNT, history_length) if schema.history.clustered else tf.ones_like(items),
    )
    end = unpack(records.TARGET_HISTORY_END, target_length) - record["dropped"][:, None]
    targets = Targets(
        item=unpack(records.TARGET_ITEM, target_length),
        time=times(records.TARGET_TIME, target_length),
        end=tf.maximum(end, 0),
        context={f.name: unpack(records.target_key(f.name), target_length) for f in schema.stored_target},
        count=target_length,
    )
    label = tf.cast(unpack(records.TARGET_LABEL, target_length), tf.float32)
    weight = tf.ones_like(label)
    if schema.targets.weight is not None:
        weight = tf.bitcast(unpack(records.TARGET_WEIGHT, target_length), tf.float32)
    return Batch(
        history=history,
        targets=targets,
        user={f.name: tf.cast(record[records.user_key(f.name)], tf.int32) for f in schema.user},
        user_id=record[records.USER_ID],
        label=label,
        weight=weight,
    )


def _with_requests(manifest: Manifest, record: dict[str, tf.Tensor]) -> tuple[Batch, tf.Tensor]:
    """The batch, and the request of each target."""
    batch = _to_batch(manifest, record)
    width = manifest.widths[records.TARGET_REQUEST]
    return batch, _unpack(record[records.TARGET_REQUEST], width, tf.int64, tf.shape(batch.label)[1])
