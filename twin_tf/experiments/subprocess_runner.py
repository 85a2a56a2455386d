"""Runs the commands that a user types, each in a process of its own, and remembers what each took.

With a cache a step is done once: called again with the same settings, data and code, it gives what it gave before.
"""

import contextlib
import json
import os
import platform
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from twin_tf.core.code_version import code_changed
from twin_tf.core.end_with_parent import ending_with_this_process
from twin_tf.core.errors import UserError
from twin_tf.core.files import JsonDict
from twin_tf.core.result_cache import Provenance, ResultCache, Unused


class StepFailedError(UserError, ChildProcessError):
    """A step failed.

    Attributes:
        step: its name.
        why: its own words where it had any, else how it ended.
    """

    def __init__(self, step: str, why: str) -> None:
        super().__init__(f"the step {step!r} failed: {why}")
        self.step = step
        self.why = why


class Steps:
    """Runs commands and remembers what each took.

    Args:
        at_once: how many of them run at once: each says its name then, and has its share of the processors.
        cache: of the steps that are done `once`.

    Attributes:
        taken: `name`, `seconds` and `peak_rss_mb` of each step; `reused` where it was done by an earlier call.
        current: the step that runs now, or ran last.
    """

    def __init__(self, at_once: int = 1, cache: ResultCache | None = None) -> None:
        self.taken: list[JsonDict] = []
        self.current = ""
        self._at_once = at_once
        self._cache = cache
        self._running: set[subprocess.Popen[str]] = set()
        self._shares: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
        for share in processor_shares(at_once):
            self._shares.put(share)

    @contextlib.contextmanager
    def process(self, command: Sequence[str], alone: bool = False, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """A process that is ended when this one is, by Ctrl-C, `stop` or a kill.

        Args:
            command: to run.
            alone: with all processors, though others may have their share; else it waits for a share.
            options: of `subprocess.Popen`.
        """
        share = set() if alone else self._shares.get()
        try:
            with subprocess.Popen(ending_with_this_process(command), text=True, **options) as process:
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

    def run(self, name: str, *arguments: str) -> JsonDict:
        """Runs `twin-tf` with these arguments and `--json`.

        Returns:
            What the command printed, `peak_rss_mb`, and `at_once`: how many commands may have run then.

        Raises:
            StepFailedError: the command failed; its own words are on stderr too.
        """
        self.current = name
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
            raise StepFailedError(name, _reason(process.returncode, printed))
        peak = peak_rss_mb(usage.ru_maxrss)
        self.add(name, time.monotonic() - started, peak)
        return {**json.loads(printed), "peak_rss_mb": peak, "at_once": self._at_once}

    def once(
        self,
        name: str,
        provenance: Provenance,
        work: Callable[[], JsonDict],
        outputs: Sequence[Path] = (),
        stem: str | None = None,
    ) -> JsonDict:
        """The result of a step, kept from an earlier call or made now.

        Args:
            name: of the step.
            provenance: what makes its result.
            work: does it, for example by `run`.
            outputs: what it writes: without one of them it is done anew, and what lies there of another is removed.
            stem: of the result's file; the step's name if left out.

        Returns:
            What `work` returned, and the `commit` of the code that did it.

        Raises:
            StepFailedError: the code was changed meanwhile.
        """
        if self._cache is None:
            raise ValueError("steps that are done once need a cache")
        stem = name if stem is None else stem
        found = self._cache.read(stem, provenance)
        if found is not None and all(output.exists() for output in outputs):
            self.taken += [{**step, "reused": True} for step in found["steps"]]
            return found
        for output in outputs:
            if output.exists():
                shutil.rmtree(output)
        self.current = name
        before = len(self.taken)
        result = work()
        if code_changed():
            raise StepFailedError(name, "the code was changed while it ran, so its result is of neither; run it again")
        mine = [step for step in self.taken[before:] if self._at_once == 1 or step["name"] == name]
        return self._cache.write(stem, provenance, {**result, "steps": mine})

    def unused(self) -> list[Unused]:
        """What lies in the cache under the names that were asked for and was not used."""
        return [] if self._cache is None else self._cache.unused()

    def add(self, name: str, seconds: float, peak_mb: float) -> None:
        """Notes a step that was measured elsewhere."""
        self.taken.append({"name": name, "seconds": seconds, "peak_rss_mb": peak_mb})


def _reason(code: int, printed: str) -> str:
    """Why a command failed: the sentence that it printed for machines, or how it ended."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(printed)["error"])
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    return f"exit code {code}; its message is above"


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
