"""Records of TFRecord files as plain Python values; the one place that knows how `build_examples` packs them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np


def decoded(record: bytes) -> dict[str, Any]:
    """A record's features as ints and lists of ints."""
    import tensorflow as tf

    values: dict[str, Any] = {}
    for key, feature in tf.train.Example.FromString(record).features.feature.items():
        if feature.HasField("int64_list"):
            (values[key],) = feature.int64_list.value
        else:
            (packed,) = feature.bytes_list.value
            values[key] = np.frombuffer(packed, "<i8" if key.endswith("/time") else "<i4").tolist()
    return values


def read_records(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """All records of some files, checksums checked, in the order of user and first target."""
    records = [decoded(record) for path in paths for record in _framed(path.read_bytes())]
    return sorted(records, key=lambda record: (record["user/id"], record["target/time"], record["target/item"]))


def _framed(data: bytes) -> list[bytes]:
    place, found = 0, []
    while place < len(data):
        length = int.from_bytes(data[place : place + 8], "little")
        record = data[place + 12 : place + 12 + length]
        crc = google_crc32c.value(record)
        masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
        assert int.from_bytes(data[place + 12 + length : place + 16 + length], "little") == masked
        found.append(record)
        place += 16 + length
    return found
