"""A Parquet file that is written piece by piece: never more than a row group of it in memory."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_IN_GROUP = 100_000


class RowsWriter:
    """Writes rows that come in small pieces as row groups of about `ROWS_IN_GROUP`; the first piece gives the types.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._path = path
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []

    def add(self, columns: Mapping[str, Any]) -> None:
        """Adds rows: name -> array of as many values as every other column has."""
        table = pa.table(dict(columns))
        self.count += len(table)
        self._waiting.append(table)
        if sum(map(len, self._waiting)) >= ROWS_IN_GROUP:
            self._write()

    def _write(self) -> None:
        if not self._waiting:
            return
        table, self._waiting = pa.concat_tables(self._waiting), []
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)

    def __enter__(self) -> "RowsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._write()
        if self._writer is not None:
            self._writer.close()
