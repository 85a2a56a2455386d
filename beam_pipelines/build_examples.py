"""Raw logs to prepared data, as an Apache Beam pipeline.

    python -m beam_pipelines.build_examples --schema=complete_journey --events=raw/events.parquet \
        --items=raw/items.parquet --users=raw/users.parquet --output=prepared

reads logs (JSON Lines, CSV, Parquet; the first two may be gzipped; several patterns separated by commas) and writes a
directory of `twin_tf.records.format`: records, vocabularies, catalogue, latest histories, dead letters, report,
manifest. It runs locally (`--runner=FnApiRunner`, the default) or anywhere Beam runs (docs/dataflow.md, docs/flink.md):

    python -m beam_pipelines.build_examples --runner=DataflowRunner --project=P --region=R --temp_location=gs://B/tmp \
        --setup_file=./setup.py --schema=schema.yaml --events='gs://B/events/*.parquet' ... --output=gs://B/prepared

The steps: read the logs into typed event batches of user shards; bring each shard together; check what was read; find
the split times; count the training window; fit vocabularies, boundaries and the catalogue; encode and write each shard.
The same logs give the same bytes, whatever the order of files and rows and the number of workers. With
`--previous=DIR` the logs are what came after the prepared data in DIR (`beam_pipelines.examples.previous_snapshot`).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, TestOptions
from apache_beam.pvalue import AsDict, AsList, AsSingleton

from beam_pipelines.data_report.report import write_report
from beam_pipelines.data_report.summary import REPORT
from beam_pipelines.examples import (
    encode_logs,
    finish,
    fit_vocabularies,
    item_parts,
    previous_snapshot,
    user_shards,
    write_catalogue,
)
from beam_pipelines.examples.memory_needed import large_shards
from beam_pipelines.examples.previous_snapshot import PreviousRun
from beam_pipelines.examples.value_counts import MAX_PARTS
from beam_pipelines.io.launch import (
    LOCAL_RUNNER,
    JobOnlyBuilt,
    add_runner_options,
    add_verify_option,
    beam_options,
    earliest_timestamp,
    exit_code,
    latest_timestamp,
    quiet_failures,
)
from beam_pipelines.io.output_directory import OutputDirectory
from beam_pipelines.io.progress import progress_line
from beam_pipelines.io.record_writer import read_file
from beam_pipelines.raw_logs.raw_columns import LogName
from beam_pipelines.raw_logs.read_logs import match_files
from twin_tf.config import load_config
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.schema import FeatureSchema
from twin_tf.records.format import Manifest

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
        latest: events later than this, in the unit of the logs, are malformed; None takes all.
        not_before: events earlier than this, likewise.
        previous: the run to continue.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        patterns: dict[LogName, list[str]],
        root: str,
        shards: int,
        max_dead_share: float,
        latest: int | None = None,
        previous: PreviousRun | None = None,
        not_before: int | None = None,
    ) -> None:
        super().__init__()
        self._schema = schema
        self._patterns = patterns
        self._root = root
        self._shards = shards
        self._parts = min(shards, MAX_PARTS)  # of the items, and of the values of a feature
        self._max_dead_share = max_dead_share
        self._latest = latest
        self._previous = previous
        self._not_before = not_before

    def expand(self, begin: Any) -> Any:
        """Builds the graph."""
        pipeline = begin.pipeline
        schema, root, previous = self._schema, self._root, self._previous
        once = pipeline | "Once" >> beam.Create([None])
        logs = {log: self._read(pipeline, log) for log in self._patterns}
        event_batches = [logs[log].event_batches for log in self._patterns if log != "items"]
        if previous is not None:
            event_batches += self._read_previous(pipeline, previous)
        shards = event_batches | "AllEventBatches" >> beam.Flatten() | "ByUserShard" >> beam.GroupByKey()
        reports = AsDict(
            [log.report for log in logs.values()]
            | "AllReports" >> beam.Flatten()
            | "MergeReports" >> beam.CombinePerKey(fit_vocabularies.Merge())
        )
        dead = (
            [log.dead for log in logs.values()]
            | "AllDead" >> beam.Flatten()
            | "WriteDeadLetters" >> beam.ParDo(encode_logs.WriteDeadLetters(root), reports)
        )
        log_survey = AsSingleton(
            shards
            | "SurveyShard"
            >> beam.ParDo(user_shards.SurveyShard(schema, previous.manifest.last_time if previous else None))
            | "MergeSurveys" >> beam.CombineGlobally(fit_vocabularies.Merge())
        )
        check = encode_logs.CheckLogs(
            schema, tuple(self._patterns), root, self._max_dead_share, previous, self._not_before
        )
        split = AsSingleton(once | "CheckLogs" >> beam.ParDo(check, reports, log_survey, AsList(dead)))
        counts = shards | "CountShard" >> beam.ParDo(user_shards.CountShard(schema, self._parts), split).with_outputs(
            "items", main="values"
        )
        items = self._items(logs, counts.items, previous)
        vocabularies = AsSingleton(self._vocabularies(once, counts.values, items, split))
        parts = items | "EncodeItems" >> beam.ParDo(item_parts.EncodeItems(schema, root), vocabularies)
        catalogue = write_catalogue.WriteCatalogue(schema, root, previous)
        fitted = AsSingleton(once | "WriteCatalogue" >> beam.ParDo(catalogue, AsList(parts), vocabularies, log_survey))
        results = shards | "WriteShard" >> beam.ParDo(user_shards.WriteShard(schema, root, self._shards), split, fitted)
        return once | "Finish" >> beam.ParDo(
            finish.Finish(schema, root), reports, log_survey, split, fitted, AsList(results)
        )

    def _items(self, logs: dict[LogName, Any], counts: Any, previous: PreviousRun | None) -> Any:
        """(part of the items, its batches and figures)."""
        names = [log.names for log in logs.values()] | "AllNames" >> beam.Flatten()
        figures = [
            found
            | f"Merge{label}" >> beam.CombinePerKey(fit_vocabularies.Merge())
            | f"{label}ByPart" >> beam.MapTuple(lambda key, figure: (key[1], (key[0], figure)))
            for label, found in (("Names", names), ("ItemCounts", counts))
        ]
        found = [*figures, *([logs["items"].event_batches] if "items" in logs else [])]
        if previous is not None:
            blocks = (
                counts.pipeline
                | "PreviousItems" >> beam.Create(previous.item_blocks())
                | "SpreadItems" >> beam.Reshuffle()
            )
            found.append(blocks | "ReadItems" >> beam.ParDo(previous_snapshot.ReadItems(previous, self._parts)))
        return found | "AllItems" >> beam.Flatten() | "ByItemPart" >> beam.GroupByKey()

    def _vocabularies(self, once: Any, values: Any, items: Any, split: Any) -> Any:
        schema, root, previous = self._schema, self._root, self._previous
        counted = items | "CountItems" >> beam.ParDo(item_parts.CountItems(schema, self._parts), split)
        # Merged one by one: the local runner waits for ever for a Flatten of steps whose input a later step reads too.
        found = [
            figures | f"Merge{label}" >> beam.CombinePerKey(fit_vocabularies.Merge())
            for label, figures in (("EventValues", values), ("ItemValues", counted))
        ]
        if previous is not None:
            read = beam.ParDo(fit_vocabularies.ReadKnown(previous, self._parts))
            names = [f.name for f in schema.features if f.encoding_or_fail.kind == "vocabulary"]
            found.append(
                once.pipeline | "Known" >> beam.Create(names) | "SpreadKnown" >> beam.Reshuffle() | "ReadKnown" >> read
            )
        parts = (
            found
            | "AllFigures" >> beam.Flatten()
            | "ByFeaturePart" >> beam.GroupByKey()
            | "FitPart" >> beam.ParDo(fit_vocabularies.FitPart(schema, root))
        )
        fit = fit_vocabularies.FitVocabularies(schema, root, previous)
        return once | "FitVocabularies" >> beam.ParDo(fit, AsList(parts))

    def _read(self, pipeline: Any, log: LogName) -> Any:
        read = encode_logs.ReadChunk(self._schema, log, self._shards, self._parts, self._latest, self._not_before)
        return (
            pipeline
            | f"Patterns[{log}]" >> beam.Create([self._patterns[log]])
            | f"MatchFiles[{log}]" >> beam.ParDo(encode_logs.MatchFiles(log))
            | f"SpreadFiles[{log}]" >> beam.Reshuffle()
            | f"PlanChunks[{log}]" >> beam.ParDo(encode_logs.PlanChunks(self._schema, log))
            | f"SpreadChunks[{log}]" >> beam.Reshuffle()
            | f"ReadChunk[{log}]" >> beam.ParDo(read).with_outputs("names", "dead", "report", main="event_batches")
        )

    def _read_previous(self, pipeline: Any, previous: PreviousRun) -> list[Any]:
        histories = previous_snapshot.ReadHistories(self._schema, previous, self._shards, self._root)
        found = []
        for name, files, read in (
            ("Histories", previous.histories(), histories),
            ("Users", previous.users(), previous_snapshot.ReadUsers(previous, self._shards, self._root)),
        ):
            spread = pipeline | f"Previous{name}" >> beam.Create(files) | f"SpreadPrevious{name}" >> beam.Reshuffle()
            found.append(spread | f"ReadPrevious{name}" >> beam.ParDo(read))
        return found


def build_examples(
    schema: FeatureSchema,
    events: Patterns,
    output: str | Path,
    items: Patterns = None,
    users: Patterns = None,
    *,
    previous: str | Path | None = None,
    runner: str = LOCAL_RUNNER,
    workers: int = 1,
    shards: int = DEFAULT_SHARDS,
    max_dead_share: float = DEFAULT_MAX_DEAD_SHARE,
    as_of: str | None = None,
    not_before: str | None = None,
    progress: bool = True,
    verify: bool = True,
    beam_arguments: Sequence[str] = (),
) -> Manifest:
    """Builds prepared data from raw logs.

    Args:
        schema: the feature schema.
        events: file patterns of the events log, one or several; local paths, any that Beam knows, or
            `bigquery://project.dataset.table`.
        output: a directory that does not exist yet, or is empty.
        items: of the items log, if the schema has one.
        users: of the users log, if the schema has one.
        previous: a prepared directory to continue: the logs are what came after it, and the result is what one run over
            all logs would give, with the rows of vocabularies and items as they were there.
        runner: Beam's runner.
        workers: worker processes of the local runner.
        shards: files per split; one worker at a time holds a shard's events; about a million each do well.
        max_dead_share: malformed rows of a log beyond this share (of its rows) fail the job.
        as_of: ISO date and time (UTC if it names no zone); later events are malformed. Default: a day after now.
        not_before: the same; earlier events are malformed. Default: none are, and the job stops at rows whose times are
            far from the rest, see `beam_pipelines.raw_logs.plausible_times`.
        progress: show a progress line (local runs), and at the end the report's warnings, on stderr.
        verify: compare the files of `previous` that hold no records with their SHA-256; records are always checked.
        beam_arguments: more of Beam's own options, `--name=value` each.

    Returns:
        The manifest of the finished directory.

    Raises:
        ConfigError: no file matches, a log the schema needs is not given (or the other way), an `output` with something
            in it, an empty log, a column that no row has, no targets, too many malformed rows, a `previous` of another
            schema. Nothing is left in a local `output` then; the dead letters, if any, are in `<output>.dead_letters`
            (elsewhere in `<output>/dead_letters`).
        JobOnlyBuilt: with --dry_run or --template_location, once the job is built.
    """
    patterns = _patterns(schema, {"events": events, "items": items, "users": users})
    if schema.history.clustered:
        raise ConfigError("history.clustered is for what `twin-tf cluster` writes: leave it out of the schema of logs")
    if shards < 1 or workers < 1 or not 0 <= max_dead_share <= 1:
        raise ConfigError(
            "shards and workers must be at least 1 and max_dead_share a share from 0 to 1, "
            f"not {shards}, {workers}, {max_dead_share}"
        )
    directory = OutputDirectory(str(output))
    before = None if previous is None else PreviousRun.open(str(previous), schema, verify)
    latest = latest_timestamp(as_of) * schema.events.time.per_second
    first = earliest_timestamp(not_before)
    earliest = None if first is None else first * schema.events.time.per_second
    files = {log: match_files(log, given) for log, given in patterns.items()}
    if progress and (large := large_shards(files["events"], shards)):
        print(f"note: {large}", file=sys.stderr)
    local = runner == LOCAL_RUNNER
    options = beam_options(runner, workers, beam_arguments)
    with directory.building() as root:
        try:
            note = "starting" if workers == 1 else f"{workers} worker processes"
            with progress_line("preprocess", enabled=progress and local, note=note), quiet_failures(root):
                pipeline = beam.Pipeline(options=options)
                pipeline | BuildExamples(schema, patterns, root, shards, max_dead_share, latest, before, earliest)
                pipeline.run().wait_until_finish()
            # A template's launcher sets the location too: Dataflow runs what was written there.
            template = options.view_as(GoogleCloudOptions).template_location
            if template or options.view_as(TestOptions).dry_run:
                raise JobOnlyBuilt(f"the job was built{f', {template},' if template else ''} and not run")
        except ConfigError as error:
            kept = directory.keep_dead_letters(root)
            raise ConfigError(f"{error}; the malformed rows are in {kept}" if kept else str(error)) from None
        if not local:
            write_report(root)  # again: the workers may have had nothing to draw with
        if progress:
            for warning in json.loads(read_file(root, REPORT) or "{}").get("warnings", ()):
                print(f"warning: {warning}", file=sys.stderr)
    return directory.manifest()


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


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    description = "Raw logs to prepared data. Other options go to Beam, for example --direct_num_workers=2."
    parser = argparse.ArgumentParser(prog="python -m beam_pipelines.build_examples", description=description)
    add = parser.add_argument
    add("--schema", required=True, help="a schema or configuration YAML, or the name of a shipped one")
    logs = "file patterns separated by commas (.jsonl, .csv or .tsv, also .gz, or .parquet), or bigquery://project.data.table"
    add("--events", required=True, help=f"the events log: {logs}")
    add("--items", help="the items log, likewise")
    add("--users", help="the users log, likewise")
    add("--output", required=True, help="a new directory")
    add("--previous", help="a prepared directory to continue: the logs are what came after it")
    add("--as_of", "--as-of", help="ISO time; later events are malformed (default: a day after the launch)")
    early = "ISO time; earlier events are malformed (default: times far from the rest stop the job)"
    add("--not_before", "--not-before", help=early)
    add_runner_options(parser)
    add(
        "--shards", type=int, default=DEFAULT_SHARDS, help="files per split; a million events each do well (default: 8)"
    )
    share = "malformed rows of a log beyond this share fail the job (default: %(default)s)"
    add("--max_dead_share", "--max-dead-share", type=float, default=DEFAULT_MAX_DEAD_SHARE, help=share)
    add_verify_option(parser)
    options, beam_arguments = parser.parse_known_args(arguments)

    def job() -> str:
        schema = load_config(options.schema).schema
        if schema is None:
            raise ConfigError(f"{options.schema} has no section 'schema'")
        manifest = build_examples(
            schema,
            options.events.split(","),
            options.output,
            options.items and options.items.split(","),
            options.users and options.users.split(","),
            previous=options.previous,
            verify=not options.no_verify,
            runner=options.runner,
            workers=options.workers,
            as_of=options.as_of,
            not_before=options.not_before,
            shards=options.shards,
            max_dead_share=options.max_dead_share,
            beam_arguments=beam_arguments,
        )
        return f"{options.output}: {json.dumps(json.loads(manifest.to_json())['counts'])}"

    return exit_code(job)


if __name__ == "__main__":
    sys.exit(main())
