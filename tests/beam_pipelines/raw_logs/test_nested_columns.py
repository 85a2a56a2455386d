"""Columns inside objects by the path of their names, the same from JSON Lines and from Parquet."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines.raw_logs import read_logs
from beam_pipelines.raw_logs.log_blocks import LogFile
from beam_pipelines.raw_logs.log_report import LogReport
from beam_pipelines.raw_logs.raw_columns import LogColumns

WANTED = LogColumns(
    "events", {"u": "int", "a.b": "int", "a.c.d": "string", "tags.all": "string"}, ("u",), separators={"tags.all": ""}
)
ROWS: list[dict[str, Any]] = [
    {"u": 0, "a": {"b": 1, "c": {"d": "x", "e": 0}}, "tags": {"all": ["p", "q"]}},
    {"u": 1, "a": {"b": None, "c": None}, "tags": {"all": []}},
    {"u": 2, "a": None, "tags": None},
    {"u": 3, "a": {"b": 4, "c": {"d": None}}, "tags": {"all": ["p"]}},
]
EXPECTED = [
    {"u": 0, "a.b": 1, "a.c.d": "x", "tags.all": ["p", "q"]},
    {"u": 1, "a.b": None, "a.c.d": None, "tags.all": None},
    {"u": 2, "a.b": None, "a.c.d": None, "tags.all": None},
    {"u": 3, "a.b": 4, "a.c.d": None, "tags.all": ["p"]},
]


def read(path: Path, wanted: LogColumns = WANTED) -> tuple[list[dict[str, Any]], list[str], LogReport]:
    report = LogReport()
    rows, dead = [], []
    for chunk in read_logs.plan_chunks(LogFile(0, str(path), path.stat().st_size), wanted):
        for block in read_logs.read_chunk(wanted, chunk):
            report.add_block(chunk, block)
            rows += block.table.to_pylist()
            dead += [letter.reason for letter in block.dead]
    return rows, dead, report


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_fields_of_objects_are_columns_in_both_formats(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "e.parquet")
    for path in (tmp_path / "e.parquet", lines(tmp_path / "e.jsonl", *ROWS)):
        rows, dead, report = read(path)
        assert (rows, dead) == (EXPECTED, [])
        assert {"a", "a.b", "a.c", "a.c.d", "a.c.e", "tags.all"} <= report.columns_seen


def test_odd_lines_are_read_by_the_same_paths(tmp_path: Path) -> None:
    deep = '{"u": 9, "a": {"b": 7}, "z": ' + "[" * 100_000 + "]" * 100_000 + "}"
    odd = [
        '{"u": 5, "a": {"b": "6"}}',
        '{"u": 6, "a": 7}',
        '{"u": 7, "a": {"b": 1, "b": 2}}',
        deep,
        '{"u": 8',
        '{"u": 8}',
    ]
    rows, dead, _ = read(lines(tmp_path / "e.jsonl", *ROWS, *odd))
    assert rows[: len(ROWS)] == EXPECTED
    assert [(row["u"], row["a.b"]) for row in rows[len(ROWS) :]] == [(5, 6), (9, 7), (8, None)]
    assert dead[:2] == ["a is not an object: 7", "a.b is there twice"]
    assert len(dead) == 3


def test_a_column_with_a_dot_in_its_name_comes_first(tmp_path: Path) -> None:
    row = {"u": 1, "a.b": 2, "a": {"b": 3}}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "e.parquet")
    (tmp_path / "e.csv").write_text("u,a.b\n1,2\n")
    for path in (
        tmp_path / "e.parquet",
        tmp_path / "e.csv",
        lines(tmp_path / "e.jsonl", row),
        lines(tmp_path / "f.jsonl", row, "x"),
    ):
        assert [row["a.b"] for row in read(path)[0]] == [2], path


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_misspelt_path_is_named_with_the_nearest(suffix: str, tmp_path: Path) -> None:
    wanted = LogColumns("events", {"u": "int", "a.bb": "int"}, ("u",))
    path = tmp_path / f"e.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        lines(path, *ROWS)
    fault = read(path, wanted)[2].fault(wanted, 0.0)
    assert fault == "the events log has no value in column 'a.bb' in any row; did you mean 'a.b'?"
