"""TFRecord files (uncompressed) without TensorFlow: warm-up requests are read and written with it.

A record is its length (uint64), the masked CRC-32C of the length, the bytes, and their masked CRC-32C, little-endian.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import google_crc32c

from export.errors import DataLossError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


def read_records(path: str | Path) -> Iterator[bytes]:
    """The records of one file, in order.

    Raises:
        DataLossError: the file is cut short or a checksum is wrong.
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        number = 0
        while header := file.read(_HEADER.size):
            if len(header) < _HEADER.size:
                raise DataLossError(f"{path} is cut short in record {number}")
            length, length_checksum = _HEADER.unpack(header)
            if length_checksum != _checksum(header[:8]):
                raise DataLossError(f"{path} is corrupt: the length of record {number} fails its checksum")
            body = file.read(length + _FOOTER.size)
            if len(body) < length + _FOOTER.size:
                raise DataLossError(f"{path} is cut short in record {number}")
            if _FOOTER.unpack(body[length:])[0] != _checksum(body[:length]):
                raise DataLossError(f"{path} is corrupt: record {number} fails its checksum")
            yield body[:length]
            number += 1


def write_records(path: str | Path, records: Iterable[bytes]) -> None:
    """Writes the records to a new file."""
    with Path(path).open("wb") as file:
        for record in records:
            length = struct.pack("<Q", len(record))
            file.write(length + _FOOTER.pack(_checksum(length)) + record + _FOOTER.pack(_checksum(record)))


def _checksum(data: bytes) -> int:
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFF_FFFF
