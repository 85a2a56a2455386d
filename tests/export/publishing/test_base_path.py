"""Whatever lies in a base path: publishing and retiring go on; what is foreign is named, not followed, not touched."""

import json
import os
import shutil

import pytest

from export.contract.file_manifest import MANIFEST, fault
from export.contract.version_layout import look, version_numbers
from export.publishing import version_store
from export.publishing.publisher import PublishError, publish, roll_back
from export.publishing.version_store import hidden_numbers, whole_versions
from tests.export.publishing.tiny_models import pass_the_gate, write_model

NOW = 1_800_000_000


@pytest.fixture(autouse=True)
def gate(monkeypatch):
    pass_the_gate(monkeypatch)
    clock = iter(range(NOW, NOW + 10_000))
    monkeypatch.setattr(version_store.time, "time", lambda: next(clock))


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


@pytest.fixture
def base(tmp_path):
    (tmp_path / "base").mkdir()
    return tmp_path / "base"


def a_directory(path, _):
    path.mkdir()
    (path / "content").write_text("somebody's")


def a_file(path, _):
    path.write_text("somebody's")


def a_link(path, target):
    path.symlink_to(target)


def an_empty_directory(path, _):
    path.mkdir()


FOREIGN = [
    ("0001700000000", a_directory, "zeros before its number"),
    ("1700000000", a_link, "a link"),
    ("1700000001", a_file, "a file"),
    ("1700000002", an_empty_directory, "empty"),
    ("2024", a_directory, "no model in it"),
    (str(2**63 - 1), a_directory, "more than 18 digits"),
    ("9" * 20, a_directory, "more than 18 digits"),
    (".outgoing-9", a_file, "a file"),
    (".incoming-9", a_file, "a file"),
    (".incoming-9", a_link, "a link"),
    (".outgoing-9", a_link, "a link"),
    (".incoming-of-mine", a_directory, "not named by a number"),
    (".rolled-back-9", a_link, "a link"),
    (".rolled-back.json", a_link, "a link"),
    (".rolled-back.json", a_directory, "not named by a number"),
    (".publish.lock", a_link, "a link"),
    (".publish.lock", a_directory, "not named by a number"),
    ("readme", a_file, "a file"),
    ("dangling", lambda path, _: path.symlink_to("nowhere"), "a link"),
]


def state(path):
    """What an entry is and holds, without following it."""
    status = path.lstat()
    inside = [(str(p.relative_to(path)), p.read_bytes()) for p in path.rglob("*") if p.is_file()]
    content = path.read_bytes() if path.is_file() else b""
    return status.st_ino, status.st_mode, status.st_mtime_ns, sorted(inside), content


@pytest.mark.parametrize(("name", "make", "why"), FOREIGN, ids=lambda value: getattr(value, "__name__", value))
def test_what_is_foreign_is_named_once_and_left_alone(tmp_path, base, model, capsys, name, make, why):
    elsewhere = write_model(tmp_path / "elsewhere") if name != ".publish.lock" else tmp_path / "target"
    if name == ".publish.lock":
        elsewhere.write_text("not to be truncated")
    make(base / name, elsewhere)
    before, target = state(base / name), state(elsewhere)
    published = []
    for _ in range(4):
        published.append(int(publish(model, base, keep=2).name))
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1 and said[0].startswith(f"warning: {base} holds no version of ours and left alone: ")
        assert f"{name} ({why})" in said[0]
    assert version_numbers(base) == whole_versions(base) == published[2:]
    roll_back(base)
    assert version_numbers(base) == published[2:3]
    publish(model, base, keep=2)
    assert (state(base / name), state(elsewhere)) == (before, target)
    assert not look(base).leftovers


def test_all_of_it_at_once_is_one_line(tmp_path, base, model, capsys):
    for name, make, _ in FOREIGN:
        if not os.path.lexists(base / name):
            make(base / name, model)
    first = publish(model, base)
    assert version_numbers(base) == [int(first.name)]
    (said,) = capsys.readouterr().err.splitlines()
    assert said.count("(") == 5 and " more; TensorFlow Serving takes 9223372036854775807 for the newest version" in said


def test_names_that_something_foreign_has_taken_are_passed_over(base, model):
    write_model(base / "9")
    for name in (".outgoing-9", ".rolled-back-9", f".incoming-{os.getpid()}"):
        a_file(base / name, None)
    for _ in range(2):
        publish(model, base, keep=2)
    assert len(version_numbers(base)) == 2
    write_model(base / "4000000000")
    a_file(base / ".rolled-back-4000000000", None)
    roll_back(base)
    assert look(base).hidden == [(4_000_000_000, ".rolled-back-4000000000-1")]
    assert [(base / name).read_text() for name in (".outgoing-9", ".rolled-back-9")] == ["somebody's"] * 2


@pytest.mark.parametrize("name", ["0001900000000", "1900000000", " 1900000000 "])
def test_a_number_that_the_server_would_read_is_counted_on_from(base, model, name):
    a_file(base / name, None) if name[0] != "0" else a_directory(base / name, None)
    assert publish(model, base).name == "1900000001"


def test_a_lock_by_another_name_still_lets_one_publisher_in(tmp_path, base, model):
    a_link(base / ".publish.lock", tmp_path / "elsewhere")
    with version_store.only_publisher(base), pytest.raises(PublishError, match="another publisher is at work"):
        publish(model, base)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"[]", b'{"x": 5}', b"{}", b"null", b"not JSON", b"\xff\xfe", b"[" * 100_000, b"9" * 5_000,
        b'{"../../model/saved_model.pb": {"bytes": 5, "sha256": "0"}}',
        b'{"saved_model.pb": {"bytes": "5", "sha256": "0"}}',
        b'{"saved_model.pb": {"bytes": 5}}',
    ],
    ids=range(11),
)  # fmt: skip
def test_a_manifest_of_anything_is_a_version_that_cannot_be_served(base, model, content):
    good = int(publish(model, base).name)
    bad = publish(model, base)
    (bad / MANIFEST).write_bytes(content)
    assert fault(bad).startswith(MANIFEST)
    assert "\n" not in fault(bad)
    assert whole_versions(base) == [good]
    newest = int(publish(model, base, keep=2).name)
    assert version_numbers(base) == [good, int(bad.name), newest]
    assert roll_back(base) == base / str(good)


def test_a_clock_that_goes_back_still_numbers_above_what_is_served(base, model, monkeypatch, capsys):
    live = int(publish(model, base).name)
    monkeypatch.setattr(version_store.time, "time", lambda: live - 5_000)
    assert int(publish(model, base).name) == live + 1
    roll_back(base)
    assert int(publish(model, base).name) == live + 2  # no number comes twice within a day
    assert capsys.readouterr().err == ""


def test_a_clock_that_ran_ahead_is_forgotten_once_its_versions_are_rolled_back(base, model, capsys):
    first = publish(model, base)
    write_model(base / "4000000000")
    ahead = int(publish(model, base).name)
    assert ahead == 4_000_000_001
    roll_back(base, to=int(first.name))
    assert "is ahead of this clock" in capsys.readouterr().err
    assert hidden_numbers(base) == [4_000_000_000, ahead]
    assert NOW < int(publish(model, base).name) < NOW + 10_000
    assert capsys.readouterr().err == ""


def test_a_version_that_cannot_be_read_is_left_alone(base, model, monkeypatch, capsys):
    write_model(base / "5")
    scandir = os.scandir

    def denied(path):
        if str(getattr(path, "path", path)).endswith("/5"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)  # root, who runs tests in containers, may read everything
    for _ in range(3):
        publish(model, base, keep=2)
    assert "5 (cannot be read: Permission denied)" in capsys.readouterr().err
    assert (base / "5/saved_model.pb").is_file()
    assert len(version_numbers(base)) == 2


def test_what_cannot_be_removed_fails_no_publish(base, model, monkeypatch, capsys):
    write_model(base / "5")
    rmtree = shutil.rmtree

    def stubborn(path, *arguments, **options):
        if str(path).endswith(".outgoing-5"):
            raise PermissionError(13, "Permission denied", str(path))
        rmtree(path, *arguments, **options)

    monkeypatch.setattr(shutil, "rmtree", stubborn)
    published = [int(publish(model, base, keep=2).name) for _ in range(4)]
    assert version_numbers(base) == published[2:]
    assert f"{base / '.outgoing-5'} cannot be removed: Permission denied" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    publish(model, base, keep=2)
    assert not look(base).leftovers


def test_thirty_publishes_and_killed_publishers_fill_no_disk(base, model):
    for number in range(30):
        for leftover in (f".incoming-{number}", f".outgoing-{number}", f".incoming-{number}-1"):
            write_model(base / leftover)
        (base / f"..rolled-back.json.{number}.tmp").write_text("{")
        publish(model, base, keep=2)
        if number % 5 == 4:
            roll_back(base)
        assert len(list(base.iterdir())) <= 2 + 2 + 1 + 2  # versions, hidden ones and the one just hidden, two files
    publish(model, base, keep=2)
    assert sorted(path.name.partition("-")[0] for path in base.iterdir() if not path.name.isdigit()) == [
        ".publish.lock",
        *[".rolled"] * 2,
    ]


def test_versions_that_the_server_refuses_fill_no_disk(base, model, monkeypatch):
    publish(model, base)
    monkeypatch.setattr("export.publishing.publisher.refusal", lambda *_: "the server refuses it")
    for _ in range(10):
        with pytest.raises(PublishError, match="is taken back"):
            publish(model, base, keep=2, watcher=object())
    assert len(version_numbers(base)) == 1
    assert len(hidden_numbers(base)) == 2


def test_a_flipped_byte_of_assets_extra_is_seen_by_its_checksum_alone(base, model):
    good = publish(model, base)
    bad = publish(model, base)
    publish(model, base)
    path = bad / "assets.extra/vocabulary.json"
    path.write_bytes(path.read_bytes().replace(b"ios", b"iot"))
    assert fault(bad) == "assets.extra/vocabulary.json is damaged: its SHA-256 is another"
    with pytest.raises(PublishError, match=r"vocabulary\.json is damaged: its SHA-256 is another$"):
        publish(bad, base)
    assert roll_back(base) == good


def test_a_manifest_lists_what_it_was_written_for(base, model):
    listed = json.loads((publish(model, base) / MANIFEST).read_text())
    assert sorted(listed) == [
        "assets.extra/export.json",
        "assets.extra/vocabulary.json",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
