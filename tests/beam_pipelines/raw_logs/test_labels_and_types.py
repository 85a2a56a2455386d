"""Labels as logs write them, the line that mends a schema, and columns that differ between the files of a log."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from small_logs import schema

from beam_pipelines.examples.event_batches import LABEL, EventReducer
from beam_pipelines.raw_logs.column_kinds import differences, kinds_of
from beam_pipelines.raw_logs.log_report import LogReport
from beam_pipelines.raw_logs.raw_columns import LogColumns, conform, log_columns
from beam_pipelines.raw_logs.type_advice import advice
from tests.beam_pipelines.raw_logs.test_read_values import WANTED, read, written
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.schema import FeatureSchema, schema_from_mapping


def labelled(label: dict[str, Any], features: tuple[dict[str, Any], ...] = ()) -> FeatureSchema:
    item = {"name": "i", "role": "inherent", "type": "int", "encoding": {"kind": "hash", "buckets": 9}}
    return schema_from_mapping(
        {
            "name": "labels",
            "events": {
                "user": {"column": "u"},
                "item": {"column": "i"},
                "time": {"column": "t"},
                "label": {"column": "y", **label},
            },
            "features": [item, *features],
        }
    )


TEXT = {"values": ["view", "click"], "positive": ["click"]}
STARS = {"positive": ">= 4"}
NEGATIVE = {"missing": "negative"}


@pytest.mark.parametrize(
    ("label", "cells", "clicks", "broken"),
    [
        ({}, pa.array([1, 0, None, 2]), [1, 0], {2: "no y", 3: "y 2 is none of 0, 1"}),
        ({}, pa.array([True, False]), [1, 0], {}),
        ({}, pa.array(["true", "0", "nan"]), [1, 0], {2: "no y"}),
        ({}, pa.array([1.0, 0.0, float("nan")]), [1, 0], {2: "no y"}),
        ({}, pa.array(["click"]), [], {0: "y is not a whole number: 'click'"}),
        ({"values": [False, True], "positive": [True]}, pa.array([True, False]), [1, 0], {}),
        (NEGATIVE, pa.array([1, None, 0]), [1, 0, 0], {}),
        (NEGATIVE, pa.array([None, None], pa.null()), [0, 0], {}),
        (TEXT, pa.array(["click", "view", "", "buy"]), [1, 0], {2: "no y", 3: "y buy is none of view, click"}),
        (TEXT | NEGATIVE, pa.array(["click", None]).dictionary_encode(), [1, 0], {}),
        (TEXT, pa.array([1]), [], {0: "y is not text: 1"}),
        (STARS, pa.array([4.0, 3.5, 5.0, float("nan")]), [1, 0, 1], {3: "no y"}),
        (STARS, pa.array(["4", "3.9", "many"]), [1, 0], {2: "y is not a number: 'many'"}),
        (STARS | NEGATIVE, pa.array([4, None]), [1, 0], {}),
        ({"positive": "< -0.5"}, pa.array([-1.0, -0.5]), [1, 0], {}),
        ({"positive": ">3"}, pa.array([3, 4]), [0, 1], {}),
        ({"positive": "<= 2"}, pa.array([2, 3]), [1, 0], {}),
    ],
)
def test_a_label_is_read_as_the_schema_says(
    label: dict[str, Any], cells: pa.Array, clicks: list[int], broken: dict[int, str]
) -> None:
    found = labelled(label)
    rows = pa.table({"u": [1] * len(cells), "i": [1] * len(cells), "t": [1] * len(cells), "y": cells})
    table, faults = conform(log_columns(found, "events"), rows)
    assert faults == broken
    sound = table.filter(pa.array([row not in broken for row in range(len(cells))]))
    flags = EventReducer(found).reduce(sound)["flags"].to_numpy()
    assert (flags & LABEL).tolist() == clicks


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ({"positive": "click"}, "positive must be a list of values or a comparison such as '>= 4', not 'click'"),
        ({"values": [1, 2], "positive": "> 1"}, "positive '> 1' compares any number: leave values out"),
        (
            {"values": ["a", 1], "positive": ["a"]},
            "values ['a', 1] and positive ['a'] must be all whole",
        ),
        ({"values": [0.5, 1], "positive": [1]}, "must be all whole numbers or all text"),
        ({"positive": 1}, "positive must be a list of values, not 1"),
        ({"missing": "no"}, "schema.events.label.missing must be one of malformed, negative, not 'no'"),
    ],
)
def test_a_wrong_label_section_is_refused(label: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        labelled(label)
    assert message in str(caught.value)


def test_a_label_section_survives_its_plain_form() -> None:
    for label in ({}, TEXT, STARS | NEGATIVE):
        assert labelled(label).to_plain()["events"]["label"] == {"column": "y", **label}


def test_boolean_features_are_the_same_in_pipeline_and_request() -> None:
    plain = {"role": "cross", "type": "bool"}
    vocabulary = {**plain, "name": "seen", "encoding": {"kind": "vocabulary"}}
    found = labelled({}, ({**plain, "name": "muted"}, vocabulary))
    assert found.feature("muted").encoding_or_fail.size == 2
    assert found.event_columns()["muted"] == "int"
    encoder = FeatureEncoder(found, {"seen": ["0", "1"]})
    for values in ([True, False, None], [1.0, 0.0, float("nan")], pa.array([1, 0, None])):
        assert encoder.encode("muted", values).tolist() == [3, 2, 1]
        assert encoder.encode("seen", values).tolist() == [3, 2, 1]


@pytest.mark.parametrize(
    ("log", "reason", "line"),
    [
        ("events", "place is not text: 5", "- {name: place, role: cross, type: int, encoding: {kind: vocabulary, "),
        ("events", "place is not text: 5.0", "- {name: place, role: cross, type: int, encoding: {kind: vocabulary, "),
        ("events", "place is not text: True", "- {name: place, role: cross, type: bool}"),
        ("events", "play is not a number: True", "- {name: play, role: cross, type: bool}"),
        ("items", "category is not text: 7", "- {name: category, role: inherent, type: int, encoding: {kind: vocab"),
        ("events", "u is not a whole number: 'A-1'", "user: {column: u, type: string}"),
        ("items", "item is not a whole number: 'A-1'", "items: {column: item, type: string}"),
        ("events", "t is not a whole number: '2023-11-14 12:00'", "time: {column: t, format: iso8601}"),
        ("events", "t is not a whole number: '14.11.2023'", "time: {column: t, format: a format of strptime}"),
        ("events", "y is not a whole number: 'click'", "label: {column: y, values: [click, '...'], positive: [click]}"),
    ],
)  # fmt: skip
def test_the_message_names_the_line_that_mends_the_schema(log: Any, reason: str, line: str) -> None:
    told = advice(schema(), log, ["no u", reason])
    assert f", write into the schema: {line}" in told


@pytest.mark.parametrize(
    "reason", ["place is not text: 2.5", "not JSON: x", "shown is not a whole number: 'yes'", "no u"]
)
def test_other_mistakes_have_no_such_line(reason: str) -> None:
    assert advice(schema(), "events", [reason]) == ""


def test_ids_of_text_are_named_too() -> None:
    assert "user: {column: u, type: int}" in advice(schema("string"), "events", ["u is not text: 5"])


THREE = LogColumns("events", {"u": "int", "n": "int", "s": "string"}, ("u",))


def kinds(**columns: pa.Array) -> dict[str, int]:
    return kinds_of(THREE, pa.table(columns))


def test_columns_that_differ_between_files_are_named() -> None:
    u, text = pa.array([1]), pa.array(["a"])
    days = {
        "d1.parquet": kinds(u=u, n=pa.array([1]), s=text),
        "d2.parquet": kinds(u=u, n=pa.array([1.0]), s=text),
        "d3.parquet": kinds(u=u, n=pa.array([1]), s=pa.array([None], pa.string())),
        "d4.parquet": kinds(u=u, n=pa.array(["1"])),
    }
    assert differences(THREE, days) == [
        "Column 'n' of the events log holds whole numbers in 2 files, but numbers in d2.parquet and text in d4.parquet"
        ": the same value may be written in two ways.",
        "Column 's' of the events log has no value in 2 of 4 files: d3.parquet, d4.parquet.",
    ]
    csv = {"a.csv": kinds_of(THREE, pa.table({"u": ["1"], "n": ["1"], "s": text}), untyped=True)}
    assert differences(THREE, csv | {"d1.parquet": days["d1.parquet"]}) == []
    assert differences(THREE, {}) == []
    empty = {name: {"u": 2} for name in ("a", "b")}
    assert differences(THREE, empty) == []  # of a column that no file has, another warning speaks
    many = {f"{n}.csv": {"u": 128, "n": 128, "s": 128} for n in range(9)} | {
        f"x{n}": {"u": 2, "n": 2} for n in range(5)
    }
    assert differences(THREE, many)[0].endswith("no value in 5 of 14 files: x0, x1, x2 and 2 more.")


def test_kinds_go_through_the_reader_and_merge(tmp_path: Path) -> None:
    reports = []
    for suffix, cell in ((".csv", 7), (".jsonl", 2.0), (".parquet", "7")):
        path = written(tmp_path / f"e{suffix}", "n", cell)
        reports.append(read(path, WANTED)[2])
    merged = LogReport.merge([*reports, reports[1]])
    found = {Path(path).suffix: seen["n"] for path, seen in merged.kinds.items()}
    assert found == {".csv": 128, ".jsonl": 128 | 2, ".parquet": 1}
