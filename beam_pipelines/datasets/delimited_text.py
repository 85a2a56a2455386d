"""Delimited text as the publishers ship it, in blocks of bounded size, with every malformed row counted by its reason.

pyarrow parses a block straight into typed columns. Where it refuses, the values are looked at one by one (so that `5.0`
still is a whole number), and where the lines themselves are broken, line by line. One line is one row: no documented
format here has a line break inside a field.
"""

import csv
import dataclasses
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from beam_pipelines.datasets.log_writer import MALFORMED, RawLogs
from beam_pipelines.datasets.source_files import SourceFile
from beam_pipelines.raw_logs.typed_values import ARROW, WANTED, to_type
from twin_tf.core.dataclass_yaml import ConfigError, nearest
from twin_tf.features.schema import ValueType

BLOCK_BYTES = 16 << 20
MAX_LINE_BYTES = 1 << 20
_ONE_CHARACTER = "\x1f"  # pyarrow splits at one character only; this one is in no text

Mask = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The documented layout of a file.

    Attributes:
        types: column -> type of the columns that are read; the others are passed over.
        required: columns that must not be empty.
        allowed: column -> the only values it may have.
        names: all columns in order, of a file without a header line.
        delimiter: `,` (fields may be quoted), or `::`, a tab or `|` (nothing is quoted).
        encoding: of the text.
    """

    types: Mapping[str, ValueType]
    required: tuple[str, ...]
    allowed: Mapping[str, tuple[int | float | str, ...]] = dataclasses.field(default_factory=dict)
    names: tuple[str, ...] = ()
    delimiter: Literal[",", "::", "\t", "|"] = ","
    encoding: Literal["utf-8", "latin-1"] = "utf-8"


def read_rows(file: SourceFile, layout: Layout, logs: RawLogs) -> Iterator[pa.Table]:
    """Yields the sound rows of a file, block by block, and books every row with `logs`.

    Args:
        file: the file; read once from its start.
        layout: its documented layout.
        logs: where rows are counted.

    Raises:
        ConfigError: a column is missing, a line has no end, no row, or more than 0.5 % malformed ones.
    """
    names = list(layout.names)
    for text in _whole_lines(file):
        if not names:
            line, _, text = text.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
            names = _header(file.name, line, layout)
        table, dropped = _parse(text, names, layout)
        logs.count(file.name, table.num_rows + dropped.total(), dropped)
        if table.num_rows:
            yield table
    logs.finish_file(file.name)


def keep(table: pa.Table, sound: Mask) -> pa.Table:
    """The rows of a table where `sound` holds, `(rows,)`."""
    return table if sound.all() else table.filter(pa.array(sound))


def _whole_lines(file: SourceFile) -> Iterator[bytes]:
    rest = b""
    while data := file.stream.read(BLOCK_BYTES):
        data = rest + data
        cut = data.rfind(b"\n") + 1
        rest = data[cut:]
        if len(rest) > MAX_LINE_BYTES and cut == 0:
            raise ConfigError(f"{file.name} has a line of more than {MAX_LINE_BYTES:,} bytes: it is no text of lines")
        if cut:
            yield data[:cut]
    if rest:
        yield rest + b"\n"


def _header(file: str, line: bytes, layout: Layout) -> list[str]:
    names = [name.strip() for name in next(csv.reader([line.decode("utf-8", "replace").strip("\r\n")]), [])]
    for column in layout.types:
        if column not in names:
            others = [name for name in names if name not in layout.types]
            raise ConfigError(f"{file} has no column {column!r}{nearest(column, others) if others else ''}")
    return names


def _parse(text: bytes, names: list[str], layout: Layout) -> tuple[pa.Table, Counter[str]]:
    if layout.encoding != "utf-8":
        text = text.decode(layout.encoding).encode()
    if layout.delimiter != ",":
        text = text.replace(layout.delimiter.encode(), _ONE_CHARACTER.encode())
    dropped: Counter[str] = Counter()
    typed = _by_arrow(text, names, layout, {name: ARROW[type_] for name, type_ in layout.types.items()})
    if typed is None:
        raw = _by_arrow(text, names, layout, dict.fromkeys(layout.types, pa.string()))
        if raw is None:
            raw, dropped = _by_line(text, names, layout)
        typed = _convert(raw, layout, dropped)
    sound = np.ones(typed.num_rows, bool)
    for column in layout.required:
        _drop(sound, _numpy(typed[column].is_valid()), f"no {column}", dropped)
    for column, values in layout.allowed.items():
        found = pc.is_in(typed[column], pa.array(values, typed[column].type))
        _drop(sound, _numpy(found), f"{column} is none of {', '.join(map(str, values))}", dropped)
    return keep(typed, sound), dropped


def _by_arrow(text: bytes, names: list[str], layout: Layout, types: dict[str, pa.DataType]) -> pa.Table | None:
    """The block as pyarrow reads it, or None where it refuses or takes several lines for one."""
    plain = layout.delimiter == ","
    try:
        table = pa.csv.read_csv(
            io.BytesIO(text),
            pa.csv.ReadOptions(column_names=names),
            pa.csv.ParseOptions(delimiter="," if plain else _ONE_CHARACTER, quote_char='"' if plain else False),
            pa.csv.ConvertOptions(
                include_columns=list(types), column_types=types, null_values=[""], strings_can_be_null=True
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None
    lines = text.count(b"\n")
    if table.num_rows != lines:
        lines -= sum(not line.strip() for line in text.split(b"\n")[:-1])
    return table if table.num_rows == lines else None


def _by_line(text: bytes, names: list[str], layout: Layout) -> tuple[pa.Table, Counter[str]]:
    """The sound lines as columns of text, and why the others are not."""
    dropped: Counter[str] = Counter()
    rows: list[list[str]] = []
    for line in text.split(b"\n"):
        if not line.strip():
            continue
        try:
            decoded = line.decode("utf-8").rstrip("\r")
            if layout.delimiter == ",":
                cells = next(csv.reader([decoded], strict=True))
            else:
                cells = decoded.split(_ONE_CHARACTER)
        except UnicodeDecodeError:
            dropped[MALFORMED + "not UTF-8"] += 1
        except csv.Error:
            dropped[MALFORMED + "broken quotes"] += 1
        else:
            if len(cells) == len(names):
                rows.append(cells)
            else:
                dropped[f"{MALFORMED}not {len(names)} fields"] += 1
    places = {name: names.index(name) for name in layout.types}
    columns = {name: pa.array([cells[place] for cells in rows], pa.string()) for name, place in places.items()}
    return pa.table(columns), dropped


def _convert(raw: pa.Table, layout: Layout, dropped: Counter[str]) -> pa.Table:
    sound = np.ones(raw.num_rows, bool)
    typed = {}
    for column, type_ in layout.types.items():
        values = raw[column].combine_chunks()
        values = pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values
        typed[column], bad = to_type(values, type_)
        if bad is not None:
            _drop(sound, ~bad, f"{column} is not {WANTED[type_]}", dropped)
    return keep(pa.table(typed), sound)


def _drop(sound: Mask, good: Mask, reason: str, dropped: Counter[str]) -> None:
    """Takes rows out of `sound`; a row counts for its first reason."""
    newly = int(np.count_nonzero(sound & ~good))
    if newly:
        dropped[MALFORMED + reason] += newly
        sound &= good


def _numpy(mask: pa.ChunkedArray) -> Mask:
    result: Mask = mask.to_numpy()
    return result
