"""The first steps of `build_examples`, as DoFns: find the files, read them into event batches, check what was found."""

import json
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from beam_pipelines.examples.batch_bytes import cut_by_shard
from beam_pipelines.examples.catalogue import RAW, ItemNames
from beam_pipelines.examples.event_batches import EventReducer
from beam_pipelines.examples.log_survey import LogSurvey, find_split
from beam_pipelines.examples.previous_snapshot import PreviousRun
from beam_pipelines.examples.shard_buffer import ToShards
from beam_pipelines.examples.value_counts import ITEM_NAMES
from beam_pipelines.io.progress import NAMESPACE, report_progress
from beam_pipelines.io.record_writer import stop_job, write_file
from beam_pipelines.raw_logs.log_report import LogReport
from beam_pipelines.raw_logs.raw_columns import LogName, log_columns
from beam_pipelines.raw_logs.read_logs import BATCH_ROWS, Chunk, Dead, LogFile, match_files, plan_chunks, read_chunk
from beam_pipelines.raw_logs.type_advice import advice
from twin_tf.features.encoders import encode_ids
from twin_tf.features.schema import FeatureSchema
from twin_tf.records.format import SplitTimes


class MatchFiles(beam.DoFn):
    """Patterns of a log -> its files."""

    def __init__(self, log: LogName) -> None:
        self._log = log

    def process(self, patterns: list[str]) -> Iterator[LogFile]:
        """Yields a file each."""
        yield from match_files(self._log, patterns)


class PlanChunks(beam.DoFn):
    """A file -> its chunks."""

    def __init__(self, schema: FeatureSchema, log: LogName) -> None:
        self._columns = log_columns(schema, log)

    def process(self, file: LogFile) -> Iterator[Chunk]:
        """Yields a chunk each."""
        yield from plan_chunks(file, self._columns)


class ReadChunk(ToShards):
    """A chunk -> (user shard, or part of the items, and event batch). Tags: `names` of items, `dead`, `report`."""

    def __init__(
        self, schema: FeatureSchema, log: LogName, shards: int, parts: int, latest: int | None, not_before: int | None
    ) -> None:
        super().__init__(shards)
        self._schema = schema
        self._log = log
        self._parts = parts
        self._columns = log_columns(schema, log, latest, not_before)
        self._reducer = EventReducer(schema)
        self._counters = {
            name: Metrics.counter(NAMESPACE, f"{log}_{name}") for name in ("read", "kept", "filtered", "dead")
        }

    def process(self, chunk: Chunk) -> Iterator[Any]:
        """Yields event batches, figures of the values, dead rows, then what was found in the chunk."""
        report = LogReport()
        waiting: list[pa.Table] = []
        for block in read_chunk(self._columns, chunk):
            report.add_block(chunk, block)
            report_progress(f"{self._log} read", block.read)
            if block.dead:
                yield TaggedOutput("dead", (self._log, chunk, block.dead))
            waiting.append(block.table)
            if sum(table.num_rows for table in waiting) >= BATCH_ROWS:
                yield from self._event_batches(pa.concat_tables(waiting), report)
                waiting = []
        if sum(table.num_rows for table in waiting):
            yield from self._event_batches(pa.concat_tables(waiting), report)
        for name, counter in self._counters.items():
            counter.inc(getattr(report, name))
        yield TaggedOutput("report", (self._log, report))

    def _event_batches(self, table: pa.Table, report: LogReport) -> Iterator[Any]:
        rows = table.num_rows
        if self._log == "events":
            column = self._schema.events.item
            reduced = self._reducer.reduce(table)
            rows = reduced.num_rows
            if column.type == "string" and rows:
                for part, names in ItemNames.of(column, table[column.column]).cut(self._parts):
                    yield TaggedOutput("names", ((ITEM_NAMES, part), names))
            yield from self.to_shards("events", reduced)
        else:
            yield from self._listed(table)
        report.kept += rows
        report.filtered += table.num_rows - rows

    def _listed(self, table: pa.Table) -> Iterator[Any]:
        """Rows of the items or the users log, as `id` and `raw/<column>`."""
        column = self._schema.items if self._log == "items" else self._schema.users
        assert column is not None
        ids = encode_ids(column, table[column.column].combine_chunks())
        if self._log == "items" and column.type == "int":
            table = table.drop_columns([column.column])  # it is the id
        raw = table.rename_columns([RAW + name for name in table.column_names])
        listed = raw.add_column(0, "id", pa.array(ids))
        if self._log == "items":
            yield from cut_by_shard("items", listed, self._parts)
        else:
            yield from self.to_shards("users", listed)


class WriteDeadLetters(beam.DoFn):
    """The dead rows of a block -> one file of `dead_letters/`."""

    def __init__(self, root: str) -> None:
        self._root = root

    def process(self, element: tuple[LogName, Chunk, list[Dead]], reports: dict[str, LogReport]) -> Iterator[int]:
        """Yields how many rows were written."""
        log, chunk, dead = element
        lines = [
            {
                "file": chunk.file.path,
                "line": reports[log].line_of(chunk.file.number, chunk.number, row.line),
                "reason": row.reason,
                "payload": row.payload,
            }
            for row in dead
        ]
        name = f"dead_letters/{log}-{chunk.file.number:05d}-{lines[0]['line']:012d}.jsonl"
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_file(self._root, name, content.encode("utf-8", "backslashreplace"))
        yield len(dead)


class CheckLogs(beam.DoFn):
    """Reports and the survey -> the split times; or stops the job with a sentence."""

    def __init__(
        self,
        schema: FeatureSchema,
        logs: tuple[LogName, ...],
        root: str,
        max_dead_share: float,
        previous: PreviousRun | None,
        not_before: int | None,
    ) -> None:
        self._schema = schema
        self._logs = logs
        self._root = root
        self._max_dead_share = max_dead_share
        self._previous = previous.manifest if previous else None
        self._not_before = not_before

    def process(
        self, _: None, reports: dict[str, LogReport], log_survey: LogSurvey | None, written: list[int]
    ) -> Iterator[SplitTimes]:
        """Yields the split times, once every dead letter is written.

        Raises:
            PipelineStoppedError: the logs cannot be used.
        """
        found: SplitTimes | str | None = None
        for log in self._logs:
            found = found or self._fault(log, reports)
        found = found or find_split(self._schema, log_survey or LogSurvey(), self._previous)
        if isinstance(found, str):
            stop_job(self._root, found)
        else:
            yield found

    def _fault(self, log: LogName, reports: dict[str, LogReport]) -> str | None:
        report, columns = reports.get(log, LogReport()), log_columns(self._schema, log, not_before=self._not_before)
        fault = report.fault(columns, self._max_dead_share, self._previous is not None)
        if fault is None or not report.too_many_dead(self._max_dead_share):
            return fault
        return fault + advice(self._schema, log, [reason for _, _, _, reason, _ in report.examples])
