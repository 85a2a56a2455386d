"""Lines of JSON to Arrow tables: whole blocks by pyarrow, and line by line where pyarrow refuses.

pyarrow is only given blocks whose every line begins with `{` and ends with `}`. Then as many rows as lines means one
object a line, which the number of rows alone does not (one object over two lines, two objects on the next); and
pyarrow 25 ends the process on a block that begins with a bare `null`.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from beam_pipelines.raw_logs.log_blocks import Dead, Part, shown
from beam_pipelines.raw_logs.nested_columns import cell_of, names_in, nested_types, only_wanted
from beam_pipelines.raw_logs.raw_columns import LogColumns
from beam_pipelines.raw_logs.typed_values import ARROW, LISTED, WANTED
from twin_tf.features.event_times import EXACT_FLOATS

_SAMPLE_LINES = 50
_FEW_LINES = 32
_PLAIN = {"int": (int, type(None)), "float": (int, float, type(None)), "string": (str, type(None))}
_KINDS = {list: "list", str: "text", bool: "boolean", type(None): "null"}

Types = Mapping[str, pa.DataType]
Cell = str | None | list[str | None]


class JsonLines:
    """Parses blocks of one chunk; remembers as which types the log writes its values.

    Args:
        columns: what is wanted.
    """

    def __init__(self, columns: LogColumns) -> None:
        self._columns = columns
        self._lists = {name for name, separator in columns.separators.items() if not separator}
        texts = set(columns.separators) - self._lists
        self._declared: Types = {n: pa.string() if n in texts else columns.arrow(n) for n in columns.types}
        self._types: Types = self._declared
        self._nested = any("." in name for name in columns.types)

    def parse(self, text: bytes, line_count: int) -> tuple[list[Part], list[Dead]]:
        """Parses so many whole lines; returns the rows, untyped, and the lines that are none."""
        table = self._block(text, line_count)
        if table is not None:
            return [(table, range(table.num_rows))], []
        lines = text.split(b"\n")
        numbers = [number for number, line in enumerate(lines) if line.strip()]
        tidied = b"".join(lines[number].strip() + b"\n" for number in numbers)
        table = self._block(tidied, len(numbers)) if tidied != text else None
        return ([(table, numbers)], []) if table is not None else self._line_by_line(lines, numbers)

    def columns_seen(self, text: bytes) -> tuple[str, ...]:
        """The columns of the block's first line, those inside objects by their paths."""
        found = _object(text.lstrip().partition(b"\n")[0])
        return tuple(names_in(found)) if isinstance(found, dict) else ()

    def _block(self, text: bytes, line_count: int) -> pa.Table | None:
        if not _one_object_a_line(text):
            return None
        table = self._table(text, self._types)
        if table is None and self._types is not self._declared:
            table = self._table(text, self._declared)
        if table is None:
            self._types = self._declared
            seen = self._types_seen(text)
            if seen != self._declared:
                self._types, table = seen, self._table(text, seen)
        return table if table is not None and table.num_rows == line_count else None

    def _table(self, text: bytes, types: Types) -> pa.Table | None:
        try:
            table = pa.json.read_json(
                io.BytesIO(text),
                pa.json.ReadOptions(use_threads=False, block_size=len(text) + 1),
                pa.json.ParseOptions(
                    explicit_schema=pa.schema(list(self._read_as(types).items())), unexpected_field_behavior="ignore"
                ),
            )
        except pa.ArrowInvalid:
            return None
        if self._nested:
            table = only_wanted(table, types)
        for name, type_ in types.items():
            if type_ == pa.float64() and self._columns.types[name] == "int":
                largest = pc.max(pc.abs(table[name])).as_py()
                if largest is not None and largest >= EXACT_FLOATS:
                    return None  # some may be whole numbers written in full: only line by line are they read exactly
        return table

    def _read_as(self, types: Types) -> Types:
        return nested_types(types) if self._nested else types

    def _types_seen(self, text: bytes) -> Types:
        """As which types the block's first lines write numbers: as text or booleans too."""
        found: dict[str, pa.DataType] = {}
        place = 0
        for _ in range(_SAMPLE_LINES):
            end = text.find(b"\n", place)
            if end < 0 or len(found) == len(self._declared):
                break
            line = _object(text[place:end])
            place = end + 1
            for name, type_ in self._columns.types.items():
                try:
                    cell = cell_of(line, name) if isinstance(line, dict) else None
                except ValueError:
                    continue
                if cell is None or name in found or type_ == "string" or name in self._columns.separators:
                    continue
                if isinstance(cell, _Number):
                    found[name] = ARROW[type_] if cell.lstrip("-").isdigit() else pa.float64()
                elif isinstance(cell, str):
                    found[name] = pa.string()
                elif isinstance(cell, bool) and type_ == "int":
                    found[name] = pa.bool_()
        return {**self._declared, **found}

    def _line_by_line(self, lines: list[bytes], numbers: list[int]) -> tuple[list[Part], list[Dead]]:
        """Sorts lines into plain ones, which pyarrow reads together, odd ones, whose cells become text, and dead."""
        plain: list[int] = []
        odd: list[int] = []
        kinds = [(name, self._plain(name)) for name in self._declared]
        for number in numbers:
            try:
                value = json.loads(lines[number].decode("utf-8"))
                is_plain = all(type(cell_of(value, name)) in allowed for name, allowed in kinds)
            except (ValueError, AttributeError, TypeError, RecursionError):
                is_plain = False
            (plain if is_plain else odd).append(number)
        parts: list[Part] = []

        def read(part: list[int]) -> None:
            table = self._table(b"".join(lines[number] + b"\n" for number in part), self._declared) if part else None
            if table is not None and table.num_rows == len(part):
                parts.append((table, part))
            elif len(part) <= _FEW_LINES:
                odd.extend(part)
            else:
                read(part[: len(part) // 2])
                read(part[len(part) // 2 :])

        read(plain)
        dead: list[Dead] = []
        kept: list[int] = []
        cells: dict[str, list[Cell]] = {name: [] for name in self._columns.types}
        for number in sorted(odd):
            row = self._row(lines[number])
            if isinstance(row, str):
                dead.append(Dead(number, row, shown(lines[number])))
                continue
            kept.append(number)
            for name, column in cells.items():
                column.append(row[name])
        types = {name: pa.list_(pa.string()) if name in self._lists else pa.string() for name in cells}
        parts.append((pa.table({name: pa.array(column, types[name]) for name, column in cells.items()}), kept))
        return parts, dead

    def _plain(self, name: str) -> tuple[type, ...]:
        if name in self._lists:
            return (list, type(None))
        return _PLAIN["string" if name in self._columns.separators else self._columns.types[name]]

    def _row(self, line: bytes) -> dict[str, Cell] | str:
        """The wanted cells as text, which `raw_columns.to_type` reads by the rules of all formats; or what is wrong."""
        value: Any = _object(line)
        if isinstance(value, _Nested):
            table = self._block(line.strip() + b"\n", 1)  # pyarrow has no limit
            if table is None:
                return "not JSON: nested too deeply"
            value = {name: _as_parsed(cell) for name, cell in table.to_pylist()[0].items()}  # paths are names here
        if not isinstance(value, dict):
            return str(value)
        row: dict[str, Cell] = {}
        for name, type_ in self._columns.types.items():
            try:
                cell = cell_of(value, name)
            except ValueError as error:
                return str(error)
            if _is_twice(value, name):
                return f"{name} is there twice"
            listed = name in self._lists
            kind = "string" if name in self._columns.separators and not listed else type_
            if listed and not (cell is None or isinstance(cell, list)):
                return f"{name} is not {LISTED[type_]}: {str(cell)[:80]}"
            found = [_as_text(one, kind) for one in (cell or [] if listed else [cell])]
            if any(text is _WRONG for text in found):
                return f"{name} is not {LISTED[type_] if listed else WANTED[kind]}: {str(cell)[:80]}"
            if kind == "string" and not all(_encodable(text) for text in found if text is not None):
                return f"{name} is not text: half of a surrogate pair"
            row[name] = None if cell is None else found if listed else found[0]
        return row


class _Number(str):
    """A number as the log writes it."""


_WRONG = _Number("wrong")


def _as_text(cell: Any, type_: str) -> str | None:
    """A cell, or a value in it, as text; `_WRONG` if it is of another type."""
    if isinstance(cell, bool) and type_ == "int":
        return "true" if cell else "false"
    if cell is None or (isinstance(cell, str) and not (type_ == "string" and isinstance(cell, _Number))):
        return cell
    return _WRONG


def _as_parsed(cell: Any) -> Any:
    """A cell that pyarrow read as `_object` gives it."""
    if isinstance(cell, list):
        return [_as_parsed(one) for one in cell]
    return cell if isinstance(cell, str | bool | None) else _Number(cell)


class _Nested(str):
    """The sentence about a line nested more deeply than Python's parser goes."""


class _Twice(dict[str, Any]):
    """An object that holds some names twice."""

    names: frozenset[str] = frozenset()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    twice = _Twice(found)
    twice.names = frozenset(name for name in found if names.count(name) > 1)
    return twice


def _is_twice(value: dict[str, Any], name: str) -> bool:
    """Whether an object, or one inside it on the way to a column, holds a name of the way twice."""
    if isinstance(value, _Twice) and name in value.names:
        return True
    first, dot, rest = name.partition(".")
    if not dot or name in value:
        return False
    inside = value.get(first)
    return (isinstance(value, _Twice) and first in value.names) or (
        isinstance(inside, dict) and _is_twice(inside, rest)
    )


def _object(line: bytes) -> dict[str, Any] | str:
    """The object that a line holds, or what is wrong with it."""
    try:
        value = json.loads(
            line.decode("utf-8"),
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_Number,
            object_pairs_hook=_pairs,
        )
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte {error.start + 1}"
    except RecursionError:
        return _Nested()
    except ValueError as error:
        return f"not JSON: {error}"
    if isinstance(value, dict):
        return value
    return f"not a JSON object but {_KINDS.get(type(value), 'number')}"


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _one_object_a_line(text: bytes) -> bool:
    """Whether every line begins with `{` and ends with `}`, and all is UTF-8."""
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    data = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    if not len(ends):
        return False
    last = data[ends - 1]
    if (last == ord("\r")).any():
        last = np.where(last == ord("\r"), data[ends - 2], last)
    begins = np.concatenate([[0], ends[:-1] + 1])
    return bool((data[begins] == ord("{")).all() and (last == ord("}")).all())
