"""Prepared data to batches: a pure function of (files, seed, epoch, step).

Nothing here runs once a record: records are parsed by the chunk, and what no target of a record can see is dropped at
once. A pool of what is left, bounded in memory, is put in order as a whole: shuffled, records of similar history length
next to each other, so that little of a batch is padding. Batches are cut from the pool.
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

CHUNK_RECORDS = 64
"""Records that are parsed at once, whole, before what is not seen is dropped."""
POOL_RECORDS = 16_384
POOL_MB = 512
"""A pool holds at most so many records, and takes at most so much memory in all its stages."""
POOL_COPIES = 4
"""Of a pool's records: gathered, put in order, being cut, and one pool ahead."""
FILES_AT_ONCE = 8
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
    pool_mb: int = POOL_MB,
) -> tf.data.Dataset:
    """The batches of one pass over a split.

    Args:
        manifest: of the prepared data.
        split: `train`, `valid`, `test` or `histories`.
        window: behaviours that the model attends to; older ones are dropped.
        batch_records: records in a batch.
        shuffle_seed: None keeps the order of the files as far as records of similar length share a batch; otherwise
            order depends on this, `epoch` and `pool_mb` alone.
        epoch: which pass.
        every: take each `every`-th record alone, in the order of the files.
        share: `(i, n)` reads the i-th of n shares alone; together they hold every record once. Whole shards, where
            there are as many as shares, else every n-th record. Each share shuffles and batches what it holds.
        skip: batches to leave out at the start; they are read, but not decoded.
        requests: read the ids of requests too, of data whose schema has them: no model does.
        pool_mb: memory, in MB, of the records that are shuffled and batched together, after what is not seen has been
            dropped.

    Returns:
        Elements are `Batch`; all but the last have `batch_records` records. With `requests` they are pairs of it and
        int64 `(B, C)` ids, 0 for none.

    Raises:
        ConfigError: the split has no records.
    """
    paths = shard_files(manifest, split)
    if not any(shard.records for shard in manifest.splits.get(split, ())):
        raise ConfigError(f"the {split} split of {manifest.place} has no records; check the split times and filters")
    seed = None
    if shuffle_seed is not None:
        seed = (shuffle_seed * 1_000_003 + epoch) % 2**31
        paths = [paths[i] for i in np.random.default_rng(seed).permutation(len(paths))]
    options = tf.data.Options()
    options.autotune.enabled = False  # its optimiser can hold up the end of a pass for half a minute
    options.deterministic = True
    index, shares = share
    by_file = len(paths) >= shares
    files = tf.data.Dataset.from_tensor_slices(tf.constant(paths)[index::shares] if by_file else tf.constant(paths))
    at_once = 1 if seed is None else FILES_AT_ONCE
    dataset = files.interleave(_as_it_is(tf.data.TFRecordDataset), cycle_length=at_once).with_options(options)
    if not by_file:
        dataset = dataset.shard(shares, index)
    if every > 1:
        dataset = dataset.shard(every, 0)
    pool = pool_records(manifest, split, window, batch_records, pool_mb)
    boundaries = _bucket_boundaries(_longest(manifest, split, window))
    dataset = (
        dataset.batch(min(CHUNK_RECORDS, pool))
        .map(_as_it_is(partial(_parse, manifest, window, requests)), num_parallel_calls=2, deterministic=True)
        .rebatch(pool)
        .enumerate()
        .map(_as_it_is(partial(_in_order, boundaries, batch_records, seed)), num_parallel_calls=1, deterministic=True)
        .rebatch(batch_records)
    )
    if skip:
        dataset = dataset.skip(skip)
    decode = _as_it_is(partial(_with_requests if requests else _to_batch, manifest))
    return dataset.map(decode, num_parallel_calls=2, deterministic=True).prefetch(4)


def pool_records(manifest: Manifest, split: SplitName, window: int, batch_records: int, pool_mb: int = POOL_MB) -> int:
    """How many records of a split are shuffled and batched together: whole batches, and at least one.

    Args:
        manifest: of the prepared data.
        split: whose records.
        window: see `make_dataset`.
        batch_records: records in a batch.
        pool_mb: see `make_dataset`. The bound holds if every record is as long as the split's longest.
    """
    schema, widths = manifest.schema, manifest.widths
    history, target = _packed_keys(schema)
    per_record = schema.targets.per_record
    a_behaviour, a_target = (sum(widths[key] for key in keys) for keys in (history, target))
    largest = _longest(manifest, split, window) * a_behaviour + per_record * a_target
    fitting = min(POOL_RECORDS, pool_mb * 2**20 // (POOL_COPIES * largest))
    return batch_records * max(1, fitting // batch_records)


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


def _longest(manifest: Manifest, split: SplitName, window: int) -> int:
    """Behaviours of the longest record, without what no target of it sees."""
    return min(max(shard.longest for shard in manifest.splits[split]), window + manifest.schema.targets.per_record)


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
    """A chunk of records, still packed, without the behaviours that no target of a record can see."""
    schema, widths = manifest.schema, manifest.widths
    history, target = _packed_keys(schema)
    target += [records.TARGET_REQUEST] if requests else []
    scalars = [records.USER_ID, records.HISTORY_LENGTH, records.TARGET_LENGTH]
    scalars += [records.user_key(f.name) for f in schema.user]
    spec: dict[str, tf.io.FixedLenFeature] = {key: tf.io.FixedLenFeature([], tf.int64) for key in scalars}
    spec.update({key: tf.io.FixedLenFeature([], tf.string) for key in (*history, *target)})
    record = tf.io.parse_example(serialized, spec)
    length, targets = (tf.cast(record[key], tf.int32) for key in (records.HISTORY_LENGTH, records.TARGET_LENGTH))
    most = tf.maximum(tf.reduce_max(targets), 1)
    ends = _unpack(record[records.TARGET_HISTORY_END], widths[records.TARGET_HISTORY_END], tf.int32, most)
    ends = tf.where(tf.sequence_mask(targets, most), ends, length[:, None])
    dropped = tf.maximum(tf.reduce_min(ends, 1) - window, 0)
    kept = length - dropped
    for key in history:
        record[key] = tf.strings.substr(record[key], dropped * widths[key], kept * widths[key])
    record[records.HISTORY_LENGTH] = tf.cast(kept, tf.int64)
    record["dropped"] = dropped
    return record


def _in_order(
    boundaries: list[int], batch_records: int, seed: int | None, number: tf.Tensor, pool: dict[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """The records of a pool in batches of like length: shuffled with a seed, else in the order of first records."""
    lengths = tf.cast(pool[records.HISTORY_LENGTH], tf.int32)
    buckets, size = tf.searchsorted(tf.constant(boundaries, tf.int32), lengths, side="right"), tf.size(lengths)

    def draw(which: int, shape: list[int | tf.Tensor]) -> tf.Tensor:
        return tf.random.stateless_uniform(shape, tf.stack([tf.constant(seed, tf.int64), 3 * number + which]))

    order = tf.range(size) if seed is None else tf.argsort(draw(0, [size]))
    order = tf.gather(order, tf.argsort(tf.gather(buckets, order), stable=True))
    # The last batch may be smaller: shuffled, it takes any stretch of lengths. The others are whole.
    rest = size % batch_records
    start = size - rest if seed is None else tf.cast(draw(1, []) * tf.cast(size - rest + 1, tf.float32), tf.int32)
    whole = tf.reshape(tf.concat([order[:start], order[start + rest :]], 0), [-1, batch_records])
    turn = tf.reduce_min(whole, 1) if seed is None else draw(2, [tf.shape(whole)[0]])
    whole = tf.gather(whole, tf.argsort(turn))
    order = tf.concat([tf.reshape(whole, [-1]), order[start : start + rest]], 0)
    return {key: tf.gather(values, order) for key, values in pool.items()}


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
