"""Duplicated events are dropped where the schema says so; targets in a gap belong to no split."""

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_logs import Row, random_logs, read_back, schema, write_logs

from beam_pipelines.examples.event_batches import LABEL, TARGET, first_of_duplicates
from tests.beam_pipelines.examples.test_build_examples import build, digest

pytestmark = pytest.mark.integration

EVENTS = {**schema().to_plain()["events"], "deduplicate": True}


def distinct(rows: list[Row]) -> list[Row]:
    """The rows of one user, item and time once, where no two differ."""
    return list({(row["u"], row["i"], row["t"]): row for row in rows}.values())


def test_a_log_with_duplicates_gives_the_bytes_of_the_log_without(tmp_path: Path) -> None:
    clean = random_logs(events=400, seed=2)
    clean["events"] = distinct(clean["events"])
    used = schema(events=EVENTS)
    build(tmp_path, write_logs(tmp_path / "clean", clean), "once", schema=used)
    kept = [r for r in clean["events"] if r["shown"] or (r["y"] and r["kind"] in ("view", "buy"))]
    copies = [kept[n] for n in (0, 3, 3, 7, 50, 51)]
    many = {**clean, "events": [*clean["events"], *copies]}
    random.Random(3).shuffle(many["events"])
    manifest = build(tmp_path, write_logs(tmp_path / "many", many), "often", schema=used)
    once, often = digest(tmp_path / "once"), digest(tmp_path / "often")
    differ = {name for name in once if once[name] != often[name]}
    assert differ == {"manifest.json", "_SUCCESS", "report.json", "report.md"}
    counts = manifest.counts
    assert counts.events_duplicated == len(copies)
    assert counts.events_read == len(many["events"]) == counts.events_kept + counts.events_filtered + counts.events_dead
    assert counts.events_kept == len(kept)
    doubled = build(tmp_path, write_logs(tmp_path / "again", many), "doubled")  # the schema does not say so
    assert (doubled.counts.events_duplicated, doubled.counts.events_kept) == (0, len(kept) + len(copies))


def test_a_click_stays_before_a_view_and_the_order_never_matters(tmp_path: Path) -> None:
    logs = random_logs(events=200, seed=5)
    logs["events"] = distinct(logs["events"])
    view = {**logs["events"][0], "u": 1, "i": 2, "t": 97, "y": 0, "shown": 1}
    rows = [view, {**view, "y": 1, "shown": 0}, {**view, "y": 1, "place": "side"}, {**view, "y": 1, "place": "end"}]
    found = []
    for number, order in enumerate(([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2])):
        some = {**logs, "events": [*(rows[n] for n in order), *logs["events"]]}
        manifest = build(
            tmp_path, write_logs(tmp_path / f"{number}", some), f"out{number}", schema=schema(events=EVENTS)
        )
        assert manifest.counts.events_duplicated == 3
        found.append(digest(tmp_path / f"out{number}"))
    assert found[0] == found[1] == found[2]
    (test,) = read_back(manifest)["test"][1][-1:]
    assert (test["target/time"][-1], test["target/label"][-1]) == (97, 1)
    vocabulary = json.loads((tmp_path / "out0/vocabularies/place.json").read_text())["values"]
    places = [[*["", ""], *vocabulary][row] for row in read_back(manifest)["histories"][1][0]["history/place"]]
    assert "end" not in vocabulary
    rare_values = json.loads((tmp_path / "out0/state/pending.json").read_text())["place"]["values"]
    assert (places[-1], rare_values) == ("", ["end"])  # of the two clicked targets the smaller value stays


@settings(max_examples=200)
@given(
    st.lists(st.tuples(*[st.integers(0, 2)] * 3, st.integers(0, 7), st.sampled_from("abc")), min_size=1, max_size=30),
    st.lists(st.tuples(*[st.integers(0, 2)] * 3), max_size=4),
    st.randoms(use_true_random=False),
)
def test_one_event_of_each_key_stays_whatever_the_order(
    rows: list[tuple[int, int, int, int, str]], before: list[tuple[int, int, int]], order: random.Random
) -> None:
    def chosen(rows: list[tuple[int, int, int, int, str]]) -> set[tuple[int, int, int, int, str]]:
        users, times, items, flags, values = zip(*rows, strict=True)
        table = pa.table(
            {
                "user": users,
                "item": items,
                "time": times,
                "flags": pa.array(flags, pa.int8()),
                "x/place": pa.array(values).dictionary_encode(),
            }
        )
        columns = zip(*before, strict=True) if before else []
        previous = (
            [pa.table(dict(zip(("user", "time", "item"), map(np.array, columns), strict=True)))] if before else []
        )
        keep = first_of_duplicates(table, previous)
        kept = [row for row, stays in zip(rows, keep, strict=True) if stays]
        assert len({row[:3] for row in kept}) == len(kept)
        return set(kept)

    kept = chosen(rows)
    assert {row[:3] for row in kept} == {row[:3] for row in rows} - set(before)
    for row in kept:
        rivals = [other for other in rows if other[:3] == row[:3]]
        assert (row[3] & LABEL) == max(other[3] & LABEL for other in rivals)
        same = [other for other in rivals if other[3] & LABEL == row[3] & LABEL]
        assert (row[3] & TARGET) == max(other[3] & TARGET for other in same)
    assert chosen(order.sample(rows, len(rows))) == kept


def test_targets_in_a_gap_are_no_targets_but_stay_behaviours(tmp_path: Path) -> None:
    arguments = write_logs(tmp_path / "raw", random_logs(events=300))
    whole = build(tmp_path, arguments, "whole", schema=schema(split={"valid_from": 50, "test_from": 80}))
    gapped = build(tmp_path, arguments, "gapped", schema=schema(split={"valid_from": 50, "test_from": 80, "gap": 10}))
    found, expected = read_back(gapped), read_back(whole)

    def times(records: dict[int, list[dict[str, list[int]]]]) -> list[int]:
        return sorted(time for rows in records.values() for row in rows for time in row["target/time"])

    assert times(found["train"]) == [time for time in times(expected["train"]) if time < 40]
    assert times(found["valid"]) == [time for time in times(expected["valid"]) if time < 70]
    assert times(found["test"]) == times(expected["test"])
    lost = [t for split in ("train", "valid") for t in times(expected[split]) if 40 <= t < 50 or 70 <= t < 80]
    assert gapped.counts.targets_in_gaps == len(lost) > 0
    assert {u: [r["history/time"] for r in rows] for u, rows in found["histories"].items()} == {
        u: [r["history/time"] for r in rows] for u, rows in expected["histories"].items()
    }
