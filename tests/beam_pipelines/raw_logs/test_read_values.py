"""The same value means the same in every format, times are checked, and a broken header or file is named as such."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_logs import schema

from beam_pipelines.raw_logs import read_logs
from beam_pipelines.raw_logs.log_blocks import Chunk, LogFile
from beam_pipelines.raw_logs.log_report import LogReport
from beam_pipelines.raw_logs.raw_columns import LogColumns, log_columns

WANTED = LogColumns("events", {"u": "int", "n": "int", "f": "float", "s": "string"}, ("u",))
LINE_BREAK = "not CSV: a line break inside a quoted field (schema.csv.line_breaks: true reads them)"
TIMED = LogColumns("events", {"u": "int", "t": "int"}, ("u",), "t", "s", latest=2_000_000_000)


def read(path: Path, wanted: LogColumns) -> tuple[list[dict[str, Any]], list[tuple[int, str]], LogReport]:
    report = LogReport()
    found, dead = [], []
    for chunk in read_logs.plan_chunks(LogFile(0, str(path), path.stat().st_size)):
        for block in read_logs.read_chunk(wanted, chunk):
            report.add_block(chunk, block)
            found += block.table.to_pylist()
            dead += [(report.line_of(0, chunk.number, letter.line), letter.reason) for letter in block.dead]
    return found, dead, report


def written(path: Path, column: str, cell: Any) -> Path:
    """A sound row, one with the odd cell, a sound row."""
    plain = {"n": 1, "f": 1.5, "s": "x"}
    rows = [{"u": n, **plain} for n in range(3)]
    rows[1][column] = cell
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        lines = [",".join("" if row[c] is None else str(row[c]) for c in rows[0]) for row in rows]
        path.write_text("\n".join(["u,n,f,s", *lines]) + "\n")
    else:
        odd = {"u": [0, 1, 2], "n": [1] * 3, "f": [1.5] * 3, "s": ["x"] * 3}
        table = pa.table(odd).slice(1, 1)
        place = table.schema.get_field_index(column)
        typed = pa.array([cell], from_pandas=False)
        pq.write_table(table.set_column(place, column, typed), path)
    return path


LIMITS = "a whole number from -9223372036854775808 to 9223372036854775807"

TEXT_AND_NUMBERS: list[tuple[str, Any, Any]] = [
    ("n", "1", 1),
    ("n", " 7 ", 7),
    ("n", "5.0", 5),
    ("n", "1e3", 1000),
    ("n", 5.0, 5),
    ("n", "+3", 3),
    ("n", True, 1),
    ("n", False, 0),
    ("n", "true", 1),
    ("n", "False", 0),
    ("n", "", None),
    ("n", None, None),
    ("n", float("nan"), None),
    ("n", "nan", None),
    ("n", 9007199254740993, 9007199254740993),
    ("n", "9007199254740993", 9007199254740993),
    ("n", -(1 << 63), -(1 << 63)),
    ("n", "one", "n is not a whole number: 'one'"),
    ("n", 2.5, "n is not a whole number: 2.5"),
    ("n", "2.5", "n is not a whole number: 2.5"),
    ("n", "9007199254740993.0", "n is not a whole number: 9007199254740993.0"),
    ("n", 1e300, "n is not a whole number: 1e+300"),
    ("n", "9223372036854775808", f"n is not {LIMITS}: 9223372036854775808"),
    ("n", "18446744073709551615", f"n is not {LIMITS}: 18446744073709551615"),
    ("n", "-9223372036854775809", f"n is not {LIMITS}: -9223372036854775809"),
    ("f", "2", 2.0),
    ("f", 3, 3.0),
    ("f", "-0.0", -0.0),
    ("f", float("nan"), None),
    ("f", "NaN", None),
    ("f", float("inf"), float("inf")),
    ("f", "1e400", float("inf")),
    ("f", "", None),
    ("f", "much", "f is not a number: 'much'"),
    ("s", "", None),
    ("s", " a b ", " a b "),
    ("s", "true", "true"),
    ("s", "a\x00b", "a\x00b"),
]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize(("column", "cell", "expected"), TEXT_AND_NUMBERS)
def test_every_format_reads_an_odd_cell_alike(
    column: str, cell: Any, expected: Any, suffix: str, tmp_path: Path
) -> None:
    found, dead, _ = read(written(tmp_path / f"e{suffix}", column, cell), WANTED)
    sound = {row["u"]: row for row in found}
    if isinstance(expected, str) and " is not " in expected:
        assert [reason for _, reason in dead] == [expected]
        assert 1 not in sound
    else:
        assert dead == []
        assert repr(sound[1][column]) == repr(expected)
    if suffix != ".parquet":
        assert {**sound[0], **sound[2]} == {"u": 2, "n": 1, "f": 1.5, "s": "x"}


@pytest.mark.parametrize("cell", [5, 2.5, True])
def test_a_number_is_no_text_where_the_format_tells_them_apart(cell: Any, tmp_path: Path) -> None:
    for suffix in (".jsonl", ".parquet"):
        _, dead, _ = read(written(tmp_path / f"e{suffix}", "s", cell), WANTED)
        assert [reason for _, reason in dead] == [f"s is not text: {cell}"]
        if cell is True:
            _, dead, _ = read(written(tmp_path / f"e{suffix}", "f", cell), WANTED)
            assert [reason for _, reason in dead] == ["f is not a number: True"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["true", "false", "null"] * 300, [1, 0, None] * 300),
        (['"1"', '"-20"', '""'] * 300, [1, -20, None] * 300),
        (["3.0", "4", "null"] * 300, [3, 4, None] * 300),
        (["9007199254740993", "3.0", "true", '"8"'] * 300, [9007199254740993, 3, 1, 8] * 300),
    ],
)
def test_columns_of_booleans_text_or_floats_are_read_in_blocks(
    cells: list[str], expected: list[int | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_logs, "BLOCK_BYTES", 4000)
    path = tmp_path / "e.jsonl"
    path.write_text("".join(f'{{"u": {n}, "n": {cell}}}\n' for n, cell in enumerate(cells)))
    slow = []
    one_by_one = read_logs.JsonLines._line_by_line
    monkeypatch.setattr(read_logs.JsonLines, "_line_by_line", lambda *args: slow.append(args) or one_by_one(*args))
    found, dead, _ = read(path, LogColumns("events", {"u": "int", "n": "int"}, ("u",)))
    assert dead == []
    assert [row["n"] for row in found] == expected
    assert bool(slow) == ("9007199254740993" in cells)


def test_ids_of_unsigned_64_bits_are_read_up_to_the_limit(tmp_path: Path) -> None:
    """2^63 - 1 is the largest id; a larger one is malformed by name, in Parquet and JSON alike."""
    ids = [0, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
    pq.write_table(pa.table({"u": pa.array(ids, pa.uint64())}), tmp_path / "e.parquet")
    (tmp_path / "e.jsonl").write_text("".join(f'{{"u": {one}}}\n' for one in ids))
    for name in ("e.parquet", "e.jsonl"):
        found, dead, _ = read(tmp_path / name, LogColumns("events", {"u": "int"}, ("u",)))
        assert [row["u"] for row in found] == ids[:2]
        assert dead == [(3, f"u is not {LIMITS}: {ids[2]}"), (4, f"u is not {LIMITS}: {ids[3]}")]


def test_other_types_of_parquet_are_read_where_nothing_is_lost(tmp_path: Path) -> None:
    table = pa.table(
        {
            "u": pa.array([1, 2], pa.uint64()),
            "n": pa.array(["1", "2"]).dictionary_encode(),
            "f": pa.array([1, 2], pa.decimal128(9, 2)),
            "s": pa.array([b"a", b"\xff"], pa.binary()),
        }
    )
    pq.write_table(table, tmp_path / "e.parquet")
    found, dead, _ = read(tmp_path / "e.parquet", WANTED)
    assert found == [{"u": 1, "n": 1, "f": 1.0, "s": "a"}]
    assert dead == [(2, "s is not text: b'\\xff'")]
    for array in (pa.array(np.array([1.5, 2.0], np.float16)), pa.array([np.float32(2.0), None])):
        pq.write_table(table.drop_columns("s").set_column(1, "n", array), tmp_path / "e.parquet")
        found, dead, _ = read(tmp_path / "e.parquet", WANTED)
        assert [row["n"] for row in found] == ([2] if array.null_count == 0 else [2, None])


@pytest.mark.parametrize(
    ("unit", "time", "reason"),
    [
        ("s", 2_000_000_000, None),
        ("s", 2_000_000_001, "t is in the future: 2000000001"),
        (
            "s",
            1_700_000_000_000,
            "t is in the future: 1700000000000; the log seems to be in milliseconds (schema.events.time.unit: ms)",
        ),
        ("s", 1 << 62, "t is in the future: 4611686018427387904"),  # too large for nanoseconds too
        ("s", 0, None),
    ],
)
def test_a_time_in_the_future_is_malformed(unit: str, time: int, reason: str | None, tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(f'{{"u": 1, "t": {time}}}\n{{"u": 2, "t": 7}}\n')
    found, dead, report = read(path, TIMED)
    assert dead == ([] if reason is None else [(1, reason)])
    assert found[-1] == {"u": 2, "t": 7}
    assert (report.earliest, report.latest) == (
        min(7, time) if reason is None else 7,
        max(7, time) if reason is None else 7,
    )


def test_latest_is_passed_on_for_events_only() -> None:
    assert log_columns(schema(), "events", 5).latest == 5
    assert log_columns(schema(), "events").latest is None
    assert log_columns(schema(), "items", 5).latest is None


@pytest.mark.parametrize(
    ("times", "refused"), [([1_700_000_000, 1_600_000_000], True), ([1_700_000_000_000], False), ([0, 99], False)]
)
def test_a_log_in_seconds_that_says_milliseconds_is_refused(times: list[int], refused: bool, tmp_path: Path) -> None:
    wanted = LogColumns("events", {"u": "int", "t": "int"}, ("u",), "t", "ms")
    path = tmp_path / "e.csv"
    path.write_text("u,t\n" + "".join(f"1,{time}\n" for time in times))
    _, _, report = read(path, wanted)
    parts = LogReport.merge([LogReport(), report, LogReport()])
    assert (parts.earliest, parts.latest) == (min(times), max(times))
    sentence = parts.fault(wanted, 0.005)
    if refused:
        assert sentence == (
            "every time of the events log (1600000000 to 1700000000) would be in the first weeks of 1970 as "
            "milliseconds: the log seems to be in seconds; set schema.events.time.unit to s"
        )
    else:
        assert sentence is None
    assert report.fault(LogColumns("events", wanted.types, ("u",), "t", "s"), 0.005) is None


def test_a_csv_header_that_names_a_column_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_logs, "CHUNK_BYTES", 8)
    path = tmp_path / "e.csv"
    path.write_text("u, n ,x,x,n\n1,2,3,4,5\n6,7,8,9,10\n")
    found, _, report = read(path, WANTED)
    assert found == []
    sentence = f"the events log cannot be used: {path}: its CSV header names column 'n' twice"
    assert LogReport.merge([report, report]).fault(WANTED, 0.005) == sentence
    path.write_text("u,x,x\n1,2,3\n")
    assert read(path, LogColumns("users", {"u": "int"}, ("u",)))[0] == [{"u": 1}]


def test_a_csv_file_with_a_header_only_is_fine_among_others(tmp_path: Path) -> None:
    for text in ("u,n,f,s\n", "u,n,f,s", ""):
        path = tmp_path / "e.csv"
        path.write_text(text)
        found, dead, report = read(path, WANTED)
        assert (found, dead, report.read) == ([], [], 0)
    full = read(written(tmp_path / "f.csv", "n", 1), WANTED)[2]
    assert LogReport.merge([report, full]).fault(WANTED, 0) is None


@pytest.mark.parametrize("block", [1 << 22, 10, 25, 40])
@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ('2,"x\n3,y"', LINE_BREAK.removeprefix("not CSV: ")),
        ('2,"x\ny"', LINE_BREAK.removeprefix("not CSV: ")),
        ('2,"x', "a quote that is not closed in its line"),
        ('2,5" x', "a quote that is not closed in its line"),
        ("2,x\r3,y", "a carriage return inside the line"),
    ],
)
def test_a_line_break_inside_a_csv_field_never_makes_a_row(
    broken: str, reason: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_logs, "BLOCK_BYTES", block)
    path = tmp_path / "e.csv"
    sound = "".join(f"{n},abc\n" for n in range(100, 106))
    path.write_text(f'u,s\n{sound}{broken}\n{sound}7,"a ""b"", c"\n', newline="")
    found, dead, _ = read(path, LogColumns("items", {"u": "int", "s": "string"}, ("u",)))
    assert [row["u"] for row in found] == [*range(100, 106), *range(100, 106), 7]
    assert found[-1]["s"] == 'a "b", c'
    assert [line for line, _ in dead] == [8 + n for n in range(broken.count("\n") + 1)]
    if block > 100:
        assert {why for _, why in dead} == {f"not CSV: {reason}"}


def test_the_inner_lines_of_a_csv_field_are_no_rows_either(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text('u,s\n1,a\n2,"x\n3,y\n4,""z""\n5"\n6,b\n')
    found, dead, _ = read(path, LogColumns("items", {"u": "int", "s": "string"}, ("u",)))
    assert [row["u"] for row in found] == [1, 6]
    assert dead == [(line, LINE_BREAK) for line in (3, 4, 5, 6)]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"hello", "cut", "hole"])
def test_a_broken_parquet_file_is_named_as_such(content: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    chance = np.random.default_rng(1)
    table = pa.table({"u": chance.integers(0, 1 << 60, 5000), "n": [1] * 5000, "f": [1.0] * 5000, "s": ["x"] * 5000})
    pq.write_table(table, path, row_group_size=2500, write_page_checksum=True)
    whole = path.read_bytes()
    broken = bytearray(whole)
    broken[3000:15000] = bytes(12000)
    path.write_bytes({"cut": whole[:-100], "hole": bytes(broken)}.get(str(content), content))  # type: ignore[arg-type]
    found, dead, report = read(path, WANTED)
    ((line, reason),) = dead
    assert line == 1
    assert report.damaged == [str(path)]
    assert (report.bytes, report.lost_bytes > 0) == (path.stat().st_size, path.stat().st_size > 0)
    sentence = report.fault(WANTED, 0.0)
    assert sentence is not None
    assert "malformed" in sentence
    assert "has no column" not in sentence
    if content == "hole":
        assert reason.startswith("unreadable Parquet row group 0: ")
        assert len(found) == 2500
        assert report.lost_bytes == report.bytes // 2
    else:
        assert reason.startswith("not a Parquet file, or a truncated one: ")
        assert found == []


def test_a_missing_column_is_still_said_to_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text('{"U": 1, "n": 1, "f": 1, "s": "x"}\n' * 5)
    sentence = read(path, WANTED)[2].fault(WANTED, 0.005)
    assert sentence is not None
    assert sentence.startswith("the events log has no column 'u'; ")


def test_the_sentence_about_too_many_malformed_rows_fits_every_command_line(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text('{"u": 1, "n": 1, "f": 1, "s": "x"}\n' * 5 + "nonsense\n")
    assert read(path, WANTED)[2].fault(WANTED, 0.005) == (
        "1 of 6 rows of the events log are malformed, more than the allowed share of 0.005 (max_dead_share); "
        f"first: {path} line 6: not JSON: Expecting value: line 1 column 1 (char 0)"
    )


def test_a_parquet_file_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1])] * 4, names=["u", "n", "n", "f"]), path)
    found, _, report = read(path, WANTED)
    assert found == []
    assert report.fault(WANTED, 1.0) == f"the events log cannot be used: {path} has two columns 'n'"


def test_chunks_of_parquet_share_the_bytes_of_their_file(tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table({"u": range(10)}), path, row_group_size=3)
    chunks: list[Chunk] = read_logs.plan_chunks(LogFile(0, str(path), path.stat().st_size))
    assert sum(chunk.bytes for chunk in chunks) == path.stat().st_size
    assert len(chunks) == 4
