"""Weights of targets, from the raw logs to the records."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_logs import Row, random_logs, read_back, schema, write_logs

from tests.beam_pipelines.examples.test_build_examples import build, digest
from twin_tf.features.schema import FeatureSchema
from twin_tf.records.format import TARGET_WEIGHT
from twin_tf.records.packing import FLOAT_WIDTH, float_bits, pack, unpack

pytestmark = pytest.mark.integration

LARGEST = float(np.finfo(np.float32).max)


def weighted(**changes: Any) -> FeatureSchema:
    return schema(targets={"where": {"shown": [1]}, "per_record": 3, "weight": "importance"}, **changes)


def tables() -> dict[str, list[Row]]:
    """Few moments and items: many rows differ in their weight alone. A behaviour that is no target needs none."""
    found = random_logs(events=500, seed=6)
    values = [0.0, 0.1, 1.0, 2.5, 1e-30, LARGEST, -0.0]
    for number, row in enumerate(found["events"]):
        row["importance"] = values[number % len(values)] if row["shown"] else None
        if number > 1:
            row.update(u=row["u"] % 4, i=row["i"] % 3, t=1 + row["t"] % 12)
    return found


def floats(bits: list[int]) -> list[float]:
    return np.array(bits, np.uint32).view(np.float32).tolist()


def test_records_hold_the_weight_of_every_target_and_nothing_else_changes(tmp_path: Path) -> None:
    logs = tables()
    arguments = write_logs(tmp_path / "raw", logs)
    found, plain = build(tmp_path, arguments, schema=weighted()), build(tmp_path, arguments, "plain")
    assert found.widths == {**plain.widths, TARGET_WEIGHT: 4}
    weights: dict[tuple[int, int], list[float]] = {}
    records = read_back(found)
    for users in records.values():
        for user, rows in users.items():
            for row in rows:
                bits = row.pop(TARGET_WEIGHT)
                assert len(bits) == row["target/length"]
                for time, weight in zip(row["target/time"], floats(bits), strict=True):
                    weights.setdefault((user, time), []).append(weight)
    assert records == read_back(plain)
    expected: dict[tuple[int, int], list[float]] = {}
    for row in logs["events"]:
        if row["shown"]:
            expected.setdefault((row["u"], row["t"]), []).append(float(np.float32(row["importance"])))
    assert {key: sorted(values) for key, values in weights.items()} == {
        key: sorted(values) for key, values in expected.items()
    }
    report = json.loads((tmp_path / "prepared/report.json").read_text())
    assert report["coverage"]["events"]["importance"] == pytest.approx(
        sum(row["shown"] for row in logs["events"]) / len(logs["events"]), abs=1e-6
    )


@pytest.mark.parametrize("deduplicate", [False, True])
def test_neither_order_nor_format_decides_which_weight_is_whose(tmp_path: Path, deduplicate: bool) -> None:
    chosen = weighted(events={**schema().to_plain()["events"], "deduplicate": deduplicate})
    logs, found = tables(), []
    for name, suffix in (("one", ".parquet"), ("other", ".jsonl")):
        build(tmp_path, write_logs(tmp_path / name, logs, suffix), f"{name}_prepared", schema=chosen)
        found.append(digest(tmp_path / f"{name}_prepared"))
        logs = {**logs, "events": random.Random(5).sample(logs["events"], len(logs["events"]))}
    assert found[0] == found[1]


def test_a_weight_that_is_none_is_a_dead_letter(tmp_path: Path) -> None:
    logs = tables()
    wrong = {"-0.5": -0.5, "Infinity": float("inf"), "1e39": 1e39, "-1e-300": -1e-300}
    target, behaviour = logs["events"][0], {**logs["events"][0], "shown": 0}
    rows = [{**target, "importance": value} for value in (*wrong.values(), None, float("nan"), "heavy")]
    logs["events"] += [*rows, {**behaviour, "importance": None}, {**behaviour, "importance": -1.0}]
    manifest = build(tmp_path, write_logs(tmp_path / "raw", logs, ".jsonl"), schema=weighted(), max_dead_share=0.1)
    assert manifest.counts.events_dead == len(rows) + 1
    reasons = [
        json.loads(line)["reason"]
        for path in sorted((tmp_path / "prepared/dead_letters").iterdir())
        for line in path.read_text().splitlines()
    ]
    number = "importance is not a finite number of at least 0: "
    assert reasons == [
        f"{number}-0.5",
        f"{number}inf",
        f"{number}1e+39",
        f"{number}-1e-300",
        "no importance, which every target needs",
        "no importance, which every target needs",
        "importance is not a number: 'heavy'",
        f"{number}-1.0",
    ]


def test_the_next_day_continues_and_weighs_its_own_targets(tmp_path: Path) -> None:
    days = tables()
    for row in days["events"]:
        row["t"] += 100
    first = [row for row in days["events"] if row["t"] < 107]
    second = [row for row in days["events"] if row["t"] >= 107]
    chosen = [weighted(split={"valid_from": timestamp, "test_from": timestamp + 1}) for timestamp in (105, 109)]
    build(tmp_path, write_logs(tmp_path / "a", {**days, "events": first}), "first", schema=chosen[0])
    arguments = write_logs(tmp_path / "b", {**days, "events": second})
    found = build(tmp_path, arguments, "second", schema=chosen[1], previous=tmp_path / "first")
    weights = [
        weight
        for split in ("train", "valid", "test")
        for rows in read_back(found)[split].values()
        for row in rows
        for weight in floats(row[TARGET_WEIGHT])
    ]
    assert sorted(weights) == sorted(float(np.float32(row["importance"])) for row in second if row["shown"])


def test_bits_of_floats_survive_packing() -> None:
    values = np.array([0.0, -0.0, 1e-45, 0.1, 1.0, 3.4e38], np.float64)
    bits = unpack(pack(float_bits(values), FLOAT_WIDTH), FLOAT_WIDTH)
    assert bits.astype(np.uint32).view(np.float32).tolist() == values.astype(np.float32).tolist()
    assert (bits[0], bits[1]) == (0, 0)
    assert (np.diff(bits) >= 0).all()
