"""Malformed rows go to dead letters with file, line, reason and payload, and change nothing else."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from small_logs import Row, random_logs, schema, write, write_logs

from beam_pipelines.raw_logs import parquet_log, read_logs
from beam_pipelines.raw_logs.raw_columns import LogColumns, log_columns
from tests.beam_pipelines.examples.test_build_examples import build, digest
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.records.format import Manifest

pytestmark = pytest.mark.integration

GOOD = {
    "u": 1,
    "i": 2,
    "t": 3,
    "y": 1,
    "kind": "view",
    "shown": 1,
    "place": "top",
    "play": 1.0,
    "rank": 1,
    "surface": "tv",
}


def line(**changes: Any) -> bytes:
    row = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    return json.dumps(row).encode()


BAD_JSON = {
    b'{"u": 1, "i"': "not JSON: ",
    b"[1, 2]": "not a JSON object but list",
    line(u="one"): "u is not a whole number: 'one'",
    line(u=None): "no u",
    line(i=None): "no i",
    line(t="soon"): "t is not a whole number: 'soon'",
    line(t=-4): "t is negative: -4",
    line(t=1 << 70): f"t is not a whole number from {-(1 << 63)} to {(1 << 63) - 1}: 1180591620717411303424",
    line(y=7): "y 7 is none of 0, 1, 2",
    line(y=None): "no y",
    line(place=5): "place is not text: 5",
    line(play="much"): "play is not a number: 'much'",
    line(play=True): "play is not a number: True",
    line(shown="yes"): "shown is not a whole number: 'yes'",
    b'{"u": 1, "u": 2, "i": 2, "t": 3, "y": 1}': "u is there twice",
    b"null": "not a JSON object but null",
    b'{"u": 1, "place": "\xff\xfe"}': "not UTF-8: byte 20",
    line() + line(): "not JSON: Extra data",
}
BAD_CSV = {
    b"1,2,3": "3 fields where the header has 10",
    b"one,2,3,1,view,1,top,1.0,1,tv": "u is not a whole number: 'one'",
    b",2,3,1,view,1,top,1.0,1,tv": "no u",
    b"1,2,3,9,view,1,top,1.0,1,tv": "y 9 is none of 0, 1, 2",
    b"1,2,3,1,view,1,top,much,1,tv": "play is not a number: 'much'",
    b"1,2,99999999999999999999,1,view,1,top,1.0,1,tv": f"t is not a whole number from {-(1 << 63)} to {(1 << 63) - 1}: "
    "99999999999999999999",
    b"1,2,3,1,view,1,\xff,1.0,1,tv": "not UTF-8: byte 16",
    b'1,2,3,1,view,1,"top,1.0,1,tv': "not CSV: a quote that is not closed in its line",
}


def letters(directory: Path) -> list[Row]:
    found = []
    for path in sorted((directory / "dead_letters").glob("events-*.jsonl")):
        found += [json.loads(text) for text in path.read_text().splitlines()]
    return found


def without_letters(directory: Path) -> dict[str, str]:
    return {
        name: value
        for name, value in digest(directory).items()
        if not name.startswith(
            ("dead_letters", "manifest", "report", "_SUCCESS")
        )  # the last holds the manifest's digest
    }


def spoil(clean: bytes, bad: list[bytes]) -> tuple[bytes, dict[int, bytes]]:
    """Puts a bad line after every third good one; returns the text and line number -> bad line."""
    lines = clean.splitlines()
    places: dict[int, bytes] = {}
    spoilt: list[bytes] = []
    rest = list(bad)
    for number, good in enumerate(lines):
        spoilt.append(good)
        if number % 3 == 2 and rest:
            spoilt.append(rest.pop(0))
            places[len(spoilt)] = spoilt[-1]
    assert not rest
    return b"\n".join(spoilt) + b"\n", places


def check(
    manifest: Manifest, tmp_path: Path, clean: int, reasons: dict[bytes, str], places: dict[int, bytes], file: Path
) -> None:
    assert without_letters(tmp_path / "spoilt") == without_letters(tmp_path / "clean")
    found = letters(tmp_path / "spoilt")
    assert [letter["line"] for letter in found] == sorted(places)
    for letter in found:
        bad = places[letter["line"]]
        assert letter["payload"] == bad.decode("utf-8", "backslashreplace")
        assert letter["reason"].startswith(reasons[bad])
        assert letter["file"] == str(file)
    counts = manifest.counts
    assert (counts.events_read, counts.events_dead) == (clean + len(places), len(places))
    assert counts.events_read == counts.events_kept + counts.events_filtered + counts.events_dead


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".jsonl.gz", ".csv.gz"])
def test_bad_lines_are_kept_aside_and_change_nothing_else(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = random_logs(events=300)
    arguments = write_logs(tmp_path / "raw", tables, suffix)
    build(tmp_path, arguments, "clean")
    monkeypatch.setattr(read_logs, "BLOCK_BYTES", 2000)  # many blocks and chunks, some of them without a bad line
    monkeypatch.setattr(read_logs, "CHUNK_BYTES", 7000)
    reasons = BAD_CSV if ".csv" in suffix else BAD_JSON
    path = Path(arguments["events"])
    data = gzip.decompress(path.read_bytes()) if suffix.endswith(".gz") else path.read_bytes()
    data, places = spoil(data, list(reasons))
    path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    manifest = build(tmp_path, arguments, "spoilt", max_dead_share=0.1)
    check(manifest, tmp_path, len(tables["events"]), reasons, places, path)


def test_bad_rows_of_parquet_are_kept_aside(tmp_path: Path) -> None:
    tables = random_logs(events=100)
    arguments = write_logs(tmp_path / "raw", tables)
    build(tmp_path, arguments, "clean")
    bad = {"no u": {"u": None}, "y 5 is none of 0, 1, 2": {"y": 5}, "t is negative: -1": {"t": -1}}
    rows = [*tables["events"][:50], *({**GOOD, **change} for change in bad.values()), *tables["events"][50:]]
    arguments["events"] = str(write(tmp_path / "spoilt.parquet", rows))
    manifest = build(tmp_path, arguments, "spoilt", max_dead_share=0.1)
    assert without_letters(tmp_path / "spoilt") == without_letters(tmp_path / "clean")
    found = letters(tmp_path / "spoilt")
    assert [(letter["line"], letter["reason"]) for letter in found] == list(zip((51, 52, 53), bad, strict=True))
    assert json.loads(found[1]["payload"])["y"] == 5
    assert manifest.counts.events_dead == 3


def test_a_truncated_gzip_file_gives_what_it_holds_and_one_letter(tmp_path: Path) -> None:
    tables = random_logs(events=2000)
    arguments = write_logs(tmp_path / "raw", tables, ".jsonl.gz")
    path = Path(arguments["events"])
    path.write_bytes(path.read_bytes()[:-3000])
    manifest = build(tmp_path, arguments, "spoilt", max_dead_share=0.1)
    (letter,) = letters(tmp_path / "spoilt")
    assert letter["reason"] == "damaged gzip member at byte 0: the file ends inside it"
    assert 1000 < manifest.counts.events_read == letter["line"] < 2002
    assert json.dumps(tables["events"][letter["line"] - 1]).startswith(letter["payload"])


def test_too_many_bad_lines_fail_the_job_and_say_where(tmp_path: Path) -> None:
    arguments = write_logs(tmp_path / "raw", random_logs(events=300), ".jsonl")
    path = Path(arguments["events"])
    path.write_bytes(path.read_bytes() + b"nonsense\n" + line(y=7) + b"\n")
    with pytest.raises(ConfigError) as caught:
        build(tmp_path, arguments)
    message = str(caught.value)
    assert message.startswith("2 of 304 rows of the events log are malformed, more than the allowed share of 0.005")
    assert f"{path} line 303: not JSON" in message
    assert f"{path} line 304: y 7 is none of 0, 1, 2" in message
    assert not (tmp_path / "prepared").exists()
    kept = [
        json.loads(text)
        for file in (tmp_path / "prepared.dead_letters").iterdir()
        for text in file.read_text().splitlines()
    ]
    assert sorted(letter["line"] for letter in kept) == [303, 304]
    assert build(tmp_path, arguments, max_dead_share=0.01).counts.events_dead == 2


def test_bad_rows_of_items_and_users_are_kept_aside_too(tmp_path: Path) -> None:
    tables = random_logs(events=60)
    arguments = write_logs(tmp_path / "raw", tables, ".csv")
    build(tmp_path, arguments, "clean")
    for log, bad in (("items", b"x,a,x,1.0\n"), ("users", b",25+\n")):
        path = Path(arguments[log])
        path.write_bytes(path.read_bytes() + bad)
    counts = build(tmp_path, arguments, "spoilt", max_dead_share=0.1).counts
    assert (counts.items_read, counts.items_dead, counts.users_read, counts.users_dead) == (26, 1, 11, 1)
    assert without_letters(tmp_path / "spoilt") == without_letters(tmp_path / "clean")
    assert len(list((tmp_path / "spoilt/dead_letters").iterdir())) == 2


def test_whole_numbers_written_as_floats_and_empty_cells_are_sound(tmp_path: Path) -> None:
    wanted = LogColumns("events", {"u": "int", "place": "string", "play": "float"}, ("u",))
    file = tmp_path / "e.jsonl"
    file.write_text('{"u": 3.0, "place": "", "play": 2}\n\n{"u": 4, "extra": [1]}\n')
    (block,) = read_logs.read_chunk(wanted, read_logs.Chunk(read_logs.LogFile(0, str(file), 999), 0, 0, 999))
    assert block.table.to_pylist() == [{"u": 3, "place": None, "play": 2.0}, {"u": 4, "place": None, "play": None}]
    assert (block.read, block.lines, block.dead) == (2, 3, [])
    file = tmp_path / "e.csv"
    file.write_text('\ufeffplay, u,place,more\r\n, 3.0 ,"a, b",x\r\n2,4,,\r\n', encoding="utf-8", newline="")
    (block,) = read_logs.read_chunk(wanted, read_logs.Chunk(read_logs.LogFile(0, str(file), 999), 0, 0, 999))
    assert block.table.to_pylist() == [{"u": 3, "place": "a, b", "play": None}, {"u": 4, "place": None, "play": 2.0}]


def test_chunks_hold_every_line_exactly_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = log_columns(schema(), "users")
    rows = [{"user": n, "age_group": "x" * (n % 17)} for n in range(500)]
    path = write(tmp_path / "users.csv", rows)
    for size in (1, 7, 64, 1000, 10_000):
        monkeypatch.setattr(read_logs, "CHUNK_BYTES", size)
        monkeypatch.setattr(read_logs, "BLOCK_BYTES", max(3, size // 3))
        chunks = read_logs.plan_chunks(read_logs.LogFile(0, str(path), path.stat().st_size))
        found = [
            user
            for chunk in chunks
            for block in read_logs.read_chunk(wanted, chunk)
            for user in block.table["user"].to_pylist()
        ]
        assert found == list(range(500))


def test_seven_kinds_of_damage_in_one_percent_of_a_log_change_nothing_else(tmp_path: Path) -> None:
    reasons = {
        b'{"u": 1, "i"': "not JSON: ",
        line(play="much"): "play is not a number: 'much'",
        line(i=None): "no i",
        b'{"u": 1, "place": "\xff\xfe"}': "not UTF-8: byte 20",
        line(t=1 << 40): "t is in the future: 1099511627776",
        line(y=7): "y 7 is none of 0, 1, 2",
    }
    tables = random_logs(events=3000)
    arguments = write_logs(tmp_path / "raw", tables, ".jsonl.gz")
    path = Path(arguments["events"])
    good = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    parts: list[list[bytes]] = [good[:1000], good[1000:2000], good[2000:]]
    for part in parts:
        for place, bad in enumerate(list(reasons) * 2):
            part.insert(37 * (place + 1), bad + b"\n")
    members = [gzip.compress(b"".join(part)) for part in parts]
    cut = members[1][:-200]
    kept_text = zlib.decompressobj(31).decompress(cut)
    kept, partial = kept_text.count(b"\n"), kept_text.rpartition(b"\n")[2]
    assert partial
    assert len(parts[1]) - 40 < kept < len(parts[1]) - 1  # whole lines are lost too, and no bad one among them
    clean = [text for part in (parts[0], parts[1][:kept], parts[2]) for text in part if text[:-1] not in reasons]
    path.write_bytes(gzip.compress(b"".join(clean)))
    build(tmp_path, arguments, "clean")
    path.write_bytes(members[0] + cut + members[2])
    with pytest.raises(ConfigError, match=r"37 of \d+ rows of the events log are malformed, .*; damaged: .*events"):
        build(tmp_path, arguments, "spoilt")
    assert not (tmp_path / "spoilt").exists()
    manifest = build(tmp_path, arguments, "spoilt", max_dead_share=0.0125)
    assert without_letters(tmp_path / "spoilt") == without_letters(tmp_path / "clean")
    assert (tmp_path / "spoilt/_SUCCESS").exists()
    spoilt = [*parts[0], *parts[1][:kept], partial + b"\n", *parts[2]]
    places = {n: text[:-1] for n, text in enumerate(spoilt, 1) if text[:-1] in reasons or text == partial + b"\n"}
    start = len(members[0])
    reasons[partial] = (
        f"damaged gzip member at byte {start}: it ends early, another one begins at byte {start + len(cut)}"
    )
    check(manifest, tmp_path, len(clean), reasons, places, path)


def test_an_event_after_the_given_moment_has_not_happened(tmp_path: Path) -> None:
    arguments = write_logs(tmp_path / "raw", random_logs(events=100), ".csv")
    build(tmp_path, arguments, "clean")
    path = Path(arguments["events"])
    lines = path.read_bytes().splitlines(keepends=True)
    names, cells = (line.rstrip().split(b",") for line in lines[:2])
    late = b",".join(b"3601" if name == b"t" else cell for name, cell in zip(names, cells, strict=True))
    path.write_bytes(b"".join(lines) + late + b"\n")
    build(tmp_path, arguments, "spoilt", as_of="1970-01-01T01:00:00", max_dead_share=0.1)
    assert without_letters(tmp_path / "spoilt") == without_letters(tmp_path / "clean")
    (letter,) = letters(tmp_path / "spoilt")
    assert letter["reason"] == "t is in the future: 3601"
    assert build(tmp_path, arguments, "later", as_of="1970-01-01T02:00:01+01:00").counts.events_dead == 0
    with pytest.raises(ConfigError, match="as_of 'tomorrow' must be an ISO date and time"):
        build(tmp_path, arguments, "never", as_of="tomorrow")


def test_rows_of_a_row_group_that_is_read_in_parts_keep_their_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_log, "BATCH_ROWS", 3)
    rows = [{**GOOD, "u": None if n in (1, 2, 5) else n} for n in range(7)]
    path = write(tmp_path / "events.parquet", rows)  # one row group
    (chunk,) = read_logs.plan_chunks(read_logs.LogFile(0, str(path), path.stat().st_size))
    blocks = list(read_logs.read_chunk(log_columns(schema(), "events"), chunk))
    assert [block.lines for block in blocks] == [3, 3, 1]
    assert [dead.line for block in blocks for dead in block.dead] == [1, 2, 5]
