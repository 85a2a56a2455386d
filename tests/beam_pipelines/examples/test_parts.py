"""The parts of the pipeline that stand on their own: counts that merge, Example bytes, the manifest's reader."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_logs import framed

from beam_pipelines.examples import value_counts
from beam_pipelines.examples.log_survey import LogSurvey
from beam_pipelines.examples.user_hash import shard_of
from beam_pipelines.examples.value_counts import Histogram, ValueCounts, part_of, quantiles, sortable, unsortable
from beam_pipelines.io.record_writer import ShardWriter, example, parse_example
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.schema import Split
from twin_tf.records.format import Counts, Manifest, Shard, SplitTimes
from twin_tf.records.packing import pack, unpack, width_of

pytestmark = pytest.mark.integration

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.dictionaries(st.text(max_size=200), INT64 | st.binary(max_size=300), max_size=6))
def test_example_bytes_are_what_tensorflow_reads(features: dict[str, int | bytes]) -> None:
    import tensorflow as tf

    parsed = tf.train.Example.FromString(example(features)).features.feature
    found = {k: v.int64_list.value[0] if v.HasField("int64_list") else v.bytes_list.value[0] for k, v in parsed.items()}
    assert found == features
    assert parse_example(example(features)) == features


def test_shard_writer_counts_what_it_wrote_and_creates_nothing_without_records(tmp_path: Path) -> None:
    writer = ShardWriter(str(tmp_path), "train/a.tfrecord")
    assert writer.close() is None
    assert not (tmp_path / "train").exists()
    writer.write(b"one", 7, 2)
    writer.write(b"", 3, 1)
    shard = writer.close()
    assert shard is not None
    assert dataclasses.astuple(shard)[:2] == ("train/a.tfrecord", 35)
    assert (shard.records, shard.targets, shard.events, shard.longest) == (2, 3, 10, 7)
    assert framed(tmp_path / "train/a.tfrecord") == [b"one", b""]


@given(st.lists(st.lists(st.integers(-50, 50), max_size=30), min_size=1, max_size=5), st.integers(2, 40), st.randoms())
def test_a_histogram_does_not_depend_on_how_it_was_merged(parts: list[list[int]], limit: int, order: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(value_counts, "MAX_DISTINCT", limit)
        whole = Histogram.of(np.array([n for part in parts for n in part], np.int64))
        merged = Histogram.merge([Histogram.of(np.array(part, np.int64)) for part in parts])
        chained = Histogram.of(np.zeros(0, np.int64))
        order.shuffle(parts)  # type: ignore[attr-defined]
        for part in parts:
            chained = Histogram.merge([chained, Histogram.of(np.array(part, np.int64))])
    for other in (merged, chained):
        assert other.level == whole.level
        assert other.keys.tolist() == whole.keys.tolist()
        assert other.counts.tolist() == whole.counts.tolist()
    numbers = sorted(n for part in parts for n in part)
    for rank, number in enumerate(numbers):
        assert whole.at_rank(rank) == number >> whole.level << whole.level


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_sortable_keeps_the_order_of_floats_and_comes_back(numbers: list[float]) -> None:
    keys = sortable(np.array(numbers)).tolist()
    assert [unsortable(key) for key in keys] == numbers
    assert sorted(numbers) == [unsortable(key) for key in sorted(keys)]


def test_quantiles_cut_into_equal_shares() -> None:
    tenths = Histogram.of(sortable(np.arange(100) / 10))
    assert quantiles(tenths, 4) == [2.5, 5.0, 7.5]
    assert quantiles(Histogram.of(sortable(np.array([0.0] * 9 + [1.0]))), 4) == [0.0]
    assert quantiles(Histogram.of(sortable(np.array([np.nan]))), 4) == []


def test_counts_merge_and_are_sorted_by_number_or_text() -> None:
    counts = ValueCounts.merge([ValueCounts.of(pa.array([10, 9, None, 9])), ValueCounts.of(pa.array([10, 2]))])
    assert counts.sorted().values.to_pylist() == [2, 9, 10]
    assert counts.sorted().counts.tolist() == [1, 2, 2]
    assert ValueCounts.of(pa.array(["b", "B", "é", "a"])).sorted().values.to_pylist() == ["B", "a", "b", "é"]


@given(st.lists(st.text(max_size=4)), st.integers(1, 5))
def test_values_have_the_same_part_as_text_and_as_number(values: list[str], parts: int) -> None:
    counts = ValueCounts.of(pa.array(values, pa.string()))
    found = {value: part for part, piece in counts.cut(parts) for value in piece.values.to_pylist()}
    assert found == {value: int(part_of(pa.array([value]), parts)[0]) for value in set(values)}
    assert sum(int(piece.totals.sum()) for _, piece in counts.cut(parts)) == len(values)
    numbers = pa.array([len(value) - 2 for value in values], pa.int64())
    assert part_of(numbers, parts).tolist() == part_of(numbers.cast(pa.string()), parts).tolist()


def test_parts_of_values_never_change() -> None:
    assert part_of(pa.array(["", "a", "ab", "ba", "é"]), 8).tolist() == [7, 4, 3, 0, 1]
    spread = np.bincount(part_of(pa.array(range(80_000)), 8))
    assert spread.min() > 9_500


def test_user_shards_never_change() -> None:
    users = np.array([0, 1, 2, 3, -1, 2**63 - 1], np.int64)
    assert shard_of(users, 8).tolist() == [7, 1, 6, 5, 0, 7]
    spread = np.bincount(shard_of(np.arange(80_000), 8))
    assert spread.min() > 9_500


MANIFEST = Manifest(
    schema_fingerprint="0" * 16,
    split=SplitTimes(10, 20),
    counts=Counts(3, 2, 1, 0, 1, 2, 2, {"train": 1, "valid": 0, "test": 0}),
    splits={"train": (Shard("train/a.tfrecord", 4, "00", 1, 1, 1, 1),), "valid": ()},
    cardinalities={"product": 4},
    widths={"history/item": 1},
    time_origin=0,
    last_time=30,
)


def test_a_manifest_is_read_only_from_a_finished_directory(tmp_path: Path) -> None:
    for fill, message in [
        (lambda: None, "is not prepared data: it has no manifest.json"),
        (lambda: (tmp_path / "manifest.json").write_text("{"), "is not finished: it has no _SUCCESS"),
        (lambda: (tmp_path / "_SUCCESS").touch(), "is not valid JSON"),
        (lambda: (tmp_path / "manifest.json").write_text('{"format": 99}'), "has format 99, this version reads 2"),
        (lambda: (tmp_path / "manifest.json").write_text('{"format": 2}'), "needs the key 'schema_fingerprint'"),
    ]:
        fill()
        with pytest.raises(ConfigError, match=message):
            Manifest.load(tmp_path)
    with pytest.raises(ConfigError, match="is not a directory"):
        Manifest.load(tmp_path / "nowhere")
    (tmp_path / "manifest.json").write_text(MANIFEST.to_json())
    assert Manifest.load(tmp_path) == dataclasses.replace(MANIFEST, directory=str(tmp_path))


def test_a_manifest_finds_its_shards_and_notices_what_is_wrong_with_them(tmp_path: Path) -> None:
    manifest = dataclasses.replace(MANIFEST, directory=str(tmp_path))
    assert manifest.shard_paths("valid") == []
    with pytest.raises(ConfigError, match=r"train/a.tfrecord is missing"):
        manifest.shard_paths("train")
    (tmp_path / "train").mkdir()
    (tmp_path / "train/a.tfrecord").write_bytes(b"12345")
    with pytest.raises(ConfigError, match=r"has 5 bytes, manifest.json says 4"):
        manifest.shard_paths("train")
    (tmp_path / "train/a.tfrecord").write_bytes(b"1234")
    assert manifest.shard_paths("train") == [tmp_path / "train/a.tfrecord"]
    with pytest.raises(ConfigError, match="no split 'trian'; did you mean 'train'?"):
        manifest.shards("trian")


def test_targets_in_a_gap_belong_to_no_split() -> None:
    times = np.array([7, 8, 9, 10, 17, 18, 19, 20])
    assert SplitTimes(10, 20).numbers(times).tolist() == [0, 0, 0, 1, 1, 1, 1, 2]
    assert SplitTimes(10, 20, gap=2).numbers(times).tolist() == [0, -1, -1, 1, 1, -1, -1, 2]
    assert SplitTimes(10, 20, gap=2).train_until == 8
    assert SplitTimes(10, 10, gap=1).numbers(np.array([8, 9, 10])).tolist() == [0, -1, 2]


def test_a_survey_counts_what_is_not_later_than_the_previous_run() -> None:
    table = pa.table({"time": [4, 5, 5, 6], "flags": pa.array([2, 2, 6, 7], pa.int8())})
    log_survey = LogSurvey.of([(table, 3)], 5, Split())
    assert (log_survey.events, log_survey.behaviours, log_survey.duplicated, log_survey.late, log_survey.times) == (
        4,
        4,
        3,
        3,
        (4, 6),
    )
    assert log_survey.target_times.keys.tolist() == [5, 6]
    assert LogSurvey.of([(table, 0)], None, Split()).late == 0
    assert LogSurvey.merge([log_survey, LogSurvey(), log_survey]).late == 6


@given(st.lists(st.integers(0, 2**63 - 1), max_size=50), st.integers(0, 3))
def test_packed_numbers_come_back(numbers: list[int], spare: int) -> None:
    width = min(8, width_of(max(numbers, default=0)) + spare)
    packed = pack(np.array(numbers, np.int64), width)
    assert len(packed) == width * len(numbers)
    assert unpack(packed, width).tolist() == numbers


def test_numbers_that_do_not_fit_are_never_cut() -> None:
    assert [width_of(n) for n in (0, 1, 255, 256, 65_535, 65_536, 2**40 - 1, 2**40)] == [1, 1, 1, 2, 2, 3, 5, 6]
    for numbers in ([256], [-1]):
        with pytest.raises(ValueError, match="do not fit into 1 bytes"):
            pack(np.array(numbers), 1)


def test_a_schema_edited_after_the_run_is_refused(tmp_path: Path) -> None:
    import yaml
    from small_logs import schema

    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(schema().to_plain()))
    manifest = dataclasses.replace(MANIFEST, directory=str(tmp_path))
    with pytest.raises(ConfigError, match="it was edited after the data were made"):
        _ = manifest.schema
