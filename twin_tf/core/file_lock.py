"""A lock on a file that one process at a time can hold; the kernel takes it from a process that is killed."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from twin_tf.core.errors import UserError

PATIENCE = 2.0
"""Seconds in which a dead holder's lock comes free: a process that it was just starting holds it until it runs."""

_PAUSE = 0.02


@contextlib.contextmanager
def file_lock(path: Path, patience: float = PATIENCE, holder: str | None = None) -> Iterator[None]:
    """Holds the lock; the file is made if it does not exist, and stays with what it holds.

    Args:
        path: the file.
        patience: how long another holder is waited for, in seconds.
        holder: written into the file, for `holder_of`; where it cannot be, the lock holds all the same.

    Raises:
        BlockingIOError: another process still holds it.
        UserError: a link lies there; it is not followed.
    """
    handle = _open(path)
    try:
        _take(handle, time.monotonic() + patience)
        if holder is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
                os.write(handle, holder.encode())
        yield
    finally:
        os.close(handle)


def holder_of(path: Path) -> str:
    """What the process that took a lock last said of itself; empty if it said nothing that can be read."""
    try:
        return "" if path.is_symlink() else path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{path} is a link where a lock file belongs; remove the link") from error
        raise


def _take(handle: int, latest: float) -> None:
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= latest:
                raise
            time.sleep(_PAUSE)
