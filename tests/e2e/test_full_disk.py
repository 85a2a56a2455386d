"""A full disk ends every command with one sentence, and what was half-written is gone: on a file system of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export.contract.file_manifest import fault
from export.contract.version_layout import version_numbers
from export.publishing.publisher import publish, roll_back
from export.session.child_process import child_environment
from tests.export.publishing.tiny_models import pass_the_gate, write_model
from tests.golden.make_golden import CONFIG, unpack
from tests.patience import PATIENCE_S
from twin_tf.core.files import full_disk

pytestmark = pytest.mark.integration

ROOM = b"x" * (1 << 16)


@pytest.fixture
def small_disk(tmp_path):
    """Makes a file system of so many KiB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()

    def mount(kibibytes: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(mounted)]
        done = subprocess.run(command, capture_output=True, text=True, check=False) if os.geteuid() == 0 else None
        if done is None or done.returncode:
            pytest.skip(f"a full disk was NOT tried: mounting a tmpfs needs root; {done.stderr if done else ''}")
        return mounted

    yield mount
    if mounted.is_mount():
        subprocess.run(["umount", str(mounted)], check=True)


def fill(directory):
    """Leaves no byte on its file system."""
    with (directory / "fill").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left") as full:
        while True:
            file.write(ROOM)
    assert full_disk(full.value)


def test_a_publish_onto_a_full_disk_changes_nothing(tmp_path, small_disk, monkeypatch):
    pass_the_gate(monkeypatch)
    base = small_disk(400) / "base"
    first = publish(write_model(tmp_path / "model", size=100_000), base)
    for _ in range(2):
        with pytest.raises(OSError) as failed:
            publish(write_model(tmp_path / f"large-{_}", size=300_000), base)
        assert full_disk(failed.value).startswith("the disk is full")
    assert sorted(path.name for path in base.iterdir()) == [".publish.lock", first.name]
    assert fault(first) == ""
    second = publish(tmp_path / "model", base)
    assert version_numbers(base) == [int(first.name), int(second.name)]


def test_a_rollback_needs_no_room(tmp_path, small_disk, monkeypatch, capsys):
    pass_the_gate(monkeypatch)
    disk = small_disk(400)
    first, _ = (publish(write_model(tmp_path / f"model-{run}", run), disk / "base") for run in (1, 2))
    fill(disk)
    assert roll_back(disk / "base") == first
    assert "warning: the rollback is not remembered" in capsys.readouterr().err
    with pytest.raises(OSError, match="No space left"):
        publish(tmp_path / "model-2", disk / "base")
    assert version_numbers(disk / "base") == [int(first.name)]


LOGS = (
    "--events={golden}/raw/events.parquet",
    "--items={golden}/raw/items.parquet",
    "--users={golden}/raw/users.parquet",
)
PREPARED, RUN = "--prepared={golden}/prepared", "--run={golden}/run"
SMALL_LOGS = ("--users=24", "--set=items=120", "--set=topics=12", "--set=median_history=40", "--set=max_history=70")

# KiB, what lies there before, the command; {disk} and {golden} are directories
COMMANDS = {
    "simulate": (16, "", ("simulate", *SMALL_LOGS, "--output={disk}/logs")),
    "preprocess": (96, "", ("preprocess", f"--config={CONFIG}", *LOGS, "--output={disk}/prepared")),
    "train": (200, "", ("train", f"--config={CONFIG}", PREPARED, "--run={disk}/run")),
    "cluster": (64, "", ("cluster", PREPARED, RUN, "--output={disk}/clustered")),
    "item-embeddings": (8, "", ("item-embeddings", PREPARED, "--output={disk}/embeddings")),
    "export": (500, "", ("export", RUN, PREPARED, "--output={disk}/model")),
    "publish": (2600, "base/1", ("publish", "{golden}/model", "--base-path={disk}/base")),
    "refresh": (2600, "base/1", ("refresh", RUN, "--base-path={disk}/base")),
}


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    root = tmp_path_factory.mktemp("golden")
    unpack(root)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(golden, small_disk, command):
    size, placed, arguments = COMMANDS[command]
    disk = small_disk(size)
    if placed:
        shutil.copytree(golden / "model", disk / placed)
    before = {path for path in disk.rglob("*") if path.is_file()}
    filled = [argument.format(disk=disk, golden=golden) for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "twin_tf.cli", *filled],
        capture_output=True, text=True, env=child_environment(), timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: the disk is full"), done.stderr
    assert "Traceback" not in done.stderr
    left = {path for path in disk.rglob("*") if path.is_file()} - before
    if command == "train":  # goes on from its last checkpoint when there is room
        assert not [path for path in left if "temp" in path.name or path.suffix == ".tmp"]
    else:
        assert left <= {disk / "base/.publish.lock"}
