"""Rows on their way from the reading to the writing step: what the event batches of a user shard hold.

The shuffle carries event batches, never single events (`batch_bytes` says how). Each is of one kind:

| kind | columns |
|---|---|
| `events` | `user`, `item`, `time` int64; `flags` int8; `x/<feature>` stored of behaviour and target; see below |
| `previous` | the same of behaviours, and `earlier`, from an earlier run's histories; `x/<feature>` is an index |
| `users`, `previous_users` | `id` int64 and `raw/<column>` of the users log |
| `previous_days` | `day_counts.DayCounts.table` of users |
| `items` | of a part of the items: `id` int64, `raw/<column>` of the items log but an id that is a whole number |
| `previous_items` | likewise: the columns of `state/items.parquet` and `row` int64, its row in the catalogue |

In `events` alone, `weight` (float32) is there if the schema weighs its targets; other events may have none. `split`
(int8: the place in `TARGET_SPLITS`, -1 without) is there if a column says how to split, `/request` (int64, see
`request_ids`) if one names requests. `x/<feature>/number` (float32) is the raw number of a cross feature whose values
are kept. `earlier` says, on the first row of each user, how many behaviours older than the stored ones the user had.

If rows hold collected histories, `events` have the columns `COLLECTED`, `BACK` and `LENGTH` of `raw_columns` until a
shard is together (`collected_histories`), and a time of -1 where such a row has none.

In `events`, `x/<feature>` is an index where the schema alone says how to encode it (hash, identity, given boundaries),
else the raw value: text or whole numbers as an Arrow dictionary, floats as they are.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines.examples.user_hash import mixed
from beam_pipelines.raw_logs.label_values import clicked
from beam_pipelines.raw_logs.raw_columns import BACK, COLLECTED, LENGTH, matches
from twin_tf.features.encoders import FeatureEncoder, encode_ids
from twin_tf.features.schema import Feature, FeatureSchema, IdColumn
from twin_tf.records.format import TARGET_SPLITS

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

LABEL, BEHAVIOUR, TARGET = 1, 2, 4
VALUE = "x/"
WEIGHT = "weight"
SPLIT = "split"
REQUEST = "/request"  # no feature can be called so
NO_TIME = -1


def number_column(feature: str) -> str:
    """The column of the raw numbers of a cross feature whose values are kept; no feature can be called so."""
    return f"{VALUE}{feature}/number"


def request_ids(column: IdColumn, values: pa.ChunkedArray) -> Ints:
    """Which request each row belongs to, as records keep it.

    Args:
        column: the schema's.
        values: of it, null where a row belongs to none.

    Returns:
        `(rows,)`, 0 for none, else above 0: text through `hash_id`, a whole number as it is, or a hash of one below 1.
    """
    known = values.is_valid().to_numpy()
    ids = np.zeros(len(values), np.int64)
    ids[known] = encode_ids(column, values.drop_null())
    low = known & (ids < 1)
    ids[low] = np.maximum((mixed(ids[low]) >> np.uint64(1)).view(np.int64), 1)
    return ids


class EventReducer:
    """Typed rows of the events log -> the columns of event batches of kind `events`.

    Args:
        schema: the schema.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        self._schema = schema
        self._features = (*schema.stored_cross, *schema.logged_target)
        self._encoder = FeatureEncoder(schema, {f.name: [] for f in schema.features if f.encoding_or_fail.fitted})

    def reduce(self, rows: pa.Table) -> pa.Table:
        """Keeps the rows that are a behaviour or a target, and what is needed of them."""
        events = self._schema.events
        behaviour = matches(rows, self._schema.history.where)
        target = matches(rows, self._schema.targets.where)
        label = clicked(events.label, rows[events.label.column])
        if events.collected_history is not None:
            collected = rows[COLLECTED].to_numpy()
            label, behaviour, target = label | collected, behaviour | collected, target & ~collected
        flags = (label * LABEL + behaviour * BEHAVIOUR + target * TARGET).astype(np.int8)
        keep = behaviour | target
        if not keep.all():
            rows, flags = rows.filter(pa.array(keep)), flags[keep]
        columns = {
            "user": pa.array(encode_ids(events.user, rows[events.user.column])),
            "item": pa.array(encode_ids(events.item, rows[events.item.column])),
            "time": rows[events.time.column],
            "flags": pa.array(flags),
        }
        for feature in self._features:
            columns[VALUE + feature.name] = self._value(feature, rows[feature.column])
        for feature in self._schema.kept_values:
            columns[number_column(feature.name)] = rows[feature.column].cast(pa.float32(), safe=False)
        if self._schema.targets.weight is not None:
            columns[WEIGHT] = rows[self._schema.targets.weight].cast(pa.float32())
        if self._schema.split.column is not None:
            place = pc.index_in(rows[self._schema.split.column], pa.array(TARGET_SPLITS))
            columns[SPLIT] = pc.fill_null(place, -1).cast(pa.int8())
        if events.request is not None:
            columns[REQUEST] = pa.array(request_ids(events.request, rows[events.request.column]))
        if events.collected_history is not None:
            columns["time"] = columns["time"].fill_null(NO_TIME)
            columns |= {name: rows[name] for name in (COLLECTED, BACK, LENGTH)}
        return pa.table(columns)

    def _value(self, feature: Feature, values: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        encoding = feature.encoding_or_fail
        if not encoding.fitted:
            index = self._encoder.encode(feature.name, values.combine_chunks())
            return pa.array(index).cast(smallest_type(encoding.cardinality()))
        return values.dictionary_encode() if encoding.kind == "vocabulary" else values


def smallest_type(cardinality: int) -> pa.DataType:
    """The narrowest unsigned type for indices below `cardinality`."""
    return pa.uint8() if cardinality <= 1 << 8 else pa.uint16() if cardinality <= 1 << 16 else pa.uint32()


def first_of_duplicates(events: pa.Table, previous: list[pa.Table]) -> Mask:
    """Which events stay when one of each user, item and time may.

    An event of an earlier run comes before all others, then clicks, targets, behaviours, then the smallest values; so
    the choice does not depend on the order of the rows.

    Args:
        events: of one shard.
        previous: behaviours of an earlier run, of the same shard.

    Returns:
        `(events,)`.
    """
    flags = events["flags"].to_numpy()
    score = (flags & LABEL) * 4 + (flags & TARGET) // 2 + (flags & BEHAVIOUR) // 2
    keys = [events[name].to_numpy() for name in ("user", "time", "item")]
    if previous:
        keys = [np.concatenate([k, *(p[n].to_numpy() for p in previous)]) for k, n in zip(keys, _KEYS, strict=True)]
        score = np.concatenate([score, np.full(len(keys[0]) - len(score), 9, np.int8)])
    order = np.lexsort([-score, keys[2], keys[1], keys[0]])
    new = np.ones(len(order), bool)
    if len(order):
        new[1:] = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)
    group = np.cumsum(new) - 1
    best = score[order][new][group]
    keep = np.zeros(len(order), bool)
    tied = np.bincount(group, weights=score[order] == best).astype(np.int64)
    keep[order[new]] = True
    doubtful = order[(tied[group] > 1) & (score[order] == best) & (best < 9)]
    if len(doubtful):
        keep[doubtful] = False
        keep[_smallest(events, doubtful)] = True
    return keep[: events.num_rows]


_KEYS = ("user", "time", "item")


def _smallest(events: pa.Table, rows: Ints) -> Ints:
    """Of rows that differ in their values alone, the first of each user, time and item in the order of the values."""
    columns = {}
    for name in events.column_names:
        column = events[name].take(pa.array(rows))
        columns[name] = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    table = pa.table(columns)
    values = (name for name in table.column_names if name.startswith(VALUE) or name in (WEIGHT, SPLIT, REQUEST))
    names = [*_KEYS, *values]
    order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in names]).to_numpy()
    keys = [table[name].to_numpy()[order] for name in _KEYS]
    new = np.r_[True, np.any([key[1:] != key[:-1] for key in keys], axis=0)]
    return rows[order[new]]
