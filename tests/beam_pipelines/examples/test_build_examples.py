"""Prepared data are what the contract says of the raw rows, whatever their format, order and files."""

import hashlib
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from expected_records import Expected
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_logs import logs, random_logs, read_back, schema, with_text_ids, write, write_logs

from beam_pipelines.build_examples import BuildExamples, build_examples, main
from beam_pipelines.io.progress import NAMESPACE
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.records.format import Manifest

pytestmark = pytest.mark.integration

SUFFIXES = [".parquet", ".jsonl", ".csv", ".jsonl.gz", ".csv.gz"]


def build(directory: Path, arguments: dict[str, str], name: str = "prepared", **options: Any) -> Manifest:
    options.setdefault("schema", schema())
    return build_examples(output=directory / name, progress=False, **arguments, **options)


def digest(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    tables=logs(),
    suffix=st.sampled_from(SUFFIXES),
    files=st.integers(1, 3),
    shards=st.integers(1, 4),
    text_ids=st.booleans(),
    split=st.sampled_from([None, {"valid_from": 7, "test_from": 7}, {"valid_from": 10, "test_from": 15}]),
    order=st.randoms(use_true_random=False),
)
def test_records_are_what_the_raw_rows_say(
    tables: Any, suffix: str, files: int, shards: int, text_ids: bool, split: Any, order: random.Random
) -> None:
    tables = with_text_ids(tables) if text_ids else tables
    used = schema("string" if text_ids else "int", split)
    expected = Expected(used, tables)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        arguments = {}
        for log, rows in tables.items():
            rows = order.sample(rows, len(rows))
            for n in range(files):
                if rows[n::files]:
                    write(root / log / f"{n}{suffix}", rows[n::files])
            arguments[log] = str(root / log / f"*{suffix}")
        manifest = build(root, arguments, schema=used, shards=shards)
        assert read_back(manifest) == expected.records
        items = pq.read_table(root / "prepared/items/items.parquet").to_pylist()
        users = pq.read_table(root / "prepared/users").to_pylist()
    assert [item["id"] for item in items] == expected.item_ids
    assert [item["row"] for item in items] == list(range(2, 2 + len(items)))
    assert {item["id"]: [item[f.name] for f in used.inherent] for item in items} == expected.items
    assert {user["id"]: [user[f.name] for f in used.user] for user in users} == expected.users
    if text_ids:
        assert [item["raw_id"] for item in items] == [expected.raw[item] for item in expected.item_ids]
    counts = manifest.counts
    kept = [row for row in tables["events"] if expected.is_behaviour(row) or expected.is_target(row)]
    assert (counts.events_read, counts.events_kept, counts.events_dead) == (len(tables["events"]), len(kept), 0)
    assert counts.events_filtered == len(tables["events"]) - len(kept)
    assert counts.behaviours == sum(expected.is_behaviour(row) for row in kept)
    assert sum(counts.targets.values()) == sum(expected.is_target(row) for row in kept)
    assert counts.users == len(expected.records["histories"])


def test_crowded_records_are_what_the_raw_rows_say(tmp_path: Path) -> None:
    """Few users, items and moments: histories are cut and many rows differ in one column alone."""
    tables = random_logs(events=500, seed=8)
    for row in tables["events"][2:]:
        row.update(u=row["u"] % 3, i=row["i"] % 4, t=1 + row["t"] % 9)
    expected = Expected(schema(), tables)
    assert max(rows[0]["history/total"] for rows in expected.records["histories"].values()) > 50
    manifest = build(tmp_path, write_logs(tmp_path / "raw", tables), shards=2)
    assert read_back(manifest) == expected.records


@pytest.mark.parametrize(("shares", "bounds"), [((0.7, 0.1), (7, 8)), ((0.6, 0.4), (6, 10)), ((0.3, 0.3), (3, 6))])
def test_shares_cut_the_targets_where_they_say(
    tmp_path: Path, shares: tuple[float, float], bounds: tuple[int, int]
) -> None:
    tables = random_logs(events=0)
    tables["events"] = [{**tables["events"][0], "t": time} for time in range(10)]
    used = schema(split={"train": shares[0], "valid": shares[1]})
    split = build(tmp_path, write_logs(tmp_path / "raw", tables), schema=used).split
    assert (split.valid_from, split.test_from) == bounds


def test_every_format_gives_the_same_bytes(tmp_path: Path) -> None:
    tables = random_logs()
    found = []
    for suffix in SUFFIXES:
        build(tmp_path, write_logs(tmp_path / f"raw{suffix}", tables, suffix), f"out{suffix}")
        found.append(digest(tmp_path / f"out{suffix}"))
    assert all(other == found[0] for other in found)


def test_order_of_files_and_workers_do_not_matter(tmp_path: Path) -> None:
    tables = random_logs(seed=2)
    build(tmp_path, write_logs(tmp_path / "raw", tables), "whole")
    event_batches = {}
    for log, rows in tables.items():
        rows = random.Random(3).sample(rows, len(rows))
        paths = [write(tmp_path / "pieces" / f"{log}-{n}.jsonl", rows[n::3]) for n in (2, 0, 1)]
        event_batches[log] = [str(path) for path in paths]
    workers = ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]
    build(tmp_path, event_batches, "pieces_prepared", beam_arguments=workers)
    assert digest(tmp_path / "whole") == digest(tmp_path / "pieces_prepared")


def test_number_of_shards_does_not_change_the_records(tmp_path: Path) -> None:
    arguments = write_logs(tmp_path / "raw", random_logs(seed=4))
    one = build(tmp_path, arguments, "one", shards=1)
    many = build(tmp_path, arguments, "many", shards=5)
    assert read_back(one) == read_back(many)
    assert [shard.name for shard in one.shards("train")] == ["train/part-00000-of-00001.tfrecord"]
    assert len(many.shards("train")) > 1


def test_manifest_lists_every_file_with_its_figures(tmp_path: Path) -> None:
    manifest = build(tmp_path, write_logs(tmp_path / "raw", random_logs()))
    found = digest(tmp_path / "prepared")
    records = read_back(manifest)
    listed = {shard.name: shard for shards in manifest.splits.values() for shard in shards}
    assert set(listed) == {name for name in found if name.endswith(".tfrecord")}
    assert {name: shard.sha256 for name, shard in listed.items()} == {name: found[name] for name in listed}
    for split, shards in manifest.splits.items():
        mine = [record for user in records[split].values() for record in user]
        assert sum(shard.records for shard in shards) == len(mine)
        assert sum(shard.events for shard in shards) == sum(record["history/length"] for record in mine)
        assert max(shard.longest for shard in shards) == max(record["history/length"] for record in mine)
    assert manifest == Manifest.load(tmp_path / "prepared")
    assert manifest.schema == schema()
    assert manifest.cardinalities["rank"] == 6
    assert manifest.cardinalities["category"] == 4


def test_values_seen_only_after_the_training_window_are_unknown(tmp_path: Path) -> None:
    tables = random_logs()
    tables["events"].append({**tables["events"][0], "t": 98, "i": 999, "place": "late"})
    manifest = build(tmp_path, write_logs(tmp_path / "raw", tables))
    assert manifest.split.valid_from < 98
    vocabularies = tmp_path / "prepared/vocabularies"
    assert json.loads((vocabularies / "place.json").read_text())["values"] == ["side", "top"]
    assert "999" not in json.loads((vocabularies / "product.json").read_text())["values"]
    items = pq.read_table(tmp_path / "prepared/items/items.parquet").to_pylist()
    assert (items[-1]["id"], items[-1]["product"], items[-1]["category"]) == (999, 1, 1)


def test_without_items_and_users_logs_the_events_name_the_items(tmp_path: Path) -> None:
    features = [
        {"name": "video", "role": "inherent", "column": "i", "type": "int", "encoding": {"kind": "vocabulary"}},
        {"name": "play", "role": "cross", "encoding": {"kind": "numeric", "quantiles": 2}},
    ]
    used = schema(items=None, users=None, features=features)
    tables = random_logs()
    path = write(tmp_path / "events.csv", tables["events"])
    build(tmp_path, {"events": str(path)}, schema=used)
    items = pq.read_table(tmp_path / "prepared/items/items.parquet").to_pylist()
    kept = {r["i"] for r in tables["events"] if r["shown"] or (r["y"] and r["kind"] in ("view", "buy"))}
    assert [item["id"] for item in items] == sorted(kept)
    assert not (tmp_path / "prepared/users").exists()


def test_records_are_read_by_tf_data(tmp_path: Path) -> None:
    import tensorflow as tf

    manifest = build(tmp_path, write_logs(tmp_path / "raw", random_logs()))
    paths = [str(path) for path in manifest.shard_paths("train")]
    packed, number = tf.io.FixedLenFeature([], tf.string), tf.io.FixedLenFeature([], tf.int64)
    wanted = {"history/item": packed, "history/time": packed, "history/length": number, "user/id": number}
    batch = next(iter(tf.data.TFRecordDataset(paths).batch(1000)))
    parsed = tf.io.parse_example(batch, wanted)
    longest = int(tf.reduce_max(parsed["history/length"]))
    assert (manifest.widths["history/item"], manifest.widths["history/time"]) == (1, 1)
    items = tf.io.decode_raw(parsed["history/item"], tf.uint8, fixed_length=longest).numpy()
    times = tf.io.decode_raw(parsed["history/time"], tf.uint8, fixed_length=longest).numpy()
    expected = [record for user in read_back(manifest)["train"].values() for record in user]
    by_user = sorted(range(len(items)), key=lambda n: int(parsed["user/id"][n]))
    for n, record in zip(by_user, sorted(expected, key=lambda r: r["user/id"]), strict=True):
        length = int(parsed["history/length"][n])
        assert items[n, :length].tolist() == record["history/item"]
        assert (times[n, :length] + manifest.time_origin).tolist() == record["history/time"]
        assert not items[n, length:].any()


def fails(tmp_path: Path, arguments: dict[str, str], **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        build(tmp_path, arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert not (tmp_path / "prepared").exists()
    assert not list(tmp_path.glob(".*building*"))
    return message


def test_a_whole_log_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    tables = random_logs(events=30)
    good = write_logs(tmp_path / "raw", tables)
    assert (
        fails(tmp_path, {**good, "events": f"{tmp_path}/no*.csv"})
        == f"no file of the events log matches {tmp_path}/no*.csv"
    )
    text = tmp_path / "events.txt"
    text.write_text("u,i\n")
    assert "must end in .jsonl, .csv" in fails(tmp_path, {**good, "events": str(text)})
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert fails(tmp_path, {**good, "events": str(empty)}) == "the events log is empty: its files hold no rows"
    renamed = [{("users" if k == "u" else k): v for k, v in row.items()} for row in tables["events"]]
    message = fails(tmp_path, {**good, "events": str(write(tmp_path / "renamed.csv", renamed))})
    assert message.startswith("the events log has no column 'u'; known: i, kind, place, play,")
    respelt = [{k.replace("play", "plays"): v for k, v in row.items()} for row in tables["events"]]
    for suffix in (".jsonl", ".parquet"):
        message = fails(tmp_path, {**good, "events": str(write(tmp_path / f"respelt{suffix}", respelt))})
        assert message == "the events log has no value in column 'play' in any row; did you mean 'plays'?"
    hidden = write(tmp_path / "hidden.jsonl", [{**row, "shown": 0} for row in tables["events"]])
    assert "no targets: no row holds shown in [1]" in fails(tmp_path, {**good, "events": str(hidden)})
    assert "needs the items log" in fails(tmp_path, {k: v for k, v in good.items() if k != "items"})
    assert "has no users log" in fails(tmp_path, good, schema=schema(users=None, features=FEATURES_WITHOUT_USER))
    late = schema(split={"valid_from": 0, "test_from": 5})
    assert "nothing is left to train on" in fails(tmp_path, good, schema=late)


FEATURES_WITHOUT_USER = [f for f in schema().to_plain()["features"] if f["role"] != "user"]


def test_an_output_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    arguments = write_logs(tmp_path / "raw", random_logs(events=30))
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared/mine").write_text("precious")
    with pytest.raises(ConfigError, match="exists and is not empty"):
        build(tmp_path, arguments)
    assert digest(tmp_path / "prepared").keys() == {"mine"}


def test_command_line_prints_the_counts_and_fails_with_one_line(tmp_path: Path, capsys: Any) -> None:
    import yaml

    (tmp_path / "schema.yaml").write_text(yaml.safe_dump({"schema": schema().to_plain()}))
    arguments = [f"--{log}={path}" for log, path in write_logs(tmp_path / "raw", random_logs(events=60)).items()]
    command = [f"--schema={tmp_path}/schema.yaml", *arguments, f"--output={tmp_path}/prepared"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out.split(": ", 1)[1])["events_read"] == 62
    assert main(command) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_beam_counts_what_the_manifest_counts(tmp_path: Path) -> None:
    """The counters that a runner shows while the job runs; duplicates are found after `events_kept` is counted."""
    import apache_beam as beam

    tables = random_logs(events=200)
    tables["events"] += [tables["events"][0]] * 3
    arguments = write_logs(tmp_path / "raw", tables, ".jsonl")
    with Path(arguments["events"]).open("a") as log:
        log.write("nonsense\n")
    used = schema(events={**schema().to_plain()["events"], "deduplicate": True})
    patterns = {log: [path] for log, path in arguments.items()}
    pipeline = beam.Pipeline(runner="FnApiRunner")
    pipeline | BuildExamples(used, patterns, str(tmp_path / "prepared"), 3, 0.1)  # type: ignore[arg-type]
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query()["counters"]
    found = {c.key.metric.name: c.committed for c in counters if c.key.metric.namespace == NAMESPACE}
    counts = Manifest.load(tmp_path / "prepared").counts
    assert counts.events_duplicated >= 3
    expected = {
        "events_read": counts.events_read,
        "events_kept": counts.events_kept + counts.events_duplicated,
        "events_filtered": counts.events_filtered - counts.events_duplicated,
        "events_dead": 1,
        "events_duplicated": counts.events_duplicated,
        "items_read": 25,
        "items_kept": 25,
        "users_read": 10,
        "users_kept": 10,
        "users": counts.users,
    }
    assert {name: found.get(name) for name in expected} == expected
    records = sum(shard.records for shards in Manifest.load(tmp_path / "prepared").splits.values() for shard in shards)
    assert found["records"] == records


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_values_that_the_vocabulary_lacks_decide_between_simultaneous_targets(tmp_path: Path, suffix: str) -> None:
    tables = random_logs(events=60)
    row = {**tables["events"][0], "t": 98, "kind": "hide", "shown": 1}
    unseen = [("b unseen", 0.0), ("a unseen", 9.0), (None, 5.0)]
    tables["events"] += [{**row, "place": place, "play": play} for place, play in unseen]
    manifest = build(tmp_path, write_logs(tmp_path / "raw", tables, suffix))
    found = read_back(manifest)
    assert found == Expected(schema(), tables).records
    record = next(r for r in found["test"][row["u"]] if r["target/time"].count(98) == 3)
    assert set(record["target/shown_place"][-3:]) == {1} and record["target/seconds"][-3:] == [4, 4, 2]
