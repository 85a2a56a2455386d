"""Starting the local server: it is waited for by what it does, not by the clock."""

import shutil
from pathlib import Path

import pytest

from export.local_server.server import start_local_server
from export.local_server.stall_watch import processor_ticks

pytestmark = pytest.mark.integration

SLOW = """
import sys, time
if sys.orig_argv[1:3] == ["-m", "export.local_server"]:
    begun = time.monotonic()
    while time.monotonic() - begun < {seconds}:
        {does}
"""


def slow_start(monkeypatch: pytest.MonkeyPatch, root: Path, seconds: float, does: str) -> None:
    """Lets every Python that runs the server begin by doing something for some seconds."""
    (root / "sitecustomize.py").write_text(SLOW.format(seconds=seconds, does=does))
    monkeypatch.setenv("PYTHONPATH", str(root))


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")


@needs_proc
def test_a_server_that_is_slow_to_start_is_waited_for(
    tmp_path: Path, toys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_start(monkeypatch, tmp_path, 4.0, "pass")
    with start_local_server(base_of(tmp_path, toys), stalled_s=2.0) as server:
        assert server.address


@needs_proc
def test_a_server_that_does_nothing_is_given_up(tmp_path: Path, toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_start(monkeypatch, tmp_path, 600.0, "time.sleep(600)")
    with (
        pytest.raises(TimeoutError, match="has used no processor for 1 s and is not ready; its log ends with: nothing"),
        start_local_server(base_of(tmp_path, toys), stalled_s=1.0),
    ):
        pass


def test_a_server_that_cannot_start_says_why_at_once(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with pytest.raises(ValueError, match="holds no version"), start_local_server(tmp_path / "base"):
        pass


@needs_proc
def test_who_works_uses_ticks() -> None:
    before = processor_ticks(int(Path("/proc/self").resolve().name))
    sum(range(20_000_000))
    after = processor_ticks(int(Path("/proc/self").resolve().name))
    assert before is not None and after is not None and after > before
    assert processor_ticks(2**22 + 1) is None  # no such process


def base_of(root: Path, toys: Path) -> Path:
    base = root / "base"
    base.mkdir()
    shutil.copytree(toys / "good", base / "1")
    return base
