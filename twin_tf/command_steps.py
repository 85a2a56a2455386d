"""Runs the commands that a user types, each in a process of its own, and remembers what each took."""

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from typing import Any

import click

from twin_tf.strict_yaml import ConfigError

Plain = dict[str, Any]


class Steps:
    """Runs commands and remembers what each took.

    Args:
        at_once: how many of them run at once: each says its name then, and takes its share of the processors.
    """

    def __init__(self, at_once: int = 1) -> None:
        self.taken: list[Plain] = []
        self._named = at_once > 1
        threads = max(1, (os.cpu_count() or 1) // at_once)
        self._share = {"TF_NUM_INTRAOP_THREADS": str(threads)} if at_once > 1 else {}

    def run(self, name: str, *arguments: str) -> Plain:
        """Runs `twin-tf` with these arguments and `--json`.

        Returns:
            What the command printed, and `peak_rss_mb`.

        Raises:
            ConfigError: the command failed; its own words are already on stderr.
        """
        click.secho(f"\n$ twin-tf {shlex.join(arguments)}", fg="cyan", err=True)
        started = time.monotonic()
        command = [sys.executable, "-m", "twin_tf.cli", *arguments, "--json"]
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            said = subprocess.PIPE if self._named else None
            own = {**self._share, **os.environ}
            with subprocess.Popen(command, stdout=output, stderr=said, text=True, env=own) as process:
                for line in process.stderr or ():
                    click.echo(f"[{name}] {line}", err=True, nl=False)
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            printed = output.read()
        if process.returncode:
            raise ConfigError(f"the step {name!r} failed with exit code {process.returncode}; its message is above")
        peak = peak_rss_mb(usage.ru_maxrss)
        self.add(name, time.monotonic() - started, peak)
        return {**json.loads(printed), "peak_rss_mb": peak}

    def add(self, name: str, seconds: float, peak_mb: float) -> None:
        """Notes a step that was measured elsewhere."""
        self.taken.append({"name": name, "seconds": seconds, "peak_rss_mb": peak_mb})


def peak_rss_mb(maxrss: float) -> float:
    """`ru_maxrss` in MB: the kernel counts kilobytes on Linux, bytes on macOS."""
    return maxrss / (1e6 if platform.system() == "Darwin" else 1e3)
