"""Steps of `build_examples` that look at one part of the items: count for the vocabularies, then encode.

A part holds what the items log, the events and the previous run say of its items. As the steps of a user shard do, both
join it anew: nothing per item is kept from one step to the next.
"""

import dataclasses
import pickle
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_pipelines.examples.batch_bytes import EventBatch, group_by_kind
from beam_pipelines.examples.catalogue import INDEX, Cut, ItemNames, RawCatalogue
from beam_pipelines.examples.day_counts import DayCounts
from beam_pipelines.examples.fit_files import write_blocks
from beam_pipelines.examples.fit_vocabularies import Key, Vocabularies
from beam_pipelines.examples.value_counts import ITEM_COUNTS, ITEM_DAYS, ITEM_NAMES, Histogram, ValueCounts
from twin_tf.features.schema import FIRST_KNOWN, FeatureSchema
from twin_tf.records.format import SplitTimes

Grouped = tuple[int, Iterable[EventBatch | tuple[str, Any]]]
"""A part, and its batches and (kind, figure)."""


def join_part(schema: FeatureSchema, group: Grouped) -> tuple[RawCatalogue, npt.NDArray[np.int64], DayCounts | None]:
    """The items of a part, the rows that a previous run gave to the first of them, and what happened on each day."""
    elements = list(group[1])
    figures = dict(element for element in elements if not isinstance(element, bytes))
    tables = group_by_kind((element for element in elements if isinstance(element, bytes)), "items", "previous_items")
    log = pa.concat_tables(tables["items"]) if tables["items"] else None
    previous, rows = None, np.zeros(0, np.int64)
    if tables["previous_items"]:
        previous = pa.concat_tables(tables["previous_items"]).sort_by("row")
        rows = previous["row"].to_numpy()
    nothing = ValueCounts(pa.array([], pa.int64()), np.zeros(0, np.int64), np.zeros(0, np.int64))
    names: ItemNames | None = figures.get(ITEM_NAMES)
    catalogue = RawCatalogue.join(schema, log, figures.get(ITEM_COUNTS, nothing), names, previous)
    return catalogue, rows, figures.get(ITEM_DAYS)


class CountItems(beam.DoFn):
    """A part -> (key, counts) for every inherent feature that is fitted."""

    def __init__(self, schema: FeatureSchema, parts: int) -> None:
        self._schema = schema
        self._parts = parts

    def process(self, group: Grouped, split: SplitTimes) -> Iterator[tuple[Key, ValueCounts | Histogram]]:
        """Yields (key, counts)."""
        del split  # only makes this step wait until the logs are checked
        catalogue, _, _ = join_part(self._schema, group)
        for feature in self._schema.inherent:
            if not feature.encoding_or_fail.fitted:
                continue
            found = catalogue.figures(feature, self._schema.items is not None)
            if isinstance(found, Histogram):
                yield (feature.name, 0), found
            else:
                for part, counts in found.cut(self._parts):
                    yield (feature.name, part), counts


@dataclasses.dataclass(frozen=True)
class ItemPart:
    """What a part of the items has become.

    Attributes:
        old: the piece of items that a previous run had, by `row`; empty if there are none.
        new: the piece of new items, by `id`; likewise.
        items: how many there are, of both.
        duplicated: rows of the items log whose id another row has too.
        unlisted: items that events name and no items log has.
        cut: multi-valued feature -> what `max_values` cuts.
        trained: inherent feature -> which of its indices some trained item has, packed bits.
        days: what happened to each item on each day, where the schema needs it.
    """

    old: str
    new: str
    items: int
    duplicated: int
    unlisted: int
    cut: Mapping[str, Cut]
    trained: Mapping[str, npt.NDArray[np.uint8]]
    days: DayCounts | None


class EncodeItems(beam.DoFn):
    """A part -> `ItemPart`; writes its pieces."""

    def __init__(self, schema: FeatureSchema, root: str) -> None:
        self._schema = schema
        self._root = root

    def process(self, group: Grouped, vocabularies: bytes) -> Iterator[ItemPart]:
        """Yields one."""
        fitted: Vocabularies = pickle.loads(vocabularies)
        catalogue, rows, days = join_part(self._schema, group)
        indices, cut = catalogue.indices(self._schema, fitted.encoder(self._schema))
        old, trained = catalogue.old, catalogue.counted > 0
        row = np.concatenate([rows, np.zeros(len(catalogue.ids) - old, np.int64)])
        table = pa.table({"row": row, **catalogue.state(), "trained": trained, **indices})
        yield ItemPart(
            old=self._piece(f"items/old-{group[0]}", table.slice(0, old)),
            new=self._piece(f"items/new-{group[0]}", table.slice(old)),
            items=len(table),
            duplicated=catalogue.duplicated,
            unlisted=int((~catalogue.listed & (catalogue.totals > 0)).sum()),
            cut=cut,
            trained={
                f.name: np.packbits(trained_values(table[INDEX + f.name], trained, fitted.cardinalities[f.name]))
                for f in self._schema.inherent
            },
            days=days,
        )

    def _piece(self, name: str, table: pa.Table) -> str:
        if not len(table):
            return ""
        write_blocks(self._root, name, table.schema, [table])
        return name


def trained_values(column: pa.ChunkedArray, trained: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.bool_]:
    """Which of `size` indices some trained item has, padding and unknown left out."""
    kept = column.combine_chunks().filter(pa.array(trained))
    values = (kept.flatten() if pa.types.is_list(kept.type) else kept).to_numpy()
    found = np.zeros(size, bool)
    found[values] = True
    found[:FIRST_KNOWN] = False
    return found
