"""Input nobody writes on purpose: the reader survives, keeps what is sound and names what is not."""

import os
from pathlib import Path

import pytest

from beam_pipelines.raw_logs import read_logs
from beam_pipelines.raw_logs.log_blocks import Chunk, LogFile
from beam_pipelines.raw_logs.log_report import LogReport
from beam_pipelines.raw_logs.raw_columns import LogColumns
from twin_tf.core.dataclass_yaml import ConfigError

WANTED = LogColumns("items", {"u": "int", "s": "string"}, ("u",))


def read(path: Path, content: bytes) -> tuple[list[tuple[int, str | None]], list[tuple[int, str]]]:
    path.write_bytes(content)
    report = LogReport()
    found, dead = [], []
    for chunk in read_logs.plan_chunks(LogFile(0, str(path), len(content))):
        for block in read_logs.read_chunk(WANTED, chunk):
            report.add_block(chunk, block)
            found += [(row["u"], row["s"]) for row in block.table.to_pylist()]
            dead += [(report.line_of(0, chunk.number, letter.line), letter.reason) for letter in block.dead]
    assert report.read == len(found) + len(dead)
    return found, dead


DEEP = b'{"u": 1, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
JSON: list[tuple[bytes, list[tuple[int, str | None]], list[tuple[int, str]]]] = [
    (b"", [], []),
    (b"\n\n  \n\t\n", [], []),
    (b"null\n", [], [(1, "not a JSON object but null")]),
    (b'null\n{"u": 1}\n', [(1, None)], [(1, "not a JSON object but null")]),
    (
        b'[]\n7\n"x"\ntrue\n',
        [],
        [(n + 1, f"not a JSON object but {k}") for n, k in enumerate(["list", "number", "text", "boolean"])],
    ),
    (b'{"u": 1}', [(1, None)], []),
    (b'\xef\xbb\xbf{"u": 1}\r\n\r\n{"u": 2}\r\n', [(1, None), (2, None)], []),
    (b'  {"u": 1}  \n\t{"u": 2}\n', [(1, None), (2, None)], []),
    (b'{"u": 1}{"u": 2}\n', [], [(1, "not JSON: Extra data: line 1 column 9 (char 8)")]),
    (b'{"u": 1} null {"u": 2}\n', [], [(1, "not JSON: Extra data: line 1 column 10 (char 9)")]),
    # Two objects on one line and one over two: as many objects as lines.
    (
        b'{"u": 1}{"u": 2}\n{"u":\n3}\n{"u": 4}\n',
        [(4, None)],
        [
            (1, "not JSON: Extra data: line 1 column 9 (char 8)"),
            (2, "not JSON: Expecting value: line 1 column 6 (char 5)"),
            (3, "not JSON: Extra data: line 1 column 2 (char 1)"),
        ],
    ),
    (b'{"u": 1, "s": "a\x00b"}\n', [], [(1, "not JSON: Invalid control character at: line 1 column 17 (char 16)")]),
    (b'\x00\x00\x00\n{"u": 1}\n', [(1, None)], [(1, "not JSON: Expecting value: line 1 column 1 (char 0)")]),
    (b'{"u": 1, "u": 2}\n', [], [(1, "u is there twice")]),
    (b'{"u": 1, "x": 1, "x": 2}\n', [(1, None)], []),
    (b'{"u": 1, "s": "\\ud800"}\n', [], [(1, "s is not text: half of a surrogate pair")]),
    (b'{"u": 1, "x": "\\ud800"}\n', [(1, None)], []),
    (b'{"u": 1, "x": NaN}\n{"u": NaN}\n', [(1, None)], [(2, "no u")]),
    (b'{"u": -0}\n{"u": -0.0}\n', [(0, None), (0, None)], []),
    (b'{"u": ' + b"9" * 5000 + b"}\n", [], [(1, "u is not a whole number: " + "9" * 77 + "...")]),
    (b'{"u": 1, "x": ' + b"9" * 5000 + b"}\n", [(1, None)], []),
    (b'{"u": {"a": 1}}\n', [], [(1, "u is not a whole number: {'a': '1'}")]),
    (DEEP + b"\n", [(1, None)], []),
    (
        DEEP + b'\n{"u": true\n{"u": 2}\n' + DEEP,
        [(1, None), (2, None), (1, None)],
        [(2, "not JSON: Expecting ',' delimiter: line 1 column 11 (char 10)")],
    ),
    (b"[" * 200_000 + b"\n", [], [(1, "not JSON: nested too deeply")]),
    (b'{"u": 1, "s": "' + b"x" * 10_000_000 + b'"}\n{"u": 2}\n', [(1, "x" * 10_000_000), (2, None)], []),
    (b"x" * 10_000_000 + b'\n{"u": 2}\n', [(2, None)], [(1, "not JSON: Expecting value: line 1 column 1 (char 0)")]),
]


@pytest.mark.parametrize("number", range(len(JSON)))
def test_odd_json_lines(number: int, tmp_path: Path) -> None:
    content, rows, dead = JSON[number]
    assert read(tmp_path / "e.jsonl", content) == (rows, dead)


CSV: list[tuple[bytes, list[tuple[int, str | None]], list[tuple[int, str]]]] = [
    (b"", [], []),
    (b"u,s", [], []),
    (b"u,s\n1,a", [(1, "a")], []),
    (b"\xef\xbb\xbfu,s\r\n1,a\r\n\r\n2,b\r\n", [(1, "a"), (2, "b")], []),
    (b'\xef\xbb\xbf"u","s"\n1,a\n', [(1, "a")], []),
    (b"u,s\n   \n\n1,a\n \t\n", [(1, "a")], []),
    (b"u,s\n1,\x00a\n2,b\n", [(1, "\x00a"), (2, "b")], []),
    (
        b"u,s\n1\n2,b,c\n3,d\n",
        [(3, "d")],
        [(2, "1 fields where the header has 2"), (3, "3 fields where the header has 2")],
    ),
    (b'u,s\n1,"a"b\n2,a"b"c\n3,""\n', [(1, "ab"), (2, 'a"b"c'), (3, None)], []),
    (
        b'u,s\n1,"a"b\n2,a"b"c\n3,""\nx\n',
        [(1, "ab"), (2, 'a"b"c'), (3, None)],
        [(5, "1 fields where the header has 2")],
    ),
    (b'u,s\n1,a"b,"c\n2,b\n', [(2, "b")], [(2, "not CSV: a quote that is not closed in its line")]),
    (b'u,s\n1"x,"c\n2,b\n', [(2, "b")], [(2, "not CSV: a quote that is not closed in its line")]),
    (b'u,s\n2,b\n1"x,"c\n', [(2, "b")], [(3, "not CSV: a quote that is not closed in its line")]),
    (b"u,s\n0x10,a\n00012,b\n-0,c\n", [(16, "a"), (12, "b"), (0, "c")], []),
    (b"u,s\n0x10,a\nx,b\n", [(16, "a")], [(3, "u is not a whole number: 'x'")]),
    (b"u,s\n1," + b"x" * 10_000_000 + b"\n2,b\n", [(1, "x" * 10_000_000), (2, "b")], []),
    (
        b"u,s\n1," + b"x" * 10_000_000 + b"\n2\n3,c\n",
        [(1, "x" * 10_000_000), (3, "c")],
        [(3, "1 fields where the header has 2")],
    ),
    (b"u,s\n1,\xff\n2,b\n", [(2, "b")], [(2, "not UTF-8: byte 3")]),
    ("u,s\n1,\u2028\u0085\n2,b\n".encode(), [(1, "\u2028\u0085"), (2, "b")], []),
    (b"s\na\n", [], [(2, "no u")]),
]


@pytest.mark.parametrize("number", range(len(CSV)))
def test_odd_csv_lines(number: int, tmp_path: Path) -> None:
    content, rows, dead = CSV[number]
    assert read(tmp_path / "e.csv", content) == (rows, dead)


def test_a_csv_file_whose_lines_end_with_carriage_returns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_bytes(b"u,s\r1,a\r2,b\r")
    (block,) = read_logs.read_chunk(WANTED, Chunk(LogFile(0, str(path), 12), 0, 0, 12))
    assert block.fault.startswith(f"{path}: its CSV header cannot be read: new-line character seen in unquoted field")


def test_a_line_has_the_same_fate_whatever_stands_beside_it(tmp_path: Path) -> None:
    for cases, suffix, header in ((JSON, "jsonl", b""), (CSV, "csv", b"u,s\n")):
        lines = {
            line
            for content, _, _ in cases
            for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
            if line.strip() and len(line) < 1000 and line.count(b'"') % 2 == 0 and b"u,s" not in line
        }
        alone = {line: read(tmp_path / f"alone.{suffix}", header + line + b"\n") for line in sorted(lines)}
        together = read(tmp_path / f"together.{suffix}", header + b"\n".join(sorted(lines)) + b"\n")
        assert together[0] == [row for rows, _ in alone.values() for row in rows]
        assert [reason for _, reason in together[1]] == [reason for _, dead in alone.values() for _, reason in dead]


def test_a_line_longer_than_the_limit_is_malformed_in_every_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_pipelines.raw_logs.text_lines.LONGEST_LINE", 1000)
    monkeypatch.setattr("beam_pipelines.raw_logs.text_lines._SEARCH_BYTES", 90)
    monkeypatch.setattr(read_logs, "BLOCK_BYTES", 100)
    content = b'{"u": 1}\n' + b"x" * 5000 + b'\n{"u": 2}\n' + b"y" * 5000
    for size in (50, 700, 4000, 1 << 20):
        monkeypatch.setattr(read_logs, "CHUNK_BYTES", size)
        rows, dead = read(tmp_path / "e.jsonl", content)
        assert rows == [(1, None), (2, None)]
        assert dead == [(2, "longer than 1000 bytes"), (4, "longer than 1000 bytes")]


def test_a_file_that_two_patterns_match_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logs").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "logs" / name).write_text("u,s\n1,a\n")
    (tmp_path / "logs/latest.csv").symlink_to(tmp_path / "logs/b.csv")
    (tmp_path / "logs/folder.csv").mkdir()
    monkeypatch.chdir(tmp_path)
    patterns = [f"{tmp_path}/logs/*.csv", "logs/a.csv", f"{tmp_path}/logs/../logs/b.csv", f"{tmp_path}/logs/a.*"]
    files = read_logs.match_files("items", patterns)
    assert [file.number for file in files] == [0, 1]
    found = sorted((os.path.realpath(file.path), file.size) for file in files)
    assert found == [(str(tmp_path / "logs" / name), 8) for name in ("a.csv", "b.csv")]


def test_a_bare_pattern_and_a_name_with_brackets_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.csv", "log1.csv", "log[1].csv", "log[2].csv"):
        (tmp_path / name).write_text("u,s\n1,a\n")
    monkeypatch.chdir(tmp_path)
    found = {
        pattern: [(file.path, file.size) for file in read_logs.match_files("items", [pattern])]
        for pattern in ("[ab].csv", "a.csv", "log[1].csv", "log?.csv", "*].csv", f"{tmp_path}/log[2].csv")
    }
    assert found == {
        "[ab].csv": [("a.csv", 8)],
        "a.csv": [("a.csv", 8)],
        "log[1].csv": [("log[1].csv", 8)],
        "log?.csv": [("log1.csv", 8)],
        "*].csv": [("log[1].csv", 8), ("log[2].csv", 8)],
        f"{tmp_path}/log[2].csv": [(f"{tmp_path}/log[2].csv", 8)],
    }


def test_a_pattern_that_matches_only_a_directory_matches_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigError, match=r"no file of the items log matches .*/\*\.csv"):
        read_logs.match_files("items", [f"{tmp_path}/*.csv"])


@pytest.mark.parametrize("name", ["e.csv", "e.jsonl.gz", "e.parquet"])
def test_a_file_that_vanishes_after_it_was_found_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    report = LogReport()
    chunks = read_logs.plan_chunks(LogFile(0, str(path), 100))
    for chunk in chunks or [Chunk(LogFile(0, str(path), 100), 0, 0, 100)]:
        for block in read_logs.read_chunk(WANTED, chunk):
            report.add_block(chunk, block)
    assert report.fault(WANTED, 1.0) == f"the items log cannot be used: {path}: No such file or directory"


@pytest.mark.parametrize("name", ["e.csv", "e.parquet"])
def test_a_file_that_may_not_be_read_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(read_logs, "open_raw", refused)  # a test may run as root, whom nothing is refused
    (chunk,) = read_logs.plan_chunks(LogFile(0, str(tmp_path / name), 100))
    (block,) = read_logs.read_chunk(WANTED, chunk)
    assert block.fault == f"{tmp_path / name}: Permission denied"


def test_a_disk_that_fails_is_no_fault_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "e.parquet"
    path.write_bytes(b"PAR1" * 10)

    class Failing:
        closed = False

        def __enter__(self) -> "Failing":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def seek(self, *_: int) -> int:
            raise OSError(5, "Input/output error")

        tell = read = seek

        def seekable(self) -> bool:
            return True

        readable = seekable

    monkeypatch.setattr(read_logs, "open_raw", lambda _: Failing())
    with pytest.raises(OSError, match="Input/output error"):
        read_logs.plan_chunks(LogFile(0, str(path), 40))
