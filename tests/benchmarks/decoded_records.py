"""Records of TFRecord files as plain Python values, ours and the plain pipeline's."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from twin_tf.core.tfrecord import read_records as framed
from twin_tf.records.format import Manifest
from twin_tf.records.packing import unpack


def decoded(record: bytes, manifest: Manifest | None) -> dict[str, Any]:
    """A record's features as ints and lists of ints; without a manifest, arrays of the plain pipeline's widths."""
    import tensorflow as tf

    values: dict[str, Any] = {}
    for key, feature in tf.train.Example.FromString(record).features.feature.items():
        if feature.HasField("int64_list"):
            (values[key],) = feature.int64_list.value
            continue
        (packed,) = feature.bytes_list.value
        if manifest is None:
            values[key] = np.frombuffer(packed, "<i8" if key.endswith("/time") else "<i4").tolist()
        else:
            origin = manifest.time_origin if key.endswith("/time") else 0
            values[key] = (unpack(packed, manifest.widths[key]) + origin).tolist()
    return values


def read_records(paths: Iterable[Path], manifest: Manifest | None = None) -> list[dict[str, Any]]:
    """All records of some files, checksums checked, in the order of user and first target."""
    records = []
    for path in paths:
        with path.open("rb") as stream:
            records += [decoded(record, manifest) for record in framed(stream, path.name)]
    return sorted(records, key=lambda record: (record["user/id"], record["target/time"], record["target/item"]))
