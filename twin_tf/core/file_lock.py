"""A lock on a file that one process at a time can hold; the kernel takes it from a process that is killed."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

PATIENCE = 2.0
"""Seconds in which a dead holder's lock comes free: a process that it was just starting holds it until it runs."""

_PAUSE = 0.02


@contextlib.contextmanager
def file_lock(path: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Holds the lock; the file is made if it does not exist, and stays.

    Args:
        path: the file.
        patience: how long another holder is waited for, in seconds.

    Raises:
        BlockingIOError: another process still holds it.
    """
    with path.open("w") as file:
        _take(file, time.monotonic() + patience)
        yield


def _take(file: TextIO, latest: float) -> None:
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= latest:
                raise
            time.sleep(_PAUSE)
