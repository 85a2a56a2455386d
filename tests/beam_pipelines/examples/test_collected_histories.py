"""Histories that rows bring along: whose counts, when its behaviours lie, and what the order of the rows changes."""

from typing import Any

import pyarrow as pa
import pytest

from beam_pipelines.examples.event_batches import BEHAVIOUR, LABEL, TARGET, EventReducer
from beam_pipelines.examples.shard_events import shard_events
from beam_pipelines.raw_logs.exploded_rows import typed_rows
from beam_pipelines.raw_logs.raw_columns import log_columns
from twin_tf.features.schema import FeatureSchema, schema_from_mapping

Event = tuple[int, int, int, int]

HISTORY = LABEL | BEHAVIOUR


def wanted(times: str | None = None, **events: Any) -> FeatureSchema:
    return schema_from_mapping(
        {
            "name": "small",
            "events": {
                "user": {"column": "u"},
                "item": {"column": "i"},
                "time": {"column": "t"},
                "label": {"column": "y"},
                "explode": {"items": "shown", "clicked": "clicked"},
                "collected_history": {"items": "did", "times": times, "columns": {"p": "read"}},
                **events,
            },
            "history": {"where": {"y": [1]}},
            "features": [
                {
                    "name": "item_id",
                    "role": "inherent",
                    "column": "i",
                    "encoding": {"kind": "vocabulary"},
                    "type": "int",
                },
                {"name": "p", "role": "cross", "encoding": {"kind": "identity", "size": 9}},
            ],
        }
    )


def reduced(schema: FeatureSchema, *rows: dict[str, Any]) -> list[pa.Table]:
    """A table for each row, as if each came out of a file of its own."""
    columns, reducer = log_columns(schema, "events"), EventReducer(schema)
    tables = [reducer.reduce(typed_rows(columns, pa.Table.from_pylist([row])).table) for row in rows]
    return [table for table in tables if table.num_rows]


def settled(schema: FeatureSchema, *rows: dict[str, Any], previous: list[pa.Table] | None = None) -> list[Event]:
    orders = (rows, rows[::-1], (*rows[1:], *rows[:1]))
    found = [shard_events(schema, reduced(schema, *order), previous or []) for order in orders]
    assert all("/back" not in table.column_names for table in found)
    names = ("user", "time", "item", "flags")
    plain = [sorted(tuple(row[name] for name in names) for row in table.to_pylist()) for table in found]
    assert plain[0] == plain[1] == plain[2]
    return plain[0]


def shown(user: int, time: int | None, *items: int, did: list[int] | None = None) -> dict[str, Any]:
    return {"u": user, "t": time, "shown": list(items) or None, "clicked": list(items[:1]), "did": did}


CLICK, VIEW = LABEL | BEHAVIOUR | TARGET, TARGET
UNTIMED: list[tuple[list[dict[str, Any]], list[Event]]] = [
    # Of several rows of a user that of the first event counts.
    (
        [shown(1, 50, 7, 8, did=[4, 5]), shown(1, 60, 9, did=[4, 5, 7])],
        [(1, 48, 4, HISTORY), (1, 49, 5, HISTORY), (1, 50, 7, CLICK), (1, 50, 8, VIEW), (1, 60, 9, CLICK)],
    ),
    # It has none, so the user has none.
    ([shown(1, 50, 7), shown(1, 60, 9, did=[7])], [(1, 50, 7, CLICK), (1, 60, 9, CLICK)]),
    # Two rows at the first moment: the longer history, once.
    (
        [shown(1, 50, 7, did=[4, 5]), shown(1, 50, 8, did=[5]), shown(1, 50, 9, did=[4, 5])],
        [(1, 48, 4, HISTORY), (1, 49, 5, HISTORY), (1, 50, 7, CLICK), (1, 50, 8, CLICK), (1, 50, 9, CLICK)],
    ),
    # A row without a time lies before the first event; without events nothing is known of its time.
    (
        [shown(1, None, did=[4, 4]), shown(1, 50, 7), shown(2, None, did=[5])],
        [(1, 48, 4, HISTORY), (1, 49, 4, HISTORY), (1, 50, 7, CLICK)],
    ),
    # A row of its own, with a time.
    ([shown(1, 40, did=[4]), shown(1, 50, 7)], [(1, 39, 4, HISTORY), (1, 50, 7, CLICK)]),
]


@pytest.mark.parametrize("number", range(len(UNTIMED)))
def test_a_history_without_times_lies_before_the_first_event(number: int) -> None:
    rows, expected = UNTIMED[number]
    assert settled(wanted(), *rows) == expected


def test_behaviours_with_times_lie_there_and_count_once() -> None:
    row = {"u": 1, "did": [4, 5], "when": [10, 20], "read": [3, None]}
    late = {"u": 1, "did": [5, 6], "when": [20, 70], "read": [None, 1]}
    expected = [(1, 10, 4, HISTORY), (1, 20, 5, HISTORY), (1, 50, 7, CLICK), (1, 70, 6, HISTORY)]
    assert settled(wanted("when"), row, shown(1, 50, 7), late) == expected
    table = shard_events(wanted("when"), reduced(wanted("when"), row), [])
    assert table["x/p"].to_pylist() == [5, 1]


def test_a_collected_behaviour_is_a_duplicate_like_any_other() -> None:
    row = {"u": 1, "did": [7, 5], "when": [50, 50]}
    assert settled(wanted("when", deduplicate=True), row, shown(1, 50, 7)) == [(1, 50, 5, HISTORY), (1, 50, 7, CLICK)]


def test_an_earlier_run_knows_the_histories_of_its_users() -> None:
    previous = pa.table({"user": [1], "item": [4], "time": [10]})
    rows = [shown(1, 50, 7, did=[4]), shown(2, 50, 7, did=[4])]
    assert settled(wanted(), *rows, previous=[previous]) == [(1, 50, 7, CLICK), (2, 49, 4, HISTORY), (2, 50, 7, CLICK)]
    row = {"u": 1, "did": [4, 5], "when": [10, 20]}
    assert settled(wanted("when"), row, previous=[previous]) == [(1, 20, 5, HISTORY)]
