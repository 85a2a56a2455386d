"""Which version a refresh takes the graph of, and what those hear who want the base path while it works."""

import functools

import pytest

from export.publishing import version_store
from export.publishing.publisher import publish, roll_back
from export.publishing.refresh import _newest
from export.publishing.version_store import PublishError, only_publisher
from tests.export.publishing.tiny_models import write_model
from twin_tf.core.file_lock import file_lock


def test_a_damaged_newest_version_is_passed_over_and_named(tmp_path, capsys):
    for number in ("1", "2", "3", "4"):
        write_model(tmp_path / number, manifest=True)
    assert _newest(tmp_path) == tmp_path / "4" and not capsys.readouterr().err
    (tmp_path / "4/variables/variables.index").write_bytes(b"Index")
    (tmp_path / "3/saved_model.pb").unlink()
    assert _newest(tmp_path) == tmp_path / "2"
    head, tail = f"warning: {tmp_path}: version", "; version 2 is refreshed in its place"
    assert capsys.readouterr().err.splitlines() == [
        f"{head} 4 is passed over: variables/variables.index is damaged: its SHA-256 is another{tail}",
        f"{head} 3 is passed over: saved_model.pb is missing{tail}",
    ]


def test_without_a_sound_version_every_fault_is_named(tmp_path):
    with pytest.raises(PublishError, match="holds no version to refresh; export one and publish it first$"):
        _newest(tmp_path / "none")
    write_model(tmp_path / "1", manifest=True)
    (tmp_path / "1/saved_model.pb").write_bytes(b"grAph")
    with pytest.raises(PublishError, match=r"publish it first \(version 1 is passed over: saved_model.pb is damaged"):
        _newest(tmp_path)


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ("refresh", r"a refresh \(process \d+\) is at work in \S+; try again when it has finished"),
        ("rollback", r"a rollback \(process \d+\) is at work"),
        ("", "another publisher is at work"),
    ],
)
def test_whoever_holds_the_base_path_is_named(tmp_path, monkeypatch, job, said):
    monkeypatch.setattr(version_store, "file_lock", functools.partial(file_lock, patience=0.0))
    model = write_model(tmp_path / "model")
    base = tmp_path / "base"
    base.mkdir()
    with only_publisher(base, "publish"):  # what an earlier holder said is not told of the next
        pass
    with only_publisher(base, job):
        for change in (lambda: roll_back(base), lambda: publish(model, base)):
            with pytest.raises(PublishError, match=said):
                change()
