"""A new directory appears whole, and what killed processes left beside it goes with the next one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.new_directory import check_new, new_directory

KILLED = """
import os, signal, sys
from twin_tf.core.new_directory import new_directory
with new_directory(sys.argv[1]) as building:
    (building / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_gets_its_name_when_the_block_ends(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()  # empty
    with new_directory(tmp_path / "out") as building:
        (building / "file").write_text("content")
        assert not any((tmp_path / "out").iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "file").read_text() == "content"


def test_a_failure_or_a_block_that_removes_it_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_directory(tmp_path / "deep" / "out") as building:
        (building / "file").write_text("content")
        raise ZeroDivisionError
    with new_directory(tmp_path / "deep" / "out") as building:
        building.rmdir()
    assert not any((tmp_path / "deep").iterdir())


@pytest.mark.integration
def test_the_next_one_removes_what_a_killed_one_left_and_nothing_else(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    name = "out[1]"  # no pattern
    for output in (name, "other"):
        command = [sys.executable, "-c", KILLED, str(tmp_path / output)]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(root)}, check=False)
        assert done.returncode == -signal.SIGKILL
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == 4
    with new_directory(tmp_path / name):
        with new_directory(tmp_path / name) as second:  # the first one lives, and so is left alone
            second.rmdir()
        names = {path.name for path in tmp_path.iterdir()}
        assert not names & {path for path in left if "out" in path} and len(names) == 4
    assert {path.name for path in tmp_path.iterdir()} == {name} | {path for path in left if "other" in path}


@pytest.mark.parametrize("there", ["a file", "a full directory", "a link", "no name"])
def test_what_lies_there_is_never_replaced(tmp_path: Path, there: str) -> None:
    target = tmp_path / "out"
    if there == "a file":
        target.write_text("mine")
    elif there == "a full directory":
        target.mkdir()
        (target / "mine").touch()
    elif there == "a link":
        (tmp_path / "elsewhere").mkdir()
        target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="name a new directory"):
        check_new("" if there == "no name" else target)


def test_another_that_filled_it_meanwhile_keeps_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="was filled by another"), new_directory(tmp_path / "out") as building:
        (building / "ours").touch()
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["theirs"]
