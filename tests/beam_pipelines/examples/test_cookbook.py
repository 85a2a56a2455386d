"""The cook-book's schemas, as the page shows them, on made-up files of exactly the published columns."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_logs import read_back

from beam_pipelines.build_examples import build_examples
from tests.docs.pages import ROOT, blocks, text_of
from twin_tf.core.yaml_text import parse_yaml
from twin_tf.features.encoders import FeatureEncoder, hash_id
from twin_tf.features.schema import FeatureSchema, schema_from_mapping
from twin_tf.records.format import Manifest

pytestmark = pytest.mark.integration

PAGE = text_of(ROOT / "docs/cookbook.md")


def shown(name: str) -> FeatureSchema:
    (found,) = (
        parse_yaml(text, "docs/cookbook.md")["schema"] for text in blocks(PAGE, "yaml") if f"name: {name}\n" in text
    )
    return schema_from_mapping(found)


def items_of(manifest: Manifest, directory: Path) -> dict[int, Any]:
    """Row -> raw id."""
    table = pq.read_table(directory / "items/items.parquet").to_pylist()
    return {row["row"]: row.get("raw_id", row["id"]) for row in table}


def of_user(manifest: Manifest, user: int) -> list[dict[str, Any]]:
    found = read_back(manifest)
    return [record for split in ("train", "valid", "test") for record in found[split].get(user, [])]


MIND_ROWS = [
    ("1", "U1", "11/11/2019 9:05:58 AM", "N1 N2", "N3-1 N4-0"),
    ("2", "U1", "11/11/2019 9:06:58 PM", "N1 N2 N3", "N5-0 N-6-1"),  # the click is in the log, the list is not again
    ("3", "U2", "11/12/2019 12:00:00 AM", "", "N1-0 N2-1"),
    ("4", "U3", "11/13/2019 12:30:00 PM", "N5", "N1-0 N4-1"),
    ("5", "U2", "11/14/2019 1:00:00 AM", "N2", "N3-0 N1-1"),
]


def test_mind_from_its_published_files_to_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "behaviors.tsv").write_text("".join("\t".join(row) + "\n" for row in MIND_ROWS))
    news = [
        "\t".join([name, category, "kind", 'The "Brands"', '"Quoted', "https://x", '[{"Label": "B"}]', "[]"]) + "\n"
        for name, category in zip(("N1", "N2", "N3", "N4", "N5", "N-6"), ("news", "sports") * 3, strict=True)
    ]
    (tmp_path / "news.tsv").write_text("".join(news))
    monkeypatch.chdir(tmp_path)
    manifest = build_examples(
        shown("mind"), "behaviors.tsv", tmp_path / "prepared", "news.tsv", shards=1, progress=False
    )
    counts = manifest.counts
    assert (counts.events_read, counts.events_dead, counts.events_kept) == (17, 0, 13)
    assert sum(counts.targets.values()) == 10
    raw = items_of(manifest, tmp_path / "prepared")
    seconds = int(datetime.datetime(2019, 11, 11, 9, 5, 58, tzinfo=datetime.timezone.utc).timestamp())
    later = seconds + 12 * 3600 + 60
    (record,) = of_user(manifest, hash_id("U1"))
    assert [raw[row] for row in record["history/item"]] == ["N1", "N2", "N3"]
    assert record["history/time"] == [seconds - 2, seconds - 1, seconds]
    columns = [record[f"target/{name}"] for name in ("item", "time", "label", "history_end")]
    assert sorted((raw[row], *rest) for row, *rest in zip(*columns, strict=True)) == [
        ("N-6", later, 1, 3),
        ("N3", seconds, 1, 2),
        ("N4", seconds, 0, 2),
        ("N5", later, 0, 3),
    ]
    assert sorted(set(record["target/request"])) == [1, 2]
    histories = read_back(manifest)["histories"]
    assert {user: [raw[row] for row in histories[hash_id(user)][0]["history/item"]] for user in ("U1", "U2", "U3")} == {
        "U1": ["N1", "N2", "N3", "N-6"],
        "U2": ["N2", "N1"],
        "U3": ["N5", "N4"],
    }


def eb_nerd(directory: Path) -> dict[str, str]:
    """`train/behaviors.parquet`, `train/history.parquet` and `articles.parquet` with all their columns."""
    start = datetime.datetime(2023, 5, 18, 7)
    rows = 10
    times = [start + datetime.timedelta(hours=n) for n in range(rows)]
    inview = [[100 + n % 4, 101 + n % 4, 105] for n in range(rows)]
    behaviors = {
        "impression_id": pa.array(range(rows), pa.uint32()),
        "article_id": pa.array([None, 103] * 5, pa.int32()),
        "impression_time": pa.array(times, pa.timestamp("us")),
        "read_time": pa.array([1.0] * rows, pa.float32()),
        "scroll_percentage": pa.array([None] * rows, pa.float32()),
        "device_type": pa.array([1, 2] * 5, pa.int8()),
        "article_ids_inview": pa.array(inview, pa.list_(pa.int32())),
        "article_ids_clicked": pa.array([[ids[n % 3]] for n, ids in enumerate(inview)], pa.list_(pa.int32())),
        "user_id": pa.array([7, 8] * 5, pa.uint32()),
        "is_sso_user": [False] * rows,
        "gender": pa.nulls(rows, pa.int8()),
        "postcode": pa.nulls(rows, pa.int8()),
        "age": pa.nulls(rows, pa.int8()),
        "is_subscriber": [True, False] * 5,
        "session_id": pa.array(range(rows), pa.uint32()),
        "next_read_time": pa.array(np.arange(rows), pa.float32()),
        "next_scroll_percentage": pa.array([100.0, None] * 5, pa.float32()),
    }
    before = [[start - datetime.timedelta(days=n) for n in (3, 2, 1)], [start - datetime.timedelta(days=4)]]
    history = {
        "user_id": pa.array([7, 9], pa.uint32()),
        "impression_time_fixed": pa.array(before, pa.list_(pa.timestamp("us"))),
        "scroll_percentage_fixed": pa.array([[100.0, None, 5.0], [20.0]], pa.list_(pa.float32())),
        "article_id_fixed": pa.array([[101, 102, 101], [103]], pa.list_(pa.int32())),
        "read_time_fixed": pa.array([[3.0, 30.0, 300.0], [0.0]], pa.list_(pa.float32())),
    }
    articles = {
        "article_id": pa.array(range(100, 106), pa.int32()),
        "title": ["Overskrift"] * 6,
        "subtitle": [""] * 6,
        "last_modified_time": pa.array([start] * 6, pa.timestamp("us")),
        "premium": [False, True] * 3,
        "body": ["..."] * 6,
        "published_time": pa.array([start] * 6, pa.timestamp("us")),
        "image_ids": pa.array([[1], None] * 3, pa.list_(pa.int64())),
        "article_type": ["article_default"] * 6,
        "url": ["https://x"] * 6,
        "ner_clusters": pa.array([[]] * 6, pa.list_(pa.string())),
        "entity_groups": pa.array([[]] * 6, pa.list_(pa.string())),
        "topics": pa.array([["Sport", "Fodbold"], ["Kendt"], []] * 2, pa.list_(pa.string())),
        "category": pa.array([1] * 6, pa.int16()),
        "subcategory": pa.array([[1]] * 6, pa.list_(pa.int16())),
        "category_str": ["sport", "nyheder"] * 3,
        "total_inviews": pa.nulls(6, pa.int32()),
        "total_pageviews": pa.nulls(6, pa.int32()),
        "total_read_time": pa.nulls(6, pa.float32()),
        "sentiment_score": pa.array([0.5] * 6, pa.float32()),
        "sentiment_label": ["Negative", "Neutral", "Positive"] * 2,
    }
    (directory / "train").mkdir(parents=True)
    for name, columns in (("train/behaviors", behaviors), ("train/history", history), ("articles", articles)):
        pq.write_table(pa.table(columns), directory / f"{name}.parquet")
    return {"events": f"{directory}/train/*.parquet", "items": f"{directory}/articles.parquet"}


def test_eb_nerd_from_its_published_files_to_records(tmp_path: Path) -> None:
    manifest = build_examples(
        shown("eb_nerd"), output=tmp_path / "prepared", **eb_nerd(tmp_path / "raw"), shards=1, progress=False
    )
    counts = manifest.counts
    assert (counts.events_read, counts.events_dead, counts.events_kept) == (34, 0, 34)
    assert sum(counts.targets.values()) == 30
    raw = items_of(manifest, tmp_path / "prepared")
    seconds = int(datetime.datetime(2023, 5, 18, 7, tzinfo=datetime.timezone.utc).timestamp())
    histories = read_back(manifest)["histories"]
    assert {user: [raw[row] for row in record["history/item"]] for user, (record,) in histories.items()} == {
        7: [101, 102, 101, 100, 105, 101, 102, 105],
        8: [102, 103, 105, 104, 101],
        9: [103],
    }
    (mine,) = histories[7]
    assert mine["history/time"] == [seconds - 86400 * n for n in (3, 2, 1)] + [seconds + 7200 * n for n in range(5)]
    encoder = FeatureEncoder.load(tmp_path / "prepared")
    assert mine["history/read_time"] == encoder.encode("read_time", [3, 30, 300, 0, 2, 4, 6, 8]).tolist()
    assert mine["history/scrolled"] == encoder.encode("scrolled", [100, None, 5, 100, 100, 100, 100, 100]).tolist()
    first = of_user(manifest, 7)[0]
    assert first["target/history_end"][:3] == [3, 3, 3]
    assert first["target/label"][:3] == [1, 0, 0]
    assert first["target/request"][:3] == first["target/request"][:1] * 3
