"""Waits for a process by what it does, not by the clock: it is given up when it does nothing, however long it takes."""

import subprocess
import sys
import threading
import time
from pathlib import Path

_LOOK_SECONDS = 0.5
_SAY_SECONDS = 30.0


class StallWatch:
    """Kills a process that has used no processor for a while; says every half minute that it is waited for.

    Args:
        process: to be watched.
        stalled_s: how long it may do nothing, in seconds. Where the system does not say what a process uses, it may
            always go on.

    Attributes:
        stalled: whether it was killed.
    """

    def __init__(self, process: "subprocess.Popen[str]", stalled_s: float) -> None:
        self.stalled = False
        self._process = process
        self._stalled_s = stalled_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stall watch", daemon=True)

    def start(self) -> None:
        """Watches from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Watches no more."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        begun = busy = said = time.monotonic()
        used = -1
        while not self._over.wait(_LOOK_SECONDS):
            now, found = time.monotonic(), processor_ticks(self._process.pid)
            if found is None or found != used:
                busy, used = now, -1 if found is None else found
            if now - busy >= self._stalled_s:
                self.stalled = True
                self._process.kill()
                return
            if now - said >= _SAY_SECONDS:
                said = now
                print(f"waiting for process {self._process.pid}, {now - begun:.0f} s until now", file=sys.stderr)


def processor_ticks(pid: int) -> int | None:
    """Clock ticks that a process has used, user's and system's; None where nobody says."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, ValueError, IndexError):
        return None
