"""A user's own logs, in three formats, through the command line: raw logs in, click probabilities out."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from export.client.client import TwinClient
from export.local_server.server import start_local_server
from tests.e2e.commands import twin_tf
from tests.patience import PATIENCE_S
from twin_tf.records.format import Manifest

pytestmark = pytest.mark.integration

CONFIG = """
schema:
  name: bookshop
  events:
    user: {column: reader, type: string}
    item: {column: isbn, type: string}
    time: {column: seen_at, unit: s, utc_offset_hours: 1}
    label: {column: reaction, values: [-1, 0, 1, 2], positive: [1, 2]}
  items: {column: isbn, type: string}
  users: {column: reader, type: string}
  history:
    where: {reaction: [1, 2]}
    max_length: 60
  targets:
    where: {scored: [1]}
    per_record: 8
    weight: importance
  split: {train: 0.7, valid: 0.1}
  features:
    - {name: book, role: inherent, column: isbn, dim: 8, encoding: {kind: vocabulary, source: items}}
    - {name: genres, role: inherent, dim: 8, encoding: {kind: vocabulary}, multi_valued: {separator: /, max_values: 3}}
    - {name: pages, role: inherent, dim: 4, encoding: {kind: numeric, quantiles: 4}}
    - {name: minutes, role: cross, dim: 4, encoding: {kind: numeric, boundaries: [1, 5, 20]}}
    - {name: shelf, role: cross, dim: 4, encoding: {kind: hash, buckets: 7}}
    - {name: age, role: cross, dim: 4, derived: age, encoding: {kind: numeric, boundaries: [3600, 86400, 604800]}}
    - {name: country, role: user, dim: 4, encoding: {kind: vocabulary}}
    - {name: page, role: context, column: page_kind, dim: 4, encoding: {kind: identity, size: 3}}
    - {name: weekday, role: context, dim: 4, derived: day_of_week}
model: {history_length: 50, top_k: 20, heads: 3, head_size: 8, short_term_length: 5, mixer: [16],
        relevance_statistics: true, projection_init: per_feature, crosses: 1, cross_projection: 8}
training: {epochs: 3, batch_records: 1, dense_learning_rate: 0.003, label_smoothing: 0.02, class_weights: [1, 1.5]}
serving: {probes: 30, warmup_lengths: [1, 50], warmup_candidates: [1, 10]}
"""
BAD_LINES = (
    '{"reader": "ann", "isbn": ',
    '{"reader": "ann", "isbn": "b1", "seen_at": "noon", "reaction": 1}',
    '{"reader": "ann", "isbn": "b1", "seen_at": 1700000000, "reaction": 1, "scored": 1, "importance": -1}',
)


def tables():
    """Readers who like two genres each, as plain rows; every optional value is missing somewhere."""
    generator = np.random.default_rng(4)
    genres = ["crime", "poetry", "travel", "ästhetik", "sci-fi", "history"]
    items = [
        {"isbn": f"b{number}", "genres": genres[number % 6], "pages": int(generator.integers(40, 900))}
        for number in range(120)
    ]
    for number, item in enumerate(items):  # some have several genres, one has more than the schema keeps, one has none
        item["genres"] += [" ", "", " / prize", "//"][number % 4]
    items[7]["genres"], items[8]["genres"] = "prize/debut/poetry/crime", None
    users = [{"reader": f"reader/{number}", "country": ["fr", "pl", "jp"][number % 3]} for number in range(25)]
    events = []
    for number in range(30):  # the last five are no row of the users log
        liked = generator.choice(6, 2, replace=False)
        for _ in range(110):
            book = int(generator.integers(130))  # the last ten are no row of the items log
            likes = book % 6 in liked
            events.append(
                {
                    "reader": f"reader/{number}",
                    "isbn": f"b{book}",
                    "seen_at": int(1_700_000_000 + generator.integers(0, 60 * 86_400)),
                    "reaction": int(generator.choice([0, 1, 1, 1, 2, 2, 2] if likes else [-1, *[0] * 11, 1])),
                    "scored": int(generator.random() < 0.5),
                    "minutes": None if generator.random() < 0.1 else round(float(generator.exponential(9)), 2),
                    "shelf": None if generator.random() < 0.1 else f"shelf {generator.integers(20)}",
                    "page_kind": int(generator.integers(3)),
                    "importance": None,  # only targets need a weight
                }
            )
            if events[-1]["scored"]:
                events[-1]["importance"] = [0.5, 1.0, 1.25][len(events) % 3]
    return {"events": events, "items": items, "users": users}


def write_json_lines(directory):
    for log, rows in tables().items():
        lines = [json.dumps(row, ensure_ascii=log == "events") for row in rows]
        if log == "events":
            lines[100:100] = BAD_LINES
            for part, lines_of_it in enumerate((lines[:2000], lines[2000:])):  # two files, one of them gzipped
                text = ("\n".join(lines_of_it) + "\n").encode()
                name, content = (f"{log}-{part}.jsonl", text) if part else (f"{log}-0.jsonl.gz", gzip.compress(text))
                (directory / name).write_bytes(content)
        else:
            (directory / f"{log}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"events": "logs/events-*.jsonl*", "items": "logs/items.jsonl", "users": "logs/users.jsonl"}


def write_csv(directory):
    for log, rows in tables().items():
        with (directory / f"{log}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
            if log == "events":
                file.write("ann,b1\nann,b1,noon,1,1,1.0,shelf 1,1,1.0\n")
    return {log: f"logs/{log}.csv" for log in ("events", "items", "users")}


def write_parquet(directory):
    for log, rows in tables().items():
        pq.write_table(pa.Table.from_pylist(rows), directory / f"{log}.parquet", row_group_size=500)
    return {log: f"logs/{log}.parquet" for log in ("events", "items", "users")}


def preprocess(root: Path, write):
    (root / "logs").mkdir(parents=True)
    (root / "bookshop.yaml").write_text(CONFIG, encoding="utf-8")
    logs = [part for log, pattern in write(root / "logs").items() for part in (f"--{log}", pattern)]
    twin_tf(root, "preprocess", "--config", "bookshop.yaml", *logs, "--output", "prepared", "--shards", 2, "--json")
    return Manifest.load(root / "prepared")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A working directory far from the project, with prepared data made from JSON Lines."""
    root = tmp_path_factory.mktemp("own logs")
    preprocess(root, write_json_lines)
    return root


@pytest.fixture(scope="module")
def published(shop):
    """The rest of the chain, each command with relative paths, as the README shows it."""
    trained, _ = twin_tf(
        shop, "train", "--config", "bookshop.yaml", "--prepared", "prepared", "--run", "run", "--json"
    )  # fmt: skip
    evaluated, _ = twin_tf(shop, "evaluate", "--run", "run", "--prepared", "prepared", "--json")
    exported, _ = twin_tf(shop, "export", "--run", "run", "--output", "model", "--json")
    validated, _ = twin_tf(shop, "validate", "model", "--json")
    version, _ = twin_tf(shop, "publish", "model", "--base-path", "serving/twin", "--json")
    with start_local_server(shop / "serving/twin") as server:
        yield {
            "trained": trained, "evaluated": evaluated, "exported": exported, "validated": validated,
            "version": version, "server": server.address,
        }  # fmt: skip


def test_malformed_lines_are_kept_with_their_reasons(shop):
    manifest = Manifest.load(shop / "prepared")
    counts = manifest.counts
    assert (counts.events_read, counts.events_dead) == (30 * 110 + 3, 3)
    assert counts.events_read == counts.events_kept + counts.events_filtered + counts.events_dead
    assert (counts.users, counts.items, counts.items_read, counts.users_read) == (30, 130, 120, 25)
    letters = [
        json.loads(line)
        for path in (shop / "prepared/dead_letters").glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert sorted(letter["line"] for letter in letters) == [101, 102, 103]
    assert all(letter["file"].endswith("events-0.jsonl.gz") for letter in letters)
    reasons = {letter["payload"]: letter["reason"] for letter in letters}
    assert reasons[BAD_LINES[0]].startswith("not JSON: ")
    assert reasons[BAD_LINES[1]] == "seen_at is not a whole number: 'noon'"
    assert reasons[BAD_LINES[2]] == "importance is not a finite number of at least 0: -1.0"


def test_books_have_their_genres_and_targets_their_weights(shop):
    """What the trainer reads is what the raw rows say."""
    from twin_tf.features.encoders import FeatureEncoder, hash_id
    from twin_tf.records.input_pipeline import load_item_features, make_dataset

    logs, manifest = tables(), Manifest.load(shop / "prepared")
    known = [None, None, *FeatureEncoder.load(shop / "prepared").fitted["genres"]]
    features, ids = load_item_features(shop / "prepared", manifest.schema)
    columns = manifest.schema.inherent_slices["genres"]
    rows = {
        int(item): [known[index] for index in row if index] for item, row in zip(ids, features[:, columns], strict=True)
    }
    for item in logs["items"]:
        genres = [part.strip() for part in (item["genres"] or "").split("/") if part.strip()]
        assert rows[hash_id(item["isbn"])] == (genres[:3] or [None])
    expected = sorted(
        (hash_id(row["reader"]), row["seen_at"], hash_id(row["isbn"]), float(np.float32(row["importance"])))
        for row in logs["events"]
        if row["scored"]
    )
    found = []
    for batch in (batch for split in ("train", "valid", "test") for batch in make_dataset(manifest, split, 60, 4)):
        for place, user in enumerate(batch.user_id.numpy()):
            for target in range(int(batch.targets.count[place])):
                item = int(ids[int(batch.targets.item[place, target])])
                found.append(
                    (int(user), int(batch.targets.time[place, target]), item, float(batch.weight[place, target]))
                )
            assert not batch.weight[place, int(batch.targets.count[place]) :].numpy().any()
    assert sorted(found) == expected


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_the_format_of_the_logs_changes_nothing(shop, tmp_path, write):
    expected, found = Manifest.load(shop / "prepared"), preprocess(tmp_path, write)
    assert found.splits == expected.splits  # with every file's checksum
    assert found.split == expected.split
    assert found.cardinalities == expected.cardinalities
    assert found.counts.events_dead == (2 if write is write_csv else 0)
    for name in ("items/items.parquet", "users/part-00000-of-00002.parquet", "schema.yaml"):
        assert (tmp_path / "prepared" / name).read_bytes() == (shop / "prepared" / name).read_bytes()


@pytest.mark.slow
def test_training_finds_what_readers_like(published, shop):
    counts = Manifest.load(shop / "prepared").counts.targets
    assert published["trained"]["targets"] == 3 * counts["train"]
    assert published["evaluated"]["metrics"]["targets"] == counts["test"]
    assert published["evaluated"]["metrics"]["auc"] > 0.65
    settings = (shop / "run/config.yaml").read_text()
    assert all(setting in settings for setting in ("crosses: 1", "label_smoothing: 0.02", "class_weights:"))


@pytest.mark.slow
def test_the_gate_and_the_publisher_agree(published, shop):
    assert published["validated"]["ok"]
    (parity,) = (check for check in published["validated"]["checks"] if check["name"] == "parity")
    assert parity["figures"]["served_minus_trained_max"] <= 1e-5
    assert published["exported"]["items"] == 130
    directories = [path.name for path in (shop / "serving/twin").iterdir() if path.name.isdigit()]
    assert directories == [str(published["version"]["version"])]


REQUEST = {
    "history": [
        {"isbn": "b1", "seen_at": 1_704_000_000, "minutes": 12.5, "shelf": "shelf 3"},
        {"isbn": "b7", "seen_at": 1_703_000_000, "minutes": None},
        {"isbn": "never sold", "seen_at": 1_704_100_000},
    ],
    "user": {"country": "jp"},
    "context": {"page_kind": 2},
    "request_time": 1_704_200_000,
    "candidates": ["b1", "b13", "b2", "nor this"],
}


@pytest.mark.slow
def test_a_raw_request_is_answered_with_probabilities(published, shop):
    (shop / "request.json").write_text(json.dumps(REQUEST), encoding="utf-8")
    arguments = ("--server", published["server"], "--model", "model", "--timeout", 60)
    answer, _ = twin_tf(shop, "predict", *arguments, "--request", "request.json")
    scores = {one["item"]: one["probability"] for one in answer["candidates"]}
    assert set(scores) == set(REQUEST["candidates"])
    assert all(0 < probability < 1 for probability in scores.values())
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert len(set(scores.values())) == 4
    assert answer["unknown_items"] == 2
    assert answer["model_version"] == published["version"]["version"]
    shuffled = {**REQUEST, "history": REQUEST["history"][::-1]}
    (shop / "shuffled.json").write_text(json.dumps(shuffled), encoding="utf-8")
    again, _ = twin_tf(shop, "predict", *arguments, "--request", "shuffled.json")
    assert again == answer
    (shop / "wrong.json").write_text(json.dumps({**REQUEST, "users": {}}), encoding="utf-8")
    _, error = twin_tf(shop, "predict", *arguments, "--request", "wrong.json", code=2)
    assert "the request has an unknown key 'users'; did you mean 'user'?" in error


@pytest.mark.slow
def test_a_request_made_from_the_raw_logs_gets_the_trainer_s_probability(published, shop):
    """From raw rows to the served score, by the client's encoder alone, against the score of the prepared records."""
    from export.client.json_request import encode_request, load_encoder
    from twin_tf.core.keras_api import tf
    from twin_tf.features.encoders import hash_id
    from twin_tf.records.input_pipeline import make_dataset
    from twin_tf.runs.run import load_run

    logs, run, manifest = tables(), load_run(shop / "run"), Manifest.load(shop / "prepared")
    readers = {hash_id(row["reader"]): row["reader"] for row in logs["events"]}
    books = {hash_id(row["isbn"]): row["isbn"] for row in logs["events"]}
    country = {row["reader"]: row["country"] for row in logs["users"]}
    encoder, compared = load_encoder(shop / "model"), 0
    with TwinClient(published["server"], timeout_s=PATIENCE_S) as client:
        for batch in make_dataset(manifest, "test", 60, 4):
            trained = tf.sigmoid(run.model(batch)).numpy()
            for place, user in enumerate(batch.user_id.numpy()):
                reader = readers[int(user)]
                own = [row for row in logs["events"] if row["reader"] == reader]
                timestamp = int(batch.targets.time[place, 0])
                book = books[int(run.item_ids[int(batch.targets.item[place, 0])])]
                (shown,) = (row for row in own if (row["seen_at"], row["isbn"], row["scored"]) == (timestamp, book, 1))
                columns = ("isbn", "seen_at", "minutes", "shelf")
                past = [row for row in own if row["reaction"] > 0 and row["seen_at"] < timestamp]
                past = sorted(past, key=lambda row: row["seen_at"])[-60:]
                request = {
                    "history": [{column: row[column] for column in columns} for row in past],
                    "user": {"country": country[reader]} if reader in country else {},
                    "context": {"page_kind": shown["page_kind"]},
                    "request_time": timestamp,
                    "candidates": [book],
                }
                served = client.predict(encode_request(encoder, request)).probability[0, 0]
                assert served == pytest.approx(trained[place, 0], abs=1e-5)
                compared += 1
    assert compared >= 30


@pytest.mark.slow
def test_replaying_the_probes_agrees(published, shop):
    arguments = ("--server", published["server"], "--model", "model", "--timeout", 60)
    figures, _ = twin_tf(shop, "predict", *arguments, "--replay", "--json")
    assert figures["served_minus_trained_max"] <= 1e-5
    assert figures["overlap_at_100"] == 100.0


def test_a_missing_column_is_one_sentence(shop):
    rows = [{key: value for key, value in row.items() if key != "page_kind"} for row in tables()["events"]]
    pq.write_table(pa.Table.from_pylist(rows), shop / "logs/short.parquet")
    arguments = ("--events", "logs/short.parquet", "--items", "logs/items.jsonl", "--users", "logs/users.jsonl")
    _, error = twin_tf(
        shop, "preprocess", "--config", "bookshop.yaml", *arguments, "--output", "other", code=2
    )  # fmt: skip
    assert "page_kind" in error
    assert not (shop / "other").exists()


def test_an_empty_log_is_one_sentence(shop):
    (shop / "logs/empty.jsonl").write_text("")
    arguments = ("--events", "logs/empty.jsonl", "--items", "logs/items.jsonl", "--users", "logs/users.jsonl")
    _, error = twin_tf(
        shop, "preprocess", "--config", "bookshop.yaml", *arguments, "--output", "other", code=2
    )  # fmt: skip
    assert len([line for line in error.splitlines() if line.startswith("Error: ")]) == 1
    assert "empty" in error
    assert not (shop / "other").exists()
