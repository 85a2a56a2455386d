"""Raw logs to Arrow tables: JSON Lines and CSV (gzipped too), Parquet, anywhere Beam can read, and BigQuery.

A file is read in chunks: a row group of Parquet, `CHUNK_BYTES` of plain text, a whole gzip file, or a stream of a
BigQuery table. A chunk of text is parsed in blocks by pyarrow; in a block that pyarrow refuses every line is looked at,
the bad ones become `Dead`, and the good ones are read by the same rules. So a bad line costs its neighbours time and
nothing else. Where one CSV record may be several lines (`csv_text`), the whole file is one chunk.
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_pipelines.raw_logs import bigquery_log
from beam_pipelines.raw_logs.column_kinds import kinds_of
from beam_pipelines.raw_logs.csv_lines import CsvLines
from beam_pipelines.raw_logs.csv_text import (
    as_utf8,
    first_lines,
    line_as_utf8,
    lines_in,
    one_record_a_line,
    with_breaks,
)
from beam_pipelines.raw_logs.exploded_rows import typed_rows
from beam_pipelines.raw_logs.gzip_lines import gzip_pieces
from beam_pipelines.raw_logs.json_lines import JsonLines
from beam_pipelines.raw_logs.list_columns import columns_of_file
from beam_pipelines.raw_logs.log_blocks import Block, Chunk, Dead, LogFile, empty_block, shown
from beam_pipelines.raw_logs.parquet_log import BATCH_ROWS, plan_row_groups, read_row_group
from beam_pipelines.raw_logs.plausible_times import TimeCounts
from beam_pipelines.raw_logs.raw_columns import LogColumns, empty_table
from beam_pipelines.raw_logs.text_lines import LONGEST_LINE, plain_pieces, whole_lines
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.log_files import CsvDialect

__all__ = ["BATCH_ROWS", "Block", "Chunk", "Dead", "LogFile", "format_of", "match_files", "plan_chunks", "read_chunk"]

Format = Literal["jsonl", "csv", "parquet", "bigquery"]

CHUNK_BYTES = 32 << 20
BLOCK_BYTES = 4 << 20

_BOM = b"\xef\xbb\xbf"
_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def format_of(path: str) -> tuple[Format, bool]:
    """The format of a file by its name, and whether it is gzipped.

    Raises:
        ConfigError: a suffix that is none of ours.
    """
    if path.startswith(bigquery_log.PREFIX):
        return "bigquery", False
    name = path.lower()
    zipped = name.endswith(".gz")
    suffix = next((s for s in _SUFFIXES if name.removesuffix(".gz").endswith(s)), None)
    if suffix is None or (zipped and _SUFFIXES[suffix] == "parquet"):
        raise ConfigError(f"{path}: the name must end in .jsonl, .csv, .tsv (each may add .gz) or .parquet")
    return _SUFFIXES[suffix], zipped


def match_files(log: str, patterns: Iterable[str]) -> list[LogFile]:
    """The files that the patterns match, each once, in name order; a BigQuery table counts as a file.

    Raises:
        ConfigError: a pattern matches nothing, or a file of unknown format.
    """
    found: dict[str, int] = {}
    for pattern in patterns:
        if pattern.startswith(bigquery_log.PREFIX):
            found[pattern] = 0
            continue
        matches = _matches(log, pattern)
        if not matches:
            raise ConfigError(f"no file of the {log} log matches {pattern or 'an empty name'}")
        folder = next((path for path in matches if "://" not in path and Path(path).is_dir()), None)
        if folder:
            raise ConfigError(f"{folder} is a directory; name the files of the {log} log in it, for example {folder}/*")
        found.update(matches)
    files: dict[str, LogFile] = {}
    for path in sorted(found):
        number = len(files)
        if format_of(path)[0] == "bigquery":
            files[path] = bigquery_log.match_table(number, path)
        else:  # a local file has many names: relative, absolute, through links
            files.setdefault(path if "://" in path else os.path.realpath(path), LogFile(number, path, found[path]))
    return list(files.values())


def _matches(log: str, pattern: str) -> dict[str, int]:
    """Path -> size of what a pattern matches; a local file of that very name comes before any pattern."""
    local = "://" not in pattern
    if local and pattern and Path(pattern).exists():  # `log[1].csv` would be a pattern for log1.csv
        return {pattern: Path(pattern).stat().st_size}
    here = "./" if local and pattern and "/" not in pattern else ""  # Beam looks for patterns in folders
    try:
        found = FileSystems.match([here + pattern])[0].metadata_list if pattern else []
    except (ValueError, BeamIOError) as error:  # no such file system, or no way to it
        raise ConfigError(f"the {log} log {pattern!r} cannot be looked up: {str(error).splitlines()[0]}") from None
    return {match.path.removeprefix(here): int(match.size_in_bytes) for match in found}


def plan_chunks(file: LogFile, columns: LogColumns | None = None) -> list[Chunk]:
    """Cuts a file into chunks that can be read on their own.

    Args:
        file: the file.
        columns: what will be read; a BigQuery table needs it, and CSV whose records are not lines.
    """
    format_, zipped = format_of(file.path)
    if format_ == "bigquery":
        if columns is None:
            raise ConfigError(f"{file.path}: which columns to read must be known when its streams are made")
        return bigquery_log.plan_streams(file, columns)
    if format_ == "parquet":
        try:
            with open_raw(file.path) as stream:
                return plan_row_groups(file, stream)
        except (FileNotFoundError, PermissionError) as error:
            return [Chunk(file, 0, fault=f"{file.path}: {error.strerror}")]
    whole = format_ == "csv" and columns is not None and _dialect(columns, file.path).whole
    if zipped or whole or file.size <= CHUNK_BYTES:
        return [Chunk(file, 0, 0, file.size)]
    starts = range(0, file.size, CHUNK_BYTES)
    return [Chunk(file, n, start, min(start + CHUNK_BYTES, file.size)) for n, start in enumerate(starts)]


def open_raw(path: str) -> BinaryIO:
    """Opens a file of any of Beam's file systems without decompression."""
    stream: BinaryIO = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return stream


def read_chunk(columns: LogColumns, chunk: Chunk) -> Iterator[Block]:
    """Reads a chunk; lines in `Dead` count from the chunk's first."""
    counted = False
    for block in _blocks(columns, chunk):
        if not counted:
            block.bytes = chunk.bytes
            counted = True
        if columns.time and block.table.num_rows:
            times = block.table[columns.time].to_numpy()
            block.earliest, block.latest = int(times.min()), int(times.max())
            block.times = TimeCounts.of(columns.time_column, times)
        yield block


def _blocks(columns: LogColumns, chunk: Chunk) -> Iterator[Block]:
    format_, zipped = format_of(chunk.file.path)
    if chunk.fault:
        yield _faulty(columns, chunk.fault)
        return
    if format_ == "bigquery":
        yield from bigquery_log.read_stream(columns, chunk)
        return
    try:
        stream = open_raw(chunk.file.path)
    except (FileNotFoundError, PermissionError) as error:  # gone since it was found: no attempt will heal that
        yield _faulty(columns, f"{chunk.file.path}: {error.strerror}")
        return
    with stream:
        if format_ == "parquet":
            yield from read_row_group(columns, chunk, stream)
        else:
            yield from _read_text(columns, chunk, stream, format_, zipped)


def _faulty(columns: LogColumns, fault: str) -> Block:
    return dataclasses.replace(empty_block(columns), fault=fault)


def _dialect(columns: LogColumns, path: str) -> CsvDialect:
    return columns.csv.of_log(columns.name, path.lower().removesuffix(".gz").endswith(".tsv"))


def _read_text(columns: LogColumns, chunk: Chunk, stream: BinaryIO, format_: Format, zipped: bool) -> Iterator[Block]:
    parser: JsonLines | CsvLines | None = JsonLines(columns_of_file(columns)) if format_ == "jsonl" else None
    dialect = CsvDialect() if format_ == "jsonl" else _dialect(columns, chunk.file.path)
    if format_ == "csv" and (chunk.start or dialect.columns):
        header = None if dialect.columns else line_as_utf8(stream.readline(LONGEST_LINE), dialect.encoding)
        parser = CsvLines(columns_of_file(columns), header, dialect)
    pieces = gzip_pieces(stream, BLOCK_BYTES) if zipped else plain_pieces(stream, chunk.start, chunk.stop, BLOCK_BYTES)
    blocks = whole_lines(as_utf8(pieces, dialect.encoding), BLOCK_BYTES)
    first_line = 0
    for lines in one_record_a_line(blocks, dialect):
        text = lines.text
        if chunk.start == 0 and first_line == 0:
            text = text.removeprefix(_BOM)
            if format_ == "csv" and text.startswith((b"\xff\xfe", b"\xfe\xff")):
                yield _faulty(
                    columns, f"{chunk.file.path}: it is UTF-16 by its first bytes; set schema.csv.encoding: utf-16"
                )
                return
        header_lines = 0
        if parser is None and text:
            header, _, text = text.partition(b"\n")
            parser = CsvLines(columns_of_file(columns), header, dialect)
            header_lines = lines_in(header) + 1
        if isinstance(parser, CsvLines) and parser.fault:
            yield _faulty(columns, f"{chunk.file.path}: {parser.fault}")
            return
        block = _parse(columns, parser, text, header_lines) if parser is not None else empty_block(columns)
        if lines.cut is not None:
            block.dead.append(Dead(block.lines, lines.cut[0], shown(lines.cut[1])))
            block.read += 1
            block.lines += 1
        if lines.damage is not None:
            block.damaged = True
            block.lost_bytes = lines.damage.lost_bytes
            if parser is None:  # without its header no line of the file means anything
                block.lost_bytes = chunk.bytes
        block.dead = [dataclasses.replace(dead, line=first_line + dead.line) for dead in block.dead]
        first_line += block.lines
        yield block
        if parser is None:
            return


def _odd_lines(raw: pa.Table, numbers: Sequence[int]) -> bool:
    """Whether these are lines of JSON whose cells became text, whatever the log wrote."""
    texts = (pa.string(), pa.list_(pa.string()))
    return not isinstance(numbers, range) and all(field.type in texts for field in raw.schema)


def _parse(columns: LogColumns, parser: JsonLines | CsvLines, text: bytes, header_lines: int) -> Block:
    """Whole lines as a block; the lines of its dead count from its first, a header before them counts too."""
    line_count = text.count(b"\n")
    file_lines = lines_in(text) if isinstance(parser, CsvLines) and parser.joins_lines else line_count
    parts, dead = parser.parse(text, line_count) if text else ([], [])
    tables: list[pa.Table] = []
    filled: Counter[str] = Counter()
    places: list[np.ndarray[Any, np.dtype[np.int64]]] = []
    kinds: dict[str, int] = {}
    held = columns_of_file(columns)
    for raw, numbers in parts:
        untyped = isinstance(parser, CsvLines) or _odd_lines(raw, numbers)
        for name, bits in kinds_of(held, raw, untyped).items():
            kinds[name] = kinds.get(name, 0) | bits
        found = typed_rows(columns, raw)
        if found.dead:
            lines = text.split(b"\n")
            for row, why, content in found.dead:
                dead.append(Dead(numbers[row], why, content or shown(with_breaks(lines[numbers[row]]))))
        tables.append(found.table)
        filled.update(found.filled)
        if len(parts) > 1:
            places.append(np.asarray(numbers, np.int64)[found.rows])
    table = pa.concat_tables([empty_table(columns), *tables])
    if len(parts) > 1:
        table = table.take(np.argsort(np.concatenate(places), kind="stable"))
    firsts = first_lines(text) if dead and file_lines > line_count else range(line_count)
    dead = [dataclasses.replace(letter, line=header_lines + firsts[letter.line]) for letter in dead]
    dead.sort(key=lambda letter: letter.line)
    seen = parser.columns_seen(text)
    return Block(table, table.num_rows + len(dead), header_lines + file_lines, dead, seen, filled=filled, kinds=kinds)
