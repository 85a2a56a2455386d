"""Files of prepared data on any of Beam's file systems; `tf.train.Example` bytes without TensorFlow.

An Example is written in protobuf's wire format directly: importing TensorFlow for it would cost every worker 600 MB and
several seconds. Keys are in rising order, so equal content is equal bytes.
"""

import functools
import hashlib
import io
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from twin_tf.core.errors import UserError
from twin_tf.core.tfrecord import ENDS, digest_of_ends, frame
from twin_tf.records.format import Shard

_LENGTH_DELIMITED = 2


def example(features: Mapping[str, int | bytes]) -> bytes:
    """Serialises a `tf.train.Example` whose features hold one int64 or one byte string each."""
    entries: list[bytes] = []
    for key in sorted(features):
        value = features[key]
        entries += (_number(key, value),) if isinstance(value, int) else (_head(key, len(value)), value)
    return b"".join((_start(1, sum(map(len, entries))), *entries))  # Example.features


FAILED = "_FAILED"


class PipelineStoppedError(UserError):
    """The whole job cannot go on; the sentence for the user lies in the output as `_FAILED`."""


def stop_job(root: str, sentence: str) -> NoReturn:
    """Ends the job with a sentence for the user.

    Raises:
        PipelineStoppedError: always.
    """
    write_file(root, FAILED, sentence.encode("utf-8"))
    raise PipelineStoppedError(sentence)


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
        self._head = self._tail = b""
        self._bytes = self._records = self._targets = self._events = self._longest = 0

    def write(self, record: bytes, events: int, targets: int) -> None:
        """Appends a record that holds so many behaviours and targets."""
        stream = self._stream
        if stream is None:
            stream = self._stream = FileSystems.create(self._path, compression_type=CompressionTypes.UNCOMPRESSED)
        framed = frame(record)
        stream.write(framed)
        self._hash.update(framed)
        if len(self._head) < ENDS:
            self._head += framed[:ENDS]
        self._tail = (self._tail + framed[-ENDS:])[-ENDS:]
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
        return Shard(
            self._name,
            self._bytes,
            self._hash.hexdigest(),
            self._records,
            self._targets,
            self._events,
            self._longest,
            digest_of_ends(self._head, self._tail),
        )


class HashingReader:
    """A file that is read from start to end, and the SHA-256 of what has been read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        found = self._stream.read(size)
        self._hash.update(found)
        return found

    @property
    def sha256(self) -> str:
        """In hexadecimal digits."""
        return self._hash.hexdigest()


class FileWriter(io.RawIOBase):
    """A file below `root` on any of Beam's file systems, written from start to end.

    Args:
        root: the prepared directory.
        name: path below it.
    """

    def __init__(self, root: str, name: str) -> None:
        path = FileSystems.join(root, *name.split("/"))
        self._stream = FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)
        self._hash = hashlib.sha256()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Appends bytes."""
        self._stream.write(data)
        self._hash.update(data)
        return len(data)

    def close(self) -> None:
        """Finishes the file."""
        if not self.closed:
            self._stream.close()
        super().close()

    @property
    def sha256(self) -> str:
        """Of what was written, in hexadecimal digits."""
        return self._hash.hexdigest()


def write_file(root: str, name: str, content: bytes) -> str:
    """Writes a whole file below `root` on any of Beam's file systems; returns its sha256."""
    with FileWriter(root, name) as file:
        file.write(content)
    return file.sha256


def write_pieces(root: str, name: str, pieces: Iterable[str]) -> str:
    """Writes a text that comes in pieces; returns the file's sha256."""
    with FileWriter(root, name) as file:
        for piece in pieces:
            file.write(piece.encode("utf-8"))
    return file.sha256


def copy_file(path: Path, root: str, name: str) -> str:
    """Writes a local file below `root`; returns its sha256."""
    with FileWriter(root, name) as file, path.open("rb") as source:
        shutil.copyfileobj(source, file, 1 << 20)
    return file.sha256


def write_parquet(root: str, name: str, table: pa.Table) -> str:
    """Writes a table below `root`; returns the file's sha256."""
    with ParquetRows(root, name, table.schema) as rows:
        for start in range(0, max(1, len(table)), ROW_GROUP):
            rows.write(table.slice(start, ROW_GROUP))
    return rows.sha256


ROW_GROUP = 1 << 20
"""Rows of a row group of Parquet files, but of the last one."""


class ParquetRows:
    """A Parquet file below `root`, written a row group at a time.

    Args:
        root: the prepared directory.
        name: path below it.
        schema: of its rows.
    """

    def __init__(self, root: str, name: str, schema: pa.Schema) -> None:
        self._file = FileWriter(root, name)
        self._writer = pq.ParquetWriter(self._file, schema)

    def write(self, rows: pa.Table) -> None:
        """Appends at most `ROW_GROUP` rows."""
        self._writer.write_table(rows)

    def __enter__(self) -> "ParquetRows":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._file.close()

    @property
    def sha256(self) -> str:
        """Of the file, once it is closed."""
        return self._file.sha256


def open_file(path: str) -> BinaryIO:
    """Opens a file of any of Beam's file systems as its bytes are."""
    stream: BinaryIO = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return stream


def read_file(root: str, name: str) -> bytes | None:
    """The content of a file below `root`, or None without it."""
    path = FileSystems.join(root, *name.split("/"))
    if not FileSystems.exists(path):
        return None
    with open_file(path) as stream:
        return stream.read()


def parse_example(data: bytes) -> dict[str, int | bytes]:
    """The inverse of `example`."""
    found: dict[str, int | bytes] = {}
    (features,) = _fields(data)
    for entry in _fields(features[1]):
        key, value = (content for _, content in _fields(entry[1]))
        ((kind, values),) = _fields(value)
        ((_, content),) = _fields(values)
        found[key.decode("utf-8")] = content if kind == 1 else _signed(_read_varint(content, 0)[0])
    return found


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place < len(data):
        tag, place = _read_varint(data, place)
        size, place = _read_varint(data, place)
        yield tag >> 3, data[place : place + size]
        place += size


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


@functools.lru_cache(maxsize=1 << 16)
def _number(key: str, value: int) -> bytes:
    content = _field(3, _field(1, _varint(value & 0xFFFF_FFFF_FFFF_FFFF)))  # Feature.int64_list.value, packed
    return _field(1, _key(key) + _field(2, content))  # Features.feature, a map entry


@functools.lru_cache(maxsize=1 << 16)
def _head(key: str, size: int) -> bytes:
    """What comes before a byte string of this size: a map entry of Features.feature, Feature.bytes_list.value."""
    head = _start(1, size)
    head = _start(1, len(head) + size) + head
    head = _key(key) + _start(2, len(head) + size) + head
    return _start(1, len(head) + size) + head


@functools.lru_cache(maxsize=1024)
def _key(key: str) -> bytes:
    return _field(1, key.encode("utf-8"))


def _field(number: int, content: bytes) -> bytes:
    return _start(number, len(content)) + content


def _start(number: int, size: int) -> bytes:
    return bytes((number << 3 | _LENGTH_DELIMITED,)) + _varint(size)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
