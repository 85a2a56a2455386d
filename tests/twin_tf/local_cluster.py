"""A cluster of processes on this machine: each has its own TF_CONFIG, and none outlives the test."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


def free_addresses(count: int) -> list[str]:
    """Addresses that nobody listens on."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


class LocalCluster:
    """Starts the tasks of a cluster.

    Args:
        logs: directory for what they write: `<type>-<index>.out` and `.err`.
        tasks: task type -> how many.
    """

    def __init__(self, logs: Path, **tasks: int) -> None:
        addresses = iter(free_addresses(sum(tasks.values())))
        self.addresses = {name: [next(addresses) for _ in range(count)] for name, count in tasks.items()}
        self._logs = logs
        self._processes: dict[tuple[str, int], subprocess.Popen[bytes]] = {}

    def start(self, task: str, index: int, command: Sequence[str], **environment: str) -> None:
        """Starts one task: a Python program with its arguments."""
        place = {"cluster": self.addresses, "task": {"type": task, "index": index}}
        settings = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_CONFIG": json.dumps(place), **environment}
        with self._file(task, index, "out").open("wb") as out, self._file(task, index, "err").open("wb") as err:
            self._processes[task, index] = subprocess.Popen(
                [sys.executable, *command], env=settings, stdout=out, stderr=err
            )

    def wait(self, task: str, index: int, timeout: float = 300) -> str:
        """What a task wrote to its standard output once it has ended well."""
        code = self._processes[task, index].wait(timeout)
        assert code == 0, f"{task} {index} ended with {code}: {self._file(task, index, 'err').read_text()[-3000:]}"
        return self._file(task, index, "out").read_text()

    def kill(self, task: str, index: int) -> None:
        """Kills a task as a failing machine does."""
        assert self._processes[task, index].poll() is None, f"{task} {index} had ended before it was killed"
        self._processes[task, index].kill()

    def runs(self, task: str, index: int) -> bool:
        """Whether a task is alive."""
        return self._processes[task, index].poll() is None

    def close(self) -> None:
        """Kills whatever still runs."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()

    def _file(self, task: str, index: int, kind: str) -> Path:
        return self._logs / f"{task}-{index}.{kind}"


@contextlib.contextmanager
def local_cluster(logs: Path, **tasks: int) -> Iterator[LocalCluster]:
    """A `LocalCluster` that is gone at the end, whatever happens."""
    cluster = LocalCluster(logs, **tasks)
    try:
        yield cluster
    finally:
        cluster.close()


def twin_tf(*arguments: object, **options: object) -> list[str]:
    """The command line as a Python program's arguments."""
    named: Mapping[str, object] = {f"--{name}": value for name, value in options.items()}
    return ["-m", "twin_tf.cli", *map(str, arguments), *(str(part) for pair in named.items() for part in pair)]
