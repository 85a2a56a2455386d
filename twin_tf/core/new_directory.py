"""A directory that appears under its name when it is whole; what a killed process left beside it, the next one removes.

While it is made it lies beside its name, hidden, with a lock that its process holds:

    .NAME.building-1f2e3d4c/      and    .NAME.building-1f2e3d4c.lock
"""

import contextlib
import glob
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from twin_tf.core.buckets import INDEX, BucketPath, is_url
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.mirrors import new_copy, send_directory

try:
    import fcntl
except ImportError:  # not on Windows: leftovers stay there until somebody removes them
    fcntl = None  # type: ignore[assignment]


def check_new(target: str | Path) -> Path:
    """The path of a directory that is to be made; of one in a bucket that of a local one, which is copied there.

    Args:
        target: its name, or a URL; nothing or an empty directory may lie there.

    Raises:
        ConfigError: something else lies there, or there is no name.
    """
    if not str(target):
        raise ConfigError("the output has no name; name a new directory")
    if is_url(target):
        place = BucketPath.of(target)
        if place.files() or (place / INDEX).size() is not None:
            raise ConfigError(f"{target} exists and is not empty; name a new directory or remove it")
        return new_copy(place)
    path = Path(target)
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise ConfigError(f"{target} exists and is not empty; name a new directory or remove it")
    return path


@contextlib.contextmanager
def new_directory(target: str | Path) -> Iterator[Path]:
    """The directory to write in; it gets its name when the block ends, or is removed when that ends by an error.

    One in a bucket is written here, and copied there when it is whole, in the order of `buckets.LAST`.

    A block that removes it itself makes nothing, and is no error.

    Args:
        target: the name; nothing or an empty directory may lie there.

    Raises:
        ConfigError: see `check_new`; it cannot be written there; or another filled it meanwhile, and it is left so.
    """
    path = check_new(target).absolute()
    building = path.with_name(f".{path.name}.building-{uuid.uuid4().hex[:8]}")
    lock = building.with_name(building.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        held = _take(lock)
    except OSError as error:
        raise ConfigError(f"the output {target} cannot be written: {error.strerror}") from None
    try:
        building.mkdir()
        yield building
        if building.exists():
            _rename(building, path, target)
            if is_url(target):
                check_new(target)
                send_directory(path, BucketPath.of(target))
    finally:
        shutil.rmtree(building, ignore_errors=True)
        lock.unlink(missing_ok=True)
        if held is not None:
            held.close()


def _rename(building: Path, path: Path, target: str | Path) -> None:
    try:
        building.replace(path)
    except OSError as error:
        raise ConfigError(
            f"{target} was filled by another while this run was at work, and is left so: {error.strerror}"
        ) from None


def _take(lock: Path) -> BinaryIO | None:
    """Opens and locks a file; None where a living process holds the lock."""
    stream = lock.open("ab")
    try:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        return None
    return stream


def _sweep(path: Path) -> None:
    """Removes what killed processes that made the same directory left behind."""
    if fcntl is None:
        return
    for lock in path.parent.glob(f".{glob.escape(path.name)}.building-*.lock"):
        held = _take(lock)
        if held is None:
            continue
        shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        lock.unlink(missing_ok=True)
        held.close()
