"""Where a run writes: nothing half-written is ever taken for a result, and nothing of a killed run is ever read.

On a local disk the output gets its name when it is whole (`twin_tf.core.new_directory`). Elsewhere a run writes in
place: `_STARTED` first, `_SUCCESS` last, and readers refuse a directory without `_SUCCESS`; the next run into the same
output removes what a run without `_SUCCESS` left.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from apache_beam.io.filesystems import FileSystems

from beam_pipelines.io.record_writer import read_file, write_file
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.new_directory import check_new, new_directory
from twin_tf.records.format import MANIFEST, SUCCESS, Manifest

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
        self.remote = "://" in output
        self.output = output.rstrip("/") if self.remote else output
        if self.remote:
            self._refuse_finished()
            return
        check_new(output)

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
        with new_directory(self.output) as building:
            yield str(building)
            whole = (building / SUCCESS).exists()
            if not whole:
                shutil.rmtree(building)
        if whole:
            shutil.rmtree(self._kept_letters(), ignore_errors=True)

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
