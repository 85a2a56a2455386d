"""Every public data set, from files of the documented format to prepared data with its shipped configuration."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from public_files import PUBLIC_FILES, as_shipped

from beam_pipelines.build_examples import build_examples
from beam_pipelines.import_dataset import DATASETS, import_dataset
from twin_tf.config import load_config
from twin_tf.features.encoders import FeatureEncoder

pytestmark = pytest.mark.integration

LIKE_ANOTHER = ("kuairand_pure", "movielens_latest_small")
"""Of the same format as KuaiRand-1K and MovieLens 25M, which are tried by day."""

SEVERAL_VALUES = {"movielens": ["genres"], "kuairand": ["tags"]}


def test_every_data_set_has_a_configuration_and_a_test() -> None:
    assert set(PUBLIC_FILES) == set(DATASETS) - {"complete_journey"}
    schemas = {name: load_config(name).schema for name in DATASETS}
    assert {name: schema and schema.name for name, schema in schemas.items()} == {name: name for name in DATASETS}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in LIKE_ANOTHER else ()) for name in sorted(PUBLIC_FILES)],
)
def test_files_of_the_documented_format_become_prepared_data(name: str, tmp_path: Path) -> None:
    report = import_dataset(name, tmp_path / "raw", source=as_shipped(name, tmp_path), progress=False)
    schema = load_config(name).schema
    assert schema is not None
    for log, columns in (
        (report.events(), schema.event_columns()),
        (report.items(), schema.item_columns()),
        (report.users(), schema.user_columns()),
    ):
        present = pq.read_schema(log).names if log is not None else []
        assert not set(columns) - set(present)
    manifest = build_examples(
        schema, report.events(), tmp_path / "prepared", report.items(), report.users(), shards=2, progress=False
    )
    counts = manifest.counts
    assert (counts.events_read, counts.events_dead) == (report.rows["events"], 0)
    assert all(counts.targets[split] > 0 for split in ("train", "valid", "test"))
    events = pq.read_table(report.events())
    targets = [row for row in events.to_pylist() if all(row[c] in v for c, v in schema.targets.where.items())]
    assert sum(counts.targets.values()) == len(targets)
    for split in ("train", "valid", "test"):
        assert list((tmp_path / "prepared" / split).glob("*.tfrecord"))
    several = [feature for feature in schema.inherent if feature.multi_valued is not None]
    assert [feature.name for feature in several] == SEVERAL_VALUES.get(name.split("_")[0], [])
    items = pq.read_table(tmp_path / "prepared/items/items.parquet").to_pylist()
    encoder = FeatureEncoder.load(tmp_path / "prepared")
    for feature in several:
        raw = {row[schema.items.column]: row[feature.column] for row in pq.read_table(report.items()).to_pylist()}
        found = {row["id"]: row[feature.name] for row in items}
        assert max(map(len, found.values())) > 1
        for item, text in raw.items():
            values = [encoder.fitted[feature.name][index - 2] for index in found[item] if index > 1]
            assert set(values) <= {part.strip() for part in (text or "").split(feature.multi_valued.separator)}
