"""Yesterday's prepared data and today's logs give what one run over both days gives."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from small_logs import Row, random_logs, read_back, schema, with_text_ids, write_logs

from beam_pipelines.examples import previous_snapshot
from beam_pipelines.examples.previous_snapshot import PreviousRun
from tests.beam_pipelines.examples.test_build_examples import build
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.tfrecord import frame, read_records
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.schema import FeatureSchema, schema_from_mapping
from twin_tf.records.format import Manifest

pytestmark = pytest.mark.integration

YESTERDAY = {"valid_from": 40, "test_from": 45}
TODAY = {"valid_from": 80, "test_from": 90}


def used(split: dict[str, int], ids: str = "int", **changes: Any) -> FeatureSchema:
    """The schema of the tests with boundaries that are given: found ones stay as they were on the first day."""
    plain = schema(ids, split).to_plain()
    for feature in plain["features"]:
        if feature.get("encoding", {}).pop("quantiles", None):
            feature["encoding"]["boundaries"] = [2.0, 5.0, 9.0]
    plain["history"]["max_length"] = 6
    return schema(ids, split, **{k: plain[k] for k in ("features", "history")}, **changes)


def two_days(text_ids: bool = False) -> tuple[dict[str, list[Row]], dict[str, list[Row]], dict[str, list[Row]]]:
    """Logs of yesterday (t < 50), of today and of both; some users, items and values are new today, some are rare."""
    both = random_logs(events=500, seed=9)
    for number, row in enumerate(both["events"]):
        if row["t"] >= 50 and number % 3 == 0:
            row.update(u=row["u"] + 6, i=row["i"] + 11)
        if row["t"] < 50:
            row["u"] %= 8
        if number % 29 == 0:
            row["place"] = f"rare-{number % 5}-{row['t'] // 30}"
    for time in (30, 70):
        both["events"].append({**both["events"][1], "t": time, "place": "once a day", "i": 1000})
    both["items"].insert(3, {"item": 1000, "category": "a", "maker": "x", "minutes": 1.0})
    both["events"].append({**both["events"][6], "u": 77, "t": 30, "shown": 1, "kind": "hide"})  # only a target
    both["events"].append({**both["events"][6], "u": 77, "t": 95, "shown": 1, "kind": "hide"})
    if text_ids:
        both = with_text_ids(both)
    early = {
        "events": [r for r in both["events"] if r["t"] < 50],
        "items": both["items"][:18],
        "users": both["users"][:6],
    }
    late = {
        "events": [r for r in both["events"] if r["t"] >= 50],
        "items": both["items"][18:],
        "users": both["users"][6:],
    }
    return early, late, both


def meant(manifest: Manifest) -> dict[str, dict[int, list[Any]]]:
    """Split -> user -> (behaviours that each target sees, target) or history, with raw values instead of indices."""
    schema = manifest.schema
    encoder = FeatureEncoder.load(manifest.directory)
    items = pq.read_table(Path(manifest.directory) / "items/items.parquet")
    ids = dict(zip(items["row"].to_pylist(), items["id"].to_pylist(), strict=True))

    def value(feature: str, index: int) -> Any:
        fitted = encoder.fitted.get(feature)
        return fitted[index - 2] if fitted and index > 1 else index

    found: dict[str, dict[int, list[Any]]] = {}
    for split, users in read_back(manifest).items():
        for user, records in users.items():
            for record in records:
                events = list(
                    zip(
                        record["history/time"],
                        [ids[row] for row in record["history/item"]],
                        *([value(f.name, i) for i in record[f"history/{f.name}"]] for f in schema.stored_cross),
                        strict=True,
                    )
                )
                about = [value(f.name, record[f"user/{f.name}"]) for f in schema.user]
                rows = found.setdefault(split, {}).setdefault(user, [])
                if split == "histories":
                    rows.append((about, sorted(events), record["history/total"]))
                for place, end in enumerate(record["target/history_end"]):
                    seen = events[max(0, end - schema.history.max_length) : end]
                    context = [value(f.name, record[f"target/{f.name}"][place]) for f in schema.stored_target]
                    target = [record[f"target/{name}"][place] for name in ("time", "label")]
                    rows.append((about, sorted(seen), [ids[record["target/item"][place]], *target, *context]))
    return found


def catalogue(manifest: Manifest) -> dict[int, dict[str, Any]]:
    """Item -> its features as raw values."""
    encoder = FeatureEncoder.load(manifest.directory)
    rows = pq.read_table(Path(manifest.directory) / "items/items.parquet").to_pylist()
    found = {}
    for row in rows:
        values = {f.name: row[f.name] for f in manifest.schema.inherent}
        found[row["id"]] = {
            name: encoder.fitted[name][index - 2] if name in encoder.fitted and index > 1 else index
            for name, index in values.items()
        }
    return found


@pytest.mark.parametrize("text_ids", [False, True])
def test_two_days_in_two_runs_are_two_days_in_one(
    tmp_path: Path, text_ids: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previous_snapshot, "_BATCH_BYTES", 1000)  # a few users each
    early, late, both = two_days(text_ids)
    ids = "string" if text_ids else "int"
    build(tmp_path, write_logs(tmp_path / "early", early), "first", schema=used(YESTERDAY, ids))
    second = build(
        tmp_path,
        write_logs(tmp_path / "late", late),
        "second",
        schema=used(TODAY, ids),
        previous=tmp_path / "first",
        shards=3,
    )
    whole = build(tmp_path, write_logs(tmp_path / "both", both), "whole", schema=used(TODAY, ids), shards=3)
    found, expected = meant(second), meant(whole)
    for users in expected.values():
        for user, rows in users.items():
            users[user] = [row for row in rows if not isinstance(row[2], list) or row[2][1] >= 50]
    expected = {split: {user: rows for user, rows in users.items() if rows} for split, users in expected.items()}
    assert found == expected
    assert catalogue(second) == catalogue(whole)
    for name, values in FeatureEncoder.load(second.directory).fitted.items():
        assert sorted(values) == sorted(FeatureEncoder.load(whole.directory).fitted[name]), name
    for name in ("state/pending.json", "users"):
        first, other = (_comparable(Path(m.directory) / name) for m in (second, whole))
        assert first == other
    events = pq.read_table(Path(second.directory) / "state/items.parquet").to_pylist()
    expected_events = pq.read_table(Path(whole.directory) / "state/items.parquet").to_pylist()
    assert {row["id"]: (row["events"], row["listed"]) for row in events} == {
        row["id"]: (row["events"], row["listed"]) for row in expected_events
    }
    assert {row["listed"] for row in events} == {True, False}
    assert "1000" in FeatureEncoder.load(second.directory).fitted["product"] or text_ids  # seen once a day
    assert (second.counts.users, second.last_time, second.time_origin) == (
        whole.counts.users,
        whole.last_time,
        whole.time_origin,
    )


def _comparable(path: Path) -> Any:
    if path.is_dir():
        rows = pq.read_table(path).to_pylist()
        return sorted(sorted((k, str(v)) for k, v in row.items() if k.startswith("raw/")) for row in rows)
    return json.loads(path.read_text())


def test_rows_are_kept_forever_and_new_ones_follow(tmp_path: Path) -> None:
    early, late, _ = two_days()
    first = build(tmp_path, write_logs(tmp_path / "early", early), "first", schema=used(YESTERDAY))
    second = build(
        tmp_path, write_logs(tmp_path / "late", late), "second", schema=used(TODAY), previous=tmp_path / "first"
    )
    before, after = FeatureEncoder.load(first.directory).fitted, FeatureEncoder.load(second.directory).fitted
    for name, values in before.items():
        assert after[name][: len(values)] == values
        assert sorted(set(after[name])) == sorted(after[name])
    assert after["place"] != before["place"]
    rows = [pq.read_table(Path(m.directory) / "items/items.parquet")["id"].to_pylist() for m in (first, second)]
    assert rows[1][: len(rows[0])] == rows[0]
    assert rows[1][len(rows[0]) :] == sorted(set(rows[1]) - set(rows[0]))
    assert "once a day" in after["place"]  # yesterday's single count was not forgotten
    rare_values = json.loads((tmp_path / "first/state/pending.json").read_text())
    assert "once a day" in rare_values["place"]["values"]


def test_a_day_without_news_changes_nothing_but_the_targets(tmp_path: Path) -> None:
    """A day with one user's clicks alone leaves the behaviours of every other user as they were."""
    early, late, _ = two_days()
    arguments = write_logs(tmp_path / "early", early)
    first = build(tmp_path, arguments, "first", schema=used(YESTERDAY))
    row = {**early["events"][0], "u": 3, "shown": 1, "kind": "view", "y": 1}
    one = {**early, "events": [{**row, "t": 60}, {**row, "t": 85}]}
    second = build(
        tmp_path, write_logs(tmp_path / "late", one), "second", schema=used(TODAY), previous=tmp_path / "first"
    )
    histories = [
        {user: [event[:2] for event in rows[0][1]] for user, rows in meant(manifest)["histories"].items()}
        for manifest in (first, second)
    ]
    assert {user for user in histories[0] if histories[0][user] != histories[1][user]} == {3}
    assert second.counts.events_read == 2
    assert second.counts.targets == {"train": 1, "valid": 1, "test": 0}


def test_a_previous_run_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    early, late, _ = two_days()
    build(tmp_path, write_logs(tmp_path / "early", early), "first", schema=used(YESTERDAY))
    arguments = write_logs(tmp_path / "late", late)

    def refused(message: str, split: dict[str, int] = TODAY, previous: str = "first", **changes: Any) -> None:
        with pytest.raises(ConfigError, match=message):
            build(tmp_path, arguments, "second", schema=used(split, **changes), previous=tmp_path / previous)
        assert not (tmp_path / "second").exists()

    refused("is no finished prepared data", previous="nowhere")
    refused("was prepared with another schema 'small'", targets={"where": {"shown": [1]}, "per_record": 9})
    refused("validation would begin at 49 .* but the previous data end at 49", {"valid_from": 49, "test_from": 90})
    (tmp_path / "first/_SUCCESS").unlink()
    refused("is no finished prepared data")


def chain(
    tmp_path: Path, days: list[list[Row]], rest: dict[str, list[Row]], **options: Any
) -> tuple[Manifest, Manifest]:
    """A run a day, each from the one before, and one run over all days; the last day's split in all of them."""
    previous = None
    for number, rows in enumerate(days):
        first = min(row["t"] for row in rows)
        split = TODAY if number == len(days) - 1 else {"valid_from": first + 1, "test_from": first + 2}
        arguments = write_logs(tmp_path / f"day{number}", {**rest, "events": rows})
        last = build(tmp_path, arguments, f"run{number}", schema=used(split), previous=previous)
        previous = tmp_path / f"run{number}"
    everything = {**rest, "events": [row for rows in days for row in rows]}
    whole = build(tmp_path, write_logs(tmp_path / "all", everything), "whole", schema=used(TODAY))
    return last, whole


def test_events_of_one_moment_are_cut_alike_in_a_chain_and_in_one_run(tmp_path: Path) -> None:
    """New items and values come before the old ones in the order of ids and values; histories hold 6."""
    logs = random_logs(events=0)
    anchor = {**logs["events"][0], "u": 1}
    days = []
    for day, start in enumerate((10, 40, 60)):
        rows = [{**anchor, "u": user, "t": start, "shown": 1} for user in (1, 2)]
        rows += [
            {**anchor, "u": user, "t": start + 5, "i": item, "place": place}
            for item in (90, 90 - 10 * day - 1, 90 - 10 * day - 2)
            for place in ("zb", "zyx"[day] + "a")
            for user in (1, 2)
            for _ in range(2)
        ]
        days.append(rows)
    days[-1] += [{**anchor, "u": user, "t": 85, "shown": 1, "i": 7} for user in (1, 2)]
    last, whole = chain(tmp_path, days, {name: logs[name] for name in ("items", "users")})
    assert meant(last)["histories"] == meant(whole)["histories"]
    assert meant(last)["valid"] == meant(whole)["valid"]
    assert {row[2] for rows in meant(last)["histories"].values() for row in rows} == {40}


@pytest.mark.slow
def test_the_same_users_log_every_night_counts_nobody_twice(tmp_path: Path) -> None:
    early, late, _ = two_days()
    users = [{"user": 1, "age_group": "rare"}, {"user": 2, "age_group": "25+"}, {"user": 3, "age_group": "25+"}]
    features = used(TODAY).to_plain()["features"]
    for feature in features:
        if feature["name"] == "age_group":
            feature["encoding"]["min_count"] = 2
    last, whole = chain(tmp_path, [early["events"], late["events"]], {"items": early["items"], "users": users})
    assert FeatureEncoder.load(last.directory).fitted["age_group"] == ["25+", "rare"]
    schemas = [used(split).to_plain() for split in (YESTERDAY, TODAY)]
    for plain in schemas:
        plain["features"] = features
    previous = None
    for name, plain, day in zip(("a", "b"), schemas, (early, late), strict=True):
        arguments = write_logs(tmp_path / f"logs-{name}", {**day, "items": early["items"], "users": users})
        found = build(tmp_path, arguments, name, schema=schema_from_mapping(plain), previous=previous)
        previous = tmp_path / name
    assert FeatureEncoder.load(found.directory).fitted["age_group"] == ["25+"]


def test_a_day_without_a_value_or_without_news_of_items_goes_on(tmp_path: Path) -> None:
    early, late, _ = two_days()
    build(tmp_path, write_logs(tmp_path / "early", early), "first", schema=used(YESTERDAY))
    quiet = {**late, "events": [{**row, "place": None} for row in late["events"]]}
    arguments = write_logs(tmp_path / "late", quiet, ".csv")
    for log in ("items", "users"):
        path = Path(arguments[log])
        path.write_text(path.read_text().splitlines()[0] + "\n")
    second = build(tmp_path, arguments, "second", schema=used(TODAY), previous=tmp_path / "first")
    assert second.counts.items_read == second.counts.users_read == 0
    assert catalogue(second)[3] == catalogue(Manifest.load(tmp_path / "first"))[3]
    report = json.loads((tmp_path / "second/report.json").read_text())
    assert "No row of the events log has a value in column 'place'." in report["warnings"]


def flipped(path: Path) -> bytes:
    """The content of a file with one bit changed in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 2
    return bytes(content)


def test_a_damaged_previous_run_is_one_sentence(tmp_path: Path) -> None:
    early, late, _ = two_days()
    first = build(tmp_path, write_logs(tmp_path / "early", early), "first", schema=used(YESTERDAY))
    arguments = write_logs(tmp_path / "late", late)
    path = tmp_path / "first" / max(first.shards("histories"), key=lambda shard: shard.records).name
    content = path.read_bytes()
    for damage, sentence in (
        (content[:100] + bytes([content[100] ^ 1]) + content[101:], "is corrupt: .* checksum; prepare it again"),
        (content[:-3], "has another size than the manifest says; prepare it again"),
    ):
        path.write_bytes(damage)
        with pytest.raises(ConfigError, match=sentence) as caught:
            build(tmp_path, arguments, "second", schema=used(TODAY), previous=tmp_path / "first")
        assert "\n" not in str(caught.value)
    backwards = b"".join(map(frame, list(read_records(io.BytesIO(content), path.name))[::-1]))
    assert backwards != content
    users = next(name for name in first.files if name.startswith("users/"))
    for place, damage, sentence in (
        (path, backwards, r"is not the file that the manifest lists under this name; prepare it again"),
        (tmp_path / "first" / users, flipped(tmp_path / "first" / users), rf"{users} is damaged or was changed"),
    ):
        whole = content if place == path else place.read_bytes()
        place.write_bytes(damage)
        with pytest.raises(ConfigError, match=sentence) as caught:
            build(tmp_path, arguments, "second", schema=used(TODAY), previous=tmp_path / "first")
        assert "\n" not in str(caught.value)
        place.write_bytes(whole)
    for name in ("manifest.json", *(name for name in first.files if not name.startswith("users/"))):
        place = tmp_path / "first" / name
        whole = place.read_bytes()
        place.write_bytes(flipped(place))
        with pytest.raises(ConfigError, match=rf"first/{name} is damaged or was changed: \S+ lists another SHA-256"):
            PreviousRun.open(str(tmp_path / "first"), first.schema)
        place.write_bytes(whole)
    (tmp_path / "first/state/items.parquet").unlink()
    with pytest.raises(ConfigError, match="lacks state/items.parquet; prepare it again"):
        build(tmp_path, arguments, "second", schema=used(TODAY), previous=tmp_path / "first")
