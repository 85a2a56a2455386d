"""The logs that an import writes, a row group at a time, and its books: for every file, read = written + dropped."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipelines.io.progress import report_progress
from beam_pipelines.raw_logs.raw_columns import LogName
from twin_tf.core.dataclass_yaml import ConfigError

ROW_GROUP = 1 << 18
FILE_ROWS = 32 * ROW_GROUP
MAX_MALFORMED_SHARE = 0.005
MALFORMED = "malformed: "


@dataclasses.dataclass
class FileCounts:
    """What became of the rows of one file that was read."""

    read: int = 0
    dropped: Counter[str] = dataclasses.field(default_factory=Counter)

    @property
    def written(self) -> int:
        """Rows that went into a log."""
        return self.read - self.dropped.total()

    @property
    def malformed(self) -> int:
        """Rows that are not of the documented format; the other dropped ones are sound but not wanted."""
        return sum(count for reason, count in self.dropped.items() if reason.startswith(MALFORMED))

    def to_plain(self) -> dict[str, Any]:
        """As `import.json` holds it."""
        return {"read": self.read, "written": self.written, "dropped": dict(sorted(self.dropped.items()))}


class RawLogs:
    """Writes `events`, `items` and `users` below a directory.

    A log that fits into one file is `<log>.parquet`, a longer one `<log>-00000.parquet` and so on.

    Args:
        directory: an existing, empty directory.
        file_rows: rows per file at most, rounded up to whole row groups.
    """

    def __init__(self, directory: Path, file_rows: int = FILE_ROWS) -> None:
        self.directory = directory
        self.files: dict[str, FileCounts] = {}
        self.drawn = 0
        self._file_rows = file_rows
        self._logs: dict[LogName, _Log] = {}

    def write(self, log: LogName, table: pa.Table) -> None:
        """Appends rows to a log; every table of a log has the same columns."""
        if log not in self._logs:
            self._logs[log] = _Log(self.directory, log, table.schema, self._file_rows)
        self._logs[log].write(table)
        report_progress(f"{log} written", table.num_rows)

    def count(self, file: str, read: int, dropped: Mapping[str, int]) -> None:
        """Books rows that were read from a file, and those of them that no log will hold, by reason.

        Raises:
            ConfigError: more than half of the file's first rows are malformed: it is another format altogether.
        """
        first = file not in self.files
        counts = self.files.setdefault(file, FileCounts())
        counts.read += read
        counts.dropped.update({reason: number for reason, number in dropped.items() if number})
        report_progress("rows read", read)
        if first and counts.malformed > read / 2:
            self._refuse(file, counts)

    def finish_file(self, file: str) -> None:
        """Says that a file is read.

        Raises:
            ConfigError: it held no row, or more than 0.5 % of its rows are malformed.
        """
        counts = self.files.get(file, FileCounts())
        if not counts.read:
            raise ConfigError(f"{file} holds no rows; download it again")
        if counts.malformed > MAX_MALFORMED_SHARE * counts.read:
            self._refuse(file, counts)

    def close(self) -> dict[str, int]:
        """Closes the files and returns log -> rows."""
        return {log: self._logs[log].close() for log in sorted(self._logs)}

    def _refuse(self, file: str, counts: FileCounts) -> None:
        found = {reason: count for reason, count in counts.dropped.items() if reason.startswith(MALFORMED)}
        reason = max(found, key=lambda name: found[name])
        raise ConfigError(
            f"{file}: {counts.malformed:,} of the first {counts.read:,} rows are malformed, more than "
            f"{MAX_MALFORMED_SHARE:.1%} (most often: {reason.removeprefix(MALFORMED)}); it is not as documented"
        )


class _Log:
    def __init__(self, directory: Path, log: str, schema: pa.Schema, file_rows: int) -> None:
        self._directory = directory
        self._log = log
        self._schema = schema
        self._file_rows = file_rows
        self._waiting: list[pa.Table] = []
        self._writer: pq.ParquetWriter | None = None
        self._files = self._rows_in_file = self._rows = self._rows_waiting = 0

    def write(self, table: pa.Table) -> None:
        self._rows += table.num_rows
        self._rows_waiting += table.num_rows
        self._waiting.append(table)
        if self._rows_waiting >= ROW_GROUP:
            self._flush(self._rows_waiting // ROW_GROUP * ROW_GROUP)

    def close(self) -> int:
        if self._rows_waiting or not self._files:
            self._flush(self._rows_waiting)
        self._close_file()
        if self._files == 1:
            self._path(0).rename(self._directory / f"{self._log}.parquet")
        return self._rows

    def _flush(self, rows: int) -> None:
        table = pa.concat_tables(self._waiting)
        for start in range(0, max(rows, 1), ROW_GROUP):
            if self._rows_in_file >= self._file_rows:
                self._close_file()
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._path(self._files), self._schema)
                self._files += 1
            group = table.slice(start, min(ROW_GROUP, rows - start))
            self._writer.write_table(group, row_group_size=ROW_GROUP)
            self._rows_in_file += group.num_rows
        rest = table.slice(rows)
        self._waiting = [rest] if rest.num_rows else []
        self._rows_waiting = rest.num_rows

    def _close_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        self._rows_in_file = 0

    def _path(self, number: int) -> Path:
        return self._directory / f"{self._log}-{number:05d}.parquet"
