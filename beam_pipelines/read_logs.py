"""Raw logs to Arrow tables: JSON Lines, CSV and Parquet, the first two gzipped too, anywhere Beam can read.

A file is read in chunks: a row group of Parquet, `CHUNK_BYTES` of plain text, or a whole gzip file. A chunk of text is
parsed in blocks by pyarrow; in a block that pyarrow refuses every line is looked at, the bad ones become `Dead`, and
the good ones go through pyarrow as before. So a bad line costs its neighbours time and nothing else. One line is one
record: a line break inside a CSV field is not supported.
"""

import csv
import dataclasses
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_pipelines.raw_columns import ARROW, WANTED, LogColumns, conform
from twin_tf.strict_yaml import ConfigError

Format = Literal["jsonl", "csv", "parquet"]

CHUNK_BYTES = 32 << 20
BLOCK_BYTES = 4 << 20
BATCH_ROWS = 1 << 18

_PYTHON: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "string": (str,)}
_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


@dataclasses.dataclass(frozen=True)
class LogFile:
    """One file of a log: its number among the log's files in name order, path and size."""

    number: int
    path: str
    size: int


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A part of a file: bytes `start` to `stop` of text, or row group `number` of a Parquet file."""

    file: LogFile
    number: int
    start: int = 0
    stop: int = 0


@dataclasses.dataclass(frozen=True)
class Dead:
    """A row that cannot be used: its line in the chunk (from 0), why, and what it held."""

    line: int
    reason: str
    payload: str


@dataclasses.dataclass
class Block:
    """Parsed rows: `table` holds the sound ones, `read` counts all, `lines` the lines they came from."""

    table: pa.Table
    read: int
    lines: int
    dead: list[Dead]
    columns_seen: tuple[str, ...] = ()


def format_of(path: str) -> tuple[Format, bool]:
    """The format of a file by its name, and whether it is gzipped.

    Raises:
        ConfigError: a suffix that is none of ours.
    """
    name = path.lower()
    zipped = name.endswith(".gz")
    suffix = next((s for s in _SUFFIXES if name.removesuffix(".gz").endswith(s)), None)
    if suffix is None or (zipped and _SUFFIXES[suffix] == "parquet"):
        raise ConfigError(f"{path}: the name must end in .jsonl, .csv (either may add .gz) or .parquet")
    return _SUFFIXES[suffix], zipped


def match_files(log: str, patterns: Iterable[str]) -> list[LogFile]:
    """The files that the patterns match, in name order.

    Raises:
        ConfigError: a pattern matches nothing, or a file of unknown format.
    """
    found: dict[str, int] = {}
    for pattern in patterns:
        matches = FileSystems.match([pattern])[0].metadata_list
        if not matches:
            raise ConfigError(f"no file of the {log} log matches {pattern}")
        found.update({match.path: int(match.size_in_bytes) for match in matches})
    for path in found:
        format_of(path)
    return [LogFile(number, path, found[path]) for number, path in enumerate(sorted(found))]


def plan_chunks(file: LogFile) -> list[Chunk]:
    """Cuts a file into chunks that can be read on their own."""
    format_, zipped = format_of(file.path)
    if format_ == "parquet":
        with open_raw(file.path) as stream:
            try:
                groups = pq.ParquetFile(stream).metadata.num_row_groups
            except pa.ArrowInvalid:
                groups = 1  # unreadable: the chunk says so in one dead letter
        return [Chunk(file, number) for number in range(groups)]
    if zipped or file.size <= CHUNK_BYTES:
        return [Chunk(file, 0, 0, file.size)]
    starts = range(0, file.size, CHUNK_BYTES)
    return [Chunk(file, n, start, min(start + CHUNK_BYTES, file.size)) for n, start in enumerate(starts)]


def open_raw(path: str) -> BinaryIO:
    """Opens a file of any of Beam's file systems without decompression."""
    stream: BinaryIO = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return stream


def read_chunk(columns: LogColumns, chunk: Chunk) -> Iterator[Block]:
    """Reads a chunk; lines in `Dead` count from the chunk's first."""
    format_, zipped = format_of(chunk.file.path)
    with open_raw(chunk.file.path) as stream:
        if format_ == "parquet":
            yield from _read_parquet(columns, chunk, stream)
            return
        header: list[str] | None = None
        first_line = 0
        for text, broken in _text_blocks(stream, chunk, zipped):
            if chunk.start == 0 and first_line == 0:
                text = text.removeprefix(b"\xef\xbb\xbf")
            skipped = 0
            if format_ == "csv" and header is None:
                header, text, skipped = _header(stream, chunk, text)
            block = _parse(columns, format_, header, text, first_line + skipped)
            block.lines += skipped
            if broken is not None:
                block.dead.append(Dead(first_line + block.lines, broken[0], broken[1]))
                block.read += 1
                block.lines += 1
            first_line += block.lines
            yield block


def _read_parquet(columns: LogColumns, chunk: Chunk, stream: BinaryIO) -> Iterator[Block]:
    empty = pa.schema([(name, ARROW[type_]) for name, type_ in columns.types.items()]).empty_table()
    first = 0
    try:
        file = pq.ParquetFile(stream)
        names = [name for name in file.schema_arrow.names if name in columns.types]
        for batch in file.iter_batches(BATCH_ROWS, row_groups=[chunk.number], columns=names, use_threads=False):
            raw = pa.Table.from_batches([batch])
            typed, broken = conform(columns, raw)
            dead = [Dead(first + row, why, _row_text(raw, row)) for row, why in sorted(broken.items())]
            yield Block(_without(typed, broken), len(typed), len(typed), dead, tuple(file.schema_arrow.names))
            first += raw.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        reason = f"unreadable Parquet row group {chunk.number}: {str(error).splitlines()[0]}"
        yield Block(empty, 1, 1, [Dead(first, reason, "")])


def _text_blocks(stream: BinaryIO, chunk: Chunk, zipped: bool) -> Iterator[tuple[bytes, tuple[str, str] | None]]:
    """Whole lines of the chunk in blocks; with the last block of a damaged gzip file, the reason and what was left."""
    source: Any = gzip.GzipFile(fileobj=stream, mode="rb") if zipped else stream
    left = None if zipped else chunk.stop - chunk.start
    if chunk.start:
        source.seek(chunk.start - 1)
        left = (left or 0) - (len(source.readline()) - 1)  # the line that began in the chunk before belongs there
    rest = b""
    while left is None or left > 0:
        data, damage = _gzip_block(source) if left is None else (source.read(min(BLOCK_BYTES, left)), "")
        if damage:
            data = rest + data
            cut = data.rfind(b"\n") + 1
            yield data[:cut], (f"damaged gzip: {damage}", _shown(data[cut:]))
            return
        if not data:
            break
        if left is not None:
            left -= len(data)
            if left <= 0:
                data += source.readline() if not data.endswith(b"\n") else b""
        data = rest + data
        cut = data.rfind(b"\n") + 1
        rest = data[cut:]
        if cut:
            yield data[:cut], None
    if rest:
        yield rest + b"\n", None


def _gzip_block(source: gzip.GzipFile) -> tuple[bytes, str]:
    """The next decompressed bytes, none at the end, and what is wrong with the file after them."""
    parts: list[bytes] = []
    size = 0
    while size < BLOCK_BYTES:
        try:
            part = source.read1(BLOCK_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            return b"".join(parts), str(error)
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts), ""


def _header(stream: BinaryIO, chunk: Chunk, text: bytes) -> tuple[list[str], bytes, int]:
    """The column names of a CSV file, the text without that line, and how many lines were taken away."""
    if chunk.start == 0:
        line, _, text = text.partition(b"\n")
        taken = 1
    else:
        position = stream.tell()
        stream.seek(0)
        line, taken = stream.readline().removeprefix(b"\xef\xbb\xbf"), 0
        stream.seek(position)
    names = next(csv.reader([line.decode("utf-8", "replace").strip("\r\n")]), [])
    return [name.strip() for name in names], text, taken


def _parse(columns: LogColumns, format_: Format, header: list[str] | None, text: bytes, first_line: int) -> Block:
    line_count = text.count(b"\n")
    raw = _arrow(columns, format_, header, text)
    dead: list[Dead] = []
    numbers: list[int] | None = None
    if raw is None or raw.num_rows != line_count:
        lines = text.split(b"\n")
        numbers = [number for number, line in enumerate(lines) if line.strip()]
        if raw is None or raw.num_rows != len(numbers):
            raw, dead, numbers = _line_by_line(columns, format_, header, lines, numbers)
    typed, broken = conform(columns, raw)
    if broken:
        lines = text.split(b"\n")
        places = numbers if numbers is not None else list(range(line_count))
        dead += [Dead(places[row], why, _shown(lines[places[row]])) for row, why in broken.items()]
        typed = _without(typed, broken)
    read = typed.num_rows + len(dead)
    dead = [dataclasses.replace(d, line=first_line + d.line) for d in sorted(dead, key=lambda d: d.line)]
    seen = tuple(header) if header is not None else _keys(text)
    return Block(typed, read, line_count, dead, seen)


def _arrow(columns: LogColumns, format_: Format, header: list[str] | None, text: bytes) -> pa.Table | None:
    """The block as pyarrow reads it, or None where it refuses."""
    if not text.strip():
        return pa.schema([(name, ARROW[type_]) for name, type_ in columns.types.items()]).empty_table()
    try:
        text.decode("utf-8")
        if format_ == "csv":
            names = header or []
            present = [name for name in columns.types if name in names]
            return pa.csv.read_csv(
                io.BytesIO(text),
                pa.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(text) + 1),
                pa.csv.ParseOptions(newlines_in_values=False),
                pa.csv.ConvertOptions(
                    include_columns=present,
                    column_types={name: pa.string() for name in present},
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
        wanted = pa.schema([(name, ARROW[type_]) for name, type_ in columns.types.items()])
        return pa.json.read_json(
            io.BytesIO(text),
            pa.json.ReadOptions(use_threads=False, block_size=len(text) + 1),
            pa.json.ParseOptions(explicit_schema=wanted, unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError):
        return None


def _line_by_line(
    columns: LogColumns, format_: Format, header: list[str] | None, lines: list[bytes], numbers: list[int]
) -> tuple[pa.Table, list[Dead], list[int]]:
    """Sorts the bad lines out and parses the rest; returns its rows, the dead, and the rows' line numbers."""
    dead, good = [], []
    for number in numbers:
        line = lines[number]
        reason = _csv_fault(line, header or []) if format_ == "csv" else None
        if format_ == "jsonl":
            line, reason = _json_fault(line, columns)
        if reason is None:
            good.append((number, line))
        else:
            dead.append(Dead(number, reason, _shown(lines[number])))
    tables: list[pa.Table] = []
    kept: list[int] = []

    def parse(part: list[tuple[int, bytes]]) -> None:
        table = _arrow(columns, format_, header, b"\n".join(line for _, line in part) + b"\n")
        if table is not None and table.num_rows == len(part):
            tables.append(table)
            kept.extend(number for number, _ in part)
        elif len(part) == 1:
            dead.append(Dead(part[0][0], f"cannot be parsed as {format_}", _shown(part[0][1])))
        else:
            parse(part[: len(part) // 2])
            parse(part[len(part) // 2 :])

    if good:
        parse(good)
    empty = _arrow(columns, format_, header, b"")
    return pa.concat_tables(tables) if tables else empty, dead, kept


def _json_fault(line: bytes, columns: LogColumns) -> tuple[bytes, str | None]:
    """The line (rewritten where a whole number was written as a float) and why it cannot be used."""
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return line, f"not UTF-8: byte {error.start + 1}"
    except (ValueError, RecursionError) as error:
        return line, f"not JSON: {error}"
    if not isinstance(value, dict):
        return line, f"not a JSON object but {type(value).__name__}"
    rewritten = False
    for name, type_ in columns.types.items():
        cell = value.get(name)
        if cell is None:
            continue
        if type_ == "int" and isinstance(cell, float) and cell.is_integer():
            value[name] = cell = int(cell)
            rewritten = True
        sound = not isinstance(cell, bool) and isinstance(cell, _PYTHON[type_])
        if not sound or (type_ == "int" and not -(1 << 63) <= cell < 1 << 63):
            return line, f"{name} is not {WANTED[type_]}: {_shown(repr(cell).encode())}"
    return (json.dumps({n: value[n] for n in columns.types if n in value}).encode() if rewritten else line), None


def _csv_fault(line: bytes, header: list[str]) -> str | None:
    try:
        cells = next(csv.reader([line.decode("utf-8").rstrip("\r")], strict=True), [])
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte {error.start + 1}"
    except csv.Error as error:
        return f"not CSV: {error}"
    return None if len(cells) == len(header) else f"{len(cells)} fields where the header has {len(header)}"


def _keys(text: bytes) -> tuple[str, ...]:
    try:
        value = json.loads(text.lstrip().partition(b"\n")[0])
    except ValueError:
        return ()
    return tuple(value) if isinstance(value, dict) else ()


def _without(table: pa.Table, broken: dict[int, str]) -> pa.Table:
    if not broken:
        return table
    keep = [True] * table.num_rows
    for row in broken:
        keep[row] = False
    return table.filter(pa.array(keep))


def _row_text(table: pa.Table, row: int) -> str:
    return json.dumps(table.slice(row, 1).to_pylist()[0], default=str, ensure_ascii=False)


def _shown(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").rstrip("\r")
