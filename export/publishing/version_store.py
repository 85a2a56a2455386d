"""A base path as one publisher at a time may change it: versions appear, disappear and are hidden by one rename each.

Of a base path in a bucket this is its image, and `bucket_base` does the same in the bucket.
`export.contract.version_layout` says what lies there.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from export.contract.file_manifest import fault
from export.contract.version_layout import (
    CLOCK_ERROR_S,
    HIDDEN,
    INCOMING,
    LOCK,
    OUTGOING,
    free_name,
    look,
    version_numbers,
)
from export.publishing.bucket_base import PublishError, bucket_of, warn
from twin_tf.core.file_lock import file_lock, holder_of

KEPT = 3


@contextlib.contextmanager
def only_publisher(base: Path, job: str = "") -> Iterator[None]:
    """Holds the lock, says once what is foreign, and sweeps what a killed publisher left.

    Args:
        base: the base path.
        job: what it is held for, such as `refresh`, for whoever else wants it.

    Raises:
        PublishError: another process holds it; the message says what for.
    """
    path = _lock_path(base)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(file_lock(path, holder=f"{job} {os.getpid()}" if job else ""))
        except BlockingIOError as error:
            raise PublishError(f"{_at_work(path)} is at work in {base}; try again when it has finished") from error
        found, now = look(base), int(time.time())
        if found.foreign:
            warn(f"{base} holds {found.foreign_sentence()}")
        if found.versions and found.versions[-1] > now + CLOCK_ERROR_S:
            newest = found.versions[-1]
            warn(f"version {newest} of {base} is ahead of this clock, {now}: numbers go on above it until a rollback")
        for name in found.leftovers:
            _delete(base, name)
        yield


@contextlib.contextmanager
def staging(base: Path) -> Iterator[Path]:
    """The name under which a version is to be written, hidden from servers; removed at the end if it is still there."""
    directory = free_name(base, f"{INCOMING}{os.getpid()}")
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def publish_version(written: Path, base: Path) -> Path:
    """Turns a written directory into the newest version, once every byte of it is on the disk."""
    flush(written)
    number = look(base).next_number(int(time.time()))
    if (bucket := bucket_of(base)) is not None:
        number = bucket.appears(written, number)
    published = base / str(number)
    written.rename(published)
    _flush_directory(base)
    return published


def hide_version(base: Path, number: int) -> Path:
    """Hides a version from the servers; what they hold in memory they serve on until another is loaded."""
    hidden = free_name(base, f"{HIDDEN}{number}")
    if (bucket := bucket_of(base)) is not None:
        bucket.moves(str(number), hidden.name)
    (base / str(number)).rename(hidden)
    _flush_directory(base)
    return hidden


def hidden_numbers(base: Path) -> list[int]:
    """The versions that were hidden and are still kept, rising."""
    return [number for number, _ in look(base).hidden]


def whole_versions(base: Path) -> list[int]:
    """The versions that lack no file and no byte, rising; contents are not read."""
    return [number for number in version_numbers(base) if not fault(base / str(number), contents=False)]


def prune(base: Path, keep: int) -> None:
    """Removes versions older than the newest `keep` whole ones, and as many of the hidden ones.

    A version that lost a file never counts, so it never pushes out one that can be served. What cannot be removed is
    named and stays: the version that was published is served whatever becomes of the old ones.
    """
    kept, found = whole_versions(base)[-keep:], look(base)
    for number in found.versions:
        if kept and number < kept[0]:
            _remove(base, str(number), number)
    for number, name in found.hidden[:-keep]:
        _remove(base, name, number)


def flush(directory: Path) -> None:
    """Brings every file of a directory to the disk."""
    for folder, _, files in os.walk(directory):
        for name in files:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())
        _flush_directory(Path(folder))


def _lock_path(base: Path) -> Path:
    """The lock file; beside a name that something foreign has taken, the first free one."""
    path, suffix = base / LOCK, 0
    while os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        suffix += 1
        path = base / f"{LOCK}-{suffix}"
    return path


def _at_work(lock: Path) -> str:
    """Who holds the lock, as the subject of a sentence."""
    said = re.fullmatch(r"(publish|refresh|rollback) (\d+)", holder_of(lock))
    return f"a {said[1]} (process {said[2]})" if said else "another publisher"


def _remove(base: Path, name: str, number: int) -> None:
    """Hides a version first, so that a server never sees half of one."""
    outgoing = free_name(base, f"{OUTGOING}{number}")
    try:
        if (bucket := bucket_of(base)) is not None:
            bucket.goes(name)
        (base / name).rename(outgoing)
    except OSError as error:
        warn(f"{base / name} cannot be retired: {error.strerror or error}")
        return
    _delete(base, outgoing.name)


def _delete(base: Path, name: str) -> None:
    """Removes a hidden directory or file of ours; what cannot be removed is left to the next publisher."""
    path = base / name
    try:
        if (bucket := bucket_of(base)) is not None:
            bucket.goes(name)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        warn(f"{path} cannot be removed: {error.strerror or error}")


def _flush_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
