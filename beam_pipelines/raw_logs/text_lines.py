"""Bytes of a text file to blocks of whole lines, from plain chunks and from gzip files, in bounded memory."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from beam_pipelines.raw_logs.gzip_lines import Damage
from beam_pipelines.raw_logs.log_blocks import PAYLOAD_BYTES

LONGEST_LINE = 32 << 20
_SEARCH_BYTES = 1 << 16


@dataclasses.dataclass
class Lines:
    """Whole lines, and what comes behind them and is none.

    Attributes:
        text: lines, each with its newline.
        cut: reason and text of a line that is not whole.
        damage: the damage that cut it.
    """

    text: bytes
    cut: tuple[str, bytes] | None = None
    damage: Damage | None = None


def plain_pieces(stream: BinaryIO, start: int, stop: int, piece_bytes: int) -> Iterator[bytes]:
    """The lines that begin in bytes `start` to `stop` of a file; the last one may end behind."""
    if start and not _seek_line(stream, start, stop):
        return
    last = b""
    left = stop - stream.tell()
    while left > 0:
        piece = stream.read(min(piece_bytes, left))
        if not piece:
            return
        left -= len(piece)
        last = piece[-1:]
        yield piece
    while last and last != b"\n":
        piece = stream.read(_SEARCH_BYTES)
        cut = piece.find(b"\n") + 1
        yield piece[:cut] if cut else piece
        last = b"\n" if cut else piece[-1:]


def _seek_line(stream: BinaryIO, start: int, stop: int) -> bool:
    """Goes to the first line that begins in bytes `start` to `stop`; False if none does."""
    place = start - 1  # a line that begins at `start` has its predecessor's newline there
    stream.seek(place)
    while place < stop - 1:
        piece = stream.read(min(_SEARCH_BYTES, stop - 1 - place))
        if not piece:
            return False
        found = piece.find(b"\n")
        if found >= 0:
            stream.seek(place + found + 1)
            return True
        place += len(piece)
    return False


def whole_lines(pieces: Iterable[bytes | Damage], block_bytes: int) -> Iterator[Lines]:
    """Joins pieces into blocks of whole lines of about `block_bytes`.

    A line longer than `LONGEST_LINE` and one that a damage cuts are handed out as `cut`. The last line needs no
    newline.
    """
    parts: list[bytes] = []
    size = 0
    some_whole = False
    lost = ""  # why everything up to the next newline is no line
    for piece in pieces:
        if isinstance(piece, Damage):
            text = b"".join(parts)
            end = 0 if lost else text.rfind(b"\n") + 1
            yield Lines(text[:end], (piece.reason, text[end:]), piece)
            parts, size, some_whole = [], 0, False
            lost = "its beginning is lost in a damaged gzip member" if piece.mid_line else ""
            continue
        if lost:
            line, newline, piece = piece.partition(b"\n")
            if size <= PAYLOAD_BYTES:  # more is not shown
                parts.append(line)
                size += len(line)
            if not newline:
                continue
            yield Lines(b"", (lost, b"".join(parts)))
            parts, size, lost = [], 0, ""
        parts.append(piece)
        size += len(piece)
        some_whole |= b"\n" in piece
        if size >= block_bytes and some_whole:
            text = b"".join(parts)
            begin, end = 0, text.rfind(b"\n") + 1
            if size > LONGEST_LINE and text.find(b"\n") > LONGEST_LINE:  # its newline came with the last piece
                begin = text.find(b"\n") + 1
                yield Lines(b"", (_too_long(), text[: begin - 1]))
            if begin < end:
                yield Lines(text[begin:end])
            parts, size, some_whole = [text[end:]], size - end, False
        if size > LONGEST_LINE and not some_whole:
            lost = _too_long()
    rest = b"".join(parts)
    if lost and rest:
        yield Lines(b"", (lost, rest))
    elif rest and rest.find(b"\n") > LONGEST_LINE:
        yield Lines(b"", (_too_long(), rest.partition(b"\n")[0]))
        yield from whole_lines([rest.partition(b"\n")[2]], block_bytes)
    elif rest:
        yield Lines(rest if rest.endswith(b"\n") else rest + b"\n")


def _too_long() -> str:
    return f"longer than {LONGEST_LINE} bytes"
