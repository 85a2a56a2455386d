"""Click rates and counts of items and users: of each target from earlier days alone, in the catalogue as of the end."""

import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_logs import Row, random_logs, read_back, schema, write_logs

from beam_pipelines.examples.day_counts import DayCounts, days_of
from tests.beam_pipelines.examples.test_build_examples import build
from tests.twin_tf.plain_schema import PLAIN, changed, sentence_of
from twin_tf.features.schema import FeatureSchema, schema_from_mapping
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import load_item_features

pytestmark = pytest.mark.integration

DAY = 86_400
RATES = {"kind": "numeric", "boundaries": [0.2, 0.4, 0.5, 0.6, 0.7, 0.8]}
COUNTS = {"kind": "numeric", "boundaries": [1, 2, 3, 5, 8]}
COUNTED = (
    {"name": "item_ctr", "role": "candidate", "from": "item_rate", "encoding": RATES, "smoothing": 2},
    {"name": "item_shown", "role": "candidate", "from": "item_count", "encoding": COUNTS},
    {"name": "user_ctr", "role": "context", "from": "user_rate", "encoding": RATES, "smoothing": 3},
    {"name": "user_shown", "role": "context", "from": "user_count", "encoding": COUNTS},
)


def test_days_add_up_whatever_the_order_and_the_parts() -> None:
    generator = np.random.default_rng(5)
    day, key = generator.integers(-3, 9, 500), generator.integers(-20, 20, 500)
    counts = generator.integers(0, 4, (500, 3))
    whole = DayCounts.of(day, key, counts)
    cuts = np.split(generator.permutation(500), [100, 101, 350])
    merged = DayCounts.merge([DayCounts.of(day[part], key[part], counts[part]) for part in cuts])
    for name in ("day", "key", "counts"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))
    days, keys = generator.integers(-9, 15, 200), generator.integers(-25, 25, 200)
    wanted = [counts[(day < d) & (key == k)].sum(axis=0) for d, k in zip(days, keys, strict=True)]
    np.testing.assert_array_equal(whole.before(days, keys), wanted)
    np.testing.assert_array_equal(whole.overall(days), [counts[day < d].sum(axis=0) for d in days])
    for moment, before in whole.days_before(np.arange(-4, 11)):
        assert before.tolist() == [counts[(day < moment) & (key == k), 0].sum() for k in whole.keys]
    kept = DayCounts.of_table(whole.table())
    assert sorted(set(kept.day.tolist())) == [7, 8]
    late = np.maximum(days, 8)
    np.testing.assert_array_equal(kept.before(late, keys), whole.before(late, keys))
    nothing = DayCounts.of(*(np.zeros(shape, np.int64) for shape in ((0,), (0,), (0, 3))))
    assert nothing.before(days, keys).shape == (200, 3) and not nothing.overall(days).any()
    assert days_of(np.array([-1, 0, DAY * 1000 - 1, DAY * 1000]), 1000).tolist() == [-1, 0, 0, 1]


def counting(split: dict[str, Any] | None = None) -> FeatureSchema:
    plain = schema(split=split).to_plain()
    plain["features"] += COUNTED
    return schema_from_mapping(plain)


def logs() -> dict[str, list[Row]]:
    found = random_logs(events=400, seed=11)
    for row in found["events"]:
        row["t"] = row["t"] * DAY // 12
    return found


def bin_of(value: float, encoding: dict[str, Any]) -> int:
    return 1 if math.isnan(value) else 2 + sum(boundary <= value for boundary in encoding["boundaries"])


def expected(rows: list[Row], shown: list[Row], day: int, item: int | None, user: int | None) -> list[int]:
    """The four indices, counted one by one."""
    earlier = [row for row in shown if row["t"] // DAY < day]
    rate = sum(row["y"] > 0 for row in earlier) / len(earlier) if earlier else math.nan
    found = []
    for name, key, smoothing in (("i", item, 2), ("u", user, 3)):
        mine = [row for row in earlier if row[name] == key]
        clicks = sum(row["y"] > 0 for row in mine)
        found += [bin_of((clicks + smoothing * rate) / (len(mine) + smoothing), RATES), bin_of(len(mine), COUNTS)]
    return found


NAMES = ("item_ctr", "item_shown", "user_ctr", "user_shown")


def targets_of(manifest: Manifest) -> Counter[tuple[Any, ...]]:
    table = pq.read_table(Path(manifest.directory) / "items/items.parquet").to_pydict()
    ids = dict(zip(table["row"], table["id"], strict=True))
    return Counter(
        (user, time, ids[item], label, *counted)
        for split in ("train", "valid", "test")
        for user, records in read_back(manifest)[split].items()
        for record in records
        for time, item, label, *counted in zip(
            *(record[f"target/{name}"] for name in ("time", "item", "label", *NAMES)), strict=True
        )
    )


def test_counts_are_those_of_earlier_days_in_one_run_and_in_two(tmp_path: Path) -> None:
    tables = logs()
    shown = [row for row in tables["events"] if row["shown"] == 1]
    wanted = Counter(
        (row["u"], row["t"], row["i"], int(row["y"] > 0), *expected(shown, shown, row["t"] // DAY, row["i"], row["u"]))
        for row in shown
    )
    order = random.Random(3).sample(tables["events"], len(tables["events"]))
    arguments = write_logs(tmp_path / "raw", {**tables, "events": order}, ".jsonl")
    whole = build(tmp_path, arguments, schema=counting(), shards=3)
    assert targets_of(whole) == wanted
    middle = 4 * DAY + 7
    parts = [[row for row in tables["events"] if (row["t"] < middle) is early] for early in (True, False)]
    first = build(
        tmp_path,
        write_logs(tmp_path / "a", {**tables, "events": parts[0]}),
        "first",
        schema=counting({"valid_from": 2 * DAY, "test_from": 3 * DAY}),
    )
    second = build(
        tmp_path,
        write_logs(tmp_path / "b", {**tables, "events": parts[1]}),
        "second",
        schema=counting({"valid_from": 6 * DAY, "test_from": 7 * DAY}),
        previous=tmp_path / "first",
    )
    assert targets_of(first) + targets_of(second) == wanted
    end = max(row["t"] for row in shown) // DAY + 1
    for manifest in (whole, second):
        features, ids = load_item_features(manifest.directory, counting())
        assert features.shape[1] == len(counting().inherent) + 2
        for row, item in enumerate(ids.tolist()):
            assert features[row, -2:].tolist() == expected(shown, shown, end, item if row > 1 else None, None)[:2]
        for user, (record,) in read_back(manifest)["histories"].items():
            latest = expected(shown, shown, end, None, user)[2:]
            assert [record["user/user_ctr"], record["user/user_shown"]] == latest


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"role": "context"}, "from: item_rate needs role candidate, not context"),
        ({"from": "user_count"}, "from: user_count needs role context, not candidate"),
        (
            {"encoding": {"kind": "hash", "buckets": 3}},
            "from: item_rate is counted: leave out column, type, derived and",
        ),
        ({"encoding": {"kind": "numeric", "quantiles": 3}}, "from: item_rate needs a numeric encoding with boundaries"),
        ({"column": "seconds"}, "from: item_rate is counted: leave out column, type, derived and serve_as"),
        ({"serve_as": 0.5}, "from: item_rate is counted: leave out column, type, derived and serve_as"),
        ({"smoothing": 0}, "smoothing must be a number above 0, not 0"),
        ({"from": "item_count", "smoothing": 3}, "smoothing needs from: item_rate or user_rate"),
    ],
)
def test_what_a_counted_feature_cannot_be_is_said(keys: dict[str, Any], sentence: str) -> None:
    feature = {"name": "ctr", "role": "candidate", "from": "item_rate", "encoding": RATES, **keys}
    assert sentence in sentence_of(changed(features=[*PLAIN["features"], feature]))


def test_a_counted_feature_reads_no_column() -> None:
    found = schema_from_mapping(changed(features=[*PLAIN["features"], *COUNTED]))
    assert schema_from_mapping(found.to_plain()) == found
    assert found.to_plain()["features"][8]["from"] == "item_rate"
    assert found.event_columns() == schema_from_mapping(PLAIN).event_columns()
    assert [f.name for f in found.counted_item] == ["item_ctr", "item_shown"]
    assert [f.name for f in found.counted_user] == ["user_ctr", "user_shown"]
    assert [f.name for f in found.logged_target] == ["slot"]
