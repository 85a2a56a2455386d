"""Times in every form that a log has them, and times that cannot be meant."""

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines.raw_logs.log_report import LogReport
from beam_pipelines.raw_logs.plausible_times import TimeCounts, far_days
from beam_pipelines.raw_logs.raw_columns import LogColumns, conform
from tests.beam_pipelines.raw_logs.test_read_values import read
from twin_tf.features.event_times import PER_SECOND, TimeColumn

NOON = 1_699_963_200  # 2023-11-14 12:00 UTC
LATEST = 2_000_000_000
DAY = 86_400


def wanted(unit: Any = "s", **changes: Any) -> LogColumns:
    text = "string" if changes.get("format") else "int"
    given = {"latest": LATEST * PER_SECOND[unit], **changes}
    return LogColumns("events", {"u": "int", "t": text}, ("u", "t"), "t", unit, **given)


def time_of(array: pa.Array, columns: LogColumns) -> Any:
    """The first row's time, or why it is malformed."""
    table, broken = conform(columns, pa.table({"u": [1] * len(array), "t": array}))
    assert table["t"].type == pa.int64()
    return broken.get(0, table["t"][0].as_py())


UTC, BERLIN = datetime.timezone.utc, "Europe/Berlin"
CLOCK = datetime.datetime(2023, 11, 14, 12, 0, 0, 250_000)
ISO = {"format": "iso8601"}


@pytest.mark.parametrize(
    ("array", "unit", "changes", "expected"),
    [
        (pa.array([CLOCK], pa.timestamp("us")), "s", {}, NOON),
        (pa.array([CLOCK], pa.timestamp("us")), "ms", {}, NOON * 1000 + 250),
        (pa.array([CLOCK], pa.timestamp("ns")), "us", {}, NOON * 10**6 + 250_000),
        (pa.array([CLOCK], pa.timestamp("ms")), "ns", {}, NOON * 10**9 + 250_000_000),
        (pa.array([CLOCK], pa.timestamp("us")), "s", {"timezone": BERLIN}, NOON - 3600),
        (pa.array([CLOCK], pa.timestamp("us", "UTC")), "s", {"timezone": BERLIN}, NOON),
        (pa.array([CLOCK], pa.timestamp("us", "Asia/Tokyo")), "ms", ISO, NOON * 1000 + 250),
        (pa.array([CLOCK.date()]), "s", {}, NOON - 12 * 3600),
        (pa.array([CLOCK.date()]), "ms", {"timezone": BERLIN}, (NOON - 13 * 3600) * 1000),
        (pa.array([CLOCK.date()], pa.date64()), "s", {}, NOON - 12 * 3600),
        (pa.array([None], pa.timestamp("us")), "s", {}, "no t"),
        (pa.array([datetime.datetime(1969, 12, 31, 23, 59, 59, 999)]), "s", {}, "t is negative: -1"),
        (pa.array([253_402_300_799], pa.timestamp("s")), "ns", {}, "t is not a whole number: "),
        (pa.array([NOON + 0.25]), "s", {}, NOON),
        (pa.array([NOON + 0.75], pa.float64()), "s", {}, NOON),
        (pa.array([NOON * 1000 + 0.5]), "ms", {}, NOON * 1000),
        (pa.array([1.7e18]), "ns", {}, "t is not a whole number: 1.7e+18"),
        (pa.array([float("nan")]), "s", {}, "no t"),
        (pa.array([-0.5]), "s", {}, "t is negative: -1"),
        (pa.array([f"{NOON}.999"]), "s", {}, NOON),
        (pa.array([f" {NOON}.0 "]), "s", {}, NOON),
        (pa.array(["1.69996320025e9"]), "s", {}, NOON),
        (pa.array([f"{NOON}"]), "s", {}, NOON),
        (pa.array([f"{NOON}123456789"]), "ns", {}, NOON * 10**9 + 123_456_789),
        (pa.array(["-0.5"]), "s", {}, "t is not a whole number: -0.5"),
        (pa.array(["noon"]), "s", {}, "t is not a whole number: 'noon'"),
        (pa.array(["2023-11-14T12:00:00.25Z"]), "ms", ISO, NOON * 1000 + 250),
        (pa.array(["2023-11-14 13:00"]).dictionary_encode(), "s", {**ISO, "timezone": BERLIN}, NOON),
        (pa.array(["14.11.2023 12:00"]), "s", {"format": "%d.%m.%Y %H:%M"}, NOON),
        (pa.array(["noon"]), "s", ISO, "t is not an ISO 8601 time: 'noon'"),
        (pa.array(["noon"]), "s", {"format": "%Y %j"}, "t is not a time of the format %Y %j: 'noon'"),
        (pa.array([" ", None]), "s", ISO, "no t"),
        (pa.array([NOON]), "s", ISO, f"t is not an ISO 8601 time: {NOON}"),
        (pa.array([None], pa.null()), "s", ISO, "no t"),
    ],
)  # fmt: skip
def test_a_time_is_read_as_the_schema_says(array: pa.Array, unit: str, changes: dict[str, Any], expected: Any) -> None:
    found = time_of(array, wanted(unit, **changes))
    if isinstance(expected, str) and expected.endswith(": "):
        assert found.startswith(expected)
    else:
        assert found == expected


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
@pytest.mark.parametrize(
    ("cells", "changes", "expected"),
    [
        ([f"{NOON}.25", f"{NOON + 1}", f"{NOON + 2}.99"], {}, [NOON, NOON + 1, NOON + 2]),
        (['"2023-11-14T12:00:00Z"', '"2023-11-14T14:00:01+02:00"'], ISO, [NOON, NOON + 1]),
        ([f"{NOON}", f'"{NOON}.5"', f"{NOON}.0"], {}, [NOON] * 3),
    ],
)
def test_text_files_hold_the_same_times(
    suffix: str, cells: list[str], changes: dict[str, Any], expected: list[int], tmp_path: Path
) -> None:
    path = tmp_path / f"e{suffix}"
    if suffix == ".csv":
        path.write_text("u,t\n" + "".join(f"1,{cell}\n" for cell in cells))
    else:
        path.write_text("".join(f'{{"u": 1, "t": {cell}}}\n' for cell in cells))
    found, dead, report = read(path, wanted(**changes))
    assert (dead, [row["t"] for row in found]) == ([], expected)
    assert (report.earliest, report.latest) == (expected[0], max(expected))


@pytest.mark.parametrize(
    ("unit", "bound", "time", "reason"),
    [
        ("ms", NOON, NOON * 1000 - 1, "t is earlier than --not-before: 1699963199999 (2023-11-14)"),
        ("ms", NOON, NOON, f"t is earlier than --not-before: {NOON} (1970-01-20); it looks like seconds"),
        ("us", NOON, 0, "t is earlier than --not-before: 0 (1970-01-01)"),
        ("s", NOON, NOON, None),
    ],
)
def test_a_time_before_the_bound_is_malformed(unit: Any, bound: int, time: int, reason: str | None) -> None:
    found = time_of(pa.array([time]), wanted(unit, not_before=bound * PER_SECOND[unit]))
    assert found == (time if reason is None else reason)


@pytest.mark.parametrize(("unit", "hint"), [("s", "us"), ("ms", "us"), ("us", "ns"), ("s", "ns")])
def test_a_time_of_a_smaller_unit_is_named(unit: Any, hint: str) -> None:
    reason = time_of(pa.array([NOON * PER_SECOND[hint]]), wanted(unit))
    assert reason.startswith("t is in the future: ") and reason.endswith(f"(schema.events.time.unit: {hint})")


def report_of(unit: Any, *parts: list[int]) -> LogReport:
    """The report of a log whose times these are, read in several blocks."""
    column = TimeColumn("t", unit)
    reports = []
    for times in parts:
        numbers = np.array(times, np.int64)
        filled = {"u": len(times), "t": len(times)}
        times_seen = TimeCounts.of(column, numbers)
        reports.append(LogReport(len(times), filled=filled, earliest=min(times), latest=max(times), times=times_seen))
    return LogReport.merge(reports)


NOW = [NOON + n for n in range(300)]
IN_MS = [time * 1000 for time in NOW]


@pytest.mark.parametrize(
    ("unit", "parts", "sentence"),
    [
        (
            "ms",
            [IN_MS, NOW, IN_MS],
            "300 of 900 rows of the events log have a time far from the rest (1970-01-20, but most lie from 2023-11-14 "
            "to 2023-11-14); 300 look like seconds; schema.events.time.unit is ms; mend the log, or put them into "
            "dead_letters with --not-before=2023-11-14, or take them all with --not-before=1970-01-01",
        ),
        ("us", [[time * 10**6 for time in NOW], IN_MS, NOW], "600 of 900 rows of the events log have a time far from"),
        ("s", [NOW, [0, 1]], "2 of 302 rows of the events log have a time far from the rest (1970-01-01, but most lie"),
        ("s", [NOW, [1_000_000_000]], "1 of 301 rows of the events log have a time far from the rest (2001-09-09, but"),
        ("s", [NOW, [0, 650_000_000, 1_220_000_000]], "3 of 303 rows of the events log have a time far from the rest"),
        ("s", [NOW, [NOON + 800 * DAY]], "put them into dead_letters with --as-of=2023-11-15, or"),
        ("s", [NOW, [NOON - 300 * DAY]], None),
        ("s", [list(range(300)), [10**6]], None),  # a counter: nobody says that times are dates
        ("s", [[NOON - n * 30 * DAY for n in range(300)], [0, 5]], "2 of 302 rows of the events log have a time far"),
        ("s", [[NOON - n * 400 * DAY for n in range(20)]], None),  # years apart, but evenly so
        ("s", [NOW], None),
    ],
)  # fmt: skip
def test_times_far_from_the_rest_stop_the_job(unit: Any, parts: list[list[int]], sentence: str | None) -> None:
    for order in (parts, parts[::-1]):
        fault = report_of(unit, *order).fault(wanted(unit), 0.0)
        assert fault == sentence if sentence is None else fault is not None and sentence in fault
        assert report_of(unit, *order).fault(wanted(unit, not_before=0), 0.0) is None


@pytest.mark.parametrize(("unit", "larger"), [("us", "s"), ("us", "ms"), ("ns", "us")])
def test_a_log_of_a_larger_unit_alone_is_refused(unit: Any, larger: str) -> None:
    fault = report_of(unit, [time * PER_SECOND[larger] for time in NOW]).fault(wanted(unit), 0.0)
    assert fault is not None and fault.endswith(f"set schema.events.time.unit to {larger}")


def test_days_without_rows_are_no_gap_when_the_log_is_long() -> None:
    long = dict.fromkeys(range(10000, 19000, 7), 10)
    assert far_days(long) == ([], (10_000, 18_995))
    assert far_days({**long, 10_000 - 400: 1}) == ([], (9_600, 18_995))
    assert far_days({}) == ([], (0, 0))
    assert far_days({5: 1}) == ([], (5, 5))


def test_a_mixture_of_types_in_one_file_keeps_its_sound_rows(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    cells: list[Any] = [NOON, f"{NOON}", NOON + 0.5, "noon", None, True]
    path.write_text("".join(json.dumps({"u": 1, "t": cell}) + "\n" for cell in cells))
    found, dead, _ = read(path, wanted())
    assert [row["t"] for row in found] == [NOON, NOON, NOON, 1]
    assert dead == [(4, "t is not a whole number: 'noon'"), (5, "no t")]


def test_parquet_columns_of_times_go_through_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table({"u": [1], "t": pa.array([CLOCK], pa.timestamp("us", "America/New_York"))}), path)
    found, dead, report = read(path, wanted("ms"))
    assert (found, dead) == ([{"u": 1, "t": NOON * 1000 + 250}], [])
    assert report.kinds == {str(path): {"u": 2, "t": 16}}
