"""Decompresses gzip files that may be damaged: what lies before and behind a damage is still read.

A file may hold several members, one after another (log rotation appends). Inside a damaged member nothing tells where
the next one begins, so every byte sequence that looks like a member's header is tried: it is believed if it
decompresses to text lines, or to its end with the right checksum. A header inside a member that has not ended yet is
tried too: a member that was cut short would otherwise run on into the next one, and give rubbish made of copies of
real lines.

What lies between a flipped bit and the place where decompression notices it cannot be told from sound text.
"""

import dataclasses
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

INPUT_BYTES = 1 << 18
PROBE_BYTES = 1 << 16
PROBE_STEP = 512
_HEADER_BYTES = 10
# Magic and "deflate"; reserved flags clear; any time; one of the known "extra flags" and operating systems (RFC 1952).
_HEADER = re.compile(rb"\x1f\x8b\x08[\x00-\x1f].{4}[\x00\x02\x04][\x00-\x0d\xff]", re.DOTALL)
_EXTRA_FIELD = 4
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
    """The compressed bytes: `data` is what lies ahead, `position` where it begins in the file."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._ended = False
        self.data = b""
        self.position = 0

    def fill(self, size: int = INPUT_BYTES) -> bool:
        """Has at least so many bytes ahead, or all there are; False at the end."""
        while len(self.data) < size and not self._ended:
            more = self._stream.read(size)
            self._ended = not more
            self.data += more
        return bool(self.data)

    def take(self, size: int) -> None:
        """Goes on."""
        self.data = self.data[size:]
        self.position += size

    def header(self, skip: int) -> tuple[int, bool]:
        """Bytes to the next header and True, or bytes that surely begin none and False; at least `skip`."""
        found = _HEADER.search(self.data, skip)
        if found:
            return found.start(), True
        return len(self.data) if self._ended else max(skip, len(self.data) - _HEADER_BYTES + 1), False


def gzip_pieces(stream: BinaryIO, piece_bytes: int) -> Iterator[bytes | Damage]:
    """The decompressed text in pieces of about `piece_bytes`, with each damage where it belongs."""
    source = _Source(stream)
    mid_line = False
    while source.fill():
        if source.position and source.data[:1] == b"\x00":  # padding between members
            source.take(len(source.data) - len(source.data.lstrip(b"\x00")))
            continue
        start, begins, last = source.position, source.data[:8], b"\n"
        is_gzip = begins[:2] == b"\x1f\x8b"
        extra = is_gzip and len(begins) > 3 and bool(begins[3] & _EXTRA_FIELD)  # bgzip: members end anywhere
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
                reason = f"not a gzip file, it begins with {begins!r}"
            lost = _skip_damage(source)
            yield Damage(reason, lost if is_gzip else source.position - start, mid_line or extra)
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
        before, ahead = inflater.copy(), source.data[:stop]
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
    text = b""
    try:
        for place in range(0, min(PROBE_BYTES, len(source.data)), PROBE_STEP):
            text += inflater.decompress(source.data[place : place + PROBE_STEP])
            if inflater.eof:
                return True
            if b"\n" in text.lstrip():
                break
    except zlib.error:
        pass  # it may be damaged in its turn: its first line decides
    first, newline, _ = text.lstrip().partition(b"\n")
    try:
        return bool(newline) and not _CONTROL.search(first.decode("utf-8"))
    except UnicodeDecodeError:
        return False
