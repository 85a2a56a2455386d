"""What passes between the readers of raw logs: files, their chunks, and blocks of parsed rows."""

import dataclasses
from collections.abc import Mapping, Sequence

import pyarrow as pa

from beam_pipelines.raw_logs.plausible_times import TimeCounts
from beam_pipelines.raw_logs.raw_columns import LogColumns, empty_table

PAYLOAD_BYTES = 1 << 20

Part = tuple[pa.Table, Sequence[int]]
"""Rows of any types, and the lines that they came from."""


@dataclasses.dataclass(frozen=True)
class LogFile:
    """One file (or BigQuery table) of a log: its number among the log's files in name order, path and size."""

    number: int
    path: str
    size: int


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A part of a file.

    Attributes:
        file: the file.
        number: of the chunk in the file; for Parquet, of the row group.
        start: first byte of text; for Parquet, `stop - start` is the row group's share of the file's bytes.
        stop: the byte after the last.
        stream: name of the stream, for a BigQuery table.
        fault: why the file cannot be read at all, if that was found while it was cut into chunks.
    """

    file: LogFile
    number: int
    start: int = 0
    stop: int = 0
    stream: str = ""
    fault: str = ""

    @property
    def bytes(self) -> int:
        """Bytes of the file that belong to the chunk."""
        return self.stop - self.start


@dataclasses.dataclass(frozen=True)
class Dead:
    """A row that cannot be used: its line in the chunk (from 0), why, and what it held."""

    line: int
    reason: str
    payload: str


@dataclasses.dataclass
class Block:
    """Parsed rows and what was found beside them.

    Attributes:
        table: the sound rows.
        read: rows, sound or dead.
        lines: the lines they came from.
        dead: the others.
        columns_seen: columns that the file has, wanted or not.
        bytes: of the file; the chunk's first block carries all of the chunk's.
        lost_bytes: bytes of the file that could not be read.
        damaged: the file is broken, which is more than a bad line.
        fault: what makes the whole log useless, in one sentence.
        filled: column of lists -> rows with a value.
        earliest: earliest time of the sound rows.
        latest: latest time of the sound rows.
        times: the sound rows by their times.
        kinds: column -> as what the file writes it, see `column_kinds`.
    """

    table: pa.Table
    read: int
    lines: int
    dead: list[Dead]
    columns_seen: tuple[str, ...] = ()
    bytes: int = 0
    lost_bytes: int = 0
    damaged: bool = False
    fault: str = ""
    filled: Mapping[str, int] = dataclasses.field(default_factory=dict)
    earliest: int | None = None
    latest: int | None = None
    times: TimeCounts | None = None
    kinds: Mapping[str, int] = dataclasses.field(default_factory=dict)


def empty_block(columns: LogColumns) -> Block:
    """A block without rows."""
    return Block(empty_table(columns), 0, 0, [])


def shown(line: bytes) -> str:
    """A line as a dead letter's payload; what is not UTF-8 is escaped, a huge one is cut."""
    text = line[:PAYLOAD_BYTES].decode("utf-8", "backslashreplace").rstrip("\r")
    return text if len(line) <= PAYLOAD_BYTES else f"{text}... (cut here)"
