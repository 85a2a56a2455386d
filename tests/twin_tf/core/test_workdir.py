"""Who may work in a working directory."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.files import full_disk
from twin_tf.core.workdir import claimed_workdir

pytestmark = pytest.mark.integration


def test_one_process_at_a_time_works_in_it(tmp_path: Path) -> None:
    again = "from pathlib import Path; from twin_tf.core.workdir import claimed_workdir\n"
    again += f"with claimed_workdir(Path({str(tmp_path / 'demo')!r}), 'demo'): print('mine')"
    with claimed_workdir(tmp_path / "demo", "demo"):
        done = subprocess.run([sys.executable, "-c", again], capture_output=True, text=True, check=False)
        assert "another demo is at work in" in done.stderr and "name another directory" in done.stderr
    done = subprocess.run([sys.executable, "-c", again], capture_output=True, text=True, check=True)
    assert done.stdout == "mine\n"


def test_what_is_done_stays_unless_it_is_to_be_fresh(tmp_path: Path) -> None:
    workdir = tmp_path / "demo"
    with claimed_workdir(workdir, "demo"):
        (workdir / "runs").mkdir()
        (workdir / "report.md").write_text("done")
    with claimed_workdir(workdir, "demo"):
        assert (workdir / "runs").exists() and (workdir / "report.md").exists()
    with claimed_workdir(workdir, "demo", own=("runs",), fresh=True):
        assert not (workdir / "runs").exists() and (workdir / "report.md").exists()
    with claimed_workdir(workdir, "demo", fresh=True):
        assert {path.name for path in workdir.iterdir()} == {".lock", "demo.json"}


def test_nothing_of_anybody_else_is_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.md").write_text("years of work")
    for fresh in (False, True):
        said = "holds something that no demo wrote; name another directory"
        with pytest.raises(ConfigError, match=said), claimed_workdir(tmp_path, "demo", fresh=fresh):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.md"]


def test_a_link_is_removed_and_what_it_names_stays(tmp_path: Path) -> None:
    elsewhere, workdir = tmp_path / "elsewhere", tmp_path / "demo"
    elsewhere.mkdir()
    with claimed_workdir(workdir, "demo"):
        (workdir / "runs").symlink_to(elsewhere)
    with claimed_workdir(workdir, "demo", fresh=True):
        assert not (workdir / "runs").exists() and elsewhere.exists()


def test_where_nothing_can_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = r"cannot be written \(.+\); name another directory"
    with pytest.raises(ConfigError, match=said), claimed_workdir(tmp_path / "file" / "demo", "demo"):
        pass
    if os.geteuid() != 0:  # root may write anywhere
        tmp_path.chmod(0o500)
        with pytest.raises(ConfigError, match="cannot be written"), claimed_workdir(tmp_path / "demo", "demo"):
            pass
        tmp_path.chmod(0o700)


def test_a_failure_inside_keeps_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="inner"), claimed_workdir(tmp_path / "demo", "demo"):
        raise PermissionError("inner")


def chained(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            "the disk is full: /data/x cannot be written; make",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "the disk is full; make room and run the same command again",
        ),
        (
            RuntimeError("RESOURCE: /data/m/saved_model.pb.tmp7; No space left on device"),
            "full: /data/m/saved_model.pb.tmp7",
        ),
        (OSError("2806 requested and 2016 written"), "the disk is full; make room"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/data/x"), "the disk is full: /data/x cannot be written"),
        (RuntimeError("/data/m.tmp; Disk quota exceeded"), "full: /data/m.tmp cannot"),
        (
            shutil.Error([("/old/a", "/data/a", "[Errno 28] No space left on device: '/data/a'")]),
            "the disk is full: /data/a cannot",
        ),
        (
            RuntimeError("{{node f_device_/job:host/task:0}} /data/e.v2; No space left on device\n\tFailed to flush"),
            "full: /data/e.v2 cannot",
        ),
        (chained(RuntimeError("a step broke"), OSError(errno.ENOSPC, "", "/data/y")), "full: /data/y cannot"),
        (OSError(errno.EACCES, "Permission denied", "/data/x"), ""),
        (RuntimeError("anything else"), ""),
    ],
)
def test_a_full_disk_is_one_sentence_whoever_says_it(error: Exception, said: str) -> None:
    found = full_disk(error)
    assert said in found and bool(said) == bool(found)
