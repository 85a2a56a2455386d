"""Steps that are processes: why one failed, what is done once, what ends with whom."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from twin_tf.core.end_with_parent import ending_with_this_process
from twin_tf.core.result_cache import Provenance, ResultCache
from twin_tf.experiments.subprocess_runner import StepFailedError, Steps

pytestmark = pytest.mark.integration

MADE = Provenance({"size": 1}, "data", "code")


def test_a_failure_says_why_in_the_commands_own_words(tmp_path: Path) -> None:
    with pytest.raises(StepFailedError, match=r"the step 'look' failed: .*is not a run") as found:
        Steps().run("look", "evaluate", "--run", str(tmp_path), "--prepared", str(tmp_path))
    assert found.value.step == "look" and "run `twin-tf train` first" in found.value.why


def test_bad_usage_is_a_reason_too() -> None:
    with pytest.raises(StepFailedError, match=r"Missing option '--run'"):
        Steps().run("look", "evaluate")


def test_a_killed_command_is_named_by_its_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    monkeypatch.setattr("twin_tf.experiments.subprocess_runner.ending_with_this_process", lambda command: killed)
    with pytest.raises(StepFailedError, match="it was ended by SIGKILL"):
        Steps().run("look", "evaluate")


def test_a_step_is_done_once_while_its_output_is_there(tmp_path: Path) -> None:
    cache, output, done = ResultCache(tmp_path / "results"), tmp_path / "output", []

    def work() -> dict[str, int]:
        done.append(1)
        output.mkdir()
        steps.add("make", 2.0, 7.0)
        return {"number": len(done)}

    steps = Steps(cache=cache)
    assert steps.once("make", MADE, work, [output])["number"] == 1
    assert steps.taken == [{"name": "make", "seconds": 2.0, "peak_rss_mb": 7.0}]
    steps = Steps(cache=ResultCache(tmp_path / "results"))
    assert steps.once("make", MADE, work, [output])["number"] == 1
    assert steps.taken == [{"name": "make", "seconds": 2.0, "peak_rss_mb": 7.0, "reused": True}]
    (output / "half").mkdir()
    other = MADE._replace(code="other code")
    assert steps.once("make", other, work, [output])["number"] == 2
    assert not (output / "half").exists(), "what another code has left is removed"
    output.rmdir()
    assert steps.once("make", other, work, [output])["number"] == 3


def test_a_result_of_code_that_changed_while_it_ran_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(cache=ResultCache(tmp_path))
    monkeypatch.setattr("twin_tf.experiments.subprocess_runner.code_changed", lambda: True)
    with pytest.raises(StepFailedError, match="the code was changed while it ran"):
        steps.once("make", MADE, lambda: {"number": 1})
    assert not list(tmp_path.iterdir())


def test_a_damaged_result_is_made_anew(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path)
    cache.write("make", MADE, {"number": 1})
    assert cache.read("make", MADE) == {"number": 1, "commit": cache._commit}
    for damage in ("", "{", "[]", "{}", '{"made_by": {}, "result": {}}'):
        cache.path("make", MADE).write_text(damage)
        assert cache.read("make", MADE) is None
        assert cache.unused() == []


def test_several_threads_may_use_a_cache(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path)
    old = MADE._replace(code="old")
    for number in range(30):
        cache.write(f"make-{number}", old, {"auc": 0.5})

    def ask(number: int) -> int:
        cache.read(f"make-{number}", MADE)
        return len(cache.unused())

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(30)))
    assert max(found) == 30 == len(cache.unused())


CHILD = "import time; time.sleep(600)"
PARENT = """
import subprocess, sys, time
from twin_tf.core.end_with_parent import ending_with_this_process
child = subprocess.Popen(ending_with_this_process([sys.executable, "-c", {child!r}]))
print(child.pid, flush=True)
time.sleep(600)
"""


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_a_child_ends_with_its_parent_even_by_kill_9() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(child=CHILD)], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    while "time.sleep" not in Path(f"/proc/{child}/cmdline").read_text().rpartition("\0-c\0")[2]:
        time.sleep(0.02)  # not yet the command
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    ends = time.monotonic() + 60
    while not gone(child):
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_command_whose_parent_is_gone_does_not_begin() -> None:
    command = ending_with_this_process([sys.executable, "-c", "print('begun')"])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "begun\n")
    command[command.index(str(os.getpid()))] = "1"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == ((143, "") if sys.platform == "linux" else (0, "begun\n"))
