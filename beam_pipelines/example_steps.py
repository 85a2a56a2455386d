"""The later steps of `build_examples`, as DoFns: count, fit, encode, bring users together, write.

Each step is a thin wrapper: what it does lies in the module it calls, and can be used and tested without Beam.
"""

import dataclasses
import io
import pickle
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from beam_pipelines import user_histories
from beam_pipelines.catalogue import RawCatalogue, fit_user_feature, item_rows, one_row_a_user, user_table
from beam_pipelines.count_values import Histogram, ValueCounts, merge_counts, quantiles, sortable
from beam_pipelines.log_report import LogReport
from beam_pipelines.log_steps import NAMESPACE, Ipc, from_ipc, to_ipc
from beam_pipelines.progress import report_progress
from beam_pipelines.record_writer import ShardWriter, example, write_file
from twin_tf.encoders import FeatureEncoder
from twin_tf.records import ITEMS, MANIFEST, SPLITS, SUCCESS, USERS, Counts, Manifest, Shard, SplitTimes
from twin_tf.schema import FeatureSchema

ITEM_KEY = "item/"  # no feature is called so


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What encoding needs: the fitted values of the features, and the catalogue's ids."""

    values: dict[str, list[Any]]
    item_ids: np.ndarray[Any, np.dtype[np.int64]]


@dataclasses.dataclass(frozen=True)
class ShardResult:
    """What one user shard wrote."""

    shards: dict[str, Shard]
    users: int


class CountTraining(beam.DoFn):
    """A batch of events -> counts of the training window: (feature, counts), and the items of all kept events."""

    def __init__(self, schema: FeatureSchema) -> None:
        self._schema = schema

    def process(self, batch: Ipc, split: SplitTimes) -> Iterator[tuple[str, ValueCounts | Histogram]]:
        """Yields (feature, counts)."""
        table = from_ipc(batch)
        training = table["time"].to_numpy() < split.valid_from
        flags = table["flags"].to_numpy()
        yield ITEM_KEY, ValueCounts.of(table["item"], training.astype(np.int64))
        for feature in (*self._schema.stored_cross, *self._schema.stored_context):
            encoding = feature.encoding_or_fail
            if not encoding.fitted:
                continue
            values = table[f"raw/{feature.column}"]
            if encoding.kind == "vocabulary":
                yield feature.name, ValueCounts.of(values.filter(pa.array(training)))
                continue
            wanted = user_histories.BEHAVIOUR if feature.role == "cross" else user_histories.TARGET
            counted = training & ((flags & wanted) != 0)
            yield feature.name, Histogram.of(sortable(values.to_numpy()[counted].astype(np.float64)))


class MergeCounts(beam.CombineFn):
    """Counts of batches -> counts; parts are gathered and merged now and then, not one by one."""

    _GATHERED = 16

    def create_accumulator(self) -> list[Any]:
        """Nothing."""
        return []

    def add_input(self, parts: list[Any], part: Any) -> list[Any]:
        """Adds a part."""
        parts.append(part)
        return [merge_counts(parts)] if len(parts) >= self._GATHERED else parts

    def merge_accumulators(self, many: Iterable[list[Any]]) -> list[Any]:
        """Adds many."""
        parts = [part for parts in many for part in parts]
        return [merge_counts(parts)] if parts else []

    def extract_output(self, parts: list[Any]) -> Any:
        """The counts."""
        return merge_counts(parts)


class FitEncoders(beam.DoFn):
    """Counts, items and users -> `Fitted`; writes `schema.yaml`, `vocabularies/`, `items/` and `users/`."""

    def __init__(self, schema: FeatureSchema, root: str) -> None:
        self._schema = schema
        self._root = root

    def process(
        self, _: None, counts: dict[str, Any], items: list[Ipc], users: list[Ipc], split: SplitTimes
    ) -> Iterator[bytes]:
        """Yields one pickled `Fitted`."""
        del split  # only makes this step wait until the logs are checked
        schema = self._schema
        log = pa.concat_tables([from_ipc(part) for part in items]) if items else None
        catalogue = RawCatalogue.join(schema, log, counts[ITEM_KEY])
        user_log = pa.concat_tables([from_ipc(part) for part in users]) if users else None
        fitted: dict[str, list[Any]] = {}
        for feature in schema.features:
            encoding = feature.encoding_or_fail
            if not encoding.fitted:
                continue
            if feature.role == "inherent":
                fitted[feature.name] = list(catalogue.fit(feature))
            elif feature.role == "user":
                fitted[feature.name] = list(fit_user_feature(feature, user_log))
            elif encoding.kind == "vocabulary":
                fitted[feature.name] = counts[feature.name].at_least(encoding.min_count)
            else:
                fitted[feature.name] = list(quantiles(counts[feature.name], int(encoding.quantiles or 0)))
        encoder = FeatureEncoder(schema, fitted)
        _write_encoder(encoder, self._root)
        _write_parquet(self._root, ITEMS, catalogue.table(schema, encoder))
        if user_log is not None:
            _write_parquet(self._root, USERS, one_row_a_user(user_table(schema, encoder, user_log)))
        yield pickle.dumps(Fitted(fitted, catalogue.ids), protocol=5)


def _write_encoder(encoder: FeatureEncoder, root: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        encoder.save(directory)
        for path in sorted(p for p in Path(directory).rglob("*") if p.is_file()):
            write_file(root, path.relative_to(directory).as_posix(), path.read_bytes())


def _write_parquet(root: str, name: str, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_file(root, name, buffer.getvalue())


class _Encode(beam.DoFn):
    """Base of the encoding steps: keeps the encoder between elements, and cuts tables by user shard."""

    def __init__(self, schema: FeatureSchema, shards: int) -> None:
        self._schema = schema
        self._shards = shards
        self._from: bytes | None = None

    def _use(self, fitted: bytes) -> None:
        if fitted is not self._from:
            content: Fitted = pickle.loads(fitted)
            self._encoder = FeatureEncoder(self._schema, content.values)
            self._item_ids = content.item_ids
            self._from = fitted

    def _by_shard(self, table: pa.Table, users: Any) -> Iterator[tuple[int, Ipc]]:
        shard = user_histories.shard_of(users, self._shards)
        order = np.argsort(shard, kind="stable")
        ends = np.searchsorted(shard[order], np.arange(self._shards + 1))
        table = table.take(pa.array(order)).combine_chunks()
        for number in range(self._shards):
            if ends[number + 1] > ends[number]:
                yield number, to_ipc(table.slice(ends[number], ends[number + 1] - ends[number]))


class EncodeEvents(_Encode):
    """A batch of raw events -> (user shard, encoded events)."""

    def process(self, batch: Ipc, fitted: bytes) -> Iterator[tuple[int, Ipc]]:
        """Yields (shard, `user`, `item` row, `time`, `flags` and an index per stored feature)."""
        self._use(fitted)
        table = from_ipc(batch)
        columns = {name: table[name] for name in ("user", "time", "flags")}
        columns["item"] = pa.array(item_rows(self._item_ids, self._schema.events.item, table["item"].combine_chunks()))
        for feature in (*self._schema.stored_cross, *self._schema.stored_context):
            columns[feature.name] = pa.array(self._encoder.encode(feature.name, _array(table[f"raw/{feature.column}"])))
        report_progress("events encoded", table.num_rows)
        yield from self._by_shard(pa.table(columns), table["user"].to_numpy())


class EncodeUsers(_Encode):
    """A batch of the users log -> (user shard, encoded users)."""

    def process(self, batch: Ipc, fitted: bytes) -> Iterator[tuple[int, Ipc]]:
        """Yields (shard, `id` and an index per user feature)."""
        self._use(fitted)
        table = user_table(self._schema, self._encoder, from_ipc(batch))
        yield from self._by_shard(table, table["id"].to_numpy())


class WriteShard(beam.DoFn):
    """All events of a user shard -> its files in `train/`, `valid/`, `test/` and `histories/`."""

    def __init__(self, schema: FeatureSchema, root: str, shards: int) -> None:
        self._schema = schema
        self._root = root
        self._shards = shards
        self._records = Metrics.counter(NAMESPACE, "records")

    def process(self, element: tuple[int, dict[str, Iterable[Ipc]]], split: SplitTimes) -> Iterator[ShardResult]:
        """Yields what was written."""
        number, groups = element
        events = [from_ipc(piece) for piece in groups["events"]]
        if not events:
            return
        users = [from_ipc(piece) for piece in groups["users"]]
        listed = one_row_a_user(pa.concat_tables(users)) if users else None
        user_columns = {"id": np.zeros(0, np.int64)} if listed is None else _columns(listed)
        name = f"part-{number:05d}-of-{self._shards:05d}.tfrecord"
        writers = {split_name: ShardWriter(self._root, f"{split_name}/{name}") for split_name in SPLITS}
        found = 0
        event_columns = _columns(pa.concat_tables(events))
        for record in user_histories.build_records(self._schema, event_columns, user_columns, split):
            writers[record.split].write(example(record.features), record.events, record.targets)
            found += record.split == "histories"
            self._records.inc()
        report_progress("shards written", 1)
        closed = {split_name: writer.close() for split_name, writer in writers.items()}
        yield ShardResult({name: shard for name, shard in closed.items() if shard is not None}, found)


class Finish(beam.DoFn):
    """Everything that was written -> `manifest.json`, then `_SUCCESS`."""

    def __init__(self, schema: FeatureSchema, root: str) -> None:
        self._schema = schema
        self._root = root

    def process(
        self, _: None, reports: dict[str, LogReport], split: SplitTimes, fitted: bytes, results: list[ShardResult]
    ) -> Iterator[str]:
        """Yields the manifest's text."""
        content: Fitted = pickle.loads(fitted)
        encoder = FeatureEncoder(self._schema, content.values)
        splits: dict[str, tuple[Shard, ...]] = {
            name: tuple(sorted((r.shards[name] for r in results if name in r.shards), key=lambda shard: shard.name))
            for name in SPLITS
        }
        events, items, users = (reports.get(log, LogReport()) for log in ("events", "items", "users"))
        counts = Counts(
            events_read=events.read,
            events_kept=events.kept,
            events_filtered=events.filtered,
            events_dead=events.dead,
            users=sum(result.users for result in results),
            items=len(content.item_ids),
            behaviours=events.behaviours,
            targets={name: sum(shard.targets for shard in splits[name]) for name in SPLITS if name != "histories"},
            items_read=items.read,
            items_dead=items.dead,
            users_read=users.read,
            users_dead=users.dead,
        )
        cardinalities = {feature.name: encoder.cardinality(feature) for feature in self._schema.features}
        manifest = Manifest(self._schema.fingerprint, split, counts, splits, cardinalities)
        write_file(self._root, MANIFEST, manifest.to_json().encode("utf-8"))
        write_file(self._root, SUCCESS, b"")
        yield manifest.to_json()


def _columns(table: pa.Table) -> dict[str, Any]:
    return {name: table[name].to_numpy() for name in table.column_names}


def _array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
