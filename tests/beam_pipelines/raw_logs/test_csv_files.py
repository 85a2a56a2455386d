"""CSV files as people have them: separators, no header line, quotes, encodings, line breaks inside fields."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from small_logs import schema

from beam_pipelines.raw_logs import read_logs
from beam_pipelines.raw_logs.csv_text import INNER_BREAK, as_utf8, one_record_a_line
from beam_pipelines.raw_logs.log_blocks import LogFile
from beam_pipelines.raw_logs.log_report import LogReport
from beam_pipelines.raw_logs.raw_columns import LogColumns
from beam_pipelines.raw_logs.text_lines import Lines
from twin_tf.core.dataclass_yaml import ConfigError, build
from twin_tf.features.log_files import CsvDialect, CsvFiles

Rows = list[tuple[int | None, str | None]]


def read(path: Path, content: bytes, **csv: Any) -> tuple[Rows, list[tuple[int, str]]]:
    path.write_bytes(content)
    wanted = LogColumns("items", {"u": "int", "s": "string"}, ("u",), csv=build(CsvFiles, csv, "schema.csv"))
    report = LogReport()
    rows, dead = [], []
    for chunk in read_logs.plan_chunks(LogFile(0, str(path), len(content)), wanted):
        for block in read_logs.read_chunk(wanted, chunk):
            report.add_block(chunk, block)
            rows += [(row["u"], row["s"]) for row in block.table.to_pylist()]
            dead += [(report.line_of(0, chunk.number, letter.line), letter.reason) for letter in block.dead]
    assert not report.faults, report.faults
    return rows, dead


NAMED = {"items": ["u", "s"]}
FILES: list[tuple[str, bytes, dict[str, Any], Rows]] = [
    ("a.csv", b"u;s\n1;a,b\n2;c\n", {"separator": ";"}, [(1, "a,b"), (2, "c")]),
    ("a.tsv", b"u\ts\n1\ta,b\n2\t\n", {}, [(1, "a,b"), (2, None)]),
    ("a.tsv", b"u\ts\n1\ta,b\n", {"separator": ";"}, [(1, "a,b")]),
    ("a.csv", b"u\x01s\n1\x01a,b\n", {"separator": "\x01"}, [(1, "a,b")]),
    ("a.csv", b"1,a\r\n2,b", {"columns": NAMED}, [(1, "a"), (2, "b")]),
    ("a.csv", b"\xef\xbb\xbf1,a\n2,b\n", {"columns": NAMED}, [(1, "a"), (2, "b")]),
    ("a.csv", b"u,s\n1,a\n", {"columns": {"events": ["x"]}}, [(1, "a")]),
    ("a.csv", b"x,u,y,s\n0,1,0,a\n", {"quote": ""}, [(1, "a")]),
    ("a.tsv", b'1\t"W" of\n2\t[{"a": 1}]\n', {"quote": "", "columns": NAMED}, [(1, '"W" of'), (2, '[{"a": 1}]')]),
    ("a.csv", b"u,s\n1,'a,b'\n2,it''s\n", {"quote": "'"}, [(1, "a,b"), (2, "it''s")]),
    ("a.csv", "u,s\n1,é€\n".encode("cp1252"), {"encoding": "cp1252"}, [(1, "é€")]),
    ("a.csv", "u,s\n1,é\n".encode("latin-1"), {"encoding": "latin-1"}, [(1, "é")]),
    ("a.csv", "u,s\r\n1,é€\r\n2,\u0a0a\r\n".encode("utf-16"), {"encoding": "utf-16"}, [(1, "é€"), (2, "\u0a0a")]),
    ("a.csv", b'u,s\n1,"a\r\nb"\n2,",\n\n""d"""\n', {"line_breaks": True}, [(1, "a\nb"), (2, ',\n\n"d"')]),
    ("a.csv", b'"u\n","s"\n1,a\n', {"line_breaks": True}, [(1, "a")]),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(FILES)))
@pytest.mark.parametrize("zipped", [False, True])
def test_a_csv_file_is_read_as_the_schema_says(number: int, zipped: bool, tmp_path: Path) -> None:
    name, content, csv, expected = FILES[number]
    if zipped:  # two members, cut anywhere
        name, content = f"{name}.gz", gzip.compress(content[:7]) + gzip.compress(content[7:])
    rows, dead = read(tmp_path / name, content, **csv)
    assert (rows, dead) == (expected, [])


def test_a_plain_file_that_is_called_gz_is_named(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv.gz", b"u,s\n1,a\n") == ([], [(1, "not a gzip file, it begins with b'u,s\\n1,a\\n'")])


BROKEN: list[tuple[bytes, dict[str, Any], Rows, list[tuple[int, str]]]] = [
    (
        b'u,s\n1,"a\nb"\nx,"c\nd"\n3,e\n',
        {"line_breaks": True},
        [(1, "a\nb"), (3, "e")],
        [(4, "u is not a whole number: 'x'")],
    ),
    (
        b'u,s\n1,"a\n2,b\n3,"c\nd"\n4,e\n',
        {"line_breaks": True},
        [(2, "b"), (3, "c\nd"), (4, "e")],
        [(2, "not CSV: a quote that is not closed in its line")],
    ),
    (
        b'u,s\n1,"a\n2,b\n',
        {"line_breaks": True},
        [(2, "b")],
        [(2, "not CSV: a quote that is not closed in its line")],
    ),
    (
        b'u,s\n1,5" tube\n2,"7"" tube"\n3,"x ""8"" tube"\n',
        {"line_breaks": True},
        [(2, '7" tube'), (3, 'x "8" tube')],
        [(2, "not CSV: a quote that is not closed in its line")],
    ),
    (b"1,a\n2\n", {"columns": NAMED}, [(1, "a")], [(2, "1 fields where the schema (csv.columns) has 2")]),
    (b"u,s\n1,\x81\n2,b\n", {"encoding": "cp1252"}, [(2, "b")], [(2, "not cp1252")]),
    ("u,s\n1,a\n".encode("utf-16") + b"\x00\xd8\n\x00", {"encoding": "utf-16"}, [(1, "a")], [(3, "not utf-16")]),
]


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_a_broken_record_costs_itself_alone(number: int, tmp_path: Path) -> None:
    content, csv, rows, dead = BROKEN[number]
    assert read(tmp_path / "a.csv", content, **csv) == (rows, dead)


def test_records_are_the_same_wherever_blocks_and_chunks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joined = "".join(f'{n},"é{n},\n""x""\r\n{n}"\n' if n % 3 else f"{n},é\n" for n in range(40))
    whole = [(n, f'é{n},\n"x"\n{n}' if n % 3 else "é") for n in range(40)]
    plain = "".join(f"{n},é\n" for n in range(40))
    for size in (1, 7, 50, 1000):
        monkeypatch.setattr(read_logs, "BLOCK_BYTES", size)
        monkeypatch.setattr(read_logs, "CHUNK_BYTES", size)
        for encoding in ("utf-8", "utf-16"):
            content = f"u,s\n{joined}".encode(encoding)
            assert read(tmp_path / "a.csv", content, line_breaks=True, encoding=encoding) == (whole, [])
        for csv in ({}, {"columns": NAMED}):
            content = (plain if csv else f"u,s\n{plain}").encode("latin-1")
            assert read(tmp_path / "b.csv", content, encoding="latin-1", **csv)[0] == [(n, "é") for n in range(40)]


def test_a_stray_quote_does_not_take_the_rest_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beam_pipelines.raw_logs.csv_text.LONGEST_RECORD", 20)
    blocks = [Lines(b'1,"a\n2,b\n'), Lines(b"3,c\n" * 4), Lines(b'4,"d\n'), Lines(b'e"\n')]
    found = [lines.text for lines in one_record_a_line(blocks, CsvDialect(line_breaks=True))]
    assert found == [b"", b'1,"a\n2,b\n' + b"3,c\n" * 4, b"", f'4,"d{INNER_BREAK}e"\n'.encode()]


def test_text_that_cannot_be_decoded_is_no_utf8() -> None:
    assert b"".join(as_utf8([b"a\x81", b"b\x80\n"], "cp1252")) == b"a\xffb\xe2\x82\xac\n"
    assert b"".join(as_utf8([b"a\x00\x00", b"\xd8b\x00", b"\x00"], "utf-16-le")) == b"a\xffb\xff"


def test_a_file_of_utf16_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="it is UTF-16 by its first bytes; set schema.csv.encoding: utf-16"):
        read(tmp_path / "a.csv", "u,s\n1,a\n".encode("utf-16"))


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"separator": "::"}, "separator must be one ASCII character that is no letter, digit or line end, not '::'"),
    ({"separator": "a"}, "separator must be one ASCII character"),
    ({"separator": "¦"}, "separator must be one ASCII character"),
    ({"quote": ","}, "quote must be one ASCII character that is no letter, digit or separator, or '' where"),
    ({"encoding": "utf-32"}, "schema.csv.encoding must be one of utf-8, latin-1, cp1252, utf-16, not 'utf-32'"),
    ({"quote": "", "line_breaks": True}, "line_breaks needs a quote"),
    ({"columns": {"event": ["a"]}}, "columns names 'event', which is no log; did you mean 'events'?"),
    ({"columns": {"events": ["a", "b", "a"]}}, "columns.events names 'a' twice"),
    ({"columns": {"events": []}}, "columns.events names no column"),
]


@pytest.mark.parametrize(("csv", "message"), MISTAKES)
def test_a_wrong_csv_section_is_refused(csv: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(CsvFiles, csv, "schema.csv")
    assert message in str(refused.value)


def test_how_files_are_written_is_no_part_of_an_encoding() -> None:
    plain, other = schema(), schema(csv={"separator": ";"})
    assert "csv" not in plain.to_plain()
    assert plain.contents_fingerprint == other.contents_fingerprint
    assert plain.fingerprint != other.fingerprint
