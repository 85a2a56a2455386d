"""A version is checked, brought to the disk and shown, in this order: it appears when all that can fail is done."""

import os
from pathlib import Path

import pytest

from export.contract.file_manifest import MANIFEST, fault
from export.contract.version_layout import version_numbers
from export.publishing import publisher
from export.publishing.publisher import PublishError, publish
from tests.export.publishing.tiny_models import write_model


class Recorder:
    """What the publisher asks of the gate and of the file system, in order, and what a server saw meanwhile."""

    def __init__(self, monkeypatch, base, reason=""):
        self.base, self.reason, self.events, self.seen = base, reason, [], set()
        fsync, rename = os.fsync, os.rename

        def recorded_fsync(handle):
            self._record("fsync", Path(f"/proc/self/fd/{handle}").readlink())
            fsync(handle)

        def recorded_rename(source, target, **options):
            self._record("rename", Path(source), Path(target))
            rename(source, target, **options)

        monkeypatch.setattr(os, "fsync", recorded_fsync)
        monkeypatch.setattr(os, "rename", recorded_rename)
        monkeypatch.setattr(publisher, "validate_apart", self._gate)

    def _record(self, *event):
        self.events.append(event)
        self.seen.update(version_numbers(self.base))

    def _gate(self, directory, *_, **__):
        self._record("gate", Path(directory))
        return self.reason

    def appearance(self):
        """The index of the one rename to a version, and the directory that was renamed."""
        ((index, source),) = [
            (index, event[1])
            for index, event in enumerate(self.events)
            if event[0] == "rename" and event[2].parent == self.base and event[2].name.isdigit()
        ]
        return index, source


def test_the_gate_passes_and_all_is_on_the_disk_before_a_version_appears(tmp_path, monkeypatch):
    base, model = tmp_path / "base", write_model(tmp_path / "model")
    base.mkdir()
    recorder = Recorder(monkeypatch, base)
    published = publish(model, base)
    shown, written = recorder.appearance()
    before, after = recorder.events[:shown], recorder.events[shown + 1 :]
    assert [event for event in recorder.events if event[0] == "gate"] == [("gate", written)]
    gate = before.index(("gate", written))
    # Nothing that a server reads was there before, and every file and folder is on the disk as it was checked.
    flushed = {event[1] for event in before[gate:] if event[0] == "fsync"}
    inside = {written / path.relative_to(published) for path in published.rglob("*")}
    assert written / MANIFEST in inside
    assert flushed == inside | {written}
    assert after[0] == ("fsync", base)
    assert recorder.seen == {int(published.name)}
    assert fault(published) == ""


def test_what_the_gate_refuses_never_appears(tmp_path, monkeypatch):
    base, model = tmp_path / "base", write_model(tmp_path / "model")
    base.mkdir()
    recorder = Recorder(monkeypatch, base, "parity: too far off")
    with pytest.raises(PublishError, match=f"^{model} is not published: parity: too far off$"):
        publish(model, base)
    assert recorder.seen == set()
    assert [event[0] for event in recorder.events] == ["gate"]
    assert [path.name for path in base.iterdir()] == [".publish.lock"]


@pytest.mark.parametrize("fails", ["write_manifest", "publish_version"])
def test_what_fails_after_the_gate_never_appears_either(tmp_path, monkeypatch, fails):
    base, model = tmp_path / "base", write_model(tmp_path / "model")
    base.mkdir()
    recorder = Recorder(monkeypatch, base)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((publisher, fails, full) if fails == "write_manifest" else (os, "fsync", full)))
    with pytest.raises(OSError, match="No space left on device"):
        publish(model, base)
    assert recorder.seen == set()
    assert [path.name for path in base.iterdir()] == [".publish.lock"]
