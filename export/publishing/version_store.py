"""A base path as one publisher at a time may change it: versions appear, disappear and are hidden by one rename each.

<base_path>/1700000000/     a version; a server loads the newest
            .rolled-back-N/ hidden by `rollback`, or because the server refused it; kept for a look at it
            .incoming-*     being written; .outgoing-N being removed; a killed publisher's are swept by the next
            .publish.lock   held by whoever publishes
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from export.contract.file_manifest import fault
from export.contract.version_layout import version_numbers
from twin_tf.core.errors import UserError
from twin_tf.core.file_lock import file_lock

KEPT = 3
_LOCK = ".publish.lock"
_INCOMING = ".incoming-"
_OUTGOING = ".outgoing-"
_HIDDEN = ".rolled-back-"


class PublishError(UserError, ValueError):
    """A version that was not published; the message is one sentence that says why."""


@contextlib.contextmanager
def only_publisher(base: Path) -> Iterator[None]:
    """Holds the lock and sweeps what a killed publisher left.

    Raises:
        PublishError: another process holds it.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(file_lock(base / _LOCK))
        except BlockingIOError as error:
            raise PublishError(f"another publisher is at work in {base}; try again when it has finished") from error
        for path in base.iterdir():
            if path.name.startswith((_INCOMING, _OUTGOING)):
                shutil.rmtree(path)
        yield


@contextlib.contextmanager
def staging(base: Path) -> Iterator[Path]:
    """The name under which a version is to be written, hidden from servers; removed at the end if it is still there."""
    directory = base / f"{_INCOMING}{os.getpid()}"
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def publish_version(written: Path, base: Path) -> Path:
    """Turns a written directory into the newest version, newer than every one that was ever hidden too."""
    flush(written)
    number = max([int(time.time()), *(n + 1 for n in (*version_numbers(base), *hidden_numbers(base)))])
    published = base / str(number)
    written.rename(published)
    _flush_directory(base)
    return published


def hide_version(base: Path, number: int) -> Path:
    """Hides a version from the servers; what they hold in memory they serve on until another is loaded."""
    hidden = base / f"{_HIDDEN}{number}"
    (base / str(number)).rename(hidden)
    _flush_directory(base)
    return hidden


def hidden_numbers(base: Path) -> list[int]:
    """The versions that were hidden and are still kept, rising."""
    names = (re.fullmatch(rf"{re.escape(_HIDDEN)}(\d+)", path.name) for path in base.iterdir())
    return sorted(int(name[1]) for name in names if name is not None)


def whole_versions(base: Path) -> list[int]:
    """The versions that lack no file and no byte, rising; contents are not read."""
    return [number for number in version_numbers(base) if not fault(base / str(number), contents=False)]


def prune(base: Path, keep: int) -> None:
    """Removes versions older than the newest `keep` whole ones, and as many of the hidden ones.

    A version that lost a file never counts, so it never pushes out one that can be served.
    """
    kept = whole_versions(base)[-keep:]
    for number in version_numbers(base):
        if kept and number < kept[0]:
            _remove(base, str(number), number)
    for number in hidden_numbers(base)[:-keep]:
        _remove(base, f"{_HIDDEN}{number}", number)


def _remove(base: Path, name: str, number: int) -> None:
    """Hides a version first, so that a server never sees half of one."""
    outgoing = base / f"{_OUTGOING}{number}"
    (base / name).rename(outgoing)
    shutil.rmtree(outgoing)


def flush(directory: Path) -> None:
    """Brings every file of a directory to the disk."""
    for folder, _, files in os.walk(directory):
        for name in files:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())
        _flush_directory(Path(folder))


def _flush_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
