"""Tables of rows to the bytes that the shuffle carries, cut by user shard, and back.

An event batch is a byte for its kind, the size of what follows before compression (8 bytes), and an Arrow IPC stream,
compressed whole with LZ4: a small batch is mostly its schema, which so costs little.

All shards of a table are cut at once. The stream is that of a record batch with a row a shard, in which every column is
a list of the shard's values; a shard's event batch is that one row. A dictionary column is cut to the values that the
shard has: its indices are one list, the values another (of text the lengths and the joined text, since ends of text
compress badly). So an event costs about the same whether it shares its batch with a million others or with a hundred.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines.examples.user_hash import shard_of

Kind = Literal["events", "previous", "users", "previous_users", "previous_days", "items", "previous_items"]
EventBatch = bytes
Ints = npt.NDArray[np.int64]

_USER: Mapping[Kind, str] = {
    "events": "user",
    "previous": "user",
    "users": "id",
    "previous_users": "id",
    "previous_days": "key",
    "items": "id",
    "previous_items": "id",
}
"""The column whose id, of a user or an item, says which shard or part a row belongs to."""

_KINDS: tuple[Kind, ...] = tuple(_USER)
_SIZE_BYTES = 8
_CODEC = pa.Codec("lz4_raw")
_RUN_ROWS = 1 << 15
_NO_BYTES = pa.py_buffer(b"")
_DICTIONARY, _LENGTHS, _TEXT = b"dictionary", b"lengths", b"text"  # what a field behind a column's own holds of it


def cut_by_shard(kind: Kind, table: pa.Table, shards: int) -> Iterator[tuple[int, EventBatch]]:
    """Cuts rows by the shard of their users; yields (shard, event batch). The rows of a user are together in it."""
    users = table[_USER[kind]].to_numpy()
    order = np.argsort(users, kind="stable")
    shard = shard_of(users[order], shards)
    by_shard = np.argsort(shard.astype(np.uint16) if shards <= 1 << 16 else shard, kind="stable")  # radix of 16 bits
    present, starts = np.unique(shard[by_shard], return_index=True)
    table = table.unify_dictionaries().take(pa.array(order[by_shard]))
    batches = _event_batches(kind, table, np.append(starts, table.num_rows))
    yield from zip(present.tolist(), batches, strict=True)


def to_event_batch(kind: Kind, table: pa.Table) -> EventBatch:
    """A whole table as bytes."""
    return next(_event_batches(kind, table.unify_dictionaries(), np.array([0, table.num_rows])))


def from_event_batches(
    event_batches: Iterable[EventBatch], *kinds: Kind, columns: Container[str] | None = None
) -> Iterator[tuple[Kind, pa.Table]]:
    """The tables of event batches of some kinds; what else there is stays compressed.

    Args:
        event_batches: of any kinds.
        kinds: those that are wanted.
        columns: those that are wanted, where a table has them; None: all.

    Yields:
        Kind and table.
    """
    for event_batch in event_batches:
        kind = _KINDS[event_batch[0]]
        if kind in kinds:
            yield kind, _table(event_batch, columns)


def group_by_kind(event_batches: Iterable[EventBatch], *kinds: Kind) -> dict[Kind, list[pa.Table]]:
    """The tables of the wanted kinds; every wanted kind is a key."""
    found: dict[Kind, list[pa.Table]] = {kind: [] for kind in kinds}
    for kind, table in from_event_batches(event_batches, *kinds):
        found[kind].append(table)
    return found


def _event_batches(kind: Kind, table: pa.Table, ends: Ints) -> Iterator[EventBatch]:
    """The event batch of each part of a table; `ends` `(parts + 1,)` are the rows where they begin and end."""
    fields: list[pa.Field] = []
    columns: list[pa.Array] = []

    def add(name: str, values: pa.Array, bounds: Ints, part: bytes | None = None) -> None:
        columns.append(pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), values))
        fields.append(pa.field(name, columns[-1].type, metadata=None if part is None else {"part": part}))

    for name in table.column_names:
        column = _one_array(table[name])
        if not pa.types.is_dictionary(column.type):
            add(name, column, ends)
            continue
        indices, values, bounds = _cut_dictionary(column, ends)
        add(name, indices, ends)
        if not pa.types.is_string(values.type):
            add(name, values, bounds, _DICTIONARY)
            continue
        add(name, pc.binary_length(values), bounds, _LENGTHS)
        _, offsets, text = values.buffers()
        characters = np.frombuffer(offsets, np.int32)[bounds + values.offset]
        add(name, pa.Array.from_buffers(pa.uint8(), int(characters[-1]), [None, text or _NO_BYTES]), characters, _TEXT)
    schema = pa.schema(fields)
    head, whole = schema.serialize().to_pybytes(), pa.RecordBatch.from_arrays(columns, schema=schema)
    kind_byte = bytes((_KINDS.index(kind),))
    for part in range(len(ends) - 1):
        stream = head + whole.slice(part, 1).serialize().to_pybytes()
        yield kind_byte + len(stream).to_bytes(_SIZE_BYTES, "little") + _CODEC.compress(stream, asbytes=True)


def _cut_dictionary(column: pa.DictionaryArray, ends: Ints) -> tuple[pa.Array, pa.Array, Ints]:
    """A dictionary for each part of a column.

    Returns:
        The index of each row in its part's dictionary, all dictionaries one after another, where each begins and ends.
    """
    size, rows = max(len(column.dictionary), 1), np.diff(ends)
    wanted = pc.add(column.indices.cast(pa.int64()), pa.array(np.repeat(np.arange(len(rows)) * size, rows)))
    keys, places, known = [np.zeros(0, np.int64)], [pa.array([], pa.int64())], 0
    for first, last in _some_at_a_time(ends):  # else the table of keys outgrows the processor's cache
        found = wanted.slice(first, last - first).dictionary_encode()  # in the order of rows: a part's are together
        keys.append(found.dictionary.to_numpy())
        places.append(pc.add(found.indices.cast(pa.int64()), known))
        known += len(keys[-1])
    every = np.concatenate(keys)
    bounds = np.searchsorted(every // size, np.arange(len(ends)))
    local = pc.subtract(pa.concat_arrays(places), pa.array(np.repeat(bounds[:-1], rows)))
    longest = int(np.diff(bounds).max(initial=0))
    narrow = pa.uint8() if longest <= 1 << 8 else pa.uint16() if longest <= 1 << 16 else pa.int32()
    return local.cast(narrow), column.dictionary.take(pa.array(every % size)), bounds


def _some_at_a_time(ends: Ints) -> Iterator[tuple[int, int]]:
    """Runs of whole parts of about `_RUN_ROWS` rows: first row, and one past the last."""
    first = int(ends[0])
    for end in ends[1:].tolist():
        if end - first >= _RUN_ROWS or (end == ends[-1] and end > first):
            yield first, end
            first = end


def _table(event_batch: EventBatch, wanted: Container[str] | None) -> pa.Table:
    """The inverse of `_event_batches` for one of them."""
    size = int.from_bytes(event_batch[1 : 1 + _SIZE_BYTES], "little")
    stream = _CODEC.decompress(memoryview(event_batch)[1 + _SIZE_BYTES :], size)
    batch = pa.ipc.open_stream(stream).read_next_batch()
    columns: dict[str, pa.Array] = {}
    lengths = None
    for place, field in enumerate(batch.schema):
        if wanted is not None and field.name not in wanted:
            continue
        column = batch.column(place)
        values = column.values  # of the one row, which Arrow wrote without the others
        part = (field.metadata or {}).get(b"part")
        if part is None:
            columns[field.name] = values
        elif part == _LENGTHS:
            lengths = values
        else:
            if part == _TEXT:
                values = _texts(lengths, values)
            columns[field.name] = pa.DictionaryArray.from_arrays(columns[field.name].cast(pa.int32()), values)
    return pa.table(columns)


def _texts(lengths: pa.Array, joined: pa.Array) -> pa.StringArray:
    """Texts from the bytes of each and all their bytes."""
    ends = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths.to_numpy(), out=ends[1:])
    text = joined.buffers()[1].slice(joined.offset) if len(joined) else _NO_BYTES
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(ends), text)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece; `combine_chunks` may leave it chunked, and of nothing no piece at all."""
    found = column.combine_chunks()
    if isinstance(found, pa.ChunkedArray):
        found = found.chunk(0) if found.num_chunks else pa.array([], column.type)
    return found
