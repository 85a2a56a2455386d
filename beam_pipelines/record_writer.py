"""`tf.train.Example` bytes and TFRecord files without TensorFlow.

An Example is written in protobuf's wire format directly: importing TensorFlow for it would cost every worker 600 MB and
several seconds. Keys are in rising order, so equal content is equal bytes.
"""

import functools
import hashlib
import struct
from collections.abc import Mapping
from typing import BinaryIO

import google_crc32c
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from twin_tf.records import Shard

_MASK_DELTA = 0xA282EAD8
_LENGTH_DELIMITED = 2


def example(features: Mapping[str, int | bytes]) -> bytes:
    """Serialises a `tf.train.Example` whose features hold one int64 or one byte string each."""
    entries = []
    for key in sorted(features):
        value = features[key]
        if isinstance(value, int):
            entries.append(_number(key, value))
        else:
            entries.append(_field(1, _key(key) + _field(2, _field(1, _field(1, value)))))  # Feature.bytes_list.value
    return _field(1, b"".join(entries))  # Example.features


def frame(record: bytes) -> bytes:
    """A record as TFRecord files hold it: length, its checksum, the record, its checksum."""
    length = struct.pack("<Q", len(record))
    return b"".join((length, _checksum(length), record, _checksum(record)))


class ShardWriter:
    """Writes one TFRecord file and keeps its figures; the file is created with the first record.

    Args:
        root: the prepared directory.
        name: path below it.
    """

    def __init__(self, root: str, name: str) -> None:
        self._path = FileSystems.join(root, *name.split("/"))
        self._name = name
        self._stream: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._bytes = self._records = self._targets = self._events = self._longest = 0

    def write(self, record: bytes, events: int, targets: int) -> None:
        """Appends a record that holds so many behaviours and targets."""
        stream = self._stream
        if stream is None:
            stream = self._stream = FileSystems.create(self._path, compression_type=CompressionTypes.UNCOMPRESSED)
        framed = frame(record)
        stream.write(framed)
        self._hash.update(framed)
        self._bytes += len(framed)
        self._records += 1
        self._events += events
        self._targets += targets
        self._longest = max(self._longest, events)

    def close(self) -> Shard | None:
        """Finishes the file; None if nothing was written."""
        if self._stream is None:
            return None
        self._stream.close()
        digest = self._hash.hexdigest()
        return Shard(self._name, self._bytes, digest, self._records, self._targets, self._events, self._longest)


def write_file(root: str, name: str, content: bytes) -> None:
    """Writes a whole file below `root` on any of Beam's file systems."""
    path = FileSystems.join(root, *name.split("/"))
    with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        stream.write(content)


@functools.lru_cache(maxsize=1 << 16)
def _number(key: str, value: int) -> bytes:
    content = _field(3, _field(1, _varint(value & 0xFFFF_FFFF_FFFF_FFFF)))  # Feature.int64_list.value, packed
    return _field(1, _key(key) + _field(2, content))  # Features.feature, a map entry


@functools.lru_cache(maxsize=1024)
def _key(key: str) -> bytes:
    return _field(1, key.encode("utf-8"))


def _field(number: int, content: bytes) -> bytes:
    return bytes((number << 3 | _LENGTH_DELIMITED,)) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFF_FFFF)
