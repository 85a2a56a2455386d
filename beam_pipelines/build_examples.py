"""Raw logs to prepared data, as an Apache Beam pipeline.

    python -m beam_pipelines.build_examples --schema=complete_journey --events=raw/events.parquet \
        --items=raw/items.parquet --users=raw/users.parquet --output=prepared

reads logs (JSON Lines, CSV, Parquet; the first two may be gzipped; several patterns separated by commas) and writes a
directory of `twin_tf.records`: records, vocabularies, catalogue, latest histories, dead letters, manifest. It runs
locally (`--runner=FnApiRunner`, the default) or anywhere Beam runs:

    python -m beam_pipelines.build_examples --runner=DataflowRunner --project=P --region=R --temp_location=gs://B/tmp \
        --setup_file=./setup.py --schema=schema.yaml --events='gs://B/events/*.parquet' ... --output=gs://B/prepared

The steps: read the logs into typed batches; check them and find the split times; count the training window; fit
vocabularies, boundaries and the catalogue; encode; bring each user's events together; write. The same logs give the
same bytes, whatever the order of files and rows and the number of workers. A local run builds in a directory beside
`--output` and renames it at the end; elsewhere `_SUCCESS` is written last, and readers refuse a directory without it.
"""

import argparse
import json
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from apache_beam.pvalue import AsDict, AsList, AsSingleton

from beam_pipelines import example_steps, log_steps
from beam_pipelines.progress import progress_line
from beam_pipelines.raw_columns import LogName
from beam_pipelines.read_logs import match_files
from twin_tf.config import load_config
from twin_tf.records import MANIFEST, Manifest
from twin_tf.schema import FeatureSchema
from twin_tf.strict_yaml import ConfigError

LOCAL_RUNNER = "FnApiRunner"
DEFAULT_SHARDS = 8
DEFAULT_MAX_DEAD_SHARE = 0.005

Patterns = str | Sequence[str] | None


class BuildExamples(beam.PTransform):
    """Pipeline start -> prepared data below `root`; the output holds the manifest's text.

    Args:
        schema: the feature schema.
        patterns: log -> its file patterns; `events` at least.
        root: where to write.
        shards: files per split; users are spread over them by a hash of their id.
        max_dead_share: malformed rows of a log beyond this share stop the job.
    """

    def __init__(
        self, schema: FeatureSchema, patterns: dict[LogName, list[str]], root: str, shards: int, max_dead_share: float
    ) -> None:
        super().__init__()
        self._schema = schema
        self._patterns = patterns
        self._root = root
        self._shards = shards
        self._max_dead_share = max_dead_share

    def expand(self, begin: Any) -> Any:
        """Builds the graph."""
        pipeline = begin.pipeline
        schema, root = self._schema, self._root
        logs = {log: self._read(pipeline, log) for log in self._patterns}
        reports = AsDict(
            [log.report for log in logs.values()]
            | "AllReports" >> beam.Flatten(pipeline=pipeline)
            | "MergeReports" >> beam.CombinePerKey(log_steps.MergeReports())
        )
        dead = (
            [log.dead for log in logs.values()]
            | "AllDead" >> beam.Flatten(pipeline=pipeline)
            | "WriteDeadLetters" >> beam.ParDo(log_steps.WriteDeadLetters(root), reports)
        )
        once = pipeline | "Once" >> beam.Create([None])
        check = log_steps.CheckLogs(schema, tuple(self._patterns), root, self._max_dead_share)
        split = AsSingleton(once | "CheckLogs" >> beam.ParDo(check, reports, AsList(dead)))
        batches = {log: read.batches for log, read in logs.items()}
        nothing = pipeline | "NoBatches" >> beam.Create([])
        counts = (
            batches["events"]
            | "CountTraining" >> beam.ParDo(example_steps.CountTraining(schema), split)
            | "MergeCounts" >> beam.CombinePerKey(example_steps.MergeCounts())
        )
        fitted = AsSingleton(
            once
            | "FitEncoders"
            >> beam.ParDo(
                example_steps.FitEncoders(schema, root),
                AsDict(counts),
                AsList(batches.get("items", nothing)),
                AsList(batches.get("users", nothing)),
                split,
            )
        )
        encoded = {
            "events": batches["events"]
            | "EncodeEvents" >> beam.ParDo(example_steps.EncodeEvents(schema, self._shards), fitted),
            "users": batches.get("users", nothing)
            | "EncodeUsers" >> beam.ParDo(example_steps.EncodeUsers(schema, self._shards), fitted),
        }
        results = (
            encoded
            | "ByUserShard" >> beam.CoGroupByKey(pipeline=pipeline)
            | "WriteShard" >> beam.ParDo(example_steps.WriteShard(schema, root, self._shards), split)
        )
        return once | "Finish" >> beam.ParDo(
            example_steps.Finish(schema, root), reports, split, fitted, AsList(results)
        )

    def _read(self, pipeline: Any, log: LogName) -> Any:
        return (
            pipeline
            | f"Patterns[{log}]" >> beam.Create([self._patterns[log]])
            | f"MatchFiles[{log}]" >> beam.ParDo(log_steps.MatchFiles(log))
            | f"SpreadFiles[{log}]" >> beam.Reshuffle()
            | f"PlanChunks[{log}]" >> beam.ParDo(log_steps.PlanChunks())
            | f"SpreadChunks[{log}]" >> beam.Reshuffle()
            | f"ReadChunk[{log}]"
            >> beam.ParDo(log_steps.ReadChunk(self._schema, log)).with_outputs("dead", "report", main="batches")
        )


def build_examples(
    schema: FeatureSchema,
    events: Patterns,
    output: str | Path,
    items: Patterns = None,
    users: Patterns = None,
    *,
    runner: str = LOCAL_RUNNER,
    shards: int = DEFAULT_SHARDS,
    max_dead_share: float = DEFAULT_MAX_DEAD_SHARE,
    progress: bool = True,
    beam_arguments: Sequence[str] = (),
) -> Manifest:
    """Builds prepared data from raw logs.

    Args:
        schema: the feature schema.
        events: file patterns of the events log, one or several; local paths, or any that Beam knows.
        output: a directory that does not exist yet, or is empty.
        items: of the items log, if the schema has one.
        users: of the users log, if the schema has one.
        runner: Beam's runner.
        shards: files per split.
        max_dead_share: malformed rows of a log beyond this share (of its rows) fail the job.
        progress: show a progress line on stderr (local runs).
        beam_arguments: more of Beam's own options, `--name=value` each.

    Returns:
        The manifest of the finished directory.

    Raises:
        ConfigError: no file matches, a log the schema needs is not given (or the other way), an `output` with something
            in it, an empty log, a column that no row has, no targets, too many malformed rows. Nothing is left in
            `output` then; the dead letters, if any, are in `<output>.dead_letters`.
    """
    patterns = _patterns(schema, {"events": events, "items": items, "users": users})
    if shards < 1 or not 0 <= max_dead_share <= 1:
        raise ConfigError(
            f"shards must be at least 1 and max_dead_share a share from 0 to 1, not {shards}, {max_dead_share}"
        )
    _refuse_used(str(output))
    for log, given in patterns.items():
        match_files(log, given)
    remote = "://" in str(output)
    target = Path(str(output))
    building = str(output)
    if not remote:
        building = str(target.parent.absolute() / f".{target.name}.building-{uuid.uuid4().hex[:8]}")
    options = PipelineOptions([f"--runner={runner}", *beam_arguments])
    options.view_as(SetupOptions).save_main_session = False
    if options.view_as(SetupOptions).setup_file:
        os.environ.setdefault("TWIN_TF_WORKER", "1")  # setup.py: these workers need no TensorFlow
    try:
        with progress_line("preprocess", enabled=progress and runner == LOCAL_RUNNER), _quiet_failures(building):
            pipeline = beam.Pipeline(options=options)
            pipeline | BuildExamples(schema, patterns, building, shards, max_dead_share)
            pipeline.run().wait_until_finish()
    except ConfigError as error:
        if not remote and _keep_dead_letters(Path(building), target):
            raise ConfigError(f"{error}; the malformed rows are in {target}.dead_letters") from None
        raise
    else:
        if remote:
            return Manifest.from_json(_read_text(building, MANIFEST), str(output))
        Path(building).replace(target)
        return Manifest.load(target)
    finally:
        if not remote:
            shutil.rmtree(building, ignore_errors=True)


def _patterns(schema: FeatureSchema, given: dict[LogName, Patterns]) -> dict[LogName, list[str]]:
    needed = {"events": True, "items": schema.items is not None, "users": schema.users is not None}
    found: dict[LogName, list[str]] = {}
    for log, patterns in given.items():
        if patterns and not needed[log]:
            raise ConfigError(f"the schema {schema.name!r} has no {log} log: give it '{log}:' or leave --{log} out")
        if not patterns and needed[log]:
            raise ConfigError(f"the schema {schema.name!r} needs the {log} log: name its files with --{log}")
        if patterns:
            found[log] = [patterns] if isinstance(patterns, str) else [str(pattern) for pattern in patterns]
    return found


def _refuse_used(output: str) -> None:
    if "://" in output:
        if FileSystems.match([output.rstrip("/") + "/**"], limits=[1])[0].metadata_list:
            raise ConfigError(f"{output} is not empty; name a new directory")
        return
    path = Path(output)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"{output} exists and is not empty; name a new directory or remove it")


@contextmanager
def _quiet_failures(root: str) -> Iterator[None]:
    """Turns a job that stopped itself into its sentence, and keeps Beam from logging a traceback for it."""
    log = logging.getLogger("apache_beam")
    stopped = _NotStopped()
    log.addFilter(stopped)
    for handler in logging.getLogger().handlers:
        handler.addFilter(stopped)
    try:
        yield
    except Exception as error:
        sentence = _read_text(root, log_steps.FAILED)
        if sentence:
            raise ConfigError(sentence) from None
        raise error
    finally:
        log.removeFilter(stopped)
        for handler in logging.getLogger().handlers:
            handler.removeFilter(stopped)


class _NotStopped(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "PipelineStoppedError" not in record.getMessage() and not (
            record.exc_info and isinstance(record.exc_info[1], log_steps.PipelineStoppedError)
        )


def _read_text(root: str, name: str) -> str:
    path = FileSystems.join(root, name)
    if not FileSystems.exists(path):
        return ""
    with FileSystems.open(path) as stream:
        return str(stream.read().decode("utf-8"))


def _keep_dead_letters(building: Path, target: Path) -> bool:
    letters = building / "dead_letters"
    if not letters.is_dir():
        return False
    kept = target.with_name(f"{target.name}.dead_letters")
    shutil.rmtree(kept, ignore_errors=True)
    letters.replace(kept)
    return True


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    description = "Raw logs to prepared data. Other options go to Beam, for example --direct_num_workers=2."
    parser = argparse.ArgumentParser(prog="python -m beam_pipelines.build_examples", description=description)
    parser.add_argument("--schema", required=True, help="a schema or configuration YAML, or the name of a shipped one")
    parser.add_argument("--events", required=True, help="file patterns of the events log, separated by commas")
    parser.add_argument("--items", help="of the items log")
    parser.add_argument("--users", help="of the users log")
    parser.add_argument("--output", required=True, help="a new directory")
    parser.add_argument("--runner", default=LOCAL_RUNNER, help=f"Beam's runner (default: {LOCAL_RUNNER})")
    parser.add_argument("--shards", type=int, default=DEFAULT_SHARDS, help="files per split (default: %(default)s)")
    parser.add_argument("--max_dead_share", type=float, default=DEFAULT_MAX_DEAD_SHARE, help="default: %(default)s")
    options, beam_arguments = parser.parse_known_args(arguments)
    try:
        schema = load_config(options.schema).schema
        if schema is None:
            raise ConfigError(f"{options.schema} has no section 'schema'")
        manifest = build_examples(
            schema,
            options.events.split(","),
            options.output,
            options.items and options.items.split(","),
            options.users and options.users.split(","),
            runner=options.runner,
            shards=options.shards,
            max_dead_share=options.max_dead_share,
            beam_arguments=beam_arguments,
        )
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: {json.dumps(json.loads(manifest.to_json())['counts'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
