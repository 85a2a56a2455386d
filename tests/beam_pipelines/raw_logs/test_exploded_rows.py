"""Rows that hold lists become events: shown items with their labels, collected histories, and what is malformed."""

import json
from typing import Any

import pyarrow as pa
import pytest
from small_logs import schema

from beam_pipelines.raw_logs.exploded_rows import TypedRows, typed_rows
from beam_pipelines.raw_logs.json_lines import JsonLines
from beam_pipelines.raw_logs.list_columns import columns_of_file, list_columns
from beam_pipelines.raw_logs.log_blocks import Chunk, LogFile
from beam_pipelines.raw_logs.log_report import LogReport
from beam_pipelines.raw_logs.parquet_log import rows_block
from beam_pipelines.raw_logs.raw_columns import BACK, COLLECTED, LENGTH, LogColumns
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.event_lists import CollectedHistory, Explode
from twin_tf.features.events import LabelColumn

TYPES = {"u": "string", "i": "string", "t": "int", "y": "int", "p": "float", "place": "int"}
IDS = {**TYPES, "u": "int", "i": "int"}


def wanted(types: dict[str, Any], explode: Explode | None, history: CollectedHistory | None = None) -> LogColumns:
    return LogColumns(
        "events",
        types,
        ("u", "i", "t", "y"),
        "t",
        label=LabelColumn("y"),
        user="u",
        item="i",
        explode=explode,
        collected_history=history,
    )


def events(found: TypedRows, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in found.table.to_pylist()]


SHOWN: list[tuple[Explode, dict[str, Any], list[tuple[Any, ...]]]] = [
    (
        Explode("shown", " ", "-", position="place"),
        {"u": ["a", "b"], "t": ["1", "2"], "shown": ["N1-1 N-2-0", "  N3-0   N4-1 "]},
        [("a", 1, "N1", 1, 1), ("a", 1, "N-2", 0, 2), ("b", 2, "N3", 0, 1), ("b", 2, "N4", 1, 2)],
    ),
    (
        Explode("shown", "|", clicked="clicks", columns={"place": "slots"}),
        {"u": ["a", "b"], "t": [1, 2], "shown": ["x|y", "x | z"], "clicks": ["y", None], "slots": ["7|8", "9|0"]},
        [("a", 1, "x", 0, 7), ("a", 1, "y", 1, 8), ("b", 2, "x", 0, 9), ("b", 2, "z", 0, 0)],
    ),
    (
        Explode("shown", labels="clicks"),
        {"u": ["a", "b"], "t": [1, 2], "shown": [["x", "y"], []], "clicks": [[True, False], []], "i": ["other"] * 2},
        [("a", 1, "x", 1, None), ("a", 1, "y", 0, None)],
    ),
    (
        Explode("shown"),
        {"u": ["a", "b"], "t": [1, 2], "y": [1, 0], "place": [4, 5], "shown": [["x", "y"], ["z"]]},
        [("a", 1, "x", 1, 4), ("a", 1, "y", 1, 4), ("b", 2, "z", 0, 5)],
    ),
]


@pytest.mark.parametrize("number", range(len(SHOWN)))
def test_a_row_of_shown_items_becomes_an_event_for_each(number: int) -> None:
    explode, rows, expected = SHOWN[number]
    found = typed_rows(wanted(TYPES, explode), pa.table(rows))
    assert (events(found, "u", "t", "i", "y", "place"), found.dead) == (expected, [])
    assert found.table.schema.names == list(TYPES)


@pytest.mark.parametrize(
    "kinds", [(pa.int64(), pa.int64()), (pa.int32(), pa.int64()), (pa.uint32(), pa.string()), (pa.string(), pa.int32())]
)
def test_clicked_ids_are_found_whatever_their_types(kinds: tuple[pa.DataType, pa.DataType]) -> None:
    shown, clicked = (
        pa.array([[str(v) for v in row] if pa.types.is_string(kind) else row for row in rows], pa.list_(kind))
        for rows, kind in zip(([[5, 6, 7], [6]], [[7, 5], []]), kinds, strict=True)
    )
    raw = pa.table({"u": [1, 2], "t": [1, 2], "shown": shown, "clicked": clicked}).slice(0)
    found = typed_rows(wanted(IDS, Explode("shown", clicked="clicked")), raw)
    assert events(found, "u", "i", "y") == [(1, 5, 1), (1, 6, 0), (1, 7, 1), (2, 6, 0)]


def test_collected_histories_are_behaviours_without_a_label() -> None:
    timed = CollectedHistory("did", times="when", columns={"p": "read"})
    columns = wanted(IDS, Explode("shown", clicked="clicked"), timed)
    raw = pa.table({"u": [1, 2], "did": [[4, 5], [6]], "when": [[10, 11], [12]], "read": [[0.5, None], None]})
    found = typed_rows(columns, raw)
    assert events(found, "u", "i", "t", "y", "p", COLLECTED, BACK) == [
        (1, 4, 10, None, 0.5, True, 0),
        (1, 5, 11, None, None, True, 0),
        (2, 6, 12, None, None, True, 0),
    ]
    columns = wanted(TYPES, Explode("shown", " ", "-"), CollectedHistory("did", " "))
    raw = pa.table({"u": ["a", "b"], "t": [9, None], "shown": ["x-1", None], "did": ["v w", "z"]})
    found = typed_rows(columns, raw)
    assert events(found, "u", "i", "t", "y", COLLECTED, BACK, LENGTH) == [
        ("a", "x", 9, 1, False, 0, 0),
        ("a", "v", 9, None, True, 2, 2),
        ("a", "w", 9, None, True, 1, 2),
        ("b", "z", None, None, True, 1, 1),
    ]
    assert found.rows.tolist() == [0, 0, 0, 1]


def test_rows_of_their_own_stay_events_beside_collected_histories() -> None:
    columns = wanted(TYPES, None, CollectedHistory("did"))
    raw = pa.table(
        {"u": ["a", "a", "a"], "i": ["x", None, None], "t": [1, 2, 3], "y": [1, 0, 0], "did": [None, ["v"], None]}
    )
    found = typed_rows(columns, raw)
    assert events(found, "i", "y", COLLECTED) == [("x", 1, False), ("v", None, True)]
    assert [(row, why) for row, why, _ in found.dead] == [(2, "no i")]


BROKEN: list[tuple[dict[str, Any], list[tuple[int, str]]]] = [
    ({"shown": [[1, 2]], "clicked": [[3]]}, [(0, "clicked holds 3, shown does not")]),
    ({"shown": [[1, 2]], "slots": [[1]]}, [(0, "slots holds 1 values, 2 are needed")]),
    ({"shown": [None]}, [(0, "no shown and no did")]),
    ({"shown": ["1 2"]}, [(0, "shown is not a list: 1 2")]),
    ({"did": [[1, 2]], "when": [[1]]}, [(0, "when holds 1 values, 2 are needed")]),
    ({"did": [[1, None, 3]], "when": [[1, 1, None]]}, [(0, "no i"), (0, "no t")]),
    ({"shown": [[1, None, 2]], "t": ["x"]}, [(0, "no i"), *[(0, "t is not a whole number: 'x'")] * 2]),
    ({"shown": [["a", "1"]]}, [(0, "i is not a whole number: 'a'")]),
]


@pytest.mark.parametrize(("row", "dead"), BROKEN)
def test_a_broken_row_is_dead_as_a_whole_and_a_broken_event_alone(row: dict[str, Any], dead: Any) -> None:
    explode = Explode("shown", clicked="clicked", columns={"place": "slots"})
    columns = wanted(IDS, explode, CollectedHistory("did", times="when"))
    block = rows_block(columns, pa.table({"u": [1], "t": [1], **row}), 40)
    assert [(letter.line - 40, letter.reason) for letter in block.dead] == dead
    assert (block.read, block.lines) == (block.table.num_rows + len(dead), 1)
    payloads = {letter.payload for letter in block.dead}
    assert all(payload.startswith('{"') for payload in payloads)


def test_the_files_hold_lists_and_a_missing_one_is_named() -> None:
    columns = wanted(IDS, Explode("shown", clicked="clicked", position="place"), CollectedHistory("did", " "))
    assert columns_of_file(columns).types == {
        "u": "int", "t": "int", "p": "float", "shown": "int", "clicked": "int", "did": "string",
    }  # fmt: skip
    assert columns_of_file(columns).separators == {"shown": "", "clicked": ""}
    assert list(list_columns(columns)) == ["shown", "clicked", "did"]
    report = LogReport()
    block = rows_block(columns, pa.table({"u": [1], "t": [1], "shown": [[1]], "p": [1.0], "did": ["2"]}), 0)
    block.columns_seen = ("u", "t", "shown", "clickd", "p", "did")
    report.add_block(Chunk(LogFile(0, "e.parquet", 1), 0), block)
    fault = report.fault(columns, 0.0)
    assert fault == "the events log has no value in column 'clicked' in any row; did you mean 'clickd'?"


def test_json_lines_give_the_same_events_at_once_and_line_by_line() -> None:
    columns = wanted(IDS, Explode("a.shown", clicked="a.clicked"), CollectedHistory("did", times="when"))
    rows: list[dict[str, Any]] = [
        {"u": 1, "t": 5, "a": {"shown": [1, 2], "clicked": [2]}, "p": 0.5},
        {"u": 2, "did": [4, 5], "when": [1, 2]},
        {"u": "3", "t": 7, "a": {"shown": None}},  # read line by line, for its text
    ]
    found = []
    for odd in ([], [{"u": 9, "t": 7, "a": {"shown": ["3"], "clicked": None}}, {"u": 8, "t": 7, "a": {"shown": 5}}]):
        text = "".join(json.dumps(row) + "\n" for row in [*rows, *odd]).encode()
        parts, dead = JsonLines(columns_of_file(columns)).parse(text, len(rows) + len(odd))
        assert [letter.reason for letter in dead] == ["a.shown is not a list of whole numbers: 5"] * bool(odd)
        typed = [typed_rows(columns, table) for table, _ in parts]
        found.append(sorted(event for part in typed for event in events(part, "u", "i", "t", COLLECTED)))
        assert [why for part in typed for _, why, _ in part.dead] == ["no a.shown and no did"]
    assert found[0] == [(1, 1, 5, False), (1, 2, 5, False), (2, 4, 1, True), (2, 5, 2, True)]
    assert found[1] == [*found[0], (9, 3, 7, False)]


MISTAKES: list[tuple[dict[str, Any], str]] = [
    (
        {"explode": {"items": "s", "clicked": "c", "labels": "l"}},
        "clicked and labels both say which items were clicked",
    ),
    (
        {"explode": {"items": "s", "columns": {"plays": "p"}}},
        "events.explode.columns names 'plays', which no feature or",
    ),
    ({"explode": {"items": "s", "columns": {"i": "p"}}}, "names 'i', the item column, which is filled already"),
    ({"explode": {"items": "s", "position": "slot"}}, "events.explode.position is 'slot', which no feature or filter"),
    ({"explode": {"items": "s", "position": "rank", "columns": {"rank": "r"}}}, "fills column 'rank' twice"),
    ({"collected_history": {"items": "h", "columns": {"t": "p"}}}, "names 't', the time column, which is filled"),
]


@pytest.mark.parametrize(("sections", "message"), MISTAKES)
def test_a_wrong_list_section_is_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        schema(events={**schema().to_plain()["events"], **sections})
    assert message in str(refused.value)


def test_lists_are_no_part_of_an_encoding() -> None:
    plain = schema()
    other = schema(
        events={**plain.to_plain()["events"], "explode": {"items": "s"}, "collected_history": {"items": "h"}}
    )
    assert plain.contents_fingerprint == other.contents_fingerprint
    assert not {"explode", "collected_history"} & set(plain.to_plain()["events"])
