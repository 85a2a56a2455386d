"""An earlier run that the next one continues: its histories, and what its vocabularies and catalogue grew from.

`build_examples --previous=DIR` reads today's logs alone. Every user's earlier behaviours come from `DIR/histories/`,
items keep their rows, vocabularies keep their rows and get new values after them, boundaries stay. Values that were too
rare for a vocabulary wait in `DIR/state/pending.json` with their counts.
"""

import codecs
import dataclasses
import io
import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, BinaryIO

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from beam_pipelines.examples.batch_bytes import EventBatch, cut_by_shard
from beam_pipelines.examples.day_counts import STATE_ITEM_DAYS, STATE_USER_DAYS, DayCounts
from beam_pipelines.examples.event_batches import BEHAVIOUR, VALUE, number_column
from beam_pipelines.examples.shard_buffer import ToShards
from beam_pipelines.examples.value_counts import ValueCounts
from beam_pipelines.io.record_writer import HashingReader, open_file, parse_example, read_file, stop_job
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.tfrecord import CorruptRecordError, read_records
from twin_tf.core.yaml_text import parse_yaml
from twin_tf.features.contract import CONTRACT, contract_of, schema_difference
from twin_tf.features.encoders import VOCABULARIES, FeatureEncoder
from twin_tf.features.schema import FIRST_KNOWN, UNKNOWN, FeatureSchema, schema_from_mapping
from twin_tf.records import format as keys
from twin_tf.records.format import Manifest, Shard, check_manifest
from twin_tf.records.packing import from_bits, unpack

_BATCH_BYTES = 4 << 20
_JSON_BYTES = 1 << 20
_HEAD = re.compile(r'\s*\{"kind": "[a-z]*", "values": \[')
_TEXTS = re.compile(r'(?:[, ]*"(?:[^"\\]|\\.)*")+')

USERS = "users/"


@dataclasses.dataclass(frozen=True)
class PreviousRun:
    """A finished prepared directory on any of Beam's file systems.

    Attributes:
        root: where it lies.
        manifest: its manifest.
        verify: whether the files that hold no records are compared with their SHA-256 when they are read.
    """

    root: str
    manifest: Manifest
    verify: bool = True

    @classmethod
    def open(cls, root: str, schema: FeatureSchema, verify: bool = True) -> "PreviousRun":
        """Reads the manifest.

        Raises:
            ConfigError: no finished prepared data, data of another schema (the split may differ), or a damaged file.
        """
        text, success = read_file(root, keys.MANIFEST), read_file(root, keys.SUCCESS)
        if text is None or success is None:
            raise ConfigError(
                f"previous {root} is no finished prepared data: it lacks {keys.MANIFEST} or {keys.SUCCESS}"
            )
        if verify:
            check_manifest(text, success, root)
        run = cls(root, Manifest.from_json(text, root), verify)
        run._check_files()
        theirs = schema_from_mapping(parse_yaml(run._read(keys.SCHEMA), f"{root}/{keys.SCHEMA}"))
        if theirs.history.clustered:
            raise ConfigError(f"previous {root} holds clusters; continue the prepared data that they were made of")
        if clause := schema_difference(theirs, schema):
            raise ConfigError(
                f"previous {root} was prepared with another schema {theirs.name!r}: {clause}; only 'split' and "
                "'events.request' may differ"
            )
        return run

    def _check_files(self) -> None:
        shards = {shard.name: shard.bytes for shard in self.manifest.shards("histories")}
        for name in (*shards, *self.manifest.files):
            found = FileSystems.match([FileSystems.join(self.root, *name.split("/"))])[0].metadata_list
            if not found:
                raise ConfigError(f"previous {self.root} lacks {name}; prepare it again")
            if found[0].size_in_bytes != shards.get(name, found[0].size_in_bytes):
                raise ConfigError(
                    f"previous {self.root}: {name} has another size than the manifest says; prepare it again"
                )
        for name in self.manifest.files:
            many = name.startswith((USERS, STATE_USER_DAYS))  # as many as users: each reader checks its own
            if self.verify and not many:
                self.manifest.check_content(name, self._read(name), self.root)

    def _open(self, name: str) -> BinaryIO:
        return open_file(FileSystems.join(self.root, *name.split("/")))

    def _read(self, name: str) -> bytes:
        content = read_file(self.root, name)
        if content is None:
            raise ConfigError(f"previous {self.root} lacks {name}; prepare it again")
        return content

    def boundaries(self, name: str) -> list[float]:
        """The boundaries that were found of a numeric feature."""
        found: list[float] = json.loads(self._read(f"{VOCABULARIES}/{name}.json"))["values"]
        return found

    def vocabulary(self, name: str) -> Iterator[pa.Array]:
        """The values of a vocabulary in order, as texts, in blocks."""
        with self._open(f"{VOCABULARIES}/{name}.json") as stream:
            yield from texts_of_json(stream)

    def contracts(self) -> tuple[str, ...]:
        """Digests of the contracts that the next run grows from: that of these data, and those it grew from itself."""
        if CONTRACT not in self.manifest.files:  # made before there were contracts
            schema = schema_from_mapping(parse_yaml(self._read(keys.SCHEMA), f"{self.root}/{keys.SCHEMA}"))
            names = [f.name for f in schema.features if f.encoding_or_fail.fitted]
            fitted = {name: json.loads(self._read(f"{VOCABULARIES}/{name}.json"))["values"] for name in names}
            return (contract_of(FeatureEncoder(schema, fitted)).digest,)
        recorded = json.loads(self._read(CONTRACT))
        return (*recorded["earlier"], recorded["digest"])

    @cached_property
    def rare_values(self) -> Mapping[str, ValueCounts]:
        """Feature -> the values that its vocabulary lacks, and how often each was seen."""
        content = json.loads(self._read(keys.PENDING))
        found = {}
        for name, part in content.items():
            counts = np.array(part["counts"], np.int64)
            found[name] = ValueCounts(pa.array(part["values"], part["type"]), counts, counts)
        return found

    def item_blocks(self) -> list[int]:
        """The row groups of `state/items.parquet`, by number."""
        with self._open(keys.STATE_ITEMS) as stream:
            return list(range(pq.ParquetFile(stream).num_row_groups))

    def item_days(self) -> DayCounts:
        """What happened to each item on the last day and before."""
        return DayCounts.of_table(pq.read_table(io.BytesIO(self._read(STATE_ITEM_DAYS))))

    def item_ids(self) -> npt.NDArray[np.int64]:
        """Ids of the items by row."""
        table = pq.read_table(io.BytesIO(self._read(keys.ITEMS)), columns=["row", "id"])
        ids = np.full(len(table) + FIRST_KNOWN, -1, np.int64)
        ids[table["row"].to_numpy()] = table["id"].to_numpy()
        return ids

    def histories(self) -> list[Shard]:
        """The files of every user's latest behaviours."""
        return list(self.manifest.shards("histories"))

    def users(self) -> list[str]:
        """The names of the files of the users."""
        return sorted(name for name in self.manifest.files if name.startswith((USERS, STATE_USER_DAYS)))


def texts_of_json(stream: BinaryIO) -> Iterator[pa.Array]:
    """The texts of a vocabulary file in order, a block at a time: 10^7 of them are never Python objects at once."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    waiting, started = "", False
    while block := stream.read(_JSON_BYTES):
        waiting += decoder.decode(block)
        if not started:
            head = _HEAD.match(waiting)
            if head is None:
                continue
            waiting, started = waiting[head.end() :], True
        whole = _TEXTS.match(waiting)
        if whole is not None:
            yield pa.array(json.loads(f"[{whole[0].lstrip(', ')}]"), pa.string())
            waiting = waiting[whole.end() :]


class ReadItems(beam.DoFn):
    """A row group of `state/items.parquet` -> (part of items, batch of kind `previous_items`: its rows and `row`)."""

    def __init__(self, previous: PreviousRun, parts: int) -> None:
        self._previous = previous
        self._parts = parts

    def process(self, number: int) -> Iterator[tuple[int, EventBatch]]:
        """Yields (part, batch)."""
        with self._previous._open(keys.STATE_ITEMS) as stream:
            file = pq.ParquetFile(stream)
            first = sum(file.metadata.row_group(before).num_rows for before in range(number))
            table = file.read_row_group(number)
        rows = np.arange(FIRST_KNOWN + first, FIRST_KNOWN + first + len(table))
        yield from cut_by_shard("previous_items", table.append_column("row", pa.array(rows)), self._parts)


class ReadHistories(ToShards):
    """A file of `histories/` -> (user shard, event batch of kind `previous`)."""

    def __init__(self, schema: FeatureSchema, previous: PreviousRun, shards: int, root: str) -> None:
        super().__init__(shards)
        self._schema = schema
        self._root = root
        self._previous = previous

    def setup(self) -> None:
        """Reads the ids of the item rows."""
        self._ids = self._previous.item_ids()

    def process(self, shard: Shard) -> Iterator[tuple[int, EventBatch]]:
        """Yields (shard, event batch)."""
        waiting: list[dict[str, Any]] = []
        size = 0
        for record in self._records(shard):
            waiting.append(parse_example(record))
            size += len(record)
            if size >= _BATCH_BYTES:
                yield from self._event_batches(waiting)
                waiting, size = [], 0
        if waiting:
            yield from self._event_batches(waiting)

    def _records(self, shard: Shard) -> Iterator[bytes]:
        path = FileSystems.join(self._previous.root, *shard.name.split("/"))
        with open_file(path) as file:
            stream = HashingReader(file)
            try:
                yield from read_records(stream, path)
            except CorruptRecordError as error:
                stop_job(self._root, f"the previous run cannot be continued: {error}; prepare it again")
        if stream.sha256 != shard.sha256:
            stop_job(self._root, f"{path} is not the file that the manifest lists under this name; prepare it again")

    def _event_batches(self, records: list[dict[str, Any]]) -> Iterator[tuple[int, EventBatch]]:
        manifest = self._previous.manifest
        lengths = np.array([record[keys.HISTORY_LENGTH] for record in records])

        def joined(key: str) -> npt.NDArray[np.int64]:
            width = manifest.widths[key]
            parts = [record.get(key, bytes(width * length)) for record, length in zip(records, lengths, strict=True)]
            return unpack(b"".join(parts), width)

        everyone = np.array([record[keys.USER_ID] for record in records], np.int64)
        silent = everyone[lengths == 0]  # users who only had targets: known, though they have no behaviour
        users = np.concatenate([np.repeat(everyone, lengths), silent])

        def filled(values: npt.NDArray[Any], fill: int) -> npt.NDArray[Any]:
            return np.concatenate([values, np.full(len(silent), fill, values.dtype)])

        columns: dict[str, Any] = {
            "user": users,
            "item": filled(self._ids[joined(keys.HISTORY_ITEM)], -1),
            "time": filled(joined(keys.HISTORY_TIME) + manifest.time_origin, manifest.time_origin),
            "flags": filled(np.full(int(lengths.sum()), BEHAVIOUR, np.int8), 0),
        }
        earlier = np.zeros(len(users), np.int64)
        totals = np.array([record[keys.HISTORY_TOTAL] for record in records], np.int64)
        earlier[np.cumsum(np.r_[0, lengths])[:-1][lengths > 0]] = (totals - lengths)[lengths > 0]
        columns["earlier"] = earlier
        for feature in self._schema.stored_cross:
            index = joined(keys.history_key(feature.name))
            if keys.pending_key(feature.name) in manifest.widths:
                place = joined(keys.pending_key(feature.name))
                index = np.where(place > 0, manifest.cardinalities[feature.name] + place - 1, index)
            columns[VALUE + feature.name] = filled(index.astype(np.int32), UNKNOWN)
        for feature in self._schema.kept_values:
            numbers = from_bits(joined(keys.value_key(feature.name)))
            columns[number_column(feature.name)] = np.concatenate([numbers, np.full(len(silent), np.nan, np.float32)])
        yield from self.to_shards("previous", pa.table(columns))


class ReadUsers(ToShards):
    """A file of `users/` or `state/user_days/` -> (user shard, event batch `previous_users` or `previous_days`)."""

    def __init__(self, previous: PreviousRun, shards: int, root: str) -> None:
        super().__init__(shards)
        self._previous = previous
        self._root = root

    def process(self, name: str) -> Iterator[tuple[int, EventBatch]]:
        """Yields (shard, event batch)."""
        previous = self._previous
        with open_file(FileSystems.join(previous.root, *name.split("/"))) as stream:
            content = stream.read()
        if previous.verify:
            try:
                previous.manifest.check_content(name, content, previous.root)
            except ConfigError as error:
                stop_job(self._root, str(error))
        table = pq.read_table(io.BytesIO(content))
        if name.startswith(STATE_USER_DAYS):
            yield from self.to_shards("previous_days", table)
        else:
            yield from self.to_shards("previous_users", table)
