"""Splits by user, within users and by a column: records, vocabularies and the report are what the raw rows say."""

import json
from pathlib import Path
from typing import Any

import pytest
from expected_records import Expected
from small_logs import random_logs, read_back, schema, write_logs

from tests.beam_pipelines.examples.test_build_examples import build, digest
from twin_tf.core.dataclass_yaml import ConfigError

pytestmark = pytest.mark.integration

SPLITS = {
    "user_time": {"by": "user_time", "train": 0.6, "valid": 0.2},
    "user": {"by": "user", "train": 0.5, "valid": 0.25},
    "column": {"by": "column", "column": "fold"},
}


def tables(seed: int = 3) -> dict[str, Any]:
    """Logs whose targets say in `fold` where they belong; what is no target says nothing."""
    found = random_logs(events=250, seed=seed)
    for number, row in enumerate(found["events"]):
        row["fold"] = ("train", "train", "valid", "test")[number * 7 % 4] if row["shown"] else None
    return found


@pytest.mark.parametrize("by", SPLITS)
def test_records_and_figures_are_what_the_raw_rows_say(by: str, tmp_path: Path) -> None:
    logs, used = tables(), schema(split=SPLITS[by])
    expected = Expected(used, logs)
    manifest = build(tmp_path, write_logs(tmp_path / "raw", logs), schema=used, shards=2)
    records = read_back(manifest)
    assert records == expected.records
    assert manifest.split.by == by and manifest.split.valid_from == manifest.last_time + 1
    report = json.loads((tmp_path / "prepared/report.json").read_text())
    trained = set(records["train"])
    for name in ("train", "valid", "test"):
        users = records[name]
        found = report["splits"][name]
        seen = sorted(min(end, 4) for user in users.values() for r in user for end in r["target/history_end"])
        labels = [label for user in users.values() for record in user for label in record["target/label"]]
        assert (found["users"], found["targets"], found["clicks"]) == (len(users), len(labels), sum(labels))
        assert found["strangers"] == len(set(users) - trained)
        assert found["median"] == seen[(len(seen) - 1) // 2] and sum(bin_[2] for bin_ in found["bins"]) == len(seen)
    assert "**Cannot tell:**" in (tmp_path / "prepared/report.md").read_text()
    if by == "column":  # the order of rows and the number of shards do not matter
        logs["events"].reverse()
        again = build(tmp_path, write_logs(tmp_path / "again", logs, ".jsonl"), "second", schema=used, shards=2)
        assert digest(tmp_path / "prepared") == digest(tmp_path / "second") and again.split == manifest.split


def test_a_target_without_a_split_is_malformed(tmp_path: Path) -> None:
    logs = tables()
    target = next(row for row in logs["events"] if row["shown"])
    target["fold"] = "tset"
    with pytest.raises(ConfigError, match="events log are malformed"):
        build(
            tmp_path,
            write_logs(tmp_path / "raw", logs, ".jsonl"),
            schema=schema(split=SPLITS["column"]),
            max_dead_share=0.0,
        )
    (dead,) = (tmp_path / "prepared.dead_letters").glob("events-*.jsonl")
    assert json.loads(dead.read_text())["reason"] == "fold 'tset' is none of train, valid, test"
