"""Lines of CSV to Arrow tables by pyarrow; a line that cannot be a record of its own is found before.

One line is one record, if need be made so by `csv_text`. Where the schema does not say `csv.line_breaks`, each line of
a quoted field that holds a line break is malformed, for none of them can be told from a record on its own. So the fate
of a line never depends on where a block ends, except for the inner lines of a field over three lines or more.
"""

import csv
import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from beam_pipelines.raw_logs.csv_text import INNER_BREAK, with_breaks
from beam_pipelines.raw_logs.log_blocks import Dead, Part, shown
from beam_pipelines.raw_logs.raw_columns import LogColumns
from twin_tf.features.log_files import CsvDialect

_MOST_LINES = 64
_NOT_CLOSED = "not CSV: a quote that is not closed in its line"
_LINE_BREAK = "not CSV: a line break inside a quoted field (schema.csv.line_breaks: true reads them)"


class CsvLines:
    """Parses blocks of one chunk.

    Args:
        columns: what is wanted.
        header: the file's first line, or None where the dialect names the columns.
        dialect: how the file is written.
    """

    def __init__(self, columns: LogColumns, header: bytes | None, dialect: CsvDialect) -> None:
        self._header = None if header is None else header.rstrip(b"\r\n")
        self._dialect = dialect
        self._unreadable = ""
        self._names = list(dialect.columns)
        try:
            if header is not None:
                self._names = self._names_in(header)
        except csv.Error as error:  # for example lines that end with a carriage return alone
            self._unreadable = f"its CSV header cannot be read: {error}"
        self._wanted = [name for name in columns.types if name in self._names]

    @property
    def fault(self) -> str:
        """What is wrong with the header, if anything."""
        twice = [name for name in self._wanted if self._names.count(name) > 1]
        return f"its CSV header names column {twice[0]!r} twice" if twice else self._unreadable

    @property
    def joins_lines(self) -> bool:
        """Whether a record may be several lines of the file."""
        return self._dialect.line_breaks

    def columns_seen(self, _: bytes) -> tuple[str, ...]:
        """The header's names."""
        return tuple(self._names)

    def parse(self, text: bytes, line_count: int) -> tuple[list[Part], list[Dead]]:
        """Parses so many whole lines; returns the rows, untyped, and the lines that are none."""
        if self._one_record_a_line(text) and not self._header_again(text):
            table, bad = self._table(text)
            if table is not None and not bad and table.num_rows == line_count:
                return [(table, range(table.num_rows))], []
        lines = text.split(b"\n")
        dead = self._not_one_record(text, lines)
        numbers = [
            number
            for number, line in enumerate(lines)
            if number not in dead and line.strip() and line.rstrip(b"\r") != self._header
        ]
        parts: list[Part] = []

        def parse(part: list[int]) -> None:
            open_end = self._left_open(lines[part[-1]])
            table, bad = self._table(b"".join(lines[number] + b"\n" for number in part)) if not open_end else (None, {})
            if table is not None and table.num_rows + len(bad) == len(part):
                parts.append((table, [number for row, number in enumerate(part) if row not in bad]))
                dead.update({part[row]: reason for row, reason in bad.items()})
            elif len(part) == 1:
                dead[part[0]] = _NOT_CLOSED if open_end else "not CSV"
            else:
                parse(part[: len(part) // 2])
                parse(part[len(part) // 2 :])

        if numbers:
            parse(numbers)
        return parts, [Dead(number, reason, shown(with_breaks(lines[number]))) for number, reason in dead.items()]

    def _header_again(self, text: bytes) -> bool:
        """Whether a line begins like the header: files that were joined bring their headers along."""
        header = self._header
        return header is not None and (text.startswith(header) or b"\n" + header in text)

    def _table(self, text: bytes) -> tuple[pa.Table | None, dict[int, str]]:
        """The block as pyarrow reads it, all cells text, None where it refuses; rows with another number of fields."""
        bad: dict[int, str] = {}
        expected = "header" if self._header is not None else "schema (csv.columns)"

        def skip(row: pa.csv.InvalidRow) -> str:
            bad[row.number - 1] = f"{row.actual_columns} fields where the {expected} has {row.expected_columns}"
            return "skip"

        try:
            table = pa.csv.read_csv(
                io.BytesIO(text),
                pa.csv.ReadOptions(column_names=self._names, use_threads=False, block_size=len(text) + 1),
                pa.csv.ParseOptions(
                    delimiter=self._dialect.separator, quote_char=self._dialect.quote or False, invalid_row_handler=skip
                ),
                pa.csv.ConvertOptions(
                    include_columns=self._wanted,
                    column_types={name: pa.string() for name in self._wanted},
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
        except (pa.ArrowInvalid, pa.ArrowKeyError):
            return None, {}
        if self._dialect.line_breaks:
            names, cells = table.column_names, table.columns
            table = pa.table([pc.replace_substring(cell, INNER_BREAK, "\n") for cell in cells], names)
        return table, bad

    def _cells(self, text: str, **options: Any) -> list[str]:
        """The fields of one record."""
        dialect = self._dialect
        records = csv.reader(
            [text],
            delimiter=dialect.separator,
            quotechar=dialect.quote or None,
            quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
            **options,
        )
        return next(records, [])

    def _names_in(self, header: bytes) -> list[str]:
        text = header.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").strip("\r\n")
        return [name.replace(INNER_BREAK, "\n").strip() for name in self._cells(text)]

    def _one_record_a_line(self, text: bytes) -> bool:
        """Whether all is UTF-8 and no line surely is but a part of a record, or several."""
        try:
            text.decode("utf-8")
        except UnicodeDecodeError:
            return False
        data = np.frombuffer(text, np.uint8)
        if b"\r" in text:
            returns = np.flatnonzero(data == ord("\r"))
            if (data[returns + 1] != ord("\n")).any():
                return False
        quote = self._dialect.quote.encode()
        if quote and quote in text:
            begins = np.concatenate([[0], np.flatnonzero(data[:-1] == ord("\n")) + 1])
            odd = np.bitwise_xor.reduceat((data == ord(quote)).view(np.uint8), begins)
            if odd.any() or self._left_open(text[int(begins[-1]) :]):
                return False
        return True

    def _left_open(self, line: bytes) -> bool:
        """Whether a quoted field goes on behind the line."""
        if not self._dialect.quote or self._dialect.quote.encode() not in line:
            return False
        try:
            self._cells(line.decode("utf-8").rstrip("\r\n"), strict=True)
        except csv.Error as error:
            return "unexpected end" in str(error)
        return False

    def _not_one_record(self, text: bytes, lines: list[bytes]) -> dict[int, str]:
        """Line number -> why the line cannot be a record of its own."""
        found: dict[int, str] = {}
        if self._one_record_a_line(text):  # but for a quote inside a field with another one behind it: see `parse`
            return found
        quote = self._dialect.quote.encode()
        for number, line in enumerate(lines):
            if number in found:
                continue
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                plain = self._dialect.encoding == "utf-8"
                found[number] = f"not UTF-8: byte {error.start + 1}" if plain else f"not {self._dialect.encoding}"
                continue
            if b"\r" in line.rstrip(b"\r"):
                found[number] = "not CSV: a carriage return inside the line"
            elif quote and line.count(quote) % 2:
                found[number] = _NOT_CLOSED
                for inner in range(number + 1, min(number + _MOST_LINES, len(lines))):
                    if lines[inner].count(quote) % 2:
                        if self._closes(lines[number : inner + 1]):
                            found.update(dict.fromkeys(range(number, inner + 1), _LINE_BREAK))
                        break
        return found

    def _closes(self, lines: list[bytes]) -> bool:
        """Whether the lines together are a whole record."""
        text = b"\n".join(lines).decode("utf-8", "replace")
        dialect = self._dialect
        records = csv.reader(
            io.StringIO(text, newline=""), strict=True, delimiter=dialect.separator, quotechar=dialect.quote
        )
        try:
            return len(list(records)) == 1
        except csv.Error:
            return False
