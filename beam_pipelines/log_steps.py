"""The first steps of `build_examples`, as DoFns: find the files, read them into batches, check what was found.

Elements are batches of rows (Arrow IPC bytes), never single events.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from beam_pipelines import user_histories
from beam_pipelines.count_values import Histogram
from beam_pipelines.log_report import LogReport, find_split
from beam_pipelines.progress import report_progress
from beam_pipelines.raw_columns import LogName, log_columns
from beam_pipelines.read_logs import BATCH_ROWS, Chunk, Dead, LogFile, match_files, plan_chunks, read_chunk
from beam_pipelines.record_writer import write_file
from twin_tf.encoders import encode_ids
from twin_tf.records import SplitTimes
from twin_tf.schema import FeatureSchema

NAMESPACE = "build_examples"
FAILED = "_FAILED"

Ipc = bytes


class PipelineStoppedError(Exception):
    """The whole job cannot go on; the sentence for the user lies in the output as `_FAILED`."""


def to_ipc(table: pa.Table) -> Ipc:
    """A table as bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def from_ipc(data: Ipc) -> pa.Table:
    """The inverse of `to_ipc`; shares the memory."""
    return pa.ipc.open_stream(pa.py_buffer(data)).read_all()


class MatchFiles(beam.DoFn):
    """Patterns of a log -> its files."""

    def __init__(self, log: LogName) -> None:
        self._log = log

    def process(self, patterns: list[str]) -> Iterator[LogFile]:
        """Yields a file each."""
        yield from match_files(self._log, patterns)


class PlanChunks(beam.DoFn):
    """A file -> its chunks."""

    def process(self, file: LogFile) -> Iterator[Chunk]:
        """Yields a chunk each."""
        yield from plan_chunks(file)


class ReadChunk(beam.DoFn):
    """A chunk -> batches of typed rows; events are reduced to the kept ones. Tags: `dead`, `report`."""

    def __init__(self, schema: FeatureSchema, log: LogName) -> None:
        self._schema = schema
        self._log = log
        self._columns = log_columns(schema, log)
        self._read = Metrics.counter(NAMESPACE, f"{log}_read")
        self._dead = Metrics.counter(NAMESPACE, f"{log}_dead")

    def process(self, chunk: Chunk) -> Iterator[Any]:
        """Yields batches, then what was found in the chunk."""
        report = LogReport()
        waiting: list[pa.Table] = []
        for block in read_chunk(self._columns, chunk):
            report.add_block(chunk, block)
            self._read.inc(block.read)
            self._dead.inc(len(block.dead))
            report_progress(f"{self._log} read", block.read)
            if block.dead:
                yield TaggedOutput("dead", (self._log, chunk, block.dead))
            if not block.table.num_rows:
                continue
            table = keep_events(self._schema, block.table, report) if self._log == "events" else block.table
            if self._log != "events":
                report.kept += table.num_rows
            waiting.append(table)
            if sum(table.num_rows for table in waiting) >= BATCH_ROWS:
                yield to_ipc(pa.concat_tables(waiting).combine_chunks())
                waiting = []
        if sum(table.num_rows for table in waiting):
            yield to_ipc(pa.concat_tables(waiting).combine_chunks())
        yield TaggedOutput("report", (self._log, report))


def keep_events(schema: FeatureSchema, table: pa.Table, report: LogReport) -> pa.Table:
    """Reduces typed events to those that are a behaviour or a target, and to the columns that are needed.

    Returns:
        `user`, `time` int64; `item` as the log writes it; `flags` int8; `raw/<column>` of each stored feature.
    """
    events = schema.events
    behaviour = _matches(table, schema.history.where)
    target = _matches(table, schema.targets.where)
    label = pc.is_in(table[events.label.column], pa.array(events.label.positive, pa.int64())).to_numpy()
    flags = (
        label * user_histories.LABEL + behaviour * user_histories.BEHAVIOUR + target * user_histories.TARGET
    ).astype(np.int8)
    keep = behaviour | target
    kept = int(keep.sum())
    report.kept += kept
    report.filtered += table.num_rows - kept
    report.behaviours += int(behaviour.sum())
    times = table[events.time.column]
    report.target_times = Histogram.merge([report.target_times, Histogram.of(times.to_numpy()[target])])
    columns = {
        "user": pa.array(encode_ids(events.user, table[events.user.column])),
        "item": table[events.item.column],
        "time": times,
        "flags": pa.array(flags),
    }
    for feature in (*schema.stored_cross, *schema.stored_context):
        columns[f"raw/{feature.column}"] = table[feature.column]
    result = pa.table(columns)
    return result if kept == table.num_rows else result.filter(pa.array(keep))


def _matches(table: pa.Table, where: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.ones(table.num_rows, bool)
    for column, values in where.items():
        values_type = table[column].type
        wanted = [str(v) if pa.types.is_string(values_type) else v * 1 for v in values]
        mask &= pc.is_in(table[column], pa.array(wanted, values_type)).to_numpy()
    return mask


class MergeReports(beam.CombineFn):
    """Reports of chunks -> one."""

    def create_accumulator(self) -> LogReport:
        """An empty report."""
        return LogReport()

    def add_input(self, total: LogReport, part: LogReport) -> LogReport:
        """Adds a part."""
        return LogReport.merge([total, part])

    def merge_accumulators(self, parts: Iterable[LogReport]) -> LogReport:
        """Adds many."""
        return LogReport.merge(list(parts))

    def extract_output(self, total: LogReport) -> LogReport:
        """The report."""
        return total


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
    """Reports -> the split times; or stops the job with a sentence."""

    def __init__(self, schema: FeatureSchema, logs: tuple[LogName, ...], root: str, max_dead_share: float) -> None:
        self._schema = schema
        self._logs = logs
        self._root = root
        self._max_dead_share = max_dead_share

    def process(self, _: None, reports: dict[str, LogReport], written: list[int]) -> Iterator[SplitTimes]:
        """Yields the split times, once every dead letter is written.

        Raises:
            PipelineStoppedError: the logs cannot be used.
        """
        found: SplitTimes | str | None = None
        for log in self._logs:
            found = found or reports.get(log, LogReport()).fault(log_columns(self._schema, log), self._max_dead_share)
        found = found or find_split(self._schema, reports["events"])
        if isinstance(found, str):
            write_file(self._root, FAILED, found.encode("utf-8"))
            raise PipelineStoppedError(found)
        yield found
