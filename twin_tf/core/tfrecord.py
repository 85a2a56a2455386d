"""TFRecord files (uncompressed) without TensorFlow: prepared data and warm-up requests are written and read with it.

A record is its length (uint64), the masked CRC-32C of the length, the bytes, and their masked CRC-32C, little-endian.
"""

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import google_crc32c

from twin_tf.core.buckets import BucketPath
from twin_tf.core.errors import UserError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8

ENDS = 4096
"""Bytes at either end of a file that `digest_of_ends` looks at."""


class CorruptRecordError(UserError, ValueError):
    """A file is cut short, or a checksum is wrong."""


class Reader(Protocol):
    """What a file gives its next bytes by."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many; fewer at the end."""


def frame(record: bytes) -> bytes:
    """A record as the file holds it."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, _FOOTER.pack(_checksum(length)), record, _FOOTER.pack(_checksum(record))))


def read_records(stream: Reader, name: str) -> Iterator[bytes]:
    """The records of one file, in order.

    Args:
        stream: the file, open for reading.
        name: what errors call it.

    Raises:
        CorruptRecordError: the file is cut short or a checksum is wrong.
        OSError: the file cannot be read.
    """
    number = 0
    while header := stream.read(_HEADER.size):
        if len(header) < _HEADER.size:
            raise CorruptRecordError(f"{name} is cut short in record {number}")
        length, length_checksum = _HEADER.unpack(header)
        if length_checksum != _checksum(header[:8]):
            raise CorruptRecordError(f"{name} is corrupt: the length of record {number} fails its checksum")
        body = stream.read(length + _FOOTER.size)
        if len(body) < length + _FOOTER.size:
            raise CorruptRecordError(f"{name} is cut short in record {number}")
        if _FOOTER.unpack(body[length:])[0] != _checksum(body[:length]):
            raise CorruptRecordError(f"{name} is corrupt: record {number} fails its checksum")
        yield body[:length]
        number += 1


def digest_of_ends(head: bytes, tail: bytes) -> str:
    """SHA-256 of the first and the last `ENDS` bytes of a file, which may overlap, in hexadecimal digits.

    Two small reads tell one file of records from another. What lies between them has its CRCs.
    """
    return hashlib.sha256(head[:ENDS] + tail[-ENDS:]).hexdigest()


def ends_of_file(path: Path | BucketPath) -> str:
    """`digest_of_ends` of a file or an object."""
    if isinstance(path, BucketPath):
        last = max(0, (path.size() or 0) - ENDS)
        return digest_of_ends(path.part(0, ENDS), path.part(last, ENDS))
    with path.open("rb") as file:
        head = file.read(ENDS)
        file.seek(max(0, file.seek(0, os.SEEK_END) - ENDS))
        return digest_of_ends(head, file.read())


def _checksum(data: bytes) -> int:
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFF_FFFF
