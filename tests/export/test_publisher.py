"""A version appears whole or not at all."""

import fcntl
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export.local_server import child_environment
from export.publisher import PublishError, publish
from export.version_manager import version_numbers


def contents(directory: Path):
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def leftovers(base: Path):
    return [path.name for path in base.iterdir() if not path.name.isdigit() and path.name != ".publish.lock"]


def test_versions_rise_and_the_newest_three_stay(toys, tmp_path):
    base = tmp_path / "models"
    for old in (5, 7, 4_000_000_000):  # one from a clock that runs ahead
        shutil.copytree(toys / "good", base / str(old))
    first = publish(toys / "good", base)
    second = publish(toys / "second", base)
    assert [first.name, second.name] == ["4000000001", "4000000002"]
    assert version_numbers(base) == [4_000_000_000, 4_000_000_001, 4_000_000_002]
    assert contents(second) == contents(toys / "second")
    assert leftovers(base) == []


def test_an_unfit_version_leaves_the_base_path_as_it_was(toys, tmp_path):
    base = tmp_path / "models"
    shutil.copytree(toys / "good", base / "1")
    with pytest.raises(PublishError) as refused:
        publish(toys / "stale_table", base, keep=1)
    assert str(refused.value).startswith(f"{toys / 'stale_table'} is not published: self_check: ")
    assert "\n" not in str(refused.value)
    assert version_numbers(base) == [1]
    assert leftovers(base) == []


def test_what_is_no_model_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(PublishError, match="is no model directory: it holds no saved_model.pb$"):
        publish(tmp_path / "nothing", tmp_path / "models")
    with pytest.raises(ValueError, match="keep must be at least 1, not 0"):
        publish(tmp_path / "nothing", tmp_path / "models", keep=0)
    assert not (tmp_path / "models").exists()


def test_one_publisher_at_a_time(toys, tmp_path):
    with (tmp_path / ".publish.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(PublishError, match="another publisher is at work"):
            publish(toys / "good", tmp_path)
    assert version_numbers(tmp_path) == []


def test_a_killed_publisher_leaves_no_partial_version_and_the_next_cleans_up(toys, tmp_path):
    code = "import sys; from export.publisher import publish; publish(sys.argv[1], sys.argv[2])"
    command = [sys.executable, "-c", code, str(toys / "good"), str(tmp_path)]
    killed = subprocess.Popen(command, env=child_environment())
    while not list(tmp_path.glob(".incoming-*")):
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert version_numbers(tmp_path) == []
    assert leftovers(tmp_path) != []
    published = publish(toys / "good", tmp_path)
    assert contents(published) == contents(toys / "good")
    assert leftovers(tmp_path) == []
