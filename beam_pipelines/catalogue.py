"""The catalogue: every item of the items log and of the events, and its inherent features as indices.

Rows follow the order of the ids (int64): row 0 is padding, row 1 is unknown, the items begin at row 2.
"""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_pipelines.count_values import Histogram, Ints, ValueCounts, quantiles, sortable
from twin_tf.encoders import FeatureEncoder, encode_ids
from twin_tf.schema import FIRST_KNOWN, UNKNOWN, Feature, FeatureSchema, IdColumn


@dataclasses.dataclass(frozen=True)
class RawCatalogue:
    """Items before encoding.

    Attributes:
        ids: int64, rising.
        raw_ids: the ids as the logs write them, ints or text.
        columns: raw column -> values, null for an item that the items log lacks.
        listed: which items the items log has.
        seen: how many kept events of the training window each item has.
    """

    ids: Ints
    raw_ids: pa.Array
    columns: dict[str, pa.Array]
    listed: npt.NDArray[np.bool_]
    seen: Ints

    @classmethod
    def join(cls, schema: FeatureSchema, log: pa.Table | None, seen: ValueCounts) -> "RawCatalogue":
        """The union of the items log and of the items that events name.

        Args:
            schema: the schema.
            log: the typed items log, or None without one. Of several rows with one id the first in the order of the
                columns' values counts.
            seen: item (as the events write it) -> events in the training window, 0 included.
        """
        id_column = schema.items if schema.items is not None else schema.events.item
        seen_ids = encode_ids(schema.events.item, seen.values)
        if log is None:
            listed_ids = np.zeros(0, np.int64)
        else:
            log = log.sort_by([(name, "ascending") for name in log.column_names])
            listed_ids = encode_ids(id_column, log[id_column.column].combine_chunks())
        ids = np.union1d(listed_ids, seen_ids)
        place_listed, listed = _places(listed_ids, ids)
        place_seen, has_events = _places(seen_ids, ids)
        raw = seen.values.take(pa.array(place_seen, mask=~has_events))
        columns: dict[str, pa.Array] = {}
        if log is not None:
            take = pa.array(place_listed, mask=~listed)
            columns = {name: log[name].combine_chunks().take(take) for name in log.column_names}
            raw = columns[id_column.column].fill_null(raw) if has_events.any() else columns[id_column.column]
        columns[id_column.column] = raw
        return cls(ids, raw, columns, listed, np.where(has_events, seen.counts[place_seen] if len(seen_ids) else 0, 0))

    def fit(self, feature: Feature) -> list[str] | list[float]:
        """The vocabulary or the boundaries of an inherent feature.

        Items weigh by their events of the training window, or one each with `source: items`.
        """
        encoding = feature.encoding_or_fail
        values = self.columns[feature.column]
        weights = self.listed.astype(np.int64) if encoding.source == "items" and self.listed.any() else self.seen
        if encoding.kind == "vocabulary":
            return ValueCounts.of(values, weights).at_least(encoding.min_count)
        numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
        counted = np.isfinite(numbers) & (weights > 0)
        return quantiles(Histogram.of(sortable(numbers[counted]), weights[counted]), int(encoding.quantiles or 0))

    def table(self, schema: FeatureSchema, encoder: FeatureEncoder) -> pa.Table:
        """The content of `items/items.parquet`: `row`, `id`, `raw_id` where ids are text, one column per feature."""
        rows = np.arange(FIRST_KNOWN, FIRST_KNOWN + len(self.ids), dtype=np.int32)
        columns: dict[str, pa.Array | npt.NDArray[np.int32] | Ints] = {"row": rows, "id": self.ids}
        if pa.types.is_string(self.raw_ids.type):
            columns["raw_id"] = self.raw_ids
        for feature in schema.inherent:
            columns[feature.name] = encoder.encode(feature.name, self.columns[feature.column])
        return pa.table(columns)


def item_rows(ids: Ints, column: IdColumn, values: pa.Array) -> npt.NDArray[np.int32]:
    """Rows of raw item ids; 1 for an item that the catalogue lacks.

    Args:
        ids: the catalogue's ids, rising.
        column: the id column of the values.
        values: raw ids without nulls.
    """
    wanted = encode_ids(column, values)
    place, found = _places(ids, wanted)
    return np.where(found, place + FIRST_KNOWN, UNKNOWN).astype(np.int32)


def user_table(schema: FeatureSchema, encoder: FeatureEncoder, log: pa.Table) -> pa.Table:
    """A part of the users log as `id` and one index per user feature."""
    assert schema.users is not None
    columns: dict[str, npt.NDArray[Any]] = {"id": encode_ids(schema.users, log[schema.users.column].combine_chunks())}
    for feature in schema.user:
        columns[feature.name] = encoder.encode(feature.name, log[feature.column].combine_chunks())
    return pa.table(columns)


def fit_user_feature(feature: Feature, log: pa.Table | None) -> list[str] | list[float]:
    """The vocabulary or the boundaries of a user feature, over the rows of the users log."""
    encoding = feature.encoding_or_fail
    if log is None:
        return []
    if encoding.kind == "vocabulary":
        return ValueCounts.of(log[feature.column]).at_least(encoding.min_count)
    numbers = log[feature.column].to_numpy().astype(np.float64)
    return quantiles(Histogram.of(sortable(numbers)), int(encoding.quantiles or 0))


def one_row_a_user(table: pa.Table) -> pa.Table:
    """Sorts by id; of several rows of one user the one with the smallest indices stays."""
    if not table.num_rows:
        return table
    table = table.sort_by([(name, "ascending") for name in table.column_names]).combine_chunks()
    ids = table["id"].to_numpy()
    return table.filter(pa.array(np.r_[True, ids[1:] != ids[:-1]]))


def _places(where: Ints, wanted: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """For each wanted id its first place in `where` (any order), and whether it is there."""
    if not len(where):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    rising = bool(np.all(where[1:] >= where[:-1]))
    order = np.arange(len(where)) if rising else np.argsort(where, kind="stable")
    ordered = where if rising else where[order]
    place = np.minimum(np.searchsorted(ordered, wanted), len(where) - 1)
    return order[place], ordered[place] == wanted
