"""The files of a download: in the archive as the publisher ships it, in its unpacked directory, or one plain file.

They come one after the other as streams, so nothing is unpacked on disk. A zip and a directory are listed first; a tar
is read once from its start to its end, so there a missing file shows only at the end.
"""

import dataclasses
import fnmatch
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from twin_tf.core.dataclass_yaml import ConfigError


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """One file: its name without folders, its size in bytes, and its content from the start."""

    name: str
    size: int
    stream: IO[bytes]


class Source:
    """The wanted files of a download.

    Args:
        path: a zip or tar archive, a directory (searched to any depth), or the one wanted file.
        patterns: names of the wanted files; `*` stands for any characters.

    Raises:
        ConfigError: nothing is there, it is none of these, a wanted file is missing or is there twice.
    """

    def __init__(self, path: str | Path, patterns: tuple[str, ...]) -> None:
        self.path = Path(path)
        self._patterns = patterns
        self._in_directory: list[Path] = []
        self._tar = False
        if self.path.is_dir():
            self._in_directory = sorted(
                (file for file in self.path.rglob("*") if file.is_file() and self._wanted(file.name)),
                key=lambda file: file.name,
            )
            self._check([file.name for file in self._in_directory])
        elif not self.path.is_file():
            raise ConfigError(f"{self.path} does not exist; --source must name the download or its unpacked directory")
        elif zipfile.is_zipfile(self.path):
            with zipfile.ZipFile(self.path) as archive:
                self._check([_base(name) for name in archive.namelist() if self._wanted(_base(name))])
        elif tarfile.is_tarfile(self.path):
            self._tar = True
        elif self._wanted(self.path.name):
            self._in_directory = [self.path]
            self._check([self.path.name])
        else:
            raise ConfigError(
                f"{self.path} is no zip or tar archive, no directory and not {' or '.join(patterns)}; name the download"
            )

    @property
    def identity(self) -> dict[str, str | int]:
        """What tells two sources apart without reading them: name, bytes, and when they were last changed."""
        files = [file.stat() for file in self._in_directory or [self.path]]
        changed = max(file.st_mtime_ns for file in files)
        return {"name": self.path.resolve().name, "bytes": sum(file.st_size for file in files), "changed": changed}

    def __iter__(self) -> Iterator[SourceFile]:
        """Yields the wanted files; a stream is good until the next one is asked for."""
        if self._in_directory:
            for file in self._in_directory:
                with file.open("rb") as stream:
                    yield SourceFile(file.name, file.stat().st_size, stream)
        elif self._tar:
            yield from self._of_tar()
        else:
            with zipfile.ZipFile(self.path) as archive:
                members = [member for member in archive.infolist() if self._wanted(_base(member.filename))]
                for member in sorted(members, key=lambda member: _base(member.filename)):
                    with archive.open(member) as stream:
                        yield SourceFile(_base(member.filename), member.file_size, stream)

    def _of_tar(self) -> Iterator[SourceFile]:
        seen: list[str] = []
        with tarfile.open(self.path, "r|*") as archive:
            for member in archive:
                name = _base(member.name)
                stream = archive.extractfile(member) if member.isfile() and self._wanted(name) else None
                if stream is not None:
                    if name in seen:
                        raise ConfigError(f"{self.path} holds more than one {name}; name the archive of one data set")
                    seen.append(name)
                    yield SourceFile(name, member.size, stream)
        self._check(seen)

    def _wanted(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self._patterns)

    def _check(self, names: list[str]) -> None:
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"{self.path} holds more than one {name}; name the directory of one data set")
        for pattern in self._patterns:
            if not fnmatch.filter(names, pattern):
                raise ConfigError(f"{self.path} has no {pattern}; name the download of this very data set")


def _base(name: str) -> str:
    return PurePosixPath(name).name
