"""Where a run writes: nothing half-written is ever taken for a result, and nothing of a killed run is ever read.

On a local disk a run builds in `.<name>.building-<random>` beside the output and renames it at the end. It holds a lock
on a file beside it; a later run removes every such directory whose lock nobody holds. Elsewhere a run
writes in place: `_STARTED` first, `_SUCCESS` last, and readers refuse a directory without `_SUCCESS`; the next
run into the same output removes what a run without `_SUCCESS` left.
"""

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from apache_beam.io.filesystems import FileSystems

from beam_pipelines.io.record_writer import read_file, write_file
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.records.format import MANIFEST, SUCCESS, Manifest

try:
    import fcntl
except ImportError:  # not on Windows: leftovers stay there until somebody removes them
    fcntl = None  # type: ignore[assignment]

STARTED = "_STARTED"
DEAD_LETTERS = "dead_letters"


class OutputDirectory:
    """The output of one run.

    Args:
        output: a directory that does not exist, is empty, or (not local) holds an unfinished run.

    Raises:
        ConfigError: there is something else in it.
    """

    def __init__(self, output: str) -> None:
        if not output:
            raise ConfigError("the output has no name; name a new directory")
        self.remote = "://" in output
        self.output = output.rstrip("/") if self.remote else output
        if self.remote:
            self._refuse_finished()
            return
        path = Path(output)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(f"{output} exists and is not empty; name a new directory or remove it")

    def _refuse_finished(self) -> None:
        if not FileSystems.match([self.output + "/**"], limits=[1])[0].metadata_list:
            return
        if read_file(self.output, STARTED) is None or read_file(self.output, SUCCESS) is not None:
            raise ConfigError(f"{self.output} is not empty; name a new directory")

    @contextlib.contextmanager
    def building(self) -> Iterator[str]:
        """The directory to build in; it becomes the output if the block ends without an error and with `_SUCCESS`."""
        if self.remote:
            if read_file(self.output, STARTED) is not None:
                found = FileSystems.match([self.output + "/**"])[0].metadata_list
                FileSystems.delete([metadata.path for metadata in found])
            write_file(self.output, STARTED, b"")
            yield self.output
            if read_file(self.output, SUCCESS) is not None:
                FileSystems.delete([FileSystems.join(self.output, STARTED)])
            return
        target = Path(self.output).absolute()
        building = target.with_name(f".{target.name}.building-{uuid.uuid4().hex[:8]}")
        lock = building.with_name(building.name + ".lock")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _sweep(target)
            stream = _take(lock)
        except OSError as error:
            raise ConfigError(f"the output {self.output} cannot be written: {error.strerror}") from None
        try:
            yield str(building)
            if (building / SUCCESS).exists():
                self._rename(building, target)
                shutil.rmtree(self._kept_letters(), ignore_errors=True)
        finally:
            shutil.rmtree(building, ignore_errors=True)
            lock.unlink(missing_ok=True)
            if stream is not None:
                stream.close()

    def _rename(self, building: Path, target: Path) -> None:
        try:
            building.replace(target)
        except OSError as error:
            raise ConfigError(
                f"{self.output} was filled by another while this run was at work, and is left so: {error.strerror}"
            ) from None

    def keep_dead_letters(self, building: str) -> str:
        """Moves the dead letters of a failed run beside the output; returns where they are, nothing without any."""
        if self.remote:
            found = FileSystems.match([f"{self.output}/{DEAD_LETTERS}/*"], limits=[1])[0].metadata_list
            return f"{self.output}/{DEAD_LETTERS}" if found else ""
        letters = Path(building) / DEAD_LETTERS
        if not letters.is_dir():
            return ""
        kept = self._kept_letters()
        shutil.rmtree(kept, ignore_errors=True)
        letters.replace(kept)
        return str(kept)

    def _kept_letters(self) -> Path:
        path = Path(self.output)
        return path.with_name(f"{path.name}.{DEAD_LETTERS}")

    def manifest(self) -> Manifest:
        """The manifest of the finished output."""
        content = read_file(self.output, MANIFEST) if self.remote else None
        return (
            Manifest.from_json(content.decode("utf-8"), self.output)
            if content
            else Manifest.load(self.output, verify=False)
        )


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


def _sweep(target: Path) -> None:
    """Removes what killed runs into the same output left behind."""
    if fcntl is None:
        return
    for lock in target.parent.glob(f".{target.name}.building-*.lock"):
        stream = _take(lock)
        if stream is None:
            continue
        shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        lock.unlink(missing_ok=True)
        stream.close()
