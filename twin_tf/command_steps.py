"""Runs the commands that a user types, each in a process of its own, and remembers what each took."""

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from typing import Any

import click

from twin_tf.strict_yaml import ConfigError

Plain = dict[str, Any]


class Steps:
    """Runs commands one after the other and remembers what each took."""

    def __init__(self) -> None:
        self.taken: list[Plain] = []

    def run(self, name: str, *arguments: str) -> Plain:
        """Runs `twin-tf` with these arguments and `--json`.

        Returns:
            What the command printed.

        Raises:
            ConfigError: the command failed; its own words are already on stderr.
        """
        click.secho(f"\n$ twin-tf {shlex.join(arguments)}", fg="cyan", err=True)
        started = time.monotonic()
        command = [sys.executable, "-m", "twin_tf.cli", *arguments, "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            output = process.stdout.read() if process.stdout is not None else ""
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise ConfigError(f"the step {name!r} failed with exit code {process.returncode}; its message is above")
        self.add(name, time.monotonic() - started, peak_rss_mb(usage.ru_maxrss))
        result: Plain = json.loads(output)
        return result

    def add(self, name: str, seconds: float, peak_mb: float) -> None:
        """Notes a step that was measured elsewhere."""
        self.taken.append({"name": name, "seconds": seconds, "peak_rss_mb": peak_mb})


def peak_rss_mb(maxrss: float) -> float:
    """`ru_maxrss` in MB: the kernel counts kilobytes on Linux, bytes on macOS."""
    return maxrss / (1e6 if platform.system() == "Darwin" else 1e3)
