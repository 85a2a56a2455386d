"""Drawn negatives: which items, how often, and from what was known on earlier days alone."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_logs import Row, random_logs, read_back, schema, write_logs

from beam_pipelines.examples.day_counts import DayCounts
from beam_pipelines.examples.draw_negatives import draw
from beam_pipelines.examples.event_batches import REQUEST
from tests.beam_pipelines.examples.test_build_examples import build, digest
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.negatives import Negatives
from twin_tf.features.schema import FeatureSchema, schema_from_mapping
from twin_tf.records.format import Manifest

pytestmark = pytest.mark.integration

DAY = 86_400


def columns(**values: list[int]) -> dict[str, Any]:
    return {name.replace("request", REQUEST): np.array(column, np.int64) for name, column in values.items()}


def drawn(settings: Negatives, days: DayCounts, events: dict[str, Any], positives: list[int]) -> list[list[int]]:
    owner, item = draw(settings, days, events, np.array(positives, np.int64), 1)
    return [item[owner == place].tolist() for place in range(len(positives))]


def days_table(counts: dict[int, dict[int, int]]) -> DayCounts:
    rows = [(day, item, events) for day, items in counts.items() for item, events in items.items()]
    day, item, events = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return DayCounts.of(day, item, np.stack([events, 0 * events, 0 * events], axis=1))


def test_popular_items_are_drawn_more_and_later_days_never_count() -> None:
    days = days_table({0: {1: 60, 2: 30, 3: 10}, 1: {4: 1000}, 2: {5: 1000}})
    users = list(range(3000))
    events = columns(user=users, time=[DAY + 5] * 3000, item_id=[99] * 3000)
    found = Counter(item for (item,) in drawn(Negatives(1), days, events, users))
    assert set(found) == {1, 2, 3}
    assert [round(found[item] / 300) for item in (1, 2, 3)] == [6, 3, 1]
    alike = Counter(item for (item,) in drawn(Negatives(1, "uniform"), days, events, users))
    assert [round(alike[item] / 1000) for item in (1, 2, 3)] == [1, 1, 1]
    other = Counter(item for (item,) in drawn(Negatives(1, seed=2), days, events, users))
    assert set(other) == {1, 2, 3} and other != found


def test_nothing_of_the_same_request_or_moment_is_drawn() -> None:
    days = days_table({0: dict.fromkeys(range(6), 5)})
    events = columns(
        user=[7, 7, 7, 8, 7], time=[DAY, DAY, DAY + 1, DAY, DAY + 1], item_id=[0, 1, 2, 3, 4], request=[0, 0, 9, 0, 9]
    )
    settings = Negatives(6)
    assert [sorted(items) for items in drawn(settings, days, events, [0, 1, 2, 3])] == [
        [2, 3, 4, 5],
        [2, 3, 4, 5],
        [0, 1, 3, 5],
        [0, 1, 2, 4, 5],
    ]
    del events[REQUEST]
    assert sorted(drawn(settings, days, events, [2])[0]) == [0, 1, 3, 5]
    assert drawn(settings, days, columns(user=[1], time=[DAY - 1], item_id=[0]), [0]) == [[]]
    assert drawn(settings, days, columns(user=[], time=[], item_id=[]), []) == []


def test_a_draw_depends_on_the_positive_alone() -> None:
    days = days_table({0: {item: item for item in range(1, 200)}})
    generator = np.random.default_rng(4)
    events = columns(user=[3] * 40, time=list(range(DAY, DAY + 40)), item_id=generator.integers(1, 200, 40).tolist())
    whole = drawn(Negatives(3), days, events, list(range(40)))
    order = generator.permutation(40)
    shuffled = drawn(Negatives(3), days, {n: c[order] for n, c in events.items()}, list(range(40)))
    assert [shuffled[int(np.flatnonzero(order == place)[0])] for place in range(40)] == whole
    assert drawn(Negatives(2), days, events, [5, 9]) == [whole[5][:2], whole[9][:2]]


def with_draws(split: dict[str, Any] | None = None, **negatives: Any) -> FeatureSchema:
    plain = schema(split=split).to_plain()
    plain["features"] = [f for f in plain["features"] if f["role"] != "candidate" or "serve_as" in f]
    plain["targets"] = {"where": {"kind": ["buy"]}, "negatives": {"per_positive": 2, **negatives}}
    return schema_from_mapping(plain)


def purchases() -> dict[str, list[Row]]:
    found = random_logs(events=300, seed=8)
    for number, row in enumerate(found["events"]):
        row.update(y=1, t=row["t"] * DAY // 9, kind="buy" if number % 3 else "view")
    return found


def targets_of(manifest: Manifest) -> list[tuple[Any, ...]]:
    table = pq.read_table(Path(manifest.directory) / "items/items.parquet").to_pydict()
    ids = dict(zip(table["row"], table["id"], strict=True))
    return sorted(
        (user, time, label, ids[item], slot)
        for split in ("train", "valid", "test")
        for user, records in read_back(manifest)[split].items()
        for record in records
        for time, label, item, slot in zip(
            *(record[f"target/{name}"] for name in ("time", "label", "item", "slot")), strict=True
        )
    )


def test_negatives_from_the_logs_to_the_records(tmp_path: Path) -> None:
    """Whatever the order and the shards; and in two runs as in one."""
    logs, chosen = purchases(), with_draws()
    found = build(tmp_path, write_logs(tmp_path / "raw", logs), schema=chosen, shards=1)
    mixed_up = {**logs, "events": random.Random(3).sample(logs["events"], len(logs["events"]))}
    again = build(tmp_path, write_logs(tmp_path / "mixed", mixed_up, ".jsonl"), "again", schema=chosen, shards=3)
    targets = targets_of(found)
    assert targets == targets_of(again)
    assert (
        digest(tmp_path / "prepared")["state/item_days.parquet"]
        == digest(tmp_path / "again")["state/item_days.parquet"]
    )
    kept = [row for row in logs["events"] if row["kind"] in ("buy", "view")]
    basket = {(row["u"], row["t"], row["i"]) for row in kept}
    bought = Counter((row["u"], row["t"]) for row in kept if row["kind"] == "buy")
    slots = {
        (row["u"], row["t"]): {2 + r["rank"] for r in kept if (r["u"], r["t"]) == (row["u"], row["t"])} for row in kept
    }
    first_day = {row["i"]: min(r["t"] for r in kept if r["i"] == row["i"]) // DAY for row in kept}
    negatives = [target for target in targets if not target[2]]
    assert len(targets) - len(negatives) == sum(bought.values())
    for user, time, _, item, slot in negatives:
        assert first_day[item] < time // DAY
        assert (user, time, item) not in basket
        assert slot in slots[user, time]
    after = [target for target in bought.items() if target[0][1] >= 2 * DAY]
    counts = Counter((user, time) for user, time, *_ in negatives)
    assert all(counts[moment] == 2 * times for moment, times in after)
    middle = 5 * DAY + 7
    parts = [[row for row in logs["events"] if (row["t"] < middle) is early] for early in (True, False)]
    split = {"valid_from": 4 * DAY, "test_from": 5 * DAY}
    first = build(tmp_path, write_logs(tmp_path / "a", {**logs, "events": parts[0]}), "first", schema=with_draws(split))
    split = {"valid_from": 7 * DAY, "test_from": 9 * DAY}
    arguments = write_logs(tmp_path / "b", {**logs, "events": parts[1]})
    second = build(tmp_path, arguments, "second", schema=with_draws(split), previous=tmp_path / "first")
    assert sorted(targets_of(first) + targets_of(second)) == targets


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"per_positive": 0}, "per_positive must lie between 1 and 1000, not 0"),
        ({"seed": -1}, "seed must be a whole number from 0 on, below 2\\^63, not -1"),
        ({"by": "age"}, "schema.targets.negatives.by must be one of popularity, uniform, not 'age'"),
    ],
)
def test_settings_that_cannot_be_are_said(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        with_draws(**settings)


def test_what_no_row_says_of_a_drawn_item_is_refused() -> None:
    plain = schema().to_plain()
    plain["targets"] = {"negatives": {"per_positive": 2}}
    with pytest.raises(ConfigError, match="cannot draw values of candidate feature 'shown_surface': no row has them"):
        schema_from_mapping(plain)
