"""The yardstick does the job it is compared with: the plain pipeline's records are `build_examples`' records."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from decoded_records import read_records

from beam_pipelines.build_examples import build_examples
from benchmarks import plain_pipeline
from benchmarks.pipeline_loads import SCHEMA, Load, write_load
from twin_tf.features.schema import schema_from_mapping
from twin_tf.records.format import SPLITS

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def both(tmp_path_factory: Any) -> tuple[Any, Path, Path]:
    """The manifest of `build_examples`, its directory and the plain pipeline's, of one load with a hot user."""
    root = tmp_path_factory.mktemp("fair")
    write_load(root / "raw", Load(events=30_000, hot_events=12_000))
    events, items = str(root / "raw/events/*.parquet"), str(root / "raw/items.parquet")
    manifest = build_examples(schema_from_mapping(SCHEMA), events, root / "prepared", items, progress=False)
    (root / "plain").mkdir()
    plain_pipeline.run(events, items, str(root / "plain"), shards=2)
    return manifest, root / "prepared", root / "plain"


@pytest.mark.parametrize("split", SPLITS)
def test_the_plain_pipeline_writes_the_same_records(both: tuple[Any, Path, Path], split: str) -> None:
    manifest, _, plain = both
    ours = read_records(manifest.shard_paths(split), manifest)
    theirs = read_records(sorted(plain.glob(f"{split}-*.tfrecord")))
    assert len(ours) == len(theirs) > 10
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == other


def test_the_load_reaches_what_the_comparison_is_about(both: tuple[Any, Path, Path]) -> None:
    manifest = both[0]
    histories = read_records(manifest.shard_paths("histories"), manifest)
    assert max(record["history/length"] for record in histories) == 10_000  # the hot user's is cut
    assert {1, 2, 3} <= {index for record in histories for index in record["history/surface"]}
    assert len({index for record in histories for index in record["history/dwell"]}) == 17  # unknown, 16 quantiles
    records = [
        record for split in ("train", "valid", "test") for record in read_records(manifest.shard_paths(split), manifest)
    ]
    assert max(record["target/length"] for record in records) == 64
    assert sum(record["target/length"] for record in records) == sum(manifest.counts.targets.values()) > 300


def test_the_plain_pipeline_writes_the_same_catalogue(both: tuple[Any, Path, Path]) -> None:
    _, prepared, plain = both
    (path,) = plain.glob("items-*")
    theirs = sorted(pq.read_table(path).to_pylist(), key=lambda item: item["row"])
    ours = pq.read_table(prepared / "items/items.parquet").to_pylist()
    assert [{name: item[name] for name in theirs[0]} for item in ours] == theirs
