"""The last step of `build_examples`: the report, the manifest, and the word that all is there."""

import dataclasses
import json
import pickle
from collections.abc import Iterator

import apache_beam as beam

from beam_pipelines.data_report.report import write_report
from beam_pipelines.data_report.summary import REPORT
from beam_pipelines.examples.fit_files import remove_fit
from beam_pipelines.examples.log_survey import LogSurvey
from beam_pipelines.examples.report_content import report_content
from beam_pipelines.examples.statistics import DataStatistics
from beam_pipelines.examples.write_catalogue import Fitted
from beam_pipelines.io.record_writer import write_file
from beam_pipelines.raw_logs.log_report import LogReport
from twin_tf.features.schema import FeatureSchema
from twin_tf.records.format import MANIFEST, SPLITS, SUCCESS, Counts, Manifest, Shard, SplitName, SplitTimes


@dataclasses.dataclass(frozen=True)
class ShardResult:
    """What one user shard wrote."""

    shards: dict[SplitName, Shard]
    users: int
    targets_in_gaps: int
    statistics: DataStatistics
    files: dict[str, str]


class Finish(beam.DoFn):
    """Everything that was written -> the report, `manifest.json`, then `_SUCCESS`."""

    def __init__(self, schema: FeatureSchema, root: str) -> None:
        self._schema = schema
        self._root = root

    def process(
        self,
        _: None,
        logs: dict[str, LogReport],
        log_survey: LogSurvey,
        split: SplitTimes,
        fitted: bytes,
        results: list[ShardResult],
    ) -> Iterator[str]:
        """Yields the manifest's text."""
        content: Fitted = pickle.loads(fitted)
        splits: dict[str, tuple[Shard, ...]] = {
            name: tuple(sorted((r.shards[name] for r in results if name in r.shards), key=lambda shard: shard.name))
            for name in SPLITS
        }
        statistics = DataStatistics.merge([result.statistics for result in results])
        events, items, users = (logs.get(log, LogReport()) for log in ("events", "items", "users"))
        counts = Counts(
            events_read=events.read,
            events_kept=log_survey.events,
            events_filtered=events.filtered + log_survey.duplicated,
            events_dead=events.dead,
            users=sum(result.users for result in results),
            items=content.items,
            behaviours=log_survey.behaviours,
            targets={name: sum(shard.targets for shard in splits[name]) for name in SPLITS if name != "histories"},
            events_duplicated=log_survey.duplicated,
            events_late=log_survey.late,
            targets_in_gaps=sum(result.targets_in_gaps for result in results),
            items_read=items.read,
            items_dead=items.dead,
            items_duplicated=content.items_duplicated,
            users_read=users.read,
            users_dead=users.dead,
        )
        files = {**content.files, **{name: sha for result in results for name, sha in result.files.items()}}
        layout = content.layout
        manifest = Manifest(
            self._schema.fingerprint,
            split,
            counts,
            splits,
            content.vocabularies.cardinalities,
            layout.widths,
            layout.time_origin,
            content.last_time,
            dict(sorted(files.items())),
            clicks={name: split.clicks for name, split in statistics.splits.items()},
        )
        report = report_content(self._schema, manifest, statistics, logs, content.items_unlisted, content.cut)
        write_file(self._root, REPORT, (json.dumps(report, indent=1) + "\n").encode("utf-8"))
        write_report(self._root)
        remove_fit(self._root)
        write_file(self._root, MANIFEST, manifest.to_json().encode("utf-8"))
        write_file(self._root, SUCCESS, manifest.sha256.encode("ascii"))
        yield manifest.to_json()
