"""Raw numbers of cross features, from the logs to the records and through the next day's run."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_logs import Row, random_logs, read_back, schema, write_logs

from tests.beam_pipelines.examples.test_build_examples import build, digest
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.schema import FeatureSchema, schema_from_mapping
from twin_tf.records.packing import float_bits, from_bits

pytestmark = pytest.mark.integration


def keeping(split: dict[str, int] | None = None, length: int = 6) -> FeatureSchema:
    plain = schema(split=split).to_plain()
    play = next(feature for feature in plain["features"] if feature["name"] == "play")
    play |= {"keep_value": True, "encoding": {"kind": "numeric", "boundaries": [2.0, 5.0, 9.0]}}
    plain["history"]["max_length"] = length
    return schema_from_mapping(plain)


def tables() -> dict[str, list[Row]]:
    """Many behaviours of one moment and item that differ in their number alone; some have none."""
    found = random_logs(events=500, seed=6)
    numbers = [0.0, 0.1, -2.5, 5.0, 1e-30, None, 1e300]
    for number, row in enumerate(found["events"]):
        row["play"] = numbers[number % len(numbers)]
        if number > 1:
            row.update(u=row["u"] % 4, i=row["i"] % 3, t=1 + 8 * (row["t"] % 12))
    return found


def values_of(manifest: Any) -> dict[tuple[str, int], list[list[float]]]:
    found: dict[tuple[str, int], list[list[float]]] = {}
    for split, users in read_back(manifest).items():
        for user, records in users.items():
            for record in records:
                bits = np.array(record["value/play"], np.int64)
                assert len(bits) == record["history/length"]
                found.setdefault((split, user), []).append(from_bits(bits).tolist())
    return found


def test_records_hold_the_number_of_every_behaviour_and_nothing_else_changes(tmp_path: Path) -> None:
    arguments = write_logs(tmp_path / "raw", tables())
    kept = build(tmp_path, arguments, schema=keeping())
    plain = keeping().to_plain()
    for feature in plain["features"]:
        feature.pop("keep_value", None)
    without = build(tmp_path, arguments, "without", schema=schema_from_mapping(plain))
    assert kept.widths == {**without.widths, "value/play": 4}
    records, others = read_back(kept), read_back(without)
    longest = 0
    for split, users in records.items():
        for user, rows in users.items():
            for row, other in zip(rows, others[split][user], strict=True):
                numbers = from_bits(np.array(row.pop("value/play"), np.int64))
                index = 2 + np.searchsorted([2.0, 5.0, 9.0], numbers, side="right")
                assert row["history/play"] == np.where(np.isfinite(numbers), index, row["history/play"]).tolist()
                assert not np.isin(np.array(row["history/play"])[np.isnan(numbers)], [2, 3, 4, 5]).any()
                assert row == other
                longest = max(longest, len(numbers))
    assert longest > 3


def test_neither_order_nor_format_decides_which_number_is_whose(tmp_path: Path) -> None:
    logs, found = tables(), []
    for name, suffix in (("one", ".parquet"), ("other", ".jsonl")):
        build(tmp_path, write_logs(tmp_path / name, logs, suffix), f"{name}_prepared", schema=keeping())
        found.append(digest(tmp_path / f"{name}_prepared"))
        logs = {**logs, "events": random.Random(5).sample(logs["events"], len(logs["events"]))}
    assert found[0] == found[1]


def test_the_next_days_run_carries_the_numbers_on(tmp_path: Path) -> None:
    logs, today = tables(), {"valid_from": 80, "test_from": 90}
    early = {**logs, "events": [row for row in logs["events"] if row["t"] < 50]}
    late = {**logs, "events": [row for row in logs["events"] if row["t"] >= 50]}
    yesterday = build(
        tmp_path,
        write_logs(tmp_path / "early", early),
        "yesterday",
        schema=keeping({"valid_from": 40, "test_from": 45}, 30),
    )
    arguments = write_logs(tmp_path / "late", late)
    chained = build(tmp_path, arguments, "chained", schema=keeping(today, 30), previous=yesterday.directory)
    whole = build(tmp_path, write_logs(tmp_path / "both", logs), "whole", schema=keeping(today, 30))
    expected = {key: rows for key, rows in values_of(whole).items() if key[0] == "histories"}
    found = {key: rows for key, rows in values_of(chained).items() if key[0] == "histories"}
    np.testing.assert_equal(found, expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "user"},
        {"derived": "age", "encoding": {"kind": "numeric", "boundaries": [1]}},
        {"encoding": {"kind": "identity", "size": 3}},
    ],
)
def test_only_stored_numbers_can_be_kept(changes: dict[str, Any]) -> None:
    feature = {"name": "play", "role": "cross", "encoding": {"kind": "numeric", "boundaries": [1.0]}, **changes}
    plain = schema().to_plain()
    plain["features"] = [plain["features"][0], {**feature, "keep_value": True}]
    with pytest.raises(ConfigError, match="keep_value needs role cross, a column and a numeric encoding"):
        schema_from_mapping(plain)


def test_numbers_survive_their_bits() -> None:
    numbers = np.array([0.0, -0.0, -1.5, 3e38, 1e-45, np.nan, np.inf, -np.inf], np.float32)
    bits = float_bits(numbers)
    assert bits.min() >= 0
    np.testing.assert_array_equal(from_bits(bits), numbers)
