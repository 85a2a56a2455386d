"""Logs as companies have them, through the whole pipeline: times as text, labels as text, days that differ."""

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_logs import read_back

from beam_pipelines.build_examples import build_examples
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.schema import FeatureSchema, schema_from_mapping
from twin_tf.records.format import Manifest

pytestmark = pytest.mark.integration

NOON = 1_699_963_200  # 2023-11-14 12:00 UTC, 13:00 in Berlin
USERS = 6


def usual(time: dict[str, Any], label: dict[str, Any]) -> FeatureSchema:
    return schema_from_mapping(
        {
            "name": "podcasts",
            "events": {
                "user": {"column": "listener"},
                "item": {"column": "episode"},
                "time": {"column": "at", **time},
                "label": {"column": "action", **label},
            },
            "features": [
                {"name": "episode", "role": "inherent", "type": "int", "encoding": {"kind": "vocabulary"}},
                {"name": "autoplay", "role": "cross", "type": "bool"},
                {"name": "muted", "role": "context", "type": "bool"},
                {"name": "speed", "role": "cross", "encoding": {"kind": "numeric", "boundaries": [1.0]}},
                {"name": "hour", "role": "context", "derived": "hour_of_day"},
            ],
        }
    )


TEXT_LABEL = {"values": ["view", "click"], "positive": ["click"], "missing": "negative"}


def rows(seconds: list[int], action: Any = None) -> list[dict[str, Any]]:
    return [
        {
            "listener": [0, -(1 << 63), 7, 8, 9, 10][n % USERS],
            "episode": n % 11,
            "at": second,
            "action": action if action is not None else ["click", "view", None][n % 3],
            "autoplay": n % 2 == 0,
            "muted": n % 4 == 0,
            "speed": 1 if n % 2 else 1.5,
        }
        for n, second in enumerate(seconds)
    ]


def iso(second: int) -> str:
    berlin = datetime.timezone(datetime.timedelta(hours=1))
    return datetime.datetime.fromtimestamp(second, berlin).replace(tzinfo=None).isoformat(" ")


def test_a_log_of_text_and_one_of_numbers_give_the_same_records(tmp_path: Path) -> None:
    """Local times as text, text labels and booleans in JSON; the same as Parquet timestamps and codes."""
    events = rows([NOON + 3600 * n for n in range(120)])
    text = [{**row, "at": iso(row["at"])} for row in events]
    shuffled = np.random.default_rng(1).permutation(len(text))
    for day in range(3):
        lines = [text[place] for place in shuffled[day::3]]
        if day == 2:
            lines = [{**line, "speed": None} for line in lines]
        (tmp_path / f"day{day}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    schema = usual({"format": "iso8601", "timezone": "Europe/Berlin"}, TEXT_LABEL)
    pattern = str(tmp_path / "day*.jsonl")
    manifest = build_examples(schema, pattern, tmp_path / "text", progress=False)
    counts = manifest.counts
    assert (counts.events_read, counts.events_kept, counts.events_dead) == (120, 120, 0)
    assert sum(manifest.clicks.values()) == 40
    assert manifest.label_of_all is None
    found = read_back(manifest)
    assert set(found["histories"]) == {0, -(1 << 63), 7, 8, 9, 10}
    times = sorted(time for user in found["histories"].values() for record in user for time in record["history/time"])
    assert times == [NOON + 3600 * n for n in range(120)]
    report = json.loads((tmp_path / "text/report.json").read_text())
    assert [w for w in report["warnings"] if "speed" in w][0].startswith(
        f"Column 'speed' of the events log has no value in 1 of 3 files: {tmp_path}/day2.jsonl"
    )

    third = set(shuffled[2::3].tolist())
    table = pa.table(
        {
            "listener": [row["listener"] for row in events],
            "episode": [row["episode"] for row in events],
            "at": pa.array([row["at"] * 1000 for row in events], pa.timestamp("ms", "Asia/Tokyo")),
            "action": [{"click": 1.0, "view": 0.0, None: None}[row["action"]] for row in events],
            "autoplay": [row["autoplay"] for row in events],
            "muted": [row["muted"] for row in events],
            "speed": [None if n in third else row["speed"] for n, row in enumerate(events)],
        }
    )
    pq.write_table(table, tmp_path / "events.parquet", row_group_size=50)
    numbers = usual({"timezone": "Europe/Berlin"}, {"missing": "negative"})
    other = build_examples(numbers, str(tmp_path / "events.parquet"), tmp_path / "numbers", progress=False)
    assert read_back(other) == found


def build(tmp_path: Path, events: list[dict[str, Any]], **options: Any) -> Manifest:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in events))
    schema = usual({"unit": "ms"}, TEXT_LABEL)
    return build_examples(schema, str(path), tmp_path / "prepared", progress=False, **options)


def test_mixed_units_stop_the_job_or_become_dead_letters(tmp_path: Path) -> None:
    """And labels of one class are warned of."""
    times = [NOON + n for n in range(300)]
    events = rows([*(time * 1000 for time in times), *times, *(time * 1000 for time in times)], "click")
    with pytest.raises(ConfigError, match="300 of 900 rows of the events log have a time .* 300 look"):
        build(tmp_path, events)
    manifest = build(tmp_path, events, not_before="2023-01-01", max_dead_share=0.4)
    assert (manifest.counts.events_kept, manifest.counts.events_dead) == (600, 300)
    letters = (tmp_path / "prepared/dead_letters").glob("*.jsonl")
    reasons = {json.loads(line)["reason"] for path in letters for line in path.read_text().splitlines()}
    assert f"at is earlier than --not-before: {NOON} (1970-01-20); it looks like seconds" in reasons
    assert manifest.label_of_all == 1
    assert manifest.clicks == manifest.counts.targets
    warnings = json.loads((tmp_path / "prepared/report.json").read_text())["warnings"]
    assert any(warning.startswith("Every target of the train split is a click") for warning in warnings)
