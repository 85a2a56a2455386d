"""A run that was rolled back is remembered until a newer one is published."""

import pytest

from export.contract.version_layout import ROLLED_BACK, version_numbers
from export.publishing import rollbacks
from export.publishing.publisher import publish, roll_back
from export.publishing.rollbacks import RolledBack, rolled_back
from tests.export.publishing.tiny_models import pass_the_gate, write_model


@pytest.fixture(autouse=True)
def gate(monkeypatch):
    pass_the_gate(monkeypatch)


@pytest.fixture
def base(tmp_path):
    """A base path with the versions of runs 1, 2 and 3, under these numbers, the last two rolled back."""
    for run in (1, 2, 3):
        write_model(tmp_path / "base" / str(run), run, manifest=True)
    roll_back(tmp_path / "base", to=1)
    return tmp_path / "base"


def remembered(base):
    return [entry.weights_version for entry in rolled_back(base)]


def test_what_was_rolled_back_is_written_down(base):
    assert rolled_back(base) == [RolledBack(2, "run-2", 2), RolledBack(3, "run-3", 3)]
    assert version_numbers(base) == [1]


@pytest.mark.parametrize(("run", "left"), [(1, [2, 3]), (2, [3]), (3, []), (4, [])])
def test_a_run_is_forgotten_when_it_or_a_newer_one_is_published(tmp_path, base, run, left):
    publish(write_model(tmp_path / "model", run), base)
    assert remembered(base) == left
    assert (base / ROLLED_BACK).exists() == bool(left)


def test_a_second_rollback_adds_to_the_first(tmp_path, base):
    published = publish(write_model(tmp_path / "model", 1), base)
    roll_back(base)
    assert rolled_back(base)[-1] == RolledBack(int(published.name), "run-1", 1)
    assert remembered(base) == [2, 3, 1]


def test_a_version_that_is_put_back_by_hand_is_not_rolled_back(base):
    (base / ".rolled-back-2").rename(base / "2")
    assert remembered(base) == [3]


def test_a_rollback_that_is_killed_before_it_begins_forbids_nothing(tmp_path, monkeypatch):
    for run in (1, 2):
        write_model(tmp_path / str(run), run, manifest=True)
    killed = KeyboardInterrupt
    monkeypatch.setattr("export.publishing.publisher.hide_version", lambda *_: (_ for _ in ()).throw(killed))
    with pytest.raises(killed):
        roll_back(tmp_path)
    assert (tmp_path / ROLLED_BACK).exists()
    assert remembered(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [b"[]", b"", b"\xff", b'{"rolled_back": 5}', b'{"rolled_back": [[]]}', b'{"rolled_back": [{"version": 1}]}'],
)
def test_a_file_that_nobody_wrote_is_nothing_and_is_replaced(tmp_path, base, content):
    (base / ROLLED_BACK).write_bytes(content)
    assert remembered(base) == []
    publish(write_model(tmp_path / "model", 4), base)
    roll_back(base)
    assert remembered(base) == [4]


def test_a_version_that_says_no_run_is_rolled_back_all_the_same(tmp_path):
    for run in (1, 2):
        write_model(tmp_path / str(run), run)
        (tmp_path / str(run) / "assets.extra/export.json").unlink()
    assert roll_back(tmp_path) == tmp_path / "1"
    assert remembered(tmp_path) == []


@pytest.mark.parametrize("taken", ["link", "full disk"])
def test_a_rollback_that_cannot_be_remembered_is_done_with_a_warning(tmp_path, monkeypatch, capsys, taken):
    base = tmp_path / "base"
    for run in (1, 2):
        write_model(base / str(run), run, manifest=True)
    if taken == "link":
        (base / ROLLED_BACK).symlink_to(tmp_path / "elsewhere")
    else:
        monkeypatch.setattr(rollbacks, "write_whole", full)
    assert roll_back(base) == base / "1"
    said = capsys.readouterr().err
    assert "warning: the rollback is not remembered, so stop the refresh of its run: " in said
    assert not (tmp_path / "elsewhere").exists()
    publish(write_model(tmp_path / "model", 4), base)
    assert version_numbers(base)[0] == 1


def test_what_cannot_be_forgotten_fails_no_publish(tmp_path, base, monkeypatch, capsys):
    monkeypatch.setattr(rollbacks, "write_whole", full)
    published = publish(write_model(tmp_path / "model", 2), base)
    assert version_numbers(base) == [1, int(published.name)]
    assert "are still remembered: [Errno 28] No space left on device" in capsys.readouterr().err


def full(*_, **__):
    raise OSError(28, "No space left on device")
