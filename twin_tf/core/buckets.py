"""Buckets: `gs://bucket/path` and the like, through Arrow's file systems, which the base install has.

An object store is no disk. An object appears whole or not at all, but nothing is renamed: a directory is copied object
by object. So what makes a directory readable is written last and removed first (`LAST`), and what was written is found
by an index (`INDEX`), not by a listing, which may be late.

`gs`, `s3`, `abfs` and `hdfs` are Arrow's own; what else fsspec knows works once fsspec and its package are installed.
"""

import contextlib
import dataclasses
import datetime
import functools
import importlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from twin_tf.core.errors import UserError
from twin_tf.core.yaml_text import parse_json

if TYPE_CHECKING:
    from pyarrow import fs as arrow  # at work imported where it is used: not every program reads a bucket

INDEX = ".files.json"
"""Which objects a directory consists of, written once all others are there: `{"name": bytes}`."""

LAST = (INDEX, "manifest.json", "_SUCCESS", "saved_model.pb")
"""What makes a directory readable, in the order in which it is written."""

_ARROWS_OWN = ("gs", "gcs", "s3", "abfs", "abfss", "hdfs", "viewfs")
_FLAT = ("gcs", "s3", "abfs")
"""Types of Arrow's stores that have no directories to make."""
_LARGEST_COPY = {"s3": 5 << 30}
"""Scheme -> bytes of the largest object that the store copies by itself, where there is a limit."""
_RETRY_SECONDS = 60
_BLOCK = 8 << 20
_AT_ONCE = 16
_DENIED = re.compile(
    r"Access_?Denied|Forbidden|PERMISSION_DENIED|UNAUTHENTICATED|access token|HTTP status 40[13]|InvalidAccessKeyId",
    re.IGNORECASE,
)
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<netloc>[^/]*)/*(?P<key>.*?)/*")

_registered: "dict[str, arrow.FileSystem]" = {}


class BucketError(UserError, OSError):
    """What an object store refused, or a URL that no store here reads; the message is one sentence."""


def is_url(place: object) -> bool:
    """Whether a place lies in a bucket; a local path does not."""
    return isinstance(place, BucketPath) or _URL.match(str(place)) is not None


def register(scheme: str, store: "arrow.FileSystem") -> None:
    """Lets a file system of Arrow's interface read and write the URLs of a scheme; paths begin with the bucket."""
    _registered[scheme] = store


@dataclasses.dataclass(frozen=True)
class BucketPath:
    """An object, or all objects below a prefix.

    Attributes:
        url: without a slash at its end.
    """

    url: str

    @classmethod
    def of(cls, place: "str | Path | BucketPath") -> "BucketPath":
        """Of a URL.

        Raises:
            BucketError: no store here reads it.
        """
        found = _URL.fullmatch(str(place))
        if found is None or not found["netloc"]:
            raise BucketError(f"{place} names no bucket; write scheme://bucket/path")
        path = cls(str(place).rstrip("/"))
        _ = path._store
        return path

    @property
    def scheme(self) -> str:
        """`gs` of `gs://bucket/path`."""
        return self.url.partition("://")[0]

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rpartition("/")[2]

    def __truediv__(self, name: str) -> "BucketPath":
        return BucketPath(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    @property
    def _store(self) -> "tuple[arrow.FileSystem, str]":
        parts = _URL.fullmatch(self.url)
        assert parts is not None
        store, root = _open_store(parts["scheme"], parts["netloc"])
        return store, f"{root}/{parts['key']}".rstrip("/")

    def size(self) -> int | None:
        """Bytes of the object; None if there is none."""
        store, path = self._store
        with _in_one_sentence(self, "looked at"):
            info = store.get_file_info(path)
        return int(info.size) if info.is_file else None

    def read(self) -> bytes:
        """The object.

        Raises:
            FileNotFoundError: there is none.
            BucketError: it cannot be read.
        """
        with self.open() as stream, _in_one_sentence(self, "read"):
            return stream.read()

    def part(self, first: int, length: int) -> bytes:
        """Some bytes of the object, from a place that lies in it, or from 0. Raises as `read`."""
        with self.open() as stream, _in_one_sentence(self, "read"):
            stream.seek(first)
            return stream.read(length)

    def open(self, mode: str = "rb") -> BinaryIO:
        """The object for reading; its bytes can be sought. Raises as `read`."""
        assert mode == "rb"
        store, path = self._store
        with _in_one_sentence(self, "read"):
            return cast(BinaryIO, store.open_input_file(path))

    def write(self, content: bytes) -> None:
        """Writes the object whole.

        Raises:
            BucketError: it cannot be written.
        """
        with self._writing() as stream:
            stream.write(content)

    def files(self) -> dict[str, int]:
        """What a listing shows below this prefix now: name -> bytes, in the order of names; empty if nothing."""
        from pyarrow import fs as arrow

        store, path = self._store
        with _in_one_sentence(self, "listed"):
            found = store.get_file_info(arrow.FileSelector(path, allow_not_found=True, recursive=True))
        start = len(path.lstrip("/")) + 1  # some put a slash before the bucket
        sizes = {info.path.lstrip("/")[start:]: int(info.size) for info in found if info.is_file}
        return dict(sorted(sizes.items()))

    def indexed(self) -> dict[str, int]:
        """What `send` wrote below this prefix: name -> bytes, `INDEX` left out; the listing where it wrote no index.

        Raises:
            BucketError: the index is damaged.
        """
        try:
            found = parse_json((self / INDEX).read(), f"{self}/{INDEX}")
        except FileNotFoundError:
            return self.files()
        if not isinstance(found, dict) or not all(_is_inside(n) and type(s) is int for n, s in found.items()):
            raise BucketError(f"{self}/{INDEX} is damaged; write the directory anew")
        return found

    def fetch(self, directory: Path, names: Iterable[str]) -> None:
        """Copies objects below this prefix to a local directory.

        Raises:
            FileNotFoundError: one is missing.
            BucketError: one cannot be read, or its name leads out of the directory.
        """

        def one(name: str) -> None:
            if not _is_inside(name):
                raise BucketError(f"{self} lists {name!r}, which leads out of it")
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with (self / name).open() as stream, target.open("wb") as file, _in_one_sentence(self / name, "read"):
                shutil.copyfileobj(stream, file, _BLOCK)

        in_parallel(one, names)

    def send(self, directory: Path, sizes: Mapping[str, int], changed: Iterable[str] | None = None) -> None:
        """Copies local files below this prefix; an index of them, and what else `LAST` names, at the end.

        Args:
            directory: where they lie.
            sizes: what the index says.
            changed: those of them to copy; all if left out.

        Raises:
            BucketError: one cannot be written; none of `LAST` has been written then that was not there before.
        """

        def one(name: str) -> None:
            with (directory / name).open("rb") as file, (self / name)._writing() as stream:
                shutil.copyfileobj(file, stream, _BLOCK)

        names = set(sizes if changed is None else changed)
        in_parallel(one, sorted(names - set(LAST)))
        for name in LAST:
            if name == INDEX:
                (self / INDEX).write(json.dumps(dict(sorted(sizes.items())), indent=0).encode())
            elif name in names:
                one(name)

    def copy_to(self, target: "BucketPath", names: Iterable[str]) -> None:
        """Copies objects within the store, those of `LAST` at the end; too large ones (`_LARGEST_COPY`) by way of here.

        Raises:
            BucketError: one cannot be copied; none of `LAST` has been then.
        """
        store, source = self._store
        _, destination = target._store

        def one(name: str) -> None:
            most = _LARGEST_COPY.get(self.scheme)
            if most is not None and ((self / name).size() or 0) > most:
                with (self / name).open() as stream, (target / name)._writing() as copy:
                    shutil.copyfileobj(stream, copy, _BLOCK)
                return
            with _in_one_sentence(target / name, "written"):
                _make_parent(store, f"{destination}/{name}")
                store.copy_file(f"{source}/{name}", f"{destination}/{name}")

        wanted = list(names)
        in_parallel(one, [name for name in wanted if name not in LAST])
        for name in LAST:
            if name in wanted:
                one(name)

    def delete(self, names: Iterable[str]) -> None:
        """Removes objects below this prefix, as far as they are there; those of `LAST` first, the last written first.

        Raises:
            BucketError: one cannot be removed.
        """
        store, path = self._store

        def one(name: str) -> None:
            with contextlib.suppress(FileNotFoundError), _in_one_sentence(self / name, "removed"):
                store.delete_file(f"{path}/{name}")

        gone = set(names)
        for name in reversed(LAST):
            if name in gone:
                one(name)
        in_parallel(one, sorted(gone - set(LAST)))

    def remove(self) -> None:
        """Removes all below this prefix, in the order of `delete`; what an index names although no listing shows it."""
        self.delete({*self.indexed(), *self.files(), INDEX})
        store, path = self._store
        with contextlib.suppress(FileNotFoundError), _in_one_sentence(self, "removed"):
            if store.get_file_info(path).type.name != "NotFound":  # what some keep for a directory that is empty
                store.delete_dir(path)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[BinaryIO]:
        store, path = self._store
        with _in_one_sentence(self, "written"):
            _make_parent(store, path)
            with store.open_output_stream(path) as stream:
                yield cast(BinaryIO, stream)


def file_size(path: Path | BucketPath) -> int | None:
    """Bytes of a file or an object; None if there is none."""
    if isinstance(path, BucketPath):
        return path.size()
    return path.stat().st_size if path.is_file() else None


def in_parallel(work: Any, things: Iterable[Any]) -> None:
    """Calls `work` with each thing, some at once; the first error is raised when all are done."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(work, things))


def _make_parent(store: "arrow.FileSystem", path: str) -> None:
    if store.type_name not in _FLAT:
        store.create_dir(path.rpartition("/")[0], recursive=True)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and name == str(path) != "."


@functools.lru_cache(maxsize=64)
def _arrows_store(scheme: str, netloc: str) -> "tuple[arrow.FileSystem, str]":
    from pyarrow import fs as arrow

    if scheme == "s3":
        elsewhere = os.environ.get("AWS_ENDPOINT_URL")  # MinIO and the like
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        region = region or (None if elsewhere else arrow.resolve_s3_region(netloc))
        return arrow.S3FileSystem(region=region, endpoint_override=elsewhere), netloc
    if scheme in ("gs", "gcs"):
        patience = datetime.timedelta(seconds=_RETRY_SECONDS)
        emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")  # as Google's own clients have it
        where = {"anonymous": True, "scheme": "http", "endpoint_override": emulator.removeprefix("http://")}
        return arrow.GcsFileSystem(retry_time_limit=patience, **(where if emulator else {})), netloc
    store, root = arrow.FileSystem.from_uri(f"{scheme}://{netloc}/")
    return store, root.rstrip("/")


def _open_store(scheme: str, netloc: str) -> "tuple[arrow.FileSystem, str]":
    """The file system of a URL, and where in it the bucket lies."""
    url = f"{scheme}://{netloc}"
    if scheme in _registered:
        return _registered[scheme], netloc
    if scheme in _ARROWS_OWN:
        try:
            return _arrows_store(scheme, netloc)
        except (ImportError, NotImplementedError):
            raise BucketError(
                f"{url} cannot be opened: this build of pyarrow reads no {scheme}://; `pip install pyarrow` brings one"
            ) from None
        except (OSError, ValueError) as error:
            raise BucketError(f"{url} cannot be opened: {_reason(error)}") from error
    try:
        fsspec = importlib.import_module("fsspec")  # brought by whoever has such a store, by no extra
    except ImportError:
        raise BucketError(
            f"{url} cannot be opened: gs://, s3://, abfs:// and hdfs:// are read as they are; {scheme}:// needs "
            "`pip install fsspec` and the package that fsspec names for it"
        ) from None
    try:
        found = fsspec.filesystem(scheme, use_listings_cache=False)
    except (ValueError, ImportError) as error:
        raise BucketError(f"{url} cannot be opened: {_reason(error)}") from error
    from pyarrow import fs as arrow

    return arrow.PyFileSystem(arrow.FSSpecHandler(found)), netloc


@contextlib.contextmanager
def _in_one_sentence(path: BucketPath, done: str) -> Iterator[None]:
    """Raises what a store says as one sentence; that there is no such object is left as it is."""
    try:
        yield
    except BucketError:
        raise
    except FileNotFoundError as error:
        if done != "written":
            raise
        raise BucketError(f"{path} cannot be written: there is no such bucket, or nothing to copy") from error
    except (OSError, ValueError, NotImplementedError) as error:
        raise BucketError(f"{path} cannot be {done}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if isinstance(error, PermissionError) or _DENIED.search(text):
        return "no permission; look at the credentials of this machine and at the rights that they have on the bucket"
    return text if len(text) < 300 else f"{text[:300]}..."
