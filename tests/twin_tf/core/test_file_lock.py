"""The lock that a training run and a base path are claimed with."""

import subprocess
import sys
import time

import pytest

from twin_tf.core.errors import UserError
from twin_tf.core.file_lock import file_lock

pytestmark = pytest.mark.integration

HOLDER = """
import os, sys, time
from pathlib import Path
from twin_tf.core.file_lock import file_lock

with file_lock(Path(sys.argv[1])):
    if not os.fork():  # has not yet become the program that it is to be, so still holds what its parent holds
        time.sleep(float(sys.argv[2]))
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_s_child_holds_nobody_up(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock"), "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
        holder.wait()
    with pytest.raises(BlockingIOError), file_lock(tmp_path / "lock", patience=0.0):
        pass
    with file_lock(tmp_path / "lock"):
        pass


def test_a_living_holder_is_waited_for_as_long_as_asked(tmp_path):
    begun = time.monotonic()
    with file_lock(tmp_path / "lock"), pytest.raises(BlockingIOError), file_lock(tmp_path / "lock", patience=0.2):
        pass
    assert time.monotonic() - begun >= 0.2


def test_the_lock_is_free_again_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), file_lock(tmp_path / "lock"):
        raise RuntimeError
    with file_lock(tmp_path / "lock", patience=0.0):
        pass


def test_what_lies_at_the_lock_is_neither_followed_nor_emptied(tmp_path):
    (tmp_path / "notes").write_text("years of work")
    (tmp_path / "link").symlink_to(tmp_path / "notes")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("link", "dangling"):
        with pytest.raises(UserError, match=f"{name} is a link where a lock file belongs"), file_lock(tmp_path / name):
            pass
    with file_lock(tmp_path / "notes"):
        pass
    assert (tmp_path / "notes").read_text() == "years of work"
    assert not (tmp_path / "nowhere").exists()
