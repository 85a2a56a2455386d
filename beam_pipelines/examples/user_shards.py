"""Steps of `build_examples` that look at one user shard: survey, count, write.

Each gets the event batches of a shard, as the shuffle grouped them, and makes what it needs; nothing per event is kept
from one step to the next.
"""

import pickle
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows

from beam_pipelines.examples.batch_bytes import EventBatch, group_by_kind
from beam_pipelines.examples.catalogue import RAW
from beam_pipelines.examples.counted_features import CountedFeatures
from beam_pipelines.examples.day_counts import STATE_USER_DAYS, DayCounts
from beam_pipelines.examples.draw_negatives import with_negatives
from beam_pipelines.examples.event_batches import (
    BEHAVIOUR,
    REQUEST,
    SPLIT,
    TARGET,
    VALUE,
    WEIGHT,
    number_column,
)
from beam_pipelines.examples.finish import ShardResult
from beam_pipelines.examples.fit_vocabularies import Key
from beam_pipelines.examples.gathered_counts import GatheredCounts
from beam_pipelines.examples.log_survey import LogSurvey
from beam_pipelines.examples.shard_events import distinct_events, shard_events
from beam_pipelines.examples.shard_split import COLUMNS, ShardSplit, columns_of
from beam_pipelines.examples.statistics import DataStatistics
from beam_pipelines.examples.user_hash import shard_of
from beam_pipelines.examples.user_histories import ORDER, build_records, features_of_users
from beam_pipelines.examples.value_counts import ITEM_COUNTS, ITEM_DAYS, Histogram, ValueCounts, cut_rows, sortable
from beam_pipelines.examples.write_catalogue import Fitted
from beam_pipelines.io.progress import NAMESPACE, report_progress
from beam_pipelines.io.record_writer import ShardWriter, example, write_parquet
from twin_tf.features.arrow_vocabulary import distinct, rows_in
from twin_tf.features.schema import FIRST_KNOWN, UNKNOWN, Feature, FeatureSchema
from twin_tf.records.format import SPLITS, TARGET_SPLITS, SplitTimes, value_key
from twin_tf.records.packing import float_bits

Grouped = tuple[int, Iterable[EventBatch]]
Counts = ValueCounts | Histogram | DayCounts

_AGE = "/age"  # of a row of the users log: 0 for this run's; no feature can be called so


class SurveyShard(beam.DoFn):
    """A shard -> its `LogSurvey`."""

    def __init__(self, schema: FeatureSchema, last_time: int | None) -> None:
        self._schema = schema
        self._last_time = last_time
        self._duplicated = Metrics.counter(NAMESPACE, "events_duplicated")

    def process(self, shard: Grouped) -> Iterator[LogSurvey]:
        """Yields one survey."""
        tables = distinct_events(self._schema, shard[1], COLUMNS)
        log_survey = LogSurvey.of(tables, self._last_time, self._schema.split)
        self._duplicated.inc(log_survey.duplicated)
        yield log_survey


class CountShard(beam.DoFn):
    """A shard -> (key, counts) for everything that is fitted on events; tag `items`: the same of figures of items."""

    def __init__(self, schema: FeatureSchema, parts: int) -> None:
        self._schema = schema
        self._parts = parts

    def start_bundle(self) -> None:
        """Begins with nothing."""
        self._gathered = GatheredCounts()

    def process(self, shard: Grouped, split: SplitTimes) -> Iterator[Any]:
        """Yields (key, counts) of the shards so far, now and then."""
        for name, counts in self._counts(shard, split):
            for gathered in self._gathered.add(name, counts):
                for tag, found in self._cut(*gathered):
                    yield TaggedOutput(tag, found) if tag else found

    def finish_bundle(self) -> Iterator[Any]:
        """Yields the rest."""
        for gathered in self._gathered.flush():
            for tag, found in self._cut(*gathered):
                windowed = GlobalWindows.windowed_value(found)
                yield TaggedOutput(tag, windowed) if tag else windowed

    def _cut(self, name: str, counts: Counts) -> Iterator[tuple[str, tuple[Key, Counts]]]:
        """The tag, empty for the main output, and (key, counts) of each part."""
        if name == ITEM_COUNTS and isinstance(counts, ValueCounts):
            for part, rows in cut_rows(shard_of(counts.values.to_numpy(), self._parts), self._parts):
                yield "items", ((name, part), counts.rows(rows))
        elif isinstance(counts, Histogram):
            yield "", ((name, 0), counts)
        else:
            for part, found in counts.cut(self._parts):
                yield "items" if name == ITEM_DAYS else "", ((name, part), found)

    def _counts(self, shard: Grouped, split: SplitTimes) -> Iterator[tuple[str, Counts]]:
        tables = (columns_of(table) for table, _ in distinct_events(self._schema, shard[1], COLUMNS))
        shard_split = ShardSplit.of(self._schema, split, tables)
        for table, _ in distinct_events(self._schema, shard[1]):
            columns = columns_of(table)
            training, flags = shard_split.seen(columns), columns["flags"]
            yield ITEM_COUNTS, ValueCounts.of(table["item"], training)
            if self._schema.counts_days:
                per_second = self._schema.events.time.per_second
                yield ITEM_DAYS, DayCounts.of_events(columns, table["item"].to_numpy(), per_second)
            for feature in (*self._schema.stored_cross, *self._schema.logged_target):
                encoding = feature.encoding_or_fail
                if not encoding.fitted:
                    continue
                values = table[VALUE + feature.name]
                if encoding.kind == "vocabulary":
                    yield feature.name, ValueCounts.of(values, training)
                    continue
                wanted = BEHAVIOUR if feature.role == "cross" else TARGET
                counted = training & ((flags & wanted) != 0)
                yield feature.name, Histogram.of(sortable(values.to_numpy()[counted].astype(np.float64)))
            report_progress("events counted", table.num_rows)
        yield from self._users(shard[1])

    def _users(self, event_batches: Iterable[EventBatch]) -> Iterator[tuple[str, Counts]]:
        """Every user once, also those of earlier runs: a users log may come anew every night."""
        fitted = [feature for feature in self._schema.user if feature.encoding_or_fail.fitted]
        found = (
            group_by_kind(event_batches, "users", "previous_users") if fitted else {"users": [], "previous_users": []}
        )
        table = one_row_a_user(self._schema, found["users"], found["previous_users"])
        if table is None:
            return
        for feature in fitted:
            values = table[RAW + feature.column]
            if feature.encoding_or_fail.kind == "vocabulary":
                yield feature.name, ValueCounts.of(values)
            else:
                yield feature.name, Histogram.of(sortable(values.to_numpy().astype(np.float64)))


class WriteShard(beam.DoFn):
    """A shard -> its files in `train/`, `valid/`, `test/`, `histories/` and `users/`."""

    def __init__(self, schema: FeatureSchema, root: str, shards: int) -> None:
        self._schema = schema
        self._root = root
        self._shards = shards
        self._records = Metrics.counter(NAMESPACE, "records")
        self._users = Metrics.counter(NAMESPACE, "users")
        self._from: bytes | None = None

    def process(self, shard: Grouped, split: SplitTimes, fitted: bytes) -> Iterator[ShardResult]:
        """Yields what was written."""
        if fitted is not self._from:
            self._encoding = ShardEncoding(self._schema, pickle.loads(fitted))
            self._from = fitted
        number, event_batches = shard
        encoding = self._encoding
        found = group_by_kind(event_batches, "events", "previous", "users", "previous_users", "previous_days")
        events, new = encoding.events(found["events"], found["previous"])
        users = encoding.users(found["users"], found["previous_users"])
        before = [DayCounts.of_table(table) for table in found["previous_days"]]
        del found
        events[SPLIT] = ShardSplit.of(self._schema, split, [events]).filled_numbers(events)
        counted, schema = None, self._schema
        if encoding.fitted.item_days is not None and (schema.counted_item or schema.counted_user):
            of_this_run = {name: events[name][new] for name in ("user", "time", "flags")}
            counted = CountedFeatures(schema, encoding.encoder, encoding.fitted.item_days, of_this_run, before)
        drawn, negatives = None, schema.targets.negatives
        if negatives is not None and encoding.fitted.item_days is not None:
            unit, real = schema.events.time.per_second, len(new)
            drawn = with_negatives(negatives, encoding.fitted.item_days, encoding.rows, events, unit)
            events = drawn.events
            new = np.concatenate([new, np.ones(len(events["user"]) - real, bool)])
        latest = {}
        if counted is not None:
            counted.add(events)
            latest = counted.latest(np.unique(events["user"]))
        name = f"part-{number:05d}-of-{self._shards:05d}"
        writers = {split_name: ShardWriter(self._root, f"{split_name}/{name}.tfrecord") for split_name in SPLITS}
        everyone, longest = 0, self._schema.history.max_length
        seen = {split_name: np.zeros(longest + 1, np.int64) for split_name in TARGET_SPLITS}
        user_columns = {"id": np.zeros(0, np.int64)} if users is None else _columns(users)
        for record in build_records(self._schema, events, user_columns, encoding.fitted.layout, latest):
            writers[record.split].write(example(record.features), record.events, len(record.seen))
            if len(record.seen):
                np.add.at(seen[record.split], record.seen, 1)
            everyone += record.split == "histories"
            self._records.inc()
        self._users.inc(everyone)
        closed = {split_name: writer.close() for split_name, writer in writers.items()}
        files = {}
        if users is not None:
            files[f"users/{name}.parquet"] = write_parquet(self._root, f"users/{name}.parquet", users)
        if counted is not None and schema.counted_user:
            path = f"{STATE_USER_DAYS}{name}.parquet"
            files[path] = write_parquet(self._root, path, counted.users.table())
        in_gaps = (events[SPLIT] < 0) & ((events["flags"] & TARGET) != 0)
        statistics = DataStatistics.of(
            self._schema,
            events,
            features_of_users(self._schema, events["user"], user_columns),
            encoding.fitted.unknown_items(),
            encoding.fitted.untrained_items(),
            new,
            seen,
        )
        if drawn is not None:
            statistics.undrawn, statistics.clicked_new_items = drawn.undrawn, drawn.new_items
        report_progress("shards written", 1)
        written = {name: part for name, part in closed.items() if part is not None}
        yield ShardResult(written, everyone, int(in_gaps.sum()), statistics, files)


class ShardEncoding:
    """Pieces of a shard to columns of indices.

    Args:
        schema: the schema.
        fitted: what was fitted.
    """

    def __init__(self, schema: FeatureSchema, fitted: Fitted) -> None:
        self.fitted = fitted
        self._schema = schema
        self._features = (*schema.stored_cross, *schema.logged_target)
        self.encoder = fitted.vocabularies.encoder(schema)
        self.rows = fitted.item_rows()
        self._values = {
            f.name: fitted.vocabularies.with_rare(f.name)
            for f in self._features
            if f.encoding_or_fail.kind == "vocabulary"
        }
        self._ranks = {
            name: np.concatenate([np.zeros(FIRST_KNOWN, np.int32), _places_in_order(schema.feature(name), values)])
            for name, values in self._values.items()
        }

    def events(
        self, events: list[pa.Table], previous: list[pa.Table]
    ) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.bool_]]:
        """All events of the shard as `build_records` takes them, and which of them are of this run."""
        parts = []
        if events:
            parts.append(self._columns(shard_events(self._schema, events, previous).combine_chunks(), False))
        parts += [self._columns(table, True) for table in previous]
        new = np.zeros(sum(len(part["user"]) for part in parts), bool)
        if events:
            new[: len(parts[0]["user"])] = True
        names = ["user", "item", "item_id", "time", "flags", "earlier", *(f.name for f in self._features)]
        names += [ORDER + name for name in self._ranks]
        names += [WEIGHT] if self._schema.targets.weight is not None else []
        names += [SPLIT] if self._schema.split.column is not None else []
        names += [REQUEST] if self._schema.events.request is not None else []
        names += [value_key(feature.name) for feature in self._schema.kept_values]
        return {name: np.concatenate([np.zeros(0, np.int64), *(part[name] for part in parts)]) for name in names}, new

    def _columns(self, table: pa.Table, old: bool) -> dict[str, npt.NDArray[Any]]:
        columns = {name: table[name].to_numpy() for name in ("user", "time", "flags")}
        columns["item_id"] = table["item"].to_numpy()
        columns["item"] = self.rows.of(columns["item_id"])
        columns["earlier"] = table["earlier"].to_numpy() if old else np.zeros(table.num_rows, np.int64)
        for feature in self._features:
            if old and feature.role != "cross":  # nothing is known of targets of an earlier run
                columns[feature.name] = np.full(table.num_rows, UNKNOWN, np.int32)
                continue
            values = table[VALUE + feature.name]
            if old and feature.name in self.fitted.vocabularies.remapped:
                columns[feature.name] = self.fitted.vocabularies.remapped[feature.name][values.to_numpy()]
            elif old or not feature.encoding_or_fail.fitted:
                columns[feature.name] = values.to_numpy().astype(np.int32)
            elif feature.name in self._values:  # a value that waits for its vocabulary gets a row after the known ones
                columns[feature.name] = rows_in(self._values[feature.name], values)
            else:
                columns[feature.name] = self.encoder.encode(feature.name, values.combine_chunks())
        for name, ranks in self._ranks.items():
            feature = self._schema.feature(name)
            if old or feature.role == "cross":
                columns[ORDER + name] = ranks[columns[name]]
            else:  # what a target's vocabulary lacks has no index of its own, and decides all the same
                columns[ORDER + name] = _value_ranks(feature, table[VALUE + name])
        for feature in self._schema.kept_values:
            columns[value_key(feature.name)] = float_bits(table[number_column(feature.name)].to_numpy())
        if self._schema.split.column is not None:
            columns[SPLIT] = table[SPLIT].to_numpy()
        if self._schema.targets.weight is not None:
            columns[WEIGHT] = np.zeros(table.num_rows, np.float32) if old else table[WEIGHT].fill_null(0.0).to_numpy()
        if self._schema.events.request is not None:
            columns[REQUEST] = np.zeros(table.num_rows, np.int64) if old else table[REQUEST].to_numpy()
        return columns

    def users(self, users: list[pa.Table], previous: list[pa.Table]) -> pa.Table | None:
        """The users of the shard, a row each: `id`, an index per user feature, `raw/<column>`; None without a log."""
        table = one_row_a_user(self._schema, users, previous)
        if table is None:
            return None
        columns: dict[str, Any] = {"id": table["id"]}
        for feature in self._schema.user:
            columns[feature.name] = self.encoder.encode(feature.name, table[RAW + feature.column].combine_chunks())
        return pa.table({**columns, **{name: table[name] for name in table.column_names if name != "id"}})


def one_row_a_user(schema: FeatureSchema, users: list[pa.Table], previous: list[pa.Table]) -> pa.Table | None:
    """The users of a shard by id: `id` and `raw/<column>`; None without a users log.

    A row of this run comes before an earlier one; of several rows of one user the one with the smallest values stays.
    """
    if schema.users is None or not (users or previous):
        return None
    names = [RAW + name for name in schema.user_columns()]
    parts = []
    for age, tables in enumerate((users, previous)):
        for table in tables:
            columns = {"id": table["id"], _AGE: np.full(len(table), age, np.int8)}
            parts.append(pa.table({**columns, **{name: table[name] for name in names}}))
    table = pa.concat_tables(parts)
    table = table.sort_by([(name, "ascending") for name in table.column_names]).combine_chunks()
    ids = table["id"].to_numpy()
    return table.filter(pa.array(np.r_[True, ids[1:] != ids[:-1]])).drop_columns([_AGE])


def _value_ranks(feature: Feature, values: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    """For each value of a dictionary column its place in the order of the column's values; 0 where there is none."""
    column = distinct(values)
    ranks = np.append(_places_in_order(feature, column.dictionary), np.int32(0))
    return ranks[column.indices.fill_null(len(ranks) - 1).to_numpy()]


def _places_in_order(feature: Feature, values: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int32]:
    """The place of each value, from 1, when they are sorted: it does not depend on when a value was first seen."""
    keys = values if feature.type == "string" else values.cast(pa.float64())
    ranks = np.zeros(len(values), np.int32)
    ranks[pc.sort_indices(keys).to_numpy()] = np.arange(1, len(values) + 1)
    return ranks


def _columns(table: pa.Table) -> dict[str, Any]:
    return {name: table[name].to_numpy() for name in table.column_names if not name.startswith(RAW)}
