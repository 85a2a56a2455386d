"""Steps of `build_examples` that run once, on figures of all shards: merge, fit the encoders, finish."""

import dataclasses
import json
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines.data_report.report import write_report
from beam_pipelines.data_report.summary import REPORT
from beam_pipelines.examples.batch_bytes import EventBatch, from_event_batches
from beam_pipelines.examples.catalogue import Cut, RawCatalogue, grown
from beam_pipelines.examples.day_counts import STATE_ITEM_DAYS, DayCounts, counted_values
from beam_pipelines.examples.log_survey import LogSurvey
from beam_pipelines.examples.previous_snapshot import PreviousRun
from beam_pipelines.examples.report_content import report_content
from beam_pipelines.examples.statistics import DataStatistics
from beam_pipelines.examples.user_histories import Layout
from beam_pipelines.examples.value_counts import ITEM_COUNTS, ITEM_DAYS, ITEM_NAMES, ValueCounts, quantiles
from beam_pipelines.io.record_writer import write_file, write_parquet
from beam_pipelines.raw_logs.log_report import LogReport
from twin_tf.features.encoders import FeatureEncoder, owners
from twin_tf.features.schema import FIRST_KNOWN, UNKNOWN, Feature, FeatureSchema
from twin_tf.records.format import (
    ITEMS,
    MANIFEST,
    PENDING,
    SPLITS,
    STATE_ITEMS,
    SUCCESS,
    Counts,
    Manifest,
    Shard,
    SplitName,
    SplitTimes,
)

Part = TypeVar("Part")


class Merge(beam.CombineFn, Generic[Part]):
    """Parts that have a classmethod `merge` -> one; they are gathered and merged now and then, not one by one."""

    _GATHERED = 16

    def create_accumulator(self) -> list[Part]:
        """Nothing."""
        return []

    def add_input(self, parts: list[Part], part: Part) -> list[Part]:
        """Adds a part."""
        parts.append(part)
        return [merge(parts)] if len(parts) >= self._GATHERED else parts

    def merge_accumulators(self, many: Iterable[list[Part]]) -> list[Part]:
        """Adds many."""
        parts = [part for parts in many for part in parts]
        return [merge(parts)] if parts else []

    def extract_output(self, parts: list[Part]) -> Part | None:
        """The whole; None of nothing."""
        return merge(parts) if parts else None


def merge(parts: Sequence[Any]) -> Any:
    """Merges parts of one kind."""
    return type(parts[0]).merge(parts)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What encoding needs.

    Attributes:
        values: feature -> vocabulary or boundaries.
        rare_values: vocabulary cross feature -> values that the vocabulary lacks, as text, in order.
        remapped: vocabulary cross feature -> the previous run's index -> the index now, pending ones after the known.
        item_ids: id of each item, in the order of rows.
        unknown_items: `(items + 2, bytes)` which inherent features of an item are unknown, packed bits.
        untrained_items: `(items + 2, bytes)` whether training never sees the item, and which of its inherent features
            have known values that training never sees, packed bits.
        layout: how records are packed.
        cardinalities: feature -> rows of its table.
        last_time: of the latest event.
        files: what was written -> sha256.
        items_duplicated: rows of the items log whose id another row has too.
        items_unlisted: items that events name and no items log has; None without an items log.
        cut: multi-valued feature -> what `max_values` cuts.
        item_days: what happened to each item on each day, where the schema needs it.
    """

    values: dict[str, list[Any]]
    rare_values: dict[str, list[str]]
    remapped: dict[str, npt.NDArray[np.int32]]
    item_ids: npt.NDArray[np.int64]
    unknown_items: npt.NDArray[np.uint8]
    untrained_items: npt.NDArray[np.uint8]
    layout: Layout
    cardinalities: dict[str, int]
    last_time: int
    files: dict[str, str]
    items_duplicated: int
    items_unlisted: int | None
    cut: dict[str, Cut]
    item_days: DayCounts | None = None


@dataclasses.dataclass(frozen=True)
class ShardResult:
    """What one user shard wrote."""

    shards: dict[SplitName, Shard]
    users: int
    targets_in_gaps: int
    statistics: DataStatistics
    files: dict[str, str]


class FitEncoders(beam.DoFn):
    """Figures and items -> `Fitted`; writes `schema.yaml`, `vocabularies/`, `items/` and `state/`."""

    def __init__(self, schema: FeatureSchema, root: str, previous: PreviousRun | None) -> None:
        self._schema = schema
        self._root = root
        self._previous = previous

    def process(
        self,
        _: None,
        log_counts: dict[str, Any],
        event_counts: dict[str, Any],
        items: list[EventBatch],
        log_survey: LogSurvey,
        split: SplitTimes,
    ) -> Iterator[bytes]:
        """Yields one pickled `Fitted`."""
        del split  # only makes this step wait until the logs are checked
        counts = {**log_counts, **event_counts}
        schema, previous = self._schema, self._previous
        log = pa.concat_tables([table for _, table in from_event_batches(items, "items")]) if items else None
        catalogue = RawCatalogue.join(
            schema, log, counts[ITEM_COUNTS], counts.get(ITEM_NAMES), previous.items() if previous else None
        )
        before = previous.fitted(schema) if previous else {}
        waiting = {name: counts[name] for name in counts if name not in (ITEM_COUNTS, ITEM_DAYS, ITEM_NAMES)}
        if previous:
            for name, part in previous.rare_values.items():
                waiting[name] = ValueCounts.merge([part, waiting[name]]) if name in waiting else part
        values: dict[str, list[Any]] = {}
        rare_values: dict[str, ValueCounts] = {}
        for feature in schema.features:
            if not feature.encoding_or_fail.fitted:
                continue
            known = before.get(feature.name)
            if feature.role == "inherent":
                values[feature.name] = list(catalogue.fit(feature, known))
            elif feature.encoding_or_fail.kind == "numeric":
                found = waiting.get(feature.name)
                quantity = int(feature.encoding_or_fail.quantiles or 0)
                values[feature.name] = known if known is not None else quantiles(found, quantity) if found else []
            else:
                values[feature.name], rare = _vocabulary(feature, known or [], waiting)
                if feature.role != "user":  # users are counted anew in every run
                    rare_values[feature.name] = rare
        encoder = FeatureEncoder(schema, values, previous.contracts(schema) if previous else ())
        table, cut = catalogue.table(schema, encoder)
        files = _write_encoder(encoder, self._root)
        days: DayCounts | None = counts.get(ITEM_DAYS)
        if days is not None:
            days = DayCounts.merge([days, *([previous.item_days()] if previous else [])])
            files[STATE_ITEM_DAYS] = write_parquet(self._root, STATE_ITEM_DAYS, days.table())
            table = _with_counted(schema, encoder, table, days)
        files[ITEMS] = write_parquet(self._root, ITEMS, table)
        files[STATE_ITEMS] = write_parquet(self._root, STATE_ITEMS, catalogue.state())
        files[PENDING] = write_file(self._root, PENDING, _rare_values_json(rare_values))
        cardinalities = {feature.name: encoder.cardinality(feature) for feature in schema.features}
        remapped_rows = {f.name for f in schema.stored_cross} & set(rare_values)
        texts = {name: [str(v) for v in rare_values[name].values.to_pylist()] for name in sorted(remapped_rows)}
        times = log_survey.times or (0, 0)
        if previous:
            times = (min(times[0], previous.manifest.time_origin), max(times[1], previous.manifest.last_time))
        sizes = {name: len(found) for name, found in texts.items() if found}
        layout = Layout.of(schema, cardinalities, FIRST_KNOWN + len(catalogue.ids), sizes, times)
        fitted = Fitted(
            values,
            texts,
            _remapped(previous, texts, values, before),
            catalogue.ids,
            _unknown_items(schema, table),
            _untrained_items(schema, table, catalogue.counted > 0),
            layout,
            cardinalities,
            times[1],
            files,
            catalogue.duplicated,
            None if schema.items is None else int((~catalogue.listed & (catalogue.totals > 0)).sum()),
            cut,
            days,
        )
        yield pickle.dumps(fitted, protocol=5)


def _vocabulary(
    feature: Feature, known: list[str], waiting: Mapping[str, ValueCounts]
) -> tuple[list[str], ValueCounts]:
    """The vocabulary, and the values that it lacks."""
    counts = waiting.get(feature.name)
    if counts is None:
        nothing = np.zeros(0, np.int64)
        return list(known), ValueCounts(pa.array([], pa.string()), nothing, nothing)
    values = grown(known, counts.at_least(feature.encoding_or_fail.min_count))
    return values, counts.without(set(values))


def _remapped(
    previous: PreviousRun | None,
    rare_values: Mapping[str, list[str]],
    values: Mapping[str, list[Any]],
    before: Mapping[str, list[Any]],
) -> dict[str, npt.NDArray[np.int32]]:
    """For each vocabulary cross feature, what the indices of the previous histories have become."""
    found: dict[str, npt.NDArray[np.int32]] = {}
    if previous is None:
        return found
    for name, now in rare_values.items():
        place = {value: number for number, value in enumerate([*values[name], *now], FIRST_KNOWN)}
        then = [*before[name], *(str(value) for value in previous.rare_values[name].values.to_pylist())]
        found[name] = np.array([*range(FIRST_KNOWN), *(place[value] for value in then)], np.int32)
    return found


def _with_counted(schema: FeatureSchema, encoder: FeatureEncoder, table: pa.Table, days: DayCounts) -> pa.Table:
    """The catalogue with the features counted of items, as of the end of the data; in its metadata those of no item."""
    ids, nobody = table["id"].to_numpy(), {}
    end = np.full(len(ids) + 1, days.end)
    counts = np.concatenate([days.before(end[1:], ids), np.zeros((1, 3), np.int64)])
    for feature in schema.counted_item:
        index = encoder.encode(feature.name, counted_values(feature, counts, days.overall(end)))
        table = table.append_column(feature.name, pa.array(index[:-1]))
        nobody[feature.name] = str(index[-1])
    return table.replace_schema_metadata(nobody) if nobody else table


def _unknown_items(schema: FeatureSchema, table: pa.Table) -> npt.NDArray[np.uint8]:
    unknown = np.ones((table.num_rows + FIRST_KNOWN, len(schema.inherent)), bool)
    for place, feature in enumerate(schema.inherent):
        column = table[feature.name].combine_chunks()
        if feature.multi_valued is not None:  # unknown if all values are: they are distinct, so it has but one
            column = pc.if_else(pc.equal(pc.list_value_length(column), 1), pc.list_element(column, 0), 0)
        unknown[FIRST_KNOWN:, place] = column.to_numpy() == UNKNOWN
    return np.packbits(unknown, axis=1)


def _untrained_items(schema: FeatureSchema, table: pa.Table, trained: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Row by row: the item itself, then each inherent feature; padding and unknown have nothing of their own."""
    untrained = np.zeros((table.num_rows + FIRST_KNOWN, 1 + len(schema.inherent)), bool)
    untrained[FIRST_KNOWN:, 0] = ~trained
    for place, feature in enumerate(schema.inherent, 1):
        column = table[feature.name].combine_chunks()
        many = feature.multi_valued is not None
        values = (column.flatten() if many else column).to_numpy()
        owner = owners(column) if many else np.arange(len(column))
        known = np.unique(values[trained[owner]])
        never = (values >= FIRST_KNOWN) & ~np.isin(values, known)
        some, others = (np.bincount(owner[m], minlength=len(column)) for m in (never, ~never & (values >= FIRST_KNOWN)))
        untrained[FIRST_KNOWN:, place] = (some > 0) & (others == 0)
    return np.packbits(untrained, axis=1)


def _rare_values_json(rare_values: Mapping[str, ValueCounts]) -> bytes:
    content = {
        name: {"type": str(part.values.type), "values": part.values.to_pylist(), "counts": part.totals.tolist()}
        for name, part in rare_values.items()
    }
    return json.dumps(content, ensure_ascii=False).encode("utf-8")


def _write_encoder(encoder: FeatureEncoder, root: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as directory:
        encoder.save(directory)
        paths = sorted(p for p in Path(directory).rglob("*") if p.is_file())
        names = [path.relative_to(directory).as_posix() for path in paths]
        return {name: write_file(root, name, path.read_bytes()) for name, path in zip(names, paths, strict=True)}


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
            items=len(content.item_ids),
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
            content.cardinalities,
            layout.widths,
            layout.time_origin,
            content.last_time,
            dict(sorted(files.items())),
            clicks={name: split.clicks for name, split in statistics.splits.items()},
        )
        report = report_content(self._schema, manifest, statistics, logs, content.items_unlisted, content.cut)
        write_file(self._root, REPORT, (json.dumps(report, indent=1) + "\n").encode("utf-8"))
        write_report(self._root)
        write_file(self._root, MANIFEST, manifest.to_json().encode("utf-8"))
        write_file(self._root, SUCCESS, manifest.sha256.encode("ascii"))
        yield manifest.to_json()
