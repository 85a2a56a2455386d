"""Parquet files: a chunk is a row group; rows go through `raw_columns.conform` in batches."""

import dataclasses
import json
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipelines.raw_logs.column_kinds import kinds_of
from beam_pipelines.raw_logs.log_blocks import Block, Chunk, Dead, LogFile, empty_block
from beam_pipelines.raw_logs.raw_columns import LogColumns, conform

BATCH_ROWS = 1 << 18


def plan_row_groups(file: LogFile, stream: BinaryIO) -> list[Chunk]:
    """A chunk per row group; one for an unreadable file, whose reading then says what is wrong."""
    try:
        groups = pq.ParquetFile(stream).metadata.num_row_groups
    except (pa.ArrowException, OSError) as error:
        _reraise_system(error)
        return [Chunk(file, 0, 0, file.size)]
    return [Chunk(file, n, file.size * n // groups, file.size * (n + 1) // groups) for n in range(groups)]


def read_row_group(columns: LogColumns, chunk: Chunk, stream: BinaryIO) -> Iterator[Block]:
    """The rows of a row group; a broken one ends with a dead letter and counts what it held as lost."""
    first, rows, names = 0, 0, ()
    try:
        file = pq.ParquetFile(stream, page_checksum_verification=True)
        names = tuple(file.schema_arrow.names)
        twice = [name for name in columns.types if names.count(name) > 1]
        if twice:
            yield dataclasses.replace(empty_block(columns), fault=f"{chunk.file.path} has two columns {twice[0]!r}")
            return
        rows = file.metadata.row_group(chunk.number).num_rows
        wanted = [name for name in columns.types if name in names]
        for batch in file.iter_batches(BATCH_ROWS, row_groups=[chunk.number], columns=wanted, use_threads=False):
            block = rows_block(columns, pa.Table.from_batches([batch]), first)
            block.columns_seen = names
            first += block.lines
            yield block
    except (pa.ArrowException, OSError) as error:
        _reraise_system(error)
        block = empty_block(columns)
        why = (str(error).splitlines() or [""])[0]
        what = f"unreadable Parquet row group {chunk.number}" if names else "not a Parquet file, or a truncated one"
        block.dead = [Dead(first, f"{what}: {why}", "")]
        block.read = block.lines = 1
        block.lost_bytes = chunk.bytes * (rows - first) // rows if rows else chunk.bytes
        block.damaged = True
        block.columns_seen = names
        yield block


def rows_block(columns: LogColumns, raw: pa.Table, first: int) -> Block:
    """A batch of rows as a block; a dead row's line counts from `first`."""
    typed, broken = conform(columns, raw)
    dead = [Dead(first + row, why, _row_text(raw, row)) for row, why in sorted(broken.items())]
    return Block(without(typed, broken), len(typed), len(typed), dead, kinds=kinds_of(columns, raw))


def without(table: pa.Table, broken: dict[int, str]) -> pa.Table:
    """The table without the broken rows."""
    if not broken:
        return table
    keep = np.ones(table.num_rows, bool)
    keep[list(broken)] = False
    return table.filter(pa.array(keep))


def _reraise_system(error: Exception) -> None:
    """Broken content is the log's fault; a disk or network that fails is not, and may work at the next attempt."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def _row_text(table: pa.Table, row: int) -> str:
    return json.dumps(table.slice(row, 1).to_pylist()[0], default=str, ensure_ascii=False)
