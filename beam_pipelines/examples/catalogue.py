"""The catalogue: every item of the items log, of the events and of the previous run, and its features as indices.

Row 0 is padding, row 1 is unknown. The rows of a previous run stay; new items follow in the order of their ids (int64).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines.examples.value_counts import Histogram, Ints, ValueCounts, quantiles, sortable
from beam_pipelines.raw_logs.raw_columns import empty_table, log_columns
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.encoders import FeatureEncoder, encode_ids, owners, places_in_lists
from twin_tf.features.schema import FIRST_KNOWN, UNKNOWN, Feature, FeatureSchema, IdColumn

RAW = "raw/"


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
        new = np.r_[True, ids[1:] != ids[:-1]][: len(ids)]
        leaders = texts.filter(pa.array(new))
        differs = np.flatnonzero(
            texts.to_numpy(zero_copy_only=False)
            != leaders.take(pa.array(np.cumsum(new) - 1)).to_numpy(zero_copy_only=False)
        )
        if len(differs):
            raise ConfigError(
                f"the item ids {texts[differs[0] - 1].as_py()!r} and {texts[differs[0]].as_py()!r} have the "
                "same hash; rename one of them"
            )
        return cls(ids[new], leaders)


@dataclasses.dataclass(frozen=True)
class Cut:
    """How many items have more than `max_values` values of a feature, and how many values they lose."""

    items: int
    values: int


@dataclasses.dataclass(frozen=True)
class RawCatalogue:
    """Items before encoding, in the order of their rows.

    Attributes:
        ids: int64.
        raw_ids: the ids as the logs write them, ints or text.
        columns: raw column -> values (lists, where an item has several), null for an item that no items log had.
        listed: which items an items log had.
        counted: kept events of each item in the training window and before.
        totals: kept events of each item.
        duplicated: rows of the items log whose id another row has too.
    """

    ids: Ints
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
            log: the typed items log, or None without one. Of several rows with one id the first in the order of the
                columns' values counts.
            seen: item id (int64) -> events.
            names: the texts of the events' ids, where ids are text.
            previous: `state/items.parquet` of the previous run; a row of the log comes before its row.
        """
        id_column = schema.items if schema.items is not None else schema.events.item
        log = empty_table(log_columns(schema, "items")) if log is None else log.take(_order_of_values(log))
        listed_ids = encode_ids(id_column, log[id_column.column].combine_chunks()) if log.num_columns else _NONE
        old_ids = _NONE if previous is None else previous["id"].to_numpy()
        seen_ids = seen.values.to_numpy() if len(seen.values) else _NONE
        fresh = np.union1d(listed_ids, seen_ids)
        ids = np.concatenate([old_ids, fresh[~_places(old_ids, fresh)[1]]])
        place_listed, listed = _places(listed_ids, ids)
        place_seen, has_events = _places(seen_ids, ids)
        counted, totals = (
            np.where(has_events, count[place_seen] if len(seen_ids) else 0, 0) for count in (seen.counts, seen.totals)
        )
        columns = {
            name: log[name].combine_chunks().take(pa.array(place_listed, mask=~listed)) for name in log.column_names
        }
        if previous is not None:
            before = np.arange(len(ids)) < len(old_ids)
            keep_old = pa.array(before & ~listed)
            for name in columns:
                old = previous[RAW + name].combine_chunks().take(pa.array(np.arange(len(ids)), mask=~before))
                columns[name] = pc.if_else(keep_old, old, columns[name])
            old_totals = np.where(before, np.resize(previous["events"].to_numpy(), len(ids)), 0)
            counted, totals = counted + old_totals, totals + old_totals
            listed = listed | (before & np.resize(previous["listed"].to_numpy(), len(ids)))
        raw: pa.Array = pa.array(ids)
        if id_column.type == "string":
            found = [] if names is None else [names]
            if len(listed_ids):
                found.append(ItemNames.of(id_column, log[id_column.column]))
            if previous is not None:
                order = np.argsort(old_ids)
                found.append(ItemNames(old_ids[order], previous["raw_id"].combine_chunks().take(pa.array(order))))
            every = ItemNames.merge(found)
            raw = every.texts.take(pa.array(_places(every.ids, ids)[0]))
        columns[id_column.column] = raw
        duplicated = len(listed_ids) - len(np.unique(listed_ids))
        return cls(ids, raw, columns, listed, counted, totals, duplicated)

    def fit(self, feature: Feature, known: Sequence[str] | None = None) -> list[str] | list[float]:
        """The vocabulary or the boundaries of an inherent feature.

        Items weigh by their events of the training window, or one each with `source: items`; so does each value of an
        item that has several.

        Args:
            feature: the feature.
            known: the previous run's vocabulary or boundaries; boundaries stay, a vocabulary only grows.
        """
        encoding = feature.encoding_or_fail
        values = self.columns[feature.column]
        weights = self.listed.astype(np.int64) if encoding.source == "items" and self.listed.any() else self.counted
        if feature.multi_valued is not None:
            values, weights = values.flatten(), weights[owners(values)]
        if encoding.kind == "vocabulary":
            return grown(known or [], ValueCounts.of(values, weights).at_least(encoding.min_count))
        if known is not None:
            return list(known)
        numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
        counted = np.isfinite(numbers) & (weights > 0)
        return quantiles(Histogram.of(sortable(numbers[counted]), weights[counted]), int(encoding.quantiles or 0))

    def table(self, schema: FeatureSchema, encoder: FeatureEncoder) -> tuple[pa.Table, dict[str, Cut]]:
        """The content of `items/items.parquet`, and what is cut from multi-valued features.

        Returns:
            `row`, `id`, `raw_id` where ids are text, one column per feature, of lists where an item has several values;
            multi-valued feature -> `Cut`.
        """
        rows = np.arange(FIRST_KNOWN, FIRST_KNOWN + len(self.ids), dtype=np.int32)
        columns: dict[str, Any] = {"row": rows, **self._ids()}
        cut = {}
        for feature in schema.inherent:
            values = self.columns[feature.column]
            if feature.multi_valued is None:
                columns[feature.name] = encoder.encode(feature.name, values)
                continue
            offsets, indices = encoder.encode_many(feature.name, values)
            kept = places_in_lists(offsets)[1] < feature.max_values
            sizes = np.diff(offsets)
            ends = np.cumsum(np.minimum(sizes, feature.max_values), dtype=np.int32)
            columns[feature.name] = pa.ListArray.from_arrays(np.r_[np.int32(0), ends], indices[kept])
            cut[feature.name] = Cut(int((sizes > feature.max_values).sum()), int((~kept).sum()))
        return pa.table(columns), cut

    def state(self) -> pa.Table:
        """The content of `state/items.parquet`, for the next run: ids, `events`, `listed`, `raw/<column>`."""
        raw = {RAW + name: values for name, values in self.columns.items()}
        return pa.table({**self._ids(), "events": self.totals, "listed": self.listed, **raw})

    def _ids(self) -> dict[str, Any]:
        text = pa.types.is_string(self.raw_ids.type)
        return {"id": self.ids, **({"raw_id": self.raw_ids} if text else {})}


class ItemRows:
    """Item ids to rows of the catalogue.

    Args:
        ids: the catalogue's ids in the order of their rows.
    """

    def __init__(self, ids: Ints) -> None:
        self._order = np.argsort(ids, kind="stable")
        self._ids = ids[self._order]

    def of(self, ids: Ints) -> npt.NDArray[np.int32]:
        """The row of each id; 1 for an item that the catalogue lacks."""
        if not len(self._ids):
            return np.full(len(ids), UNKNOWN, np.int32)
        place = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        return np.where(self._ids[place] == ids, self._order[place] + FIRST_KNOWN, UNKNOWN).astype(np.int32)


def grown(known: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """A vocabulary that keeps its rows and gets the new values after them."""
    before = set(known)
    return [*known, *(value for value in wanted if value not in before)]


_NONE = np.zeros(0, np.int64)


def _order_of_values(table: pa.Table) -> pa.Array:
    """The order of rows by their values, the first column first; lists by their values one after another."""
    keys = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_list(column.type):
            column = pc.binary_join(column.cast(pa.list_(pa.string())), "\0")
        keys[name] = column
    return pc.sort_indices(pa.table(keys), sort_keys=[(name, "ascending") for name in keys])


def _places(where: Ints, wanted: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """For each wanted id its first place in `where` (any order), and whether it is there."""
    if not len(where):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    rising = bool(np.all(where[1:] >= where[:-1]))
    order = np.arange(len(where)) if rising else np.argsort(where, kind="stable")
    ordered = where if rising else where[order]
    place = np.minimum(np.searchsorted(ordered, wanted), len(where) - 1)
    return order[place], ordered[place] == wanted
