"""TFRecord files (uncompressed) without TensorFlow: prepared data and warm-up requests are written and read with it.

A record is its length (uint64), the masked CRC-32C of the length, the bytes, and their masked CRC-32C, little-endian.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c

from twin_tf.core.errors import UserError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8


class CorruptRecordError(UserError, ValueError):
    """A file is cut short, or a checksum is wrong."""


def frame(record: bytes) -> bytes:
    """A record as the file holds it."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, _FOOTER.pack(_checksum(length)), record, _FOOTER.pack(_checksum(record))))


def read_records(stream: BinaryIO, name: str) -> Iterator[bytes]:
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


def _checksum(data: bytes) -> int:
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFF_FFFF
