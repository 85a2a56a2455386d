"""An item's several values, from the raw logs to the catalogue: what counts, what is kept, what is malformed."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_logs import Row, random_logs, schema, write_logs

from beam_pipelines.raw_logs.raw_columns import conform, log_columns
from tests.beam_pipelines.examples.test_build_examples import build, digest
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.encoders import FeatureEncoder, hash_id
from twin_tf.features.schema import FeatureSchema
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import load_item_features

pytestmark = pytest.mark.integration

TOPICS = [" crime |poetry", "poetry|poetry||travel", "", None, " | ", "a|b|c|poetry|crime", "rare", "travel"]
DAYS = ({"valid_from": 40, "test_from": 45}, {"valid_from": 80, "test_from": 90})

VOCABULARY = {"kind": "vocabulary"}
TOPIC_FEATURES = (
    {
        "name": "topics",
        "role": "inherent",
        "multi_valued": {"separator": "|", "max_values": 2},
        "encoding": {**VOCABULARY, "min_count": 30},
    },
    {
        "name": "words",
        "role": "inherent",
        "column": "topics",
        "multi_valued": {"separator": "|"},
        "encoding": {"kind": "hash", "buckets": 4},
    },
)
LIST_FEATURES = (
    {
        "name": "series",
        "role": "inherent",
        "type": "int",
        "multi_valued": {},
        "encoding": {"kind": "identity", "size": 4},
    },
    {
        "name": "actors",
        "role": "inherent",
        "multi_valued": {},
        "encoding": {**VOCABULARY, "source": "items", "min_count": 2},
    },
)


def used(*features: Any, split: Any = None) -> FeatureSchema:
    plain = schema(split=split).to_plain()
    for feature in plain["features"]:
        if feature.get("encoding", {}).pop("quantiles", None):
            feature["encoding"]["boundaries"] = [2.0, 5.0, 9.0]
    return schema(split=split, features=[*features, *plain["features"]])


def tables(lists: bool = False) -> dict[str, list[Row]]:
    found = random_logs(events=500, seed=3)
    for number, item in enumerate(found["items"]):
        item["topics"] = TOPICS[number % len(TOPICS)]
        if lists:
            item["series"] = [None, [], [0, 3, 0], [9, 2, None, 1]][number % 4]
            item["actors"] = [["Ann", "Bo Li"], ["Cy", "Ann", ""], None, ["Di", f"extra {number}"]][number % 4]
    return found


def topics_of(raw: str | None) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in (raw or "").split("|") if part.strip()))


def catalogue(manifest: Manifest) -> dict[int, Row]:
    return {row["id"]: row for row in pq.read_table(Path(manifest.directory) / "items/items.parquet").to_pylist()}


def distinct(indices: list[int]) -> list[int]:
    return list(dict.fromkeys(indices)) or [1]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_text_is_split_counted_and_cut_as_the_schema_says(tmp_path: Path, suffix: str) -> None:
    logs, chosen = tables(), used(*TOPIC_FEATURES)
    manifest = build(tmp_path, write_logs(tmp_path / "raw", logs, suffix), schema=chosen)
    raw = {item["item"]: topics_of(item["topics"]) for item in logs["items"]}
    counts: Counter[str] = Counter()
    for row in logs["events"]:
        behaviour = row["y"] > 0 and row["kind"] in ("view", "buy")
        if row["t"] < manifest.split.valid_from and (behaviour or row["shown"]):
            counts.update(raw.get(row["i"], []))
    known = sorted(value for value, count in counts.items() if count >= 30)
    assert 0 < len(known) < len(counts)
    assert FeatureEncoder.load(manifest.directory).fitted["topics"] == known
    rows = catalogue(manifest)
    assert set(rows) > set(raw)  # items that no items log has are unknown
    lost = {"items": 0, "values": 0}
    for item, row in rows.items():
        values = raw.get(item, [])
        everything = distinct([2 + known.index(value) if value in known else 1 for value in values])
        assert row["topics"] == everything[:2]
        assert row["words"] == distinct([2 + hash_id(value) % 4 for value in values])
        lost["items"] += len(everything) > 2
        lost["values"] += max(0, len(everything) - 2)
    assert lost["items"] > 0
    report = json.loads((tmp_path / "prepared/report.json").read_text())
    assert report["cut"] == {"topics": lost, "words": {"items": 0, "values": 0}}
    page = (tmp_path / "prepared/report.md").read_text()
    assert f"values of topics beyond max_values | {lost['values']}, of {lost['items']} items" in page
    warning = f"{lost['items']} of the {len(rows)} items have more values of 'topics' than its max_values 2"
    assert any(text.startswith(warning) for text in report["warnings"])
    unknown = [row["i"] for row in logs["events"] if row["shown"] and row["t"] >= manifest.split.test_from]
    share = sum(rows[item]["topics"] == [1] for item in unknown) / len(unknown)
    assert report["unknown"]["test"]["topics"] == pytest.approx(share, abs=1e-6)
    assert report["coverage"]["items"]["topics"] == sum(map(bool, raw.values())) / len(raw)


def test_every_format_gives_the_same_bytes_and_lists_are_read_as_they_are(tmp_path: Path) -> None:
    chosen, logs, found = used(*TOPIC_FEATURES, *LIST_FEATURES), tables(lists=True), []
    for suffix in (".parquet", ".jsonl", ".jsonl.gz"):
        manifest = build(tmp_path, write_logs(tmp_path / f"raw{suffix}", logs, suffix), f"out{suffix}", schema=chosen)
        found.append(digest(tmp_path / f"out{suffix}"))
    assert all(other == found[0] for other in found)
    assert FeatureEncoder.load(manifest.directory).fitted["actors"] == ["Ann", "Bo Li", "Cy", "Di"]
    rows, expected = catalogue(manifest), ([1], [1], [2, 5], [1, 4, 3])
    actors = ([2, 3], [4, 2], [1], [5, 1])
    for number in range(25):
        assert rows[number]["series"] == expected[number % 4]
        assert rows[number]["actors"] == actors[number % 4]


def test_the_matrix_of_item_features_has_max_values_columns_padded_with_zero(tmp_path: Path) -> None:
    logs, chosen = tables(lists=True), used(*TOPIC_FEATURES, *LIST_FEATURES)
    manifest = build(tmp_path, write_logs(tmp_path / "raw", logs), schema=chosen)
    features, ids = load_item_features(manifest.directory, chosen)
    assert [(part.start, part.stop) for part in chosen.inherent_slices.values()] == [
        (0, 2), (2, 10), (10, 18), (18, 26), (26, 27), (27, 28), (28, 29), (29, 30),
    ]  # fmt: skip
    assert features.shape == (len(ids), 30)
    assert not features[0].any()
    assert features[1].nonzero()[0].tolist() == [0, 2, 10, 18, 26, 27, 28, 29]
    assert features[1].sum() == 8
    for item, row in catalogue(manifest).items():
        found = features[row["row"]]
        assert ids[row["row"]] == item
        for name, part in chosen.inherent_slices.items():
            values = row[name] if isinstance(row[name], list) else [row[name]]
            assert found[part].tolist() == values + [0] * (part.stop - part.start - len(values))


def test_two_days_in_two_runs_are_two_days_in_one(tmp_path: Path) -> None:
    both = tables(lists=True)
    early = {**both, "events": [r for r in both["events"] if r["t"] < 50], "items": both["items"][:15]}
    late = {**both, "events": [r for r in both["events"] if r["t"] >= 50], "items": both["items"][12:]}
    late["items"][0] = both["items"][12] = {**both["items"][12], "topics": "new|crime", "actors": ["Cy", "new"]}
    early["items"][12] = {**both["items"][12], "topics": "old", "actors": None}
    features = [*TOPIC_FEATURES, *LIST_FEATURES]
    first, today = (used(*features, split=day) for day in DAYS)
    build(tmp_path, write_logs(tmp_path / "early", early), "first", schema=first)
    arguments = write_logs(tmp_path / "late", late)
    second = build(tmp_path, arguments, "second", schema=today, previous=tmp_path / "first")
    whole = build(tmp_path, write_logs(tmp_path / "both", both), "whole", schema=today)
    before, after, expected = (FeatureEncoder.load(tmp_path / name).fitted for name in ("first", "second", "whole"))
    for name in ("topics", "actors"):
        assert after[name][: len(before[name])] == before[name]
        assert sorted(after[name]) == sorted(expected[name])
    assert len(after["topics"]) > len(before["topics"])
    meant = []
    for manifest, fitted in ((second, after), (whole, expected)):
        words = {name: [None, "unknown", *fitted[name]] for name in ("topics", "actors")}
        meant.append(
            {
                item: {n: [words[n][i] if n in words else i for i in row[n]] for n in ("topics", "words", "actors")}
                for item, row in catalogue(manifest).items()
            }
        )
        state = pq.read_table(Path(manifest.directory) / "state/items.parquet").to_pylist()
        meant.append({row["id"]: [row["raw/topics"], row["raw/actors"], row["raw/series"]] for row in state})
    assert meant[:2] == meant[2:]
    assert meant[1][12][:2] == [["new", "crime"], ["Cy", "new"]]


def test_of_rows_with_one_id_the_smallest_lists_count_whatever_their_order(tmp_path: Path) -> None:
    rows = [{**row, "topics": topics} for row in tables()["items"][:1] for topics in ("b|a", "a|c", "a|b", None)]
    found = []
    for name, items in (("one", rows), ("other", rows[::-1])):
        arguments = write_logs(tmp_path / name, {**tables(), "items": items}, ".jsonl")
        build(tmp_path, arguments, f"{name}_prepared", schema=used(*TOPIC_FEATURES))
        state = pq.read_table(tmp_path / f"{name}_prepared/state/items.parquet").to_pylist()
        found.append([row["raw/topics"] for row in state if row["id"] == 0])
    assert found == [[["a", "b"]]] * 2


def test_cells_of_another_shape_are_dead_letters_and_their_neighbours_none(tmp_path: Path) -> None:
    logs, sound = tables(lists=True), tables(lists=True)["items"]
    cells = {
        "series is not a list of whole numbers: ['1', 'two']": {"series": [1, "two"]},
        "series is not a list of whole numbers: 7": {"series": 7},
        "series is not a list of whole numbers: [7]": {"series": "[7]"},
        "actors is not a list of text: ['Ann', '3']": {"actors": ["Ann", 3]},
        "actors is not a list of text: [['Ann']]": {"actors": [["Ann"]]},
        "topics is not text: ['crime']": {"topics": ["crime"]},
        "actors is not text: half of a surrogate pair": {"actors": ["\ud800"]},
    }
    logs["items"][3:3] = [{**sound[1], "item": 90 + number, **wrong} for number, wrong in enumerate(cells.values())]
    manifest = build(
        tmp_path,
        write_logs(tmp_path / "raw", logs, ".jsonl"),
        schema=used(*TOPIC_FEATURES, *LIST_FEATURES),
        max_dead_share=0.5,
    )
    assert (manifest.counts.items_read, manifest.counts.items_dead) == (25 + len(cells), len(cells))
    (path,) = (tmp_path / "prepared/dead_letters").iterdir()
    letters = [json.loads(line) for line in path.read_text().splitlines()]
    assert {letter["line"]: letter["reason"] for letter in letters} == dict(enumerate(cells, 4))
    build(tmp_path, write_logs(tmp_path / "sound", {**logs, "items": sound}), "other", schema=manifest.schema)
    assert catalogue(manifest) == catalogue(Manifest.load(tmp_path / "other"))


def test_parquet_lists_of_every_kind_are_read(tmp_path: Path) -> None:
    columns = log_columns(used(*TOPIC_FEATURES, *LIST_FEATURES), "items")
    for type_ in (pa.list_(pa.int32()), pa.large_list(pa.float64()), pa.list_(pa.string()), pa.list_(pa.int64(), 2)):
        text = pa.types.is_string(type_.value_type)
        values = [["4", "5"], None] if text else [[4, 5], None]
        table, broken = conform(columns, pa.table({"item": [1, 2], "series": pa.array(values, type_)}))
        assert not broken
        assert table["series"].to_pylist() == [[4, 5], None]
        assert table["series"].type == pa.list_(pa.int64())
    wrong = pa.table({"item": [1, 2], "series": [[1.5], [2.0]], "actors": [[1], []], "topics": ["x", "x"]})
    table, broken = conform(columns, wrong)
    assert broken == {0: "series is not a list of whole numbers: [1.5]"}
    assert table["actors"].to_pylist() == [None, None]


def test_a_csv_holds_no_lists(tmp_path: Path) -> None:
    arguments = write_logs(tmp_path / "raw", tables(lists=True), ".csv")
    with pytest.raises(ConfigError, match="rows of the items log are malformed.*series is not a list of whole numbers"):
        build(tmp_path, arguments, schema=used(*LIST_FEATURES))
