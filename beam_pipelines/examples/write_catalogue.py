"""The step of `build_examples` that gives every item its row: a merge of the parts' pieces, a block at a time.

Row 0 is padding, row 1 is unknown. The rows of a previous run stay; new items follow in the order of their ids (int64).
"""

import contextlib
import dataclasses
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines.examples.catalogue import INDEX, RAW, Cut, ItemRows
from beam_pipelines.examples.day_counts import STATE_ITEM_DAYS, DayCounts, counted_values
from beam_pipelines.examples.fit_files import mapped_array, merged, regrouped, write_array
from beam_pipelines.examples.fit_vocabularies import Vocabularies
from beam_pipelines.examples.item_parts import ItemPart
from beam_pipelines.examples.log_survey import LogSurvey
from beam_pipelines.examples.previous_snapshot import PreviousRun
from beam_pipelines.examples.user_histories import Layout
from beam_pipelines.examples.value_counts import Ints
from beam_pipelines.io.record_writer import ROW_GROUP, ParquetRows, write_parquet
from twin_tf.features.encoders import FeatureEncoder, owners
from twin_tf.features.schema import FIRST_KNOWN, UNKNOWN, FeatureSchema
from twin_tf.records.format import ITEMS, STATE_ITEMS

IDS, ROWS, UNKNOWN_ITEMS, UNTRAINED_ITEMS = (
    f"catalogue/{name}.npy" for name in ("ids", "rows", "unknown", "untrained")
)
"""Mapped files: ids, rising, and the row of each; of each row, `unknown_items` and `untrained_items`."""

_STATE = ("id", "raw_id", "events", "listed")


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What encoding needs; what grows with the items lies in mapped files.

    Attributes:
        vocabularies: what was fitted, and where it lies.
        items: how many there are.
        layout: how records are packed.
        last_time: of the latest event.
        files: what was written -> sha256.
        items_duplicated: rows of the items log whose id another row has too.
        items_unlisted: items that events name and no items log has; None without an items log.
        cut: multi-valued feature -> what `max_values` cuts.
        item_days: what happened to each item on each day, where the schema needs it.
    """

    vocabularies: Vocabularies
    items: int
    layout: Layout
    last_time: int
    files: Mapping[str, str]
    items_duplicated: int
    items_unlisted: int | None
    cut: Mapping[str, Cut]
    item_days: DayCounts | None = None

    def item_rows(self) -> ItemRows:
        """Looks rows of items up."""
        return ItemRows(self._mapped(IDS), self._mapped(ROWS))

    def unknown_items(self) -> npt.NDArray[np.uint8]:
        """`(items + 2, bytes)` which inherent features of an item are unknown, packed bits."""
        return self._mapped(UNKNOWN_ITEMS)

    def untrained_items(self) -> npt.NDArray[np.uint8]:
        """`(items + 2, bytes)`, packed bits: whether training never sees the item, and so of each inherent feature."""
        return self._mapped(UNTRAINED_ITEMS)

    def _mapped(self, name: str) -> npt.NDArray[Any]:
        return mapped_array(self.vocabularies.root, name, self.vocabularies.run)


class WriteCatalogue(beam.DoFn):
    """All parts of the items -> `Fitted`; writes `items/` and what the next run needs of items."""

    def __init__(self, schema: FeatureSchema, root: str, previous: PreviousRun | None) -> None:
        self._schema = schema
        self._root = root
        self._previous = previous

    def process(self, _: None, parts: list[ItemPart], vocabularies: bytes, log_survey: LogSurvey) -> Iterator[bytes]:
        """Yields one pickled `Fitted`."""
        schema, previous = self._schema, self._previous
        fitted: Vocabularies = pickle.loads(vocabularies)
        files = dict(fitted.files)
        found = [part.days for part in parts if part.days is not None]
        days = None
        if schema.counts_days:
            days = DayCounts.merge([*found, *([previous.item_days()] if previous else [])])
            files[STATE_ITEM_DAYS] = write_parquet(self._root, STATE_ITEM_DAYS, days.table())
        items = sum(part.items for part in parts)
        files.update(self._write(parts, items, fitted.encoder(schema), days))
        times = log_survey.times or (0, 0)
        if previous:
            times = (min(times[0], previous.manifest.time_origin), max(times[1], previous.manifest.last_time))
        rare = {name: count for name, count in fitted.rare.items() if count}
        cut = {
            name: Cut(sum(part.cut[name].items for part in parts), sum(part.cut[name].values for part in parts))
            for name in (feature.name for feature in schema.inherent if feature.multi_valued is not None)
        }
        yield pickle.dumps(
            Fitted(
                fitted,
                items,
                Layout.of(schema, fitted.cardinalities, FIRST_KNOWN + items, rare, times),
                times[1],
                files,
                sum(part.duplicated for part in parts),
                None if schema.items is None else sum(part.unlisted for part in parts),
                cut,
                days,
            ),
            protocol=5,
        )

    def _write(
        self, parts: Sequence[ItemPart], items: int, encoder: FeatureEncoder, days: DayCounts | None
    ) -> dict[str, str]:
        """Writes the catalogue, its state and the mapped files; only ids and a few bits an item are held."""
        schema, root = self._schema, self._root
        trained = _any_trained(parts)
        ids = np.zeros(items, np.int64)
        unknown = np.zeros((items + FIRST_KNOWN, _bytes_of(len(schema.inherent))), np.uint8)
        untrained = np.zeros((items + FIRST_KNOWN, _bytes_of(1 + len(schema.inherent))), np.uint8)
        unknown[:FIRST_KNOWN] = np.packbits(np.ones(len(schema.inherent), bool))
        overall = None if days is None else days.overall(np.full(1, days.end))
        row = FIRST_KNOWN
        writers: list[ParquetRows] = []
        with contextlib.ExitStack() as stack:
            for block in regrouped(_in_order(root, parts), ROW_GROUP):
                table = self._catalogue(block, row, encoder, days, overall)
                state = block.select([name for name in block.column_names if name in _STATE or name.startswith(RAW)])
                if not writers:
                    named = ((ITEMS, table), (STATE_ITEMS, state))
                    writers = [stack.enter_context(ParquetRows(root, name, rows.schema)) for name, rows in named]
                for writer, rows in zip(writers, (table, state), strict=True):
                    writer.write(rows)
                end = row + len(block)
                ids[row - FIRST_KNOWN : end - FIRST_KNOWN] = block["id"].to_numpy()
                unknown[row:end] = unknown_bits(schema, table)
                untrained[row:end] = untrained_bits(schema, table, block["trained"].to_numpy(), trained)
                row = end
        rising = bool(np.all(ids[1:] >= ids[:-1]))
        order = np.arange(items, dtype=np.int32) if rising else np.argsort(ids, kind="stable").astype(np.int32)
        arrays = {IDS: ids if rising else ids[order], ROWS: order + np.int32(FIRST_KNOWN)}
        for name, array in {**arrays, UNKNOWN_ITEMS: unknown, UNTRAINED_ITEMS: untrained}.items():
            write_array(root, name, array)
        return {name: writer.sha256 for name, writer in zip((ITEMS, STATE_ITEMS), writers, strict=True)}

    def _catalogue(
        self, block: pa.Table, row: int, encoder: FeatureEncoder, days: DayCounts | None, overall: Ints | None
    ) -> pa.Table:
        """Rows of `items/items.parquet`; in the metadata, what is counted of items is said of no item."""
        schema = self._schema
        columns = {"row": np.arange(row, row + len(block), dtype=np.int32), "id": block["id"]}
        if "raw_id" in block.column_names:
            columns["raw_id"] = block["raw_id"]
        columns.update({feature.name: block[INDEX + feature.name] for feature in schema.inherent})
        if days is None or overall is None or not schema.counted_item:
            return pa.table(columns)
        counts = days.before(np.full(len(block), days.end), block["id"].to_numpy())
        counts, nobody = np.concatenate([counts, np.zeros((1, counts.shape[1]), np.int64)]), {}
        for feature in schema.counted_item:
            index = encoder.encode(feature.name, counted_values(feature, counts, np.repeat(overall, len(counts), 0)))
            columns[feature.name] = index[:-1]
            nobody[feature.name] = str(index[-1])
        return pa.table(columns).replace_schema_metadata(nobody)


def _in_order(root: str, parts: Sequence[ItemPart]) -> Iterator[pa.Table]:
    """All items in the order of their rows."""
    yield from merged(root, [part.old for part in parts if part.old], "row")
    yield from merged(root, [part.new for part in parts if part.new], "id")


def _any_trained(parts: Sequence[ItemPart]) -> dict[str, npt.NDArray[np.bool_]]:
    """Inherent feature -> which of its indices some trained item has."""
    found: dict[str, npt.NDArray[np.uint8]] = {}
    for part in parts:
        for name, bits in part.trained.items():
            found[name] = found[name] | bits if name in found else bits
    return {name: np.unpackbits(bits).astype(bool) for name, bits in found.items()}


def _bytes_of(bits: int) -> int:
    return -(-bits // 8)


def unknown_bits(schema: FeatureSchema, table: pa.Table) -> npt.NDArray[np.uint8]:
    """Of each row of the catalogue which inherent features are unknown, `(rows, bytes)`."""
    unknown = np.ones((table.num_rows, len(schema.inherent)), bool)
    for place, feature in enumerate(schema.inherent):
        column = table[feature.name].combine_chunks()
        if feature.multi_valued is not None:  # unknown if all values are: they are distinct, so it has but one
            column = pc.if_else(pc.equal(pc.list_value_length(column), 1), pc.list_element(column, 0), 0)
        unknown[:, place] = column.to_numpy() == UNKNOWN
    return np.packbits(unknown, axis=1)


def untrained_bits(
    schema: FeatureSchema, table: pa.Table, items: npt.NDArray[np.bool_], values: Mapping[str, npt.NDArray[np.bool_]]
) -> npt.NDArray[np.uint8]:
    """Of each row of the catalogue whether training never sees the item, then each inherent feature, `(rows, bytes)`.

    Args:
        schema: the schema.
        table: rows of the catalogue.
        items: which of them training sees.
        values: inherent feature -> which of its indices some trained item has.
    """
    untrained = np.zeros((table.num_rows, 1 + len(schema.inherent)), bool)
    untrained[:, 0] = ~items
    for place, feature in enumerate(schema.inherent, 1):
        column = table[feature.name].combine_chunks()
        many = feature.multi_valued is not None
        index = (column.flatten() if many else column).to_numpy()
        owner = owners(column) if many else np.arange(len(column))
        never = (index >= FIRST_KNOWN) & ~values[feature.name][index]
        some, others = (np.bincount(owner[m], minlength=len(column)) for m in (never, ~never & (index >= FIRST_KNOWN)))
        untrained[:, place] = (some > 0) & (others == 0)
    return np.packbits(untrained, axis=1)
