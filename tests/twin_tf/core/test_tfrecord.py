"""Records survive the file, and damage is found."""

from pathlib import Path

import pytest

from twin_tf.core.tfrecord import CorruptRecordError, frame, read_records

RECORDS = [b"one", b"", b"three" * 1000]


def read(path: Path) -> list[bytes]:
    with path.open("rb") as stream:
        return list(read_records(stream, path.name))


def test_records_survive_and_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "records"
    path.write_bytes(b"".join(map(frame, RECORDS)))
    assert read(path) == RECORDS
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:-1])
    with pytest.raises(CorruptRecordError, match="^records is cut short in record 2$"):
        read(path)
    content[12] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptRecordError, match="^records is corrupt: record 0 fails its checksum$"):
        read(path)


def test_tensorflow_reads_what_is_framed(tmp_path: Path) -> None:
    import tensorflow as tf

    path = tmp_path / "records"
    path.write_bytes(b"".join(map(frame, RECORDS)))
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(path))] == RECORDS
