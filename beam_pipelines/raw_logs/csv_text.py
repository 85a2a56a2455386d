"""The bytes of a CSV file as UTF-8 text whose every line is one record, for `csv_lines`.

A line break inside a quoted field is replaced by a character that no text holds (`INNER_BREAK`, a noncharacter of
Unicode), until the fields are parsed. So whatever cuts, counts or refuses lines need not know of quotes.
"""

import codecs
import re
from collections.abc import Iterable, Iterator

from beam_pipelines.raw_logs.gzip_lines import Damage
from beam_pipelines.raw_logs.text_lines import Lines
from twin_tf.features.log_files import CsvDialect

INNER_BREAK = "\U0010fffe"
LONGEST_RECORD = 1 << 20
_INNER_BREAK = INNER_BREAK.encode()
_BREAK = re.compile(rb"\r?\n")
_INVALID = "twin_tf_invalid"


def as_utf8(pieces: Iterable[bytes | Damage], encoding: str) -> Iterator[bytes | Damage]:
    """Pieces of text in UTF-8; what cannot be decoded becomes the byte 255, which no UTF-8 text holds."""
    if encoding == "utf-8":
        yield from pieces
        return
    codecs.register_error(_INVALID, lambda error: ("\udcff", error.end))  # type: ignore[attr-defined]
    decoder = codecs.getincrementaldecoder(encoding)(_INVALID)
    for piece in pieces:
        yield decoder.decode(piece).encode("utf-8", "surrogateescape") if isinstance(piece, bytes) else piece
    rest = decoder.decode(b"", final=True)
    if rest:
        yield rest.encode("utf-8", "surrogateescape")


def line_as_utf8(line: bytes, encoding: str) -> bytes:
    """The same of one line."""
    return b"".join(piece for piece in as_utf8([line], encoding) if isinstance(piece, bytes))


def one_record_a_line(blocks: Iterable[Lines], dialect: CsvDialect) -> Iterator[Lines]:
    """Blocks of whole lines to blocks of whole records, a line each.

    A field that is still open after `LONGEST_RECORD` bytes is taken for a stray quote: its lines stay lines.
    """
    if not dialect.line_breaks:
        yield from blocks
        return
    quote, separator = (re.escape(mark).encode() for mark in (dialect.quote, dialect.separator))
    plain = rb"[^" + quote + rb"]*"
    field = re.compile(
        rb"(?:\A|(?<=[\n" + separator + rb"]))" + quote  # where a field begins
        + plain + rb"(?:" + quote * 2 + plain + rb")*"
        + rb"(?:" + quote + rb"(?=[\r\n" + separator + rb"])|(?P<open>\Z))"
    )  # fmt: skip
    rest = b""
    for block in blocks:
        text, opened = _joined(field, rest + block.text)
        end = len(text) if opened is None else text.rfind(b"\n", 0, opened) + 1
        if block.cut is not None or len(text) - end > LONGEST_RECORD:
            end = len(text)
        rest = text[end:]
        yield Lines(text[:end], block.cut, block.damage)
    if rest:
        yield Lines(rest)


def _joined(field: re.Pattern[bytes], text: bytes) -> tuple[bytes, int | None]:
    """The text without line breaks inside its fields, and where a field begins that the text does not close."""
    parts: list[bytes] = []
    done, opened = 0, None
    for found in field.finditer(text):
        if found["open"] is not None:
            opened = sum(map(len, parts)) + found.start() - done
        elif b"\n" in found[0]:
            parts += [text[done : found.start()], _BREAK.sub(_INNER_BREAK, found[0])]
            done = found.end()
    return b"".join([*parts, text[done:]]), opened


def lines_in(text: bytes) -> int:
    """Lines of the file that a text of `one_record_a_line` came from."""
    return text.count(b"\n") + text.count(_INNER_BREAK)


def first_lines(text: bytes) -> list[int]:
    """For each record of such a text its first line, from 0."""
    firsts, line = [], 0
    for record in text.split(b"\n")[:-1]:
        firsts.append(line)
        line += 1 + record.count(_INNER_BREAK)
    return firsts


def with_breaks(text: bytes) -> bytes:
    """A text with its line breaks inside fields as they were."""
    return text.replace(_INNER_BREAK, b"\n")
