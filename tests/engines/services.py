"""Processes of a test's own, on free ports of the loopback interface: started, waited for, and all of them stopped."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.patience import PATIENCE_S


@dataclasses.dataclass
class Services:
    """Running processes.

    Attributes:
        logs: the directory of every process's log.
        processes: name -> process.
    """

    logs: Path
    processes: dict[str, subprocess.Popen[bytes]]

    def start(self, name: str, command: list[str]) -> None:
        """Starts a process that writes `name`.log."""
        # A worker pool starts `python`, and workers import this project from where it stands.
        environment = dict(os.environ)
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        with (self.logs / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=Path(__file__).parents[2],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that a worker pool is stopped with its workers
            )

    def wait(self, what: str, ready: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
        """Waits for something.

        Raises:
            RuntimeError: a process ended, or the time is over; names the logs.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended with {process.returncode}; see {self.logs}/{name}.log")
            try:
                if ready():
                    return
            except OSError:
                pass
            time.sleep(0.2)
        raise RuntimeError(f"waited {seconds:.0f} s for {what}; see {self.logs}")

    def stop(self) -> None:
        """Stops every process with all that it has started."""
        running = list(self.processes.values())
        for signal_ in (signal.SIGTERM, signal.SIGKILL):
            for process in running:
                # A session's leader may be gone and its members not.
                try:
                    os.killpg(process.pid, signal_)
                except ProcessLookupError:
                    continue
            for process in running:
                try:
                    process.wait(timeout=15)
                except subprocess.TimeoutExpired:
                    continue


def is_open(port: int) -> bool:
    """Whether something listens there; raises OSError if not."""
    with socket.create_connection(("localhost", port), timeout=1):
        return True


def free_ports(count: int) -> list[int]:
    """As many different ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
