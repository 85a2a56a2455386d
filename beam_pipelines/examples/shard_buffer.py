"""Rows on their way to the shuffle, gathered over a whole bundle so that thousands of shards get batches worth it.

With 2,000 shards a chunk of 250,000 rows would be cut into batches of 125 rows, each of them mostly schema.
"""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindows

from beam_pipelines.examples.batch_bytes import EventBatch, Kind, cut_by_shard

BUFFER_BYTES = 128 << 20
"""Rows that wait for their shards' batches, at most, of each thread that reads; while it cuts it holds thrice that."""
ENOUGH_BYTES = 64 << 10
"""Rows of a shard that are worth a batch of their own: about a thousand."""


class ShardBuffer:
    """Tables of one kind, gathered until each shard's rows are worth a batch: the more shards, the longer.

    Args:
        kind: of the tables.
        shards: how many shards users are spread over.
    """

    def __init__(self, kind: Kind, shards: int) -> None:
        self._kind: Kind = kind
        self._shards = shards
        self._tables: list[pa.Table] = []
        self._bytes = 0

    def add(self, table: pa.Table) -> Iterator[tuple[int, EventBatch]]:
        """Takes a table; yields (shard, event batch) of all that has been gathered once that is enough."""
        self._tables.append(table)
        self._bytes += table.nbytes
        if self._bytes >= min(BUFFER_BYTES, self._shards * ENOUGH_BYTES):
            yield from self.flush()

    def flush(self) -> Iterator[tuple[int, EventBatch]]:
        """Yields (shard, event batch) of all that has been gathered."""
        tables, self._tables, self._bytes = self._tables, [], 0
        if tables:
            table = pa.concat_tables(tables)
            tables.clear()
            yield from cut_by_shard(self._kind, table, self._shards)


class ToShards(beam.DoFn):
    """A step that reads tables and yields (user shard, event batch); what waits at the end of a bundle goes with it.

    Args:
        shards: how many shards users are spread over.
    """

    def __init__(self, shards: int) -> None:
        self._shards = shards

    def start_bundle(self) -> None:
        """Begins with nothing; what a failed bundle had gathered is lost with it, and read again."""
        self._buffers: dict[Kind, ShardBuffer] = {}

    def to_shards(self, kind: Kind, table: pa.Table) -> Iterator[tuple[int, EventBatch]]:
        """Takes a table; yields the event batches that are ready."""
        if kind not in self._buffers:
            self._buffers[kind] = ShardBuffer(kind, self._shards)
        yield from self._buffers[kind].add(table)

    def finish_bundle(self) -> Iterator[Any]:
        """Yields the rest."""
        for buffer in self._buffers.values():
            yield from map(GlobalWindows.windowed_value, buffer.flush())
