"""The items of one part: those of the items log, of the events and of the previous run, and their features as indices.

Items are cut into parts by a hash of their id; `item_parts` joins each part by itself, `write_catalogue` gives rows.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines.examples.user_hash import shard_of
from beam_pipelines.examples.value_counts import Histogram, Ints, ValueCounts, cut_rows, sortable
from beam_pipelines.raw_logs.raw_columns import empty_table, log_columns
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.encoders import FeatureEncoder, encode_ids, owners, places_in_lists
from twin_tf.features.schema import UNKNOWN, Feature, FeatureSchema, IdColumn

RAW = "raw/"
INDEX = "index/"
"""What the columns of encoded features start with, until they stand in the catalogue."""


@dataclasses.dataclass(frozen=True)
class ItemNames:
    """Text ids of items: their hashes, rising, and the texts."""

    ids: Ints
    texts: pa.Array

    @classmethod
    def of(cls, column: IdColumn, values: pa.Array | pa.ChunkedArray) -> "ItemNames":
        """The distinct ids of a column."""
        texts = values.unique().drop_null()
        return cls.merge([cls(encode_ids(column, texts), texts)])

    @classmethod
    def merge(cls, parts: Sequence["ItemNames"]) -> "ItemNames":
        """All parts together.

        Raises:
            ConfigError: two texts have one hash: the model could not tell these items apart.
        """
        ids = np.concatenate([part.ids for part in parts])
        texts = pa.chunked_array([part.texts for part in parts], pa.string()).combine_chunks()
        order = np.argsort(ids, kind="stable")
        ids, texts = ids[order], texts.take(pa.array(order))
        new = _first_of_each(ids)
        again = np.flatnonzero(~new)
        differs = again[pc.not_equal(texts.take(pa.array(again)), texts.take(pa.array(again - 1))).to_numpy(False)]
        if len(differs):
            raise ConfigError(
                f"the item ids {texts[differs[0] - 1].as_py()!r} and {texts[differs[0]].as_py()!r} have the "
                "same hash; rename one of them"
            )
        return cls(ids[new], texts.filter(pa.array(new)))

    def cut(self, parts: int) -> Iterator[tuple[int, "ItemNames"]]:
        """(part, its names), by a hash of the id."""
        for part, rows in cut_rows(shard_of(self.ids, parts), parts):
            yield part, ItemNames(self.ids[rows], self.texts.take(pa.array(rows)))


@dataclasses.dataclass(frozen=True)
class Cut:
    """How many items have more than `max_values` values of a feature, and how many values they lose."""

    items: int
    values: int


@dataclasses.dataclass(frozen=True)
class RawCatalogue:
    """Items of a part before encoding: those of a previous run in the order of their rows, then new ones by id.

    Attributes:
        ids: int64.
        old: how many of the first items a previous run had.
        raw_ids: the ids as the logs write them, ints or text.
        columns: raw column -> values (lists, where an item has several), null for an item that no items log had.
        listed: which items an items log had.
        counted: kept events of each item in the training window and before.
        totals: kept events of each item.
        duplicated: rows of the items log whose id another row has too.
    """

    ids: Ints
    old: int
    raw_ids: pa.Array
    columns: dict[str, pa.Array]
    listed: npt.NDArray[np.bool_]
    counted: Ints
    totals: Ints
    duplicated: int = 0

    @classmethod
    def join(
        cls,
        schema: FeatureSchema,
        log: pa.Table | None,
        seen: ValueCounts,
        names: ItemNames | None = None,
        previous: pa.Table | None = None,
    ) -> "RawCatalogue":
        """The union of the items log, of the items that events name, and of the previous run's.

        Args:
            schema: the schema.
            log: rows of the items log as `id` and `raw/<column>`, or None without any. Of several rows with one id the
                first in the order of the columns' values counts.
            seen: item id (int64) -> events.
            names: the texts of the events' ids, where ids are text.
            previous: of `state/items.parquet` of the previous run; a row of the log comes before its row.
        """
        id_column = schema.items if schema.items is not None else schema.events.item
        if log is None:
            empty = empty_table(log_columns(schema, "items"))
            log = empty.rename_columns([RAW + name for name in empty.column_names]).append_column("id", pa.array(_NONE))
        log, duplicated = _one_row_an_item(log)
        listed_ids = log["id"].to_numpy()
        old_ids = _NONE if previous is None else previous["id"].to_numpy()
        seen_ids = seen.values.to_numpy() if len(seen.values) else _NONE
        fresh = np.sort(np.concatenate([listed_ids, seen_ids]))
        fresh = fresh[_first_of_each(fresh)]
        ids = np.concatenate([old_ids, fresh[~_places(old_ids, fresh)[1]]])
        place_listed, listed = _places(listed_ids, ids)
        place_seen, has_events = _places(seen_ids, ids)
        counted, totals = (
            np.where(has_events, count[place_seen] if len(seen_ids) else 0, 0) for count in (seen.counts, seen.totals)
        )
        columns: dict[str, pa.Array] = {id_column.column: pa.nulls(len(ids), pa.string())}  # it comes first
        columns |= {
            name.removeprefix(RAW): log[name].combine_chunks().take(pa.array(place_listed, mask=~listed))
            for name in log.column_names
            if name not in ("id", RAW + id_column.column)
        }
        if previous is not None:
            before = np.arange(len(ids)) < len(old_ids)
            keep_old = pa.array(before & ~listed)
            for name in list(columns)[1:]:
                old = previous[RAW + name].combine_chunks().take(pa.array(np.arange(len(ids)), mask=~before))
                columns[name] = pc.if_else(keep_old, old, columns[name])
            old_totals = np.where(before, np.resize(previous["events"].to_numpy(), len(ids)), 0)
            counted, totals = counted + old_totals, totals + old_totals
            listed = listed | (before & np.resize(previous["listed"].to_numpy(), len(ids)))
        raw: pa.Array = pa.array(ids)
        if id_column.type == "string":
            found = [] if names is None else [names]
            if len(listed_ids):
                found.append(ItemNames(listed_ids, log[RAW + id_column.column].combine_chunks()))
            if previous is not None:
                order = np.argsort(old_ids)
                found.append(ItemNames(old_ids[order], previous["raw_id"].combine_chunks().take(pa.array(order))))
            every = ItemNames.merge(found)
            raw = every.texts.take(pa.array(_places(every.ids, ids)[0]))
        columns[id_column.column] = raw
        return cls(ids, len(old_ids), raw, columns, listed, counted, totals, duplicated)

    def figures(self, feature: Feature, any_listed: bool) -> ValueCounts | Histogram:
        """What the vocabulary or the boundaries of an inherent feature are fitted on.

        Items weigh by their events of the training window, or one each with `source: items`; so does each value of an
        item that has several.

        Args:
            feature: the feature.
            any_listed: whether there is an items log, of this run or of an earlier one.
        """
        encoding = feature.encoding_or_fail
        values = self.columns[feature.column]
        weights = self.listed.astype(np.int64) if encoding.source == "items" and any_listed else self.counted
        if feature.multi_valued is not None:
            values, weights = values.flatten(), weights[owners(values)]
        if encoding.kind == "vocabulary":
            return ValueCounts.of(values, weights)
        numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
        counted = np.isfinite(numbers) & (weights > 0)
        return Histogram.of(sortable(numbers[counted]), weights[counted])

    def indices(self, schema: FeatureSchema, encoder: FeatureEncoder) -> tuple[dict[str, Any], dict[str, Cut]]:
        """The inherent features as indices.

        Returns:
            `index/<feature>` -> a column, of lists where an item has several values; multi-valued feature -> `Cut`.
        """
        columns: dict[str, Any] = {}
        cut = {}
        for feature in schema.inherent:
            values = self.columns[feature.column]
            if feature.multi_valued is None:
                columns[INDEX + feature.name] = encoder.encode(feature.name, values)
                continue
            offsets, indices = encoder.encode_many(feature.name, values)
            kept = places_in_lists(offsets)[1] < feature.max_values
            sizes = np.diff(offsets)
            ends = np.cumsum(np.minimum(sizes, feature.max_values), dtype=np.int32)
            columns[INDEX + feature.name] = pa.ListArray.from_arrays(np.r_[np.int32(0), ends], indices[kept])
            cut[feature.name] = Cut(int((sizes > feature.max_values).sum()), int((~kept).sum()))
        return columns, cut

    def state(self) -> dict[str, Any]:
        """What the next run needs: `id`, `raw_id` where ids are text, `events`, `listed`, `raw/<column>`."""
        text = pa.types.is_string(self.raw_ids.type)
        ids = {"id": self.ids, **({"raw_id": self.raw_ids} if text else {})}
        raw = {RAW + name: values for name, values in self.columns.items()}
        return {**ids, "events": self.totals, "listed": self.listed, **raw}


class ItemRows:
    """Item ids to rows of the catalogue.

    Args:
        ids: rising; may be mapped from a file, as all processes of a machine share it.
        rows: the row of each.
    """

    def __init__(self, ids: Ints, rows: npt.NDArray[np.int32]) -> None:
        self._ids = ids
        self._rows = rows

    def of(self, ids: Ints) -> npt.NDArray[np.int32]:
        """The row of each id; 1 for an item that the catalogue lacks."""
        if not len(self._ids):
            return np.full(len(ids), UNKNOWN, np.int32)
        place = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        return np.where(self._ids[place] == ids, self._rows[place], UNKNOWN).astype(np.int32)


_NONE = np.zeros(0, np.int64)


def _one_row_an_item(log: pa.Table) -> tuple[pa.Table, int]:
    """The rows by rising id, of several with one id the first in the order of values; and how many others there are."""
    log = log.take(pa.array(np.argsort(log["id"].to_numpy(), kind="stable")))
    first = _first_of_each(log["id"].to_numpy())
    if first.all():
        return log, 0
    doubtful = ~(first & np.r_[first[1:], True])
    some = log.filter(pa.array(doubtful))
    order = np.arange(len(log))
    order[doubtful] = np.flatnonzero(doubtful)[_order_of_values(some).to_numpy()]
    return log.take(pa.array(order)).filter(pa.array(first)), int((~first).sum())


def _order_of_values(table: pa.Table) -> pa.Array:
    """The order of rows by their values, the first column first; lists by their values one after another."""
    keys = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_list(column.type):
            column = pc.binary_join(column.cast(pa.list_(pa.string())), "\0")
        keys[name] = column
    return pc.sort_indices(
        pa.table(keys), sort_keys=[(name, "ascending") for name in ["id", *(name for name in keys if name != "id")]]
    )


def _first_of_each(rising: Ints) -> npt.NDArray[np.bool_]:
    return np.r_[True, rising[1:] != rising[:-1]][: len(rising)]


def _places(where: Ints, wanted: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """For each wanted id its first place in `where` (any order), and whether it is there."""
    if not len(where):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    rising = bool(np.all(where[1:] >= where[:-1]))
    order = np.arange(len(where)) if rising else np.argsort(where, kind="stable")
    ordered = where if rising else where[order]
    place = np.minimum(np.searchsorted(ordered, wanted), len(where) - 1)
    return order[place], ordered[place] == wanted
