"""BigQuery tables as logs, by the Storage Read API: columns as Arrow batches, no query, no export, no dict per row.

A log's pattern `bigquery://project.dataset.table` may go on with `?where=` and a row restriction in SQL, for example
`day = DATE '2024-05-01'`, percent-encoded (a comma is `%2C`), and with `&project=`, the project that pays if it is not
the table's own.

One session is made per log, when the table is cut into chunks: all its streams see the table as it is at that moment. A
stream is a chunk. A connection that breaks is resumed at the row where it broke by the client itself; a worker that
fails reads its stream once more from the beginning. In dead letters `file` is the pattern and `line` the row, counted
through the streams in their order. The API gives no size, so a table counts no bytes.
"""

import dataclasses
import importlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

import pyarrow as pa

from beam_pipelines.raw_logs.list_columns import columns_of_file
from beam_pipelines.raw_logs.log_blocks import Block, Chunk, LogFile
from beam_pipelines.raw_logs.nested_columns import dotted_names
from beam_pipelines.raw_logs.parquet_log import batch_rows, rows_block
from beam_pipelines.raw_logs.raw_columns import LogColumns
from twin_tf.core.dataclass_yaml import ConfigError, nearest

PREFIX = "bigquery://"
_ADDRESS = re.compile(r"(?P<project>[^/?.]+(?:\.[^/?.:]+:[^/?.]+)?)\.(?P<dataset>\w+)\.(?P<table>[^/?.]+)")
_OPTIONS = ("where", "project")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table, which of its rows, and who pays for reading them."""

    project: str
    dataset: str
    table: str
    where: str = ""
    payer: str = ""


def parse_address(pattern: str) -> Table:
    """Reads `bigquery://project.dataset.table?where=...&project=...`.

    Raises:
        ConfigError: it is written in another way.
    """
    address, _, query = pattern.removeprefix(PREFIX).partition("?")
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ConfigError(f"{pattern}: a BigQuery table is written {PREFIX}project.dataset.table")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise ConfigError(f"{pattern}: what follows the '?' must be where=... or project=..., joined by '&'") from None
    options = dict(pairs)
    for name, _ in pairs:
        if name not in _OPTIONS:
            raise ConfigError(f"{pattern}: unknown option {name!r}{nearest(name, _OPTIONS)}")
    if len(options) < len(pairs):
        raise ConfigError(f"{pattern}: an option is there twice; join row restrictions with AND")
    return Table(**found.groupdict(), where=options.get("where", ""), payer=options.get("project", found["project"]))


def match_table(number: int, pattern: str) -> LogFile:
    """The table as a file of the log; asks nothing of BigQuery.

    Raises:
        ConfigError: the pattern is wrong, or the client library is missing.
    """
    parse_address(pattern)
    _library("")
    return LogFile(number, pattern, 0)


def plan_streams(file: LogFile, columns: LogColumns) -> list[Chunk]:
    """Makes the log's session; a chunk per stream, or one that says why there are none."""
    errors = _library(".api_core.exceptions", "google")
    try:
        session = _session(file, columns)
    except (errors.NotFound, errors.InvalidArgument, errors.PermissionDenied, errors.Unauthenticated) as error:
        # What another attempt cannot heal; everything else is raised, and the runner tries again.
        return [Chunk(file, 0, fault=f"{file.path}: {error.message.splitlines()[0]}")]
    return [Chunk(file, number, stream=stream.name) for number, stream in enumerate(session.streams)]


def read_stream(columns: LogColumns, chunk: Chunk) -> Iterator[Block]:
    """The rows of a stream."""
    first = 0
    schema: pa.Schema | None = None
    waiting: list[pa.RecordBatch] = []
    for message in _client().read_rows(chunk.stream):
        if schema is None and message.arrow_schema.serialized_schema:  # the first message of a stream brings it
            schema = pa.ipc.read_schema(pa.py_buffer(message.arrow_schema.serialized_schema))
        if not message.row_count:
            continue
        batch = pa.py_buffer(message.arrow_record_batch.serialized_record_batch)
        waiting.append(pa.ipc.read_record_batch(batch, schema))
        if sum(batch.num_rows for batch in waiting) >= batch_rows(columns):
            block = _block(columns, waiting, first)
            first += block.lines
            waiting = []
            yield block
    if waiting:
        yield _block(columns, waiting, first)


def _block(columns: LogColumns, batches: list[pa.RecordBatch], first: int) -> Block:
    block = rows_block(columns, pa.Table.from_batches(batches), first)
    block.columns_seen = tuple(dotted_names(batches[0].schema))
    return block


def _session(file: LogFile, columns: LogColumns) -> Any:
    table, types = parse_address(file.path), _library(".types")
    return _client().create_read_session(
        parent=f"projects/{table.payer}",
        read_session=types.ReadSession(
            table=f"projects/{table.project}/datasets/{table.dataset}/tables/{table.table}",
            data_format=types.DataFormat.ARROW,
            read_options=types.ReadSession.TableReadOptions(
                selected_fields=list(columns_of_file(columns).types), row_restriction=table.where
            ),
        ),
    )


def _client() -> Any:
    return _library("").BigQueryReadClient()


def _library(module: str, package: str = "google.cloud.bigquery_storage_v1") -> Any:
    try:
        return importlib.import_module(package + module)
    except ImportError:
        raise ConfigError(
            "reading BigQuery needs the package google-cloud-bigquery-storage: pip install 'twin-tf[gcp]'"
        ) from None
