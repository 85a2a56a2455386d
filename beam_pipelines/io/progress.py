"""A progress line on stderr while a pipeline runs in this process; silent on remote workers."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

NAMESPACE = "build_examples"  # of the counters that every runner shows

_INTERVAL_TERMINAL = 0.5
_INTERVAL_FILE = 5.0

_current: "ProgressLine | None" = None


class ProgressLine:
    """Counts rows per stage; writes one line that renews itself on a terminal, else a plain line every few seconds.

    It goes on while nothing is counted, for example when all work is done by other processes.

    Args:
        label: the line's first word.
        note: what it says while nothing has been counted.
    """

    def __init__(self, label: str, note: str = "starting") -> None:
        self._label = label
        self._note = note
        self._terminal = sys.stderr.isatty()
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._started = self._shown = time.monotonic()
        self._closed = threading.Event()
        self._interval = _INTERVAL_TERMINAL if self._terminal else _INTERVAL_FILE
        threading.Thread(target=self._renew, daemon=True).start()

    def _renew(self) -> None:
        while not self._closed.wait(self._interval):
            self._show_if_due()

    def advance(self, stage: str, count: int) -> None:
        """Adds to a stage."""
        with self._lock:
            self._counts[stage] = self._counts.get(stage, 0) + count
        self._show_if_due()

    def _show_if_due(self) -> None:
        with self._lock:
            if time.monotonic() - self._shown >= self._interval:
                self.show()

    def show(self) -> None:
        """Writes the line now."""
        self._shown = time.monotonic()
        stages = ", ".join(f"{count:,} {stage}" for stage, count in self._counts.items())
        line = f"{self._label} {self._shown - self._started:.0f} s: {stages or self._note}"
        sys.stderr.write(f"\r\x1b[2K{line}" if self._terminal else f"{line}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Writes the line a last time."""
        self._closed.set()
        self.show()
        if self._terminal:
            sys.stderr.write("\n")


@contextmanager
def progress_line(label: str, enabled: bool = True, note: str = "starting") -> Iterator[None]:
    """Shows the progress that steps in this process report while the block runs; `note` until there is any."""
    global _current
    if not enabled:
        yield
        return
    line = _current = ProgressLine(label, note)
    try:
        yield
    finally:
        _current = None
        line.close()


def report_progress(stage: str, count: int) -> None:
    """Called by steps: so many more rows of a stage are done."""
    line = _current
    if line is not None:
        line.advance(stage, count)
