"""kill -9 at 50 random moments of publishing: whoever looks at the base path sees whole versions alone."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from export.contract.file_manifest import MANIFEST, fault
from export.contract.version_layout import version_numbers
from export.publishing.publisher import publish
from export.session.child_process import child_environment

pytestmark = pytest.mark.integration

KILLS = 50
HIDDEN = (".incoming-", ".outgoing-")


class ServerCheck:
    """Looks at a base path all the time, at every version whole, as a server might at any moment."""

    def __init__(self, base):
        self.base = base
        self.looks = 0
        self.seen = set()
        self.faults = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _watch(self):
        while not self._stop.is_set():
            before = version_numbers(self.base)
            for number in before:
                wrong = self._fault(number)
                # Retired while it was read: a version goes by one rename, so it was whole until then.
                if wrong and number in version_numbers(self.base):
                    self.faults.append((number, wrong))
            self.seen.update(before)
            self.looks += 1
            time.sleep(0.002)

    def _fault(self, number):
        directory = self.base / str(number)
        if not (directory / MANIFEST).is_file():
            return f"{MANIFEST} is missing"
        with contextlib.suppress(FileNotFoundError):
            return fault(directory)
        return "a file went while it was read"


@pytest.mark.slow
def test_no_moment_of_a_kill_shows_a_partial_version(toys, tmp_path):
    base, generator = tmp_path / "models", random.Random(11)
    publish(toys / "good", base)
    script = Path(__file__).parents[1] / "killed_publisher.py"
    publisher = subprocess.Popen(
        [sys.executable, str(script), str(toys / "good"), str(base)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )

    def started():
        publisher.stdin.write("\n")
        publisher.stdin.flush()
        return int(publisher.stdout.readline())

    def ended(child):
        number, _, status = publisher.stdout.readline().split()
        assert int(number) == child
        return os.waitstatus_to_exitcode(int(status))

    moments, killed_before, killed_after = [], 0, 0
    try:
        with ServerCheck(base) as watcher:
            began = time.monotonic()
            assert ended(started()) == 0
            whole = time.monotonic() - began  # seconds that one publishing takes here
            for kill in range(KILLS):
                # Most of that time the gate runs and nothing changes. So three of five kills fall into the first tenth,
                # where files are copied, and one falls behind the version's appearance, where old ones are removed.
                anywhere, behind = kill % 5 == 3, kill % 5 == 4
                moment = generator.uniform(0, whole if anywhere else 0.1 * whole)
                before = version_numbers(base)
                child = started()
                time.sleep(moment)
                if behind:
                    while version_numbers(base)[-1] == before[-1] and _alive(child):
                        time.sleep(0.001)
                    time.sleep(generator.uniform(0, 0.01))
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
                ended(child)
                moments.append(moment)
                if version_numbers(base)[-1] == before[-1]:
                    killed_before += 1
                else:
                    killed_after += 1
            last = publish(toys / "good", base)
    finally:
        publisher.kill()
        publisher.wait()
        publisher.stdin.close()
        publisher.stdout.close()
    assert watcher.faults == []
    assert len(moments) == KILLS
    assert watcher.looks > KILLS
    assert killed_before >= 10
    assert killed_after >= 5
    assert len(watcher.seen) >= killed_after
    assert version_numbers(base)[-1] == int(last.name)
    assert len(version_numbers(base)) == 3
    assert [path.name for path in base.iterdir() if path.name.startswith(HIDDEN)] == []


def _alive(process):
    try:
        return (Path("/proc") / str(process) / "stat").read_text().split()[2] != "Z"
    except OSError:
        return False
