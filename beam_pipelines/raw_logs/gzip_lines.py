"""Decompresses gzip files that may be damaged: what lies before and behind a damage is still read.

A file may hold several members, one after another (log rotation appends). Inside a damaged member nothing tells where
the next one begins, so every byte sequence that looks like a member's header is tried: it is believed if it
decompresses to text lines, or to its end with the right checksum. A header inside a member that has not ended yet is
tried too: a member that was cut short would otherwise run on into the next one, and give rubbish made of copies of
real lines.

What lies between a flipped bit and the place where decompression notices it cannot be told from sound text.
"""

import codecs
import dataclasses
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

INPUT_BYTES = 1 << 18
PROBE_BYTES = 1 << 16
PROBE_STEP = 512
_PROBED_TEXT = 1 << 20
_HEADER_BYTES = 10
# Magic and "deflate"; reserved flags clear; any time; one of the known "extra flags" and operating systems (RFC 1952).
_HEADER = re.compile(rb"\x1f\x8b\x08[\x00-\x1f].{4}[\x00\x02\x04][\x00-\x0d\xff]", re.DOTALL)
_NOT_ZERO = re.compile(rb"[^\x00]")
_EXTRA_FIELD = b"\x04"
_GZIP = 31
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclasses.dataclass(frozen=True)
class Damage:
    """A damaged member.

    Attributes:
        reason: where it is and what is wrong.
        lost_bytes: compressed bytes that were skipped.
        mid_line: reading goes on in the middle of a line, as far as can be told.
    """

    reason: str
    lost_bytes: int
    mid_line: bool


class _Source:
    """The compressed bytes that lie ahead; `position` is where they begin in the file."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._ended = False
        self._data = b""
        self._at = 0
        self.position = 0

    def fill(self, size: int = _HEADER_BYTES) -> bool:
        """Has at least so many bytes ahead, or all there are; False at the end."""
        while len(self._data) - self._at < size and not self._ended:
            more = self._stream.read(INPUT_BYTES)
            self._ended = not more
            self._data = self._data[self._at :] + more
            self._at = 0
        return self._at < len(self._data)

    def ahead(self, stop: int, start: int = 0) -> bytes:
        """The bytes from `start` to `stop`, counted from here."""
        return self._data[self._at + start : self._at + stop]

    def take(self, size: int) -> None:
        """Goes on."""
        self._at += size
        self.position += size

    def padding(self) -> int:
        """How many zero bytes lie ahead."""
        found = _NOT_ZERO.search(self._data, self._at)
        return (found.start() if found else len(self._data)) - self._at

    def header(self, skip: int) -> tuple[int, bool]:
        """Bytes to the next header and True, or bytes that surely begin none and False; at least `skip`."""
        found = _HEADER.search(self._data, self._at + skip)
        if found:
            return found.start() - self._at, True
        left = len(self._data) - self._at
        return left if self._ended else max(skip, left - _HEADER_BYTES + 1), False


def gzip_pieces(stream: BinaryIO, piece_bytes: int) -> Iterator[bytes | Damage]:
    """The decompressed text in pieces of about `piece_bytes`, with each damage where it belongs."""
    source = _Source(stream)
    mid_line = False
    while source.fill():
        if source.position and source.padding():  # between members
            source.take(source.padding())
            continue
        start, begins, last = source.position, source.ahead(14), b"\n"
        is_gzip = begins[:2] == b"\x1f\x8b"
        blocked = begins[3:4] == _EXTRA_FIELD and begins[12:14] == b"BC"  # by bgzip, whose members end anywhere
        pieces = _member(source, piece_bytes)
        fault = ""
        for piece in pieces:
            if isinstance(piece, str):
                fault = piece
            elif piece:
                last = piece[-1:]
                yield piece
        if fault:
            reason = f"damaged gzip member at byte {start}: {fault}"
            if not is_gzip and not start:
                reason = f"not a gzip file, it begins with {begins[:8]!r}"
            lost = _skip_damage(source)
            yield Damage(reason, lost if is_gzip else source.position - start, mid_line or blocked)
        else:
            mid_line |= last != b"\n"


def _member(source: _Source, piece_bytes: int) -> Iterator[bytes | str]:
    """Decompresses the member that begins here; what is wrong with it comes last, as a str."""
    inflater = zlib.decompressobj(_GZIP)
    skip = 1  # the member's own header
    while source.fill():
        stop, found = source.header(skip)
        if stop == 0 and found:
            if _is_member(source):
                yield f"it ends early, another one begins at byte {source.position}"
                return
            skip = 1
            continue
        skip = 0
        before, ahead = inflater.copy(), source.ahead(stop)
        while True:
            try:
                text = inflater.decompress(ahead, piece_bytes)
            except zlib.error:
                source.take(stop - len(ahead))
                yield from _up_to_the_fault(before, ahead, source)
                return
            yield text
            ahead = inflater.unconsumed_tail
            if inflater.eof or not (ahead or len(text) == piece_bytes):
                break
            before = inflater.copy()
        source.take(stop - len(inflater.unused_data))
        if inflater.eof:
            return
    yield "the file ends inside it"


def _up_to_the_fault(inflater: "zlib._Decompress", ahead: bytes, source: _Source) -> Iterator[bytes | str]:
    """Decompresses byte by byte: zlib drops the output of a call that fails, so the failing call must be small."""
    for number in range(len(ahead)):
        try:
            text = inflater.decompress(ahead[number : number + 1])
        except zlib.error as error:
            source.take(number)
            yield str(error).rpartition(": ")[2] + f" at byte {source.position}"
            return
        yield text


def _skip_damage(source: _Source) -> int:
    """Goes on to the next member, or to the end; returns how many bytes that skipped."""
    begin, skip = source.position, 0
    while source.fill():
        size, found = source.header(skip)
        if size == 0 and found:
            if _is_member(source):
                break
            skip = 1
            continue
        source.take(size)
        skip = 0
    return source.position - begin


def _is_member(source: _Source) -> bool:
    """Whether a member really begins here."""
    source.fill(PROBE_BYTES)
    inflater = zlib.decompressobj(_GZIP)
    text, sound = b"", True
    for place in range(0, PROBE_BYTES, PROBE_STEP):
        try:
            text += inflater.decompress(source.ahead(place + PROBE_STEP, place))
        except zlib.error:  # it may be damaged in its turn: its first line decides
            sound = False
            break
        if inflater.eof:
            return True
        if b"\n" in text.lstrip() or len(text) > _PROBED_TEXT:
            break
    first, newline, _ = text.lstrip().partition(b"\n")
    if not first or not (newline or sound):
        return False
    try:
        line = codecs.getincrementaldecoder("utf-8")().decode(first, final=bool(newline))
    except UnicodeDecodeError:
        return False
    return not _CONTROL.search(line)
