"""Ids of requests, from the raw logs to the records."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from small_logs import Row, random_logs, read_back, schema, write_logs

from beam_pipelines.examples.event_batches import request_ids
from tests.beam_pipelines.examples.test_build_examples import build, digest
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.encoders import hash_id
from twin_tf.features.schema import FeatureSchema, IdColumn
from twin_tf.records.format import TARGET_REQUEST

TARGET_SPLITS = ("train", "valid", "test")


def named(type_: str = "string", **changes: Any) -> FeatureSchema:
    request = {"column": "shown_in", "type": type_}
    events = {**schema().to_plain()["events"], "request": request, **changes.pop("events", {})}
    return schema(events=events, **changes)


def tables() -> dict[str, list[Row]]:
    """Few moments and items: many rows differ in their request alone. Some have none, behaviours among them."""
    found = random_logs(events=500, seed=6)
    for number, row in enumerate(found["events"]):
        row["shown_in"] = [f"request {number % 7}", None, "", "5b9e"][number % 4]
        if number > 1:
            row.update(u=row["u"] % 4, i=row["i"] % 3, t=1 + row["t"] % 12)
    return found


def requests_of(records: dict[str, dict[int, list[Row]]]) -> dict[tuple[int, int], list[int]]:
    """User and time -> the requests of the targets, taken out of the records."""
    found: dict[tuple[int, int], list[int]] = {}
    for users in records.values():
        for user, rows in users.items():
            for row in rows:
                ids = row.pop(TARGET_REQUEST)
                assert len(ids) == row["target/length"]
                for time, request in zip(row["target/time"], ids, strict=True):
                    found.setdefault((user, time), []).append(request)
    return {key: sorted(ids) for key, ids in found.items()}


def expected(rows: list[Row]) -> dict[tuple[int, int], list[int]]:
    found: dict[tuple[int, int], list[int]] = {}
    for row in rows:
        if row["shown"]:
            request = hash_id(row["shown_in"]) if row["shown_in"] else 0
            found.setdefault((row["u"], row["t"]), []).append(request)
    return {key: sorted(ids) for key, ids in found.items()}


@pytest.mark.integration
def test_records_hold_the_request_of_every_target_and_nothing_else_changes(tmp_path: Path) -> None:
    logs = tables()
    arguments = write_logs(tmp_path / "raw", logs)
    found, plain = build(tmp_path, arguments, schema=named()), build(tmp_path, arguments, "plain")
    assert found.widths == {**plain.widths, TARGET_REQUEST: 8}
    records = read_back(found)
    ids = requests_of(records)
    assert ids == expected(logs["events"])
    assert any(len(set(some)) > 1 for some in ids.values()) and any(0 in some for some in ids.values())
    assert records == read_back(plain)
    found.check_schema(schema()), plain.check_schema(named())
    files = [digest(tmp_path / name) for name in ("prepared", "plain")]
    assert files[0]["contract.json"] == files[1]["contract.json"]
    with pytest.raises(ConfigError, match="prepared with another schema than the configuration holds"):
        found.check_schema(named(split={"train": 0.5, "valid": 0.2}))


@pytest.mark.integration
@pytest.mark.parametrize("deduplicate", [False, True])
def test_neither_order_nor_format_decides_which_request_is_whose(tmp_path: Path, deduplicate: bool) -> None:
    logs, found = tables(), []
    for name, suffix in (("one", ".parquet"), ("other", ".jsonl")):
        arguments = write_logs(tmp_path / name, logs, suffix)
        build(tmp_path, arguments, f"{name}_prepared", schema=named(events={"deduplicate": deduplicate}))
        found.append(digest(tmp_path / f"{name}_prepared"))
        logs = {**logs, "events": random.Random(5).sample(logs["events"], len(logs["events"]))}
    assert found[0] == found[1]


@pytest.mark.integration
def test_a_chain_may_begin_to_name_requests(tmp_path: Path) -> None:
    days = tables()
    for row in days["events"]:
        row["t"] += 100
    second = [row for row in days["events"] if row["t"] >= 107]
    splits = [{"valid_from": moment, "test_from": moment + 1} for moment in (105, 109)]
    first_logs = {**days, "events": [row for row in days["events"] if row["t"] < 107]}
    build(tmp_path, write_logs(tmp_path / "a", first_logs), "first", schema=schema(split=splits[0]))
    arguments = write_logs(tmp_path / "b", {**days, "events": second})
    found = build(tmp_path, arguments, "second", schema=named(split=splits[1]), previous=tmp_path / "first")
    assert requests_of(read_back(found)) == expected(second)


@pytest.mark.integration
def test_a_log_without_the_column_is_one_sentence(tmp_path: Path) -> None:
    logs = tables()
    renamed = [{("shown_inn" if k == "shown_in" else k): v for k, v in row.items()} for row in logs["events"]]
    with pytest.raises(ConfigError) as caught:
        build(tmp_path, write_logs(tmp_path / "raw", {**logs, "events": renamed}, ".jsonl"), schema=named())
    sentence = "the events log has no value in column 'shown_in' in any row; did you mean 'shown_inn'?"
    assert str(caught.value) == sentence


def test_whole_numbers_stand_for_themselves_and_none_is_taken_for_no_request() -> None:
    """0 and negative ids, as signed hashes are, become others; an empty value alone is none."""
    lowest, highest = -(2**63), 2**63 - 1
    values = pa.chunked_array([[7, None, 0], [-1, lowest, highest, 7, 0]], pa.int64())
    ids = request_ids(IdColumn("r"), values)
    assert ids[[0, 1, 5, 6]].tolist() == [7, 0, highest, 7]
    others = ids[[2, 3, 4]]
    assert (others > 0).all() and len({*others.tolist(), 7, highest}) == 5 and ids[2] == ids[7]
    assert request_ids(IdColumn("r"), values.slice(0, 0)).tolist() == []


def test_text_is_hashed_as_other_ids_are() -> None:
    values = pa.chunked_array([["a", None, "b", "a"]], pa.string())
    assert request_ids(IdColumn("r", "string"), values).tolist() == [hash_id("a"), 0, hash_id("b"), hash_id("a")]
    nothing = pa.chunked_array([[None, None]], pa.string())
    assert request_ids(IdColumn("r", "string"), nothing).tolist() == np.zeros(2).tolist()
