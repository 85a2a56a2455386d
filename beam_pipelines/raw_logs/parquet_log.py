"""Parquet files: a chunk is a row group; rows go through `raw_columns.conform` in batches."""

import dataclasses
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipelines.raw_logs.column_kinds import kinds_of
from beam_pipelines.raw_logs.exploded_rows import row_text, typed_rows
from beam_pipelines.raw_logs.list_columns import columns_of_file, list_columns
from beam_pipelines.raw_logs.log_blocks import Block, Chunk, Dead, LogFile, empty_block
from beam_pipelines.raw_logs.nested_columns import dotted_names, with_nested
from beam_pipelines.raw_logs.raw_columns import LogColumns

BATCH_ROWS = 1 << 18
_EVENTS_A_ROW = 32  # of rows that hold lists, about


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
    first, rows = 0, 0
    names: tuple[str, ...] = ()
    try:
        file = pq.ParquetFile(stream, page_checksum_verification=True)
        names = tuple(dotted_names(file.schema_arrow))
        wanted = columns_of_file(columns).types
        twice = [name for name in wanted if file.schema_arrow.names.count(name) > 1]
        if twice:
            yield dataclasses.replace(empty_block(columns), fault=f"{chunk.file.path} has two columns {twice[0]!r}")
            return
        rows = file.metadata.row_group(chunk.number).num_rows
        there = [name for name in wanted if name in names]
        for batch in file.iter_batches(
            batch_rows(columns), row_groups=[chunk.number], columns=there, use_threads=False
        ):
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


def batch_rows(columns: LogColumns) -> int:
    """How many rows are looked at together."""
    return BATCH_ROWS // _EVENTS_A_ROW if list_columns(columns) else BATCH_ROWS


def rows_block(columns: LogColumns, raw: pa.Table, first: int) -> Block:
    """A batch of rows as a block; a dead row's line counts from `first`."""
    held = columns_of_file(columns)
    raw = with_nested(raw, held.types)
    found = typed_rows(columns, raw)
    dead = [Dead(first + row, why, text or row_text(raw, row)) for row, why, text in sorted(found.dead)]
    block = Block(found.table, len(found.table) + len(dead), len(raw), dead)
    block.filled, block.kinds = found.filled, kinds_of(held, raw)
    return block


def _reraise_system(error: Exception) -> None:
    """Broken content is the log's fault; a disk or network that fails is not, and may work at the next attempt."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error
