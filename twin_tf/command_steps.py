"""Runs the commands that a user types, each in a process of its own, and remembers what each took."""

import contextlib
import json
import os
import platform
import queue
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

Plain = dict[str, Any]


class Steps:
    """Runs commands and remembers what each took.

    Args:
        at_once: how many of them run at once: each says its name then, and has its share of the processors.
    """

    def __init__(self, at_once: int = 1) -> None:
        self.taken: list[Plain] = []
        self._at_once = at_once
        self._running: set[subprocess.Popen[str]] = set()
        self._shares: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
        for share in processor_shares(at_once):
            self._shares.put(share)

    @contextlib.contextmanager
    def process(self, command: Sequence[str], alone: bool = False, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """A process that is ended when this one is, by Ctrl-C or `stop`.

        Args:
            command: to run.
            alone: with all processors, though others may have their share; else it waits for a share.
            options: of `subprocess.Popen`.
        """
        share = set() if alone else self._shares.get()
        try:
            with subprocess.Popen(command, text=True, **options) as process:
                self._running.add(process)
                try:
                    if share:
                        os.sched_setaffinity(process.pid, share)
                    yield process
                except (KeyboardInterrupt, SystemExit):
                    process.terminate()
                    raise
                finally:
                    self._running.discard(process)
        finally:
            if not alone:
                self._shares.put(share)

    def stop(self) -> None:
        """Ends what runs in other threads."""
        for process in list(self._running):
            process.terminate()

    def run(self, name: str, *arguments: str) -> Plain:
        """Runs `twin-tf` with these arguments and `--json`.

        Returns:
            What the command printed, `peak_rss_mb`, and `at_once`: how many commands may have run then.

        Raises:
            ChildProcessError: the command failed; its own words are already on stderr.
        """
        click.secho(f"\n$ twin-tf {shlex.join(arguments)}", fg="cyan", err=True)
        started = time.monotonic()
        command = [sys.executable, "-m", "twin_tf.cli", *arguments, "--json"]
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            said = subprocess.PIPE if self._at_once > 1 else None
            with self.process(command, stdout=output, stderr=said) as process:
                for line in process.stderr or ():
                    click.echo(f"[{name}] {line}", err=True, nl=False)
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            printed = output.read()
        if process.returncode:
            raise ChildProcessError(
                f"the step {name!r} failed with exit code {process.returncode}; its message is above"
            )
        peak = peak_rss_mb(usage.ru_maxrss)
        self.add(name, time.monotonic() - started, peak)
        return {**json.loads(printed), "peak_rss_mb": peak, "at_once": self._at_once}

    def add(self, name: str, seconds: float, peak_mb: float) -> None:
        """Notes a step that was measured elsewhere."""
        self.taken.append({"name": name, "seconds": seconds, "peak_rss_mb": peak_mb})


def processor_shares(count: int) -> list[set[int]]:
    """The processors of this process in equal parts; empty sets, for all of them, where there is nothing to part."""
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    size = len(mine) // count
    if count == 1 or not size:
        return [set() for _ in range(count)]
    return [set(mine[part * size : (part + 1) * size]) for part in range(count)]


def peak_rss_mb(maxrss: float) -> float:
    """`ru_maxrss` in MB: the kernel counts kilobytes on Linux, bytes on macOS."""
    return maxrss / (1e6 if platform.system() == "Darwin" else 1e3)
