"""Damaged gzip files: what lies before and behind a damage is read, nothing else is believed, the loss is counted."""

import gzip
import random
import zlib
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines.raw_logs import gzip_lines, read_logs, text_lines
from beam_pipelines.raw_logs.log_blocks import Block, Chunk, LogFile
from beam_pipelines.raw_logs.log_report import LogReport
from beam_pipelines.raw_logs.raw_columns import LogColumns

WANTED = LogColumns("events", {"u": "int", "p": "string"}, ("u",))


def rows(start: int, stop: int) -> list[bytes]:
    chance = random.Random(start)
    return [b'{"u": %d, "p": "%x"}\n' % (n, chance.getrandbits(64)) for n in range(start, stop)]


def member(start: int, stop: int) -> bytes:
    return gzip.compress(b"".join(rows(start, stop)), mtime=0)


def read(path: Path, content: bytes) -> tuple[list[int], list[tuple[int, str, str]], LogReport]:
    path.write_bytes(content)
    chunk = Chunk(LogFile(0, str(path), len(content)), 0, 0, len(content))
    blocks: list[Block] = list(read_logs.read_chunk(WANTED, chunk))
    report = LogReport()
    for block in blocks:
        report.add_block(chunk, block)
    users = [user for block in blocks for user in block.table["u"].to_pylist()]
    dead = [(1 + letter.line, letter.reason, letter.payload) for block in blocks for letter in block.dead]
    return users, dead, report


@pytest.fixture(params=[(1 << 22, 1 << 18), (1000, 1 << 18), (50, 16), (1 << 22, 64)])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    block, compressed = request.param
    monkeypatch.setattr(read_logs, "BLOCK_BYTES", block)
    monkeypatch.setattr(gzip_lines, "INPUT_BYTES", compressed)


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("padding", [b"", b"\x00" * 3, b"\x00" * 1024])
def test_members_are_read_one_after_another(padding: bytes, tmp_path: Path) -> None:
    content = padding.join([member(0, 300), gzip.compress(b""), member(300, 301), member(301, 900)]) + padding
    users, dead, report = read(tmp_path / "e.jsonl.gz", content)
    assert (users, dead, report.lost_bytes) == (list(range(900)), [], 0)
    assert (report.bytes, report.damaged) == (len(content), [])


@pytest.mark.usefixtures("sizes")
def test_lines_may_run_over_members(tmp_path: Path) -> None:
    text = b"".join(rows(0, 500))
    content = b"".join(gzip.compress(text[n : n + 700]) for n in range(0, len(text), 700))
    assert read(tmp_path / "e.jsonl.gz", content)[:2] == (list(range(500)), [])


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("missing", [1, 4, 8, 9, 300, 2000])
def test_a_member_that_is_cut_short_ends_where_the_next_one_begins(missing: int, tmp_path: Path) -> None:
    first, second = member(0, 400), member(400, 800)
    cut = second[:-missing]
    text = zlib.decompressobj(31).decompress(cut)
    whole, partial = text.count(b"\n"), text.rpartition(b"\n")[2].decode()
    start, third = len(first), len(first) + len(cut)
    users, dead, report = read(tmp_path / "e.jsonl.gz", first + cut + member(800, 900))
    assert users == [*range(400 + whole), *range(800, 900)]
    why = f"damaged gzip member at byte {start}: it ends early, another one begins at byte {third}"
    assert dead == [(401 + whole, why, partial)]
    assert (report.lost_bytes, report.damaged) == (0, [str(tmp_path / "e.jsonl.gz")])


def test_a_file_cut_anywhere_gives_its_whole_lines_and_one_letter(tmp_path: Path) -> None:
    content = member(0, 60)
    for length in range(1, len(content)):
        text = zlib.decompressobj(31).decompress(content[:length])
        users, dead, report = read(tmp_path / "e.jsonl.gz", content[:length])
        assert users == list(range(text.count(b"\n")))
        ((at, reason, payload),) = dead
        assert (at, payload) == (len(users) + 1, text.rpartition(b"\n")[2].decode())
        assert "the file ends inside it" in reason or length == 1
        assert report.damaged
    assert read(tmp_path / "e.jsonl.gz", content)[:2] == (list(range(60)), [])


@pytest.mark.usefixtures("sizes")
def test_a_damaged_stretch_is_skipped_and_its_bytes_are_counted(tmp_path: Path) -> None:
    first, second, third = member(0, 400), bytearray(member(400, 2000)), member(2000, 2300)
    half = len(second) // 2
    second[half:] = random.Random(2).randbytes(len(second) - half)
    users, dead, report = read(tmp_path / "e.jsonl.gz", first + bytes(second) + third)
    sound = [user for user in users if user < 2000]
    assert sound == list(range(len(sound)))
    assert 1000 < len(sound) < 1400
    assert users[len(sound) :] == list(range(2000, 2300))
    damage = [reason for _, reason, _ in dead if "damaged gzip member" in reason]
    assert [reason.partition(":")[0] for reason in damage] == [f"damaged gzip member at byte {len(first)}"]
    assert half / 2 < report.lost_bytes <= len(second) - half


def test_a_wrong_checksum_is_one_letter_and_loses_no_line(tmp_path: Path) -> None:
    first = bytearray(member(0, 100))
    first[-8] ^= 1
    users, dead, _ = read(tmp_path / "e.jsonl.gz", bytes(first) + member(100, 200))
    assert users == list(range(200))
    assert [(at, payload) for at, _, payload in dead] == [(101, "")]
    assert "incorrect data check" in dead[0][1]


@pytest.mark.usefixtures("sizes")
def test_a_header_that_does_not_begin_a_member_is_not_believed(tmp_path: Path) -> None:
    magic = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"
    stored = zlib.compressobj(9, zlib.DEFLATED, -15)
    binary = stored.compress(b"\x00\x01\x02 not text\n" * 50) + stored.flush()
    fakes = magic + b"\x07\xff\xfe" * 9 + magic + binary + magic
    broken = member(0, 100)[:-300] + random.Random(2).randbytes(9000) + fakes + magic
    users, dead, report = read(tmp_path / "e.jsonl.gz", broken + member(500, 600))
    assert users[-100:] == list(range(500, 600))
    assert users[:-100] == list(range(len(users) - 100))
    assert 50 < len(users[:-100]) < 100
    assert len([reason for _, reason, _ in dead if "damaged" in reason]) == 1
    assert report.lost_bytes > len(fakes)
    # Stored without compression, the same bytes lie inside a sound member as they are.
    text = b'{"u": 1, "p": "' + magic + b'"}\n'
    users, dead, report = read(tmp_path / "e.jsonl.gz", gzip.compress(text * 3, 0) + member(0, 9))
    assert users == list(range(9))
    assert [reason for _, reason, _ in dead] == ["not UTF-8: byte 17"] * 3
    assert report.damaged == []


def test_a_member_with_a_long_first_line_or_a_damage_of_its_own_is_found(tmp_path: Path) -> None:
    long = b'{"u": 7, "p": "%s"}\n' % random.Random(1).randbytes(200_000).hex().encode()
    users, dead, _ = read(tmp_path / "e.jsonl.gz", member(0, 50)[:-9] + gzip.compress(long) + member(8, 10))
    assert users == [*range(50), 7, 8, 9]
    assert len(dead) == 1
    users, dead, _ = read(tmp_path / "e.jsonl.gz", member(0, 50)[:-9] + member(100, 150)[:-9] + member(8, 10))
    assert users == [*range(50), *range(100, 150), 8, 9]
    assert len(dead) == 2


def bgzip(text: bytes) -> bytes:
    plain = gzip.compress(text, mtime=0)
    size = (len(plain) + 7).to_bytes(2, "little")
    return plain[:3] + b"\x04" + plain[4:10] + b"\x06\x00BC\x02\x00" + size + plain[10:]


@pytest.mark.parametrize(("blocked", "first"), [(gzip.compress, 1), (bgzip, 0), (bgzip, 2)])
def test_a_member_that_may_go_on_inside_a_line_gives_no_half_line(blocked: Any, first: int, tmp_path: Path) -> None:
    text = b"u,p\n" + b"".join(b"%d,x\n" % n for n in range(1000, 1600))
    members = [blocked(text[n : n + 1002]) for n in range(0, len(text), 1002)]
    members[first] = members[first][:-20]
    users, dead, _ = read(tmp_path / "e.csv.gz", b"".join(members))
    assert set(users) <= set(range(1000, 1600))
    assert [reason.partition(":")[0] for _, reason, _ in dead][1:] == ["its beginning is lost in a damaged gzip member"]


def test_a_file_that_is_not_gzip_or_empty_has_one_clear_outcome(tmp_path: Path) -> None:
    plain = b"".join(rows(0, 50))
    users, dead, report = read(tmp_path / "e.jsonl.gz", plain)
    assert users == []
    assert dead == [(1, """not a gzip file, it begins with b'{"u": 0,'""", "")]
    assert report.lost_bytes == report.bytes == len(plain)
    sentence = report.fault(WANTED, 0.005)
    assert sentence is not None
    assert sentence.startswith("1 of 1 rows of the events log are malformed")
    assert "not a gzip file" in sentence
    for nothing in (b"", gzip.compress(b""), gzip.compress(b"\n \n")):
        users, dead, report = read(tmp_path / "e.jsonl.gz", nothing)
        assert (users, dead, report.lost_bytes, report.damaged) == ([], [], 0, [])
        assert report.fault(WANTED, 0.005) == "the events log is empty: its files hold no rows"


def test_without_its_header_a_csv_file_is_lost(tmp_path: Path) -> None:
    content = gzip.compress(b"user_number,p\n1,a\n")[:16] + gzip.compress(b"2,b\n3,c\n")
    users, dead, report = read(tmp_path / "e.csv.gz", content)
    assert users == []
    assert len(dead) == 1
    assert report.lost_bytes == len(content)


def test_headers_of_joined_csv_files_are_no_rows(tmp_path: Path) -> None:
    part = gzip.compress(b"u,p\n1,a\n2,b\n")
    users, dead, _ = read(tmp_path / "e.csv.gz", part * 3)
    assert (users, dead) == ([1, 2, 1, 2, 1, 2], [])


def test_the_share_of_lost_bytes_fails_a_log_whose_rows_look_fine(tmp_path: Path) -> None:
    broken = bytearray(member(1000, 3000))
    broken[4000:] = random.Random(2).randbytes(len(broken) - 4000)
    _, dead, report = read(tmp_path / "e.jsonl.gz", member(0, 1000) + bytes(broken))
    assert len(dead) < 0.01 * report.read
    sentence = report.fault(WANTED, 0.01)
    assert sentence is not None
    assert sentence.startswith(f"{report.lost_bytes} of {report.bytes} bytes of the events log are in damaged files")
    assert sentence.endswith(f"; damaged: {tmp_path / 'e.jsonl.gz'}")
    assert report.fault(WANTED, 0.9) is None


def test_memory_does_not_grow_with_what_a_file_decompresses_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "LONGEST_LINE", 1 << 16)
    packer = zlib.compressobj(9, wbits=31)
    zeros = b"".join(packer.compress(b"0" * (1 << 20)) for _ in range(64)) + packer.flush()
    largest = 0
    with (tmp_path / "e.gz").open("w+b") as stream:
        stream.write(zeros + member(0, 3))
        stream.seek(0)
        for piece in gzip_lines.gzip_pieces(stream, 1 << 16):
            assert isinstance(piece, bytes)
            largest = max(largest, len(piece))
    assert largest <= 1 << 16
    users, dead, _ = read(tmp_path / "e.jsonl.gz", zeros + gzip.compress(b"\n") + member(0, 3))
    assert users == [0, 1, 2]
    assert [reason for _, reason, _ in dead] == ["longer than 65536 bytes"]
    assert len(dead[0][2]) < 1 << 21
