"""Small random logs in every format, and prepared data read back with TensorFlow's own Example."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from twin_tf.features.schema import FeatureSchema, schema_from_mapping
from twin_tf.records.format import Manifest
from twin_tf.records.packing import unpack

Row = dict[str, Any]


def schema(ids: str = "int", split: dict[str, Any] | None = None, **changes: Any) -> FeatureSchema:
    """A schema that uses every encoding in every role; `ids` is the type of user and item ids."""
    vocabulary = {"kind": "vocabulary"}
    plain = {
        "name": "small",
        "events": {
            "user": {"column": "u", "type": ids},
            "item": {"column": "i", "type": ids},
            "time": {"column": "t"},
            "label": {"column": "y", "values": [0, 1, 2], "positive": [1, 2]},
        },
        "items": {"column": "item", "type": ids},
        "users": {"column": "user", "type": ids},
        "history": {"where": {"y": [1, 2], "kind": ["view", "buy"]}, "max_length": 4},
        "targets": {"where": {"shown": [1]}, "per_record": 3},
        "split": split or {"train": 0.6, "valid": 0.2},
        "features": [
            {"name": "product", "role": "inherent", "column": "item", "encoding": {**vocabulary, "min_count": 2}},
            {"name": "category", "role": "inherent", "encoding": vocabulary},
            {"name": "maker", "role": "inherent", "encoding": {**vocabulary, "min_count": 2, "source": "items"}},
            {"name": "minutes", "role": "inherent", "encoding": {"kind": "numeric", "quantiles": 3}},
            {"name": "place", "role": "cross", "encoding": {**vocabulary, "min_count": 2}},
            {"name": "play", "role": "cross", "encoding": {"kind": "numeric", "quantiles": 4}},
            {"name": "rank", "role": "cross", "encoding": {"kind": "identity", "size": 4}},
            {"name": "surface", "role": "cross", "encoding": {"kind": "hash", "buckets": 5}},
            {"name": "hour", "role": "cross", "derived": "hour_of_day"},
            {"name": "age_group", "role": "user", "encoding": vocabulary},
            {"name": "shown_place", "role": "context", "column": "place", "encoding": vocabulary},
            {
                "name": "seconds",
                "role": "context",
                "column": "play",
                "encoding": {"kind": "numeric", "boundaries": [1, 2]},
            },
            {"name": "shown_surface", "role": "candidate", "column": "surface", "encoding": vocabulary},
            {"name": "offer", "role": "candidate", "column": "play", "encoding": {"kind": "numeric", "quantiles": 3}},
            {
                "name": "slot",
                "role": "candidate",
                "column": "rank",
                "encoding": {"kind": "identity", "size": 4},
                "serve_as": 1,
            },
        ],
        **changes,
    }
    return schema_from_mapping(plain)


def _anchor(time: int) -> Row:
    return {
        "u": 0,
        "i": 0,
        "t": time,
        "y": 1,
        "kind": "view",
        "shown": 1,
        "place": "top",
        "play": 1.5,
        "rank": 1,
        "surface": "web",
    }


@st.composite
def logs(draw: st.DrawFn) -> dict[str, list[Row]]:
    """Events (many ties in time, several users, empty values), items (some missing, some twice) and users."""
    event = st.fixed_dictionaries(
        {
            "u": st.integers(0, 3),
            "i": st.integers(0, 7),
            "t": st.integers(1, 20),
            "y": st.integers(0, 2),
            "kind": st.sampled_from(["view", "buy", "hide", None]),
            "shown": st.integers(0, 1),
            "place": st.sampled_from(["top", "side", "end", None]),
            "play": st.sampled_from([0.0, 0.25, 1.0, 1.5, 2.0, 7.5, None]),
            "rank": st.sampled_from([-1, 0, 1, 3, 4, None]),
            "surface": st.sampled_from(["web", "tv", "phone", None]),
        }
    )
    item = st.fixed_dictionaries(
        {
            "item": st.integers(0, 5),
            "category": st.sampled_from(["a", "b", None]),
            "maker": st.sampled_from(["x", "y", "z"]),
            "minutes": st.sampled_from([1.0, 2.0, 4.0, None]),
        }
    )
    user = st.fixed_dictionaries({"user": st.integers(0, 4), "age_group": st.sampled_from(["18-24", "25+", None])})
    return {
        "events": [_anchor(0), *draw(st.lists(event, max_size=40)), _anchor(21)],
        "items": [{"item": 0, "category": "a", "maker": "x", "minutes": 1.0}, *draw(st.lists(item, max_size=8))],
        "users": [{"user": 0, "age_group": "25+"}, *draw(st.lists(user, max_size=5))],
    }


def random_logs(events: int = 400, seed: int = 1) -> dict[str, list[Row]]:
    """The same shape of logs, larger, without hypothesis."""
    rng = np.random.default_rng(seed)
    rows = [_anchor(0), _anchor(99)]
    for _ in range(events):
        row = {
            "u": int(rng.integers(12)),
            "i": int(rng.integers(30)),
            "t": int(rng.integers(1, 99)),
            "y": int(rng.integers(3)),
            "kind": ["view", "buy", "hide"][rng.integers(3)],
            "shown": int(rng.integers(2)),
            "place": ["top", "side"][rng.integers(2)],
            "play": float(rng.integers(100)) / 4,
            "rank": int(rng.integers(4)),
            "surface": ["web", "tv"][rng.integers(2)],
        }
        rows.append(row)
    items = [{"item": i, "category": "ab"[i % 2], "maker": "xyz"[i % 3], "minutes": float(i)} for i in range(25)]
    return {
        "events": rows,
        "items": items,
        "users": [{"user": u, "age_group": ["18-24", "25+"][u % 2]} for u in range(10)],
    }


def with_text_ids(tables: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The same logs with text ids."""
    names = {"u": "user-{}", "user": "user-{}", "i": "item-{}", "item": "item-{}"}
    return {
        log: [{k: names[k].format(v) if k in names else v for k, v in row.items()} for row in rows]
        for log, rows in tables.items()
    }


def write(path: Path, rows: list[Row]) -> Path:
    """Writes rows in the format that the path's name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(rows[0])
    if path.suffix == ".parquet":
        table = pa.table({c: pa.array([row[c] for row in rows]) for c in columns})
        pq.write_table(table, path, row_group_size=7)
        return path
    if ".csv" in path.name:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, columns)
        writer.writeheader()
        writer.writerows(rows)
        text = buffer.getvalue()
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_logs(directory: Path, tables: dict[str, list[Row]], suffix: str = ".parquet") -> dict[str, str]:
    """Writes all logs; returns the arguments of `build_examples`."""
    return {log: str(write(directory / f"{log}{suffix}", rows)) for log, rows in tables.items()}


def framed(path: Path) -> list[bytes]:
    """The records of a TFRecord file, checksums checked."""
    data, place, found = path.read_bytes(), 0, []

    def masked(part: bytes) -> int:
        crc = google_crc32c.value(part)
        return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    while place < len(data):
        length = int.from_bytes(data[place : place + 8], "little")
        assert int.from_bytes(data[place + 8 : place + 12], "little") == masked(data[place : place + 8])
        record = data[place + 12 : place + 12 + length]
        assert int.from_bytes(data[place + 12 + length : place + 16 + length], "little") == masked(record)
        found.append(record)
        place += 16 + length
    return found


def decoded(record: bytes, manifest: Manifest) -> dict[str, Any]:
    """A record as plain Python values."""
    import tensorflow as tf

    values: dict[str, Any] = {}
    for key, feature in tf.train.Example.FromString(record).features.feature.items():
        if feature.HasField("int64_list"):
            (values[key],) = feature.int64_list.value
        else:
            (packed,) = feature.bytes_list.value
            numbers = unpack(packed, manifest.widths[key])
            values[key] = (numbers + manifest.time_origin if key.endswith("/time") else numbers).tolist()
    return values


def read_back(manifest: Manifest) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """Split -> user -> records, in the order of the files."""
    found: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for split in manifest.splits:
        users = found.setdefault(split, {})
        for path in manifest.shard_paths(split):
            records = [decoded(record, manifest) for record in framed(path)]
            order = [(r["user/id"], r["target/time"][:1]) for r in records]
            assert order == sorted(order)
            for record in records:
                users.setdefault(record["user/id"], []).append(record)
    return found
