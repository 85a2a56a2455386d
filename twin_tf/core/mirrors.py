"""Local copies of what lies in a bucket: programs read and write files, and what changed is sent back.

Copies lie in a temporary directory of the process, which is removed when it ends; `TMPDIR` says where. A local path is
its own copy, so callers need no second way.
"""

import contextlib
import functools
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from twin_tf.core.buckets import BucketError, BucketPath, in_parallel, is_url
from twin_tf.core.errors import UserError
from twin_tf.core.yaml_text import parse_json

_copies: dict[str, str] = {}
"""Local directory -> the URL that it is a copy of."""


def at_hand(place: str | Path | BucketPath, names: Iterable[str] | None = None) -> Path:
    """A directory that can be read like a local one.

    Args:
        place: a local path, which is returned as it is, or a URL, of which a copy is made.
        names: what to copy, below the place; whatever its index or its listing shows if left out.

    Raises:
        BucketError: there is nothing, or it cannot be read.
    """
    if not is_url(place):
        return Path(str(place))
    source = BucketPath.of(place)
    wanted = list(source.indexed() if names is None else names)
    if not wanted:
        raise BucketError(f"there is nothing at {source}")
    copy = new_copy(source)
    try:
        source.fetch(copy, wanted)
    except FileNotFoundError as error:
        raise BucketError(f"{source} is not whole, or is being written: an object that it lists is missing") from error
    return copy


def local_path(place: str | Path, what: str) -> Path:
    """A path that cannot be in a bucket.

    Args:
        place: what was given.
        what: lies there, as the subject of a sentence.

    Raises:
        BucketError: it is a URL.
    """
    if is_url(place):
        raise BucketError(f"{place} lies in a bucket, and {what} must be on a local disk; name a path")
    return Path(place)


def file_at_hand(place: str | Path) -> Path:
    """`at_hand` of one file.

    Raises:
        BucketError: it cannot be read; of one that is missing the copy is missing too.
    """
    if not is_url(place):
        return Path(place)
    source = BucketPath.of(place)
    copy = new_copy(source) / source.name
    with contextlib.suppress(FileNotFoundError):
        content = source.read()
        copy.write_bytes(content)
    return copy


def copy_of_listed(place: str | Path, names: Iterable[str]) -> Path:
    """A copy of a few files, and of those that the key `files` of the first, a JSON file, lists by name.

    Args:
        place: a URL.
        names: below it; what is missing there is missing in the copy.

    Raises:
        BucketError: one cannot be read.
    """
    source, (first, *rest) = BucketPath.of(place), names
    copy = new_copy(source)

    def fetch(name: str) -> None:
        try:
            source.fetch(copy, [name])
        except FileNotFoundError:
            (copy / name).unlink(missing_ok=True)

    in_parallel(fetch, [first, *rest])
    listed: object = None
    if (copy / first).is_file():
        with contextlib.suppress(UserError):  # said by whoever reads it
            found = parse_json((copy / first).read_bytes(), first)
            listed = found.get("files") if isinstance(found, dict) else None
    in_parallel(fetch, listed if isinstance(listed, dict) else ())
    return copy


def new_copy(source: BucketPath) -> Path:
    """An empty directory for a copy; it has the source's name."""
    copy = Path(tempfile.mkdtemp(dir=_scratch())) / source.name
    copy.mkdir()
    _copies[str(copy)] = str(source)
    return copy


def send_directory(directory: Path, target: BucketPath) -> dict[str, int]:
    """Copies all files of a local directory to a bucket, see `BucketPath.send`; returns their names and sizes."""
    sizes = {p.relative_to(directory).as_posix(): p.stat().st_size for p in directory.rglob("*") if p.is_file()}
    target.send(directory, sizes)
    return sizes


def place_of(path: str | Path) -> str:
    """What people call a path: the URL if it is, or lies in, a copy."""
    return named(str(path))


def original(path: Path) -> Path | BucketPath:
    """What a path is a copy of, or lies in a copy of; a local path is its own."""
    place = place_of(path)
    return BucketPath(place) if is_url(place) else path


def named(text: str) -> str:
    """A text with copies called by their URLs."""
    for copy in re.findall(rf"{re.escape(str(_scratch()))}/[^/\s]+/[^/\s:;,'\"]+", text) if _copies else ():
        if copy in _copies:
            text = text.replace(copy, _copies[copy])
    return text


class WorkingCopy:
    """A directory of a bucket, worked on locally.

    Args:
        place: a URL; nothing need lie there yet.
        wanted: which of the names that lie there are copied; what is not is neither read nor removed.

    Attributes:
        directory: the copy.
        place: where it belongs.
    """

    def __init__(self, place: str | Path, wanted: Callable[[str], bool] = lambda name: True) -> None:
        self.place = BucketPath.of(place)
        self.directory = new_copy(self.place)
        there = self.place.indexed()
        names = [name for name in there if wanted(name)]
        self._left = {name: size for name, size in there.items() if not wanted(name)}
        try:
            self.place.fetch(self.directory, names)
        except FileNotFoundError as error:
            raise BucketError(f"{self.place} is not whole: an object that it lists is missing") from error
        self._sent = self._states()

    def push(self) -> None:
        """Sends what changed, then the index, and removes what is gone.

        Raises:
            BucketError: it cannot be written; readers see what was there before, as far as nothing was overwritten.
        """
        now = self._states()
        if now == self._sent:
            return
        changed = [name for name, state in now.items() if self._sent.get(name) != state]
        self.place.send(self.directory, {**self._left, **{name: size for name, (size, _) in now.items()}}, changed)
        self.place.delete(self._sent.keys() - now.keys())
        self._sent = now

    def _states(self) -> dict[str, tuple[int, int]]:
        """Name -> bytes and time of the last change; hidden files at the top, such as locks, stay here."""
        found = {}
        for path in sorted(self.directory.rglob("*")):
            name = path.relative_to(self.directory).as_posix()
            if path.is_file() and not name.startswith("."):
                status = path.stat()
                found[name] = (status.st_size, status.st_mtime_ns)
        return found


@contextlib.contextmanager
def working_copy(place: str | Path, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[Path]:
    """A directory to read and write in: a local path itself, or a `WorkingCopy` that is sent when the block ends well.

    Args:
        place: a local path or a URL.
        wanted: see `WorkingCopy`.
    """
    if not is_url(place):
        yield Path(place)
        return
    copy = WorkingCopy(place, wanted)
    yield copy.directory
    copy.push()


@functools.cache
def _held() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="twin-tf-bucket-")


def _scratch() -> Path:
    return Path(_held().name)
