"""What `import_dataset` must know of a public data set."""

import dataclasses
from collections.abc import Callable, Iterable

from beam_pipelines.datasets.log_writer import RawLogs
from beam_pipelines.datasets.source_files import SourceFile

Write = Callable[[RawLogs, Iterable[SourceFile], int], None]


@dataclasses.dataclass(frozen=True)
class PublicDataset:
    """A public data set.

    Attributes:
        title: the name its publisher gives it.
        write: reads the files and writes the logs, with the seed of every random draw.
        page: where the publisher offers it.
        download: the file to download there; empty if there is none to name with `--source`.
        files: patterns of the files inside that are read; each must match at least one.
        package: the Python package that holds the data, if that is how it is published.
    """

    title: str
    write: Write
    page: str
    download: str = ""
    files: tuple[str, ...] = ()
    package: str = ""

    @property
    def needs(self) -> str:
        """What the user must have, for help texts."""
        if self.download:
            return f"--source {self.download}, from {self.page}"
        return f"the package {self.package}: pip install 'twin-tf[demo]'"
