"""Raw rows to typed events: of a row that holds lists (`events.explode`, `events.collected_history`) many.

Lists are taken apart before anything is typed, so an event out of a list is held to the same rules as a row of its own.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines.raw_logs.list_columns import columns_of_behaviours, list_columns
from beam_pipelines.raw_logs.raw_columns import BACK, COLLECTED, LENGTH, LogColumns, collected_columns, conform
from beam_pipelines.raw_logs.typed_values import Mask, one_array, to_type
from twin_tf.features.encoders import places_in_lists
from twin_tf.features.event_lists import CollectedHistory, Explode

Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class TypedRows:
    """What became of some raw rows.

    Attributes:
        table: the sound events.
        rows: the raw row of each, `(events,)`.
        dead: (raw row, reason, what the event held; None: the row as it is).
        filled: column of lists -> raw rows with a value.
    """

    table: pa.Table
    rows: Ints
    dead: list[tuple[int, str, str | None]]
    filled: Mapping[str, int] = dataclasses.field(default_factory=dict)


def typed_rows(columns: LogColumns, raw: pa.Table) -> TypedRows:
    """The events of some rows, each with the wanted columns in their types.

    Args:
        columns: what is wanted.
        raw: a part of the log, any types.
    """
    every = np.arange(raw.num_rows)
    shown, collected = columns.explode, columns.collected_history
    if shown is None and collected is None:
        return _typed(columns, _Events(raw, every), False)
    broken: dict[int, str] = {}  # rows that are dead as a whole
    has_history = np.zeros(raw.num_rows, bool)
    found = []
    if collected is not None:
        history = _lists(raw, collected.items, collected.separator, broken)
        has_history = history.there
        found.append((columns_of_behaviours(columns), _behaviours(columns, collected, raw, history, broken)))
    if shown is not None:
        items = _lists(raw, shown.items, shown.separator, broken)
        nothing = f"no {shown.items}" + ("" if collected is None else f" and no {collected.items}")
        for row in np.flatnonzero(~items.there & ~has_history).tolist():
            broken.setdefault(row, nothing)
        found.insert(0, (columns, _impressions(columns, shown, raw, items, broken)))
    else:  # a row without an item is there for its history alone
        named = columns.item in raw.column_names
        some = pc.is_valid(raw[columns.item]).to_numpy() if named else np.zeros(raw.num_rows, bool)
        rows = np.flatnonzero(some | ~has_history)
        found.insert(0, (columns, _Events(raw.take(pa.array(rows)), rows)))
    sound = np.ones(raw.num_rows, bool)
    sound[list(broken)] = False
    parts = [_typed(kind, events.of_rows(sound), True) for kind, events in found]
    dead = [(row, why, None) for row, why in broken.items()]
    there = [name for name in list_columns(columns) if name in raw.column_names]
    return TypedRows(
        pa.concat_tables([part.table for part in parts]),
        np.concatenate([part.rows for part in parts]),
        [*dead, *(letter for part in parts for letter in part.dead)],
        {name: len(raw) - raw[name].null_count for name in there},
    )


def row_text(table: pa.Table, row: int) -> str:
    """A row as a dead letter's payload."""
    return json.dumps(table.slice(row, 1).to_pylist()[0], default=str, ensure_ascii=False)


@dataclasses.dataclass(frozen=True)
class _Events:
    """Events that are not typed yet.

    Attributes:
        table: the columns, of any types.
        rows: the raw row of each, `(events,)`.
        places: `BACK` and `LENGTH` of behaviours out of collected histories; None of other events.
    """

    table: pa.Table
    rows: Ints
    places: tuple[Ints, Ints] | None = None

    def of_rows(self, wanted: Mask) -> "_Events":
        """The events of some raw rows, `(rows,)`."""
        keep = wanted[self.rows]
        places = None if self.places is None else (self.places[0][keep], self.places[1][keep])
        return _Events(self.table.filter(pa.array(keep)), self.rows[keep], places)


def _typed(columns: LogColumns, events: _Events, out_of_lists: bool) -> TypedRows:
    """The sound ones in their types; what is dead shows itself, or the raw row that it is."""
    typed, broken = conform(columns, events.table)
    dead = [
        (int(events.rows[row]), why, row_text(events.table, row) if out_of_lists else None)
        for row, why in broken.items()
    ]
    if collected_columns(columns):
        count = len(events.rows)
        back, length = events.places or (np.zeros(count, np.int64), np.zeros(count, np.int64))
        typed = typed.append_column(COLLECTED, pa.array(np.full(count, events.places is not None)))
        typed = typed.append_column(BACK, pa.array(back.astype(np.int32)))
        typed = typed.append_column(LENGTH, pa.array(length.astype(np.int32)))
    keep = np.ones(len(events.rows), bool)
    keep[list(broken)] = False
    return TypedRows(typed if keep.all() else typed.filter(pa.array(keep)), events.rows[keep], dead)


@dataclasses.dataclass(frozen=True)
class _Lists:
    """The lists of a column: all values one behind the other.

    Attributes:
        values: `(values,)`.
        ends: where the list of each row begins in them, and where the last ends, `(rows + 1,)`.
        there: rows that hold a list, `(rows,)`.
    """

    values: pa.Array
    ends: Ints
    there: Mask

    @property
    def sizes(self) -> Ints:
        return np.diff(self.ends)


def _lists(raw: pa.Table, column: str, separator: str, broken: dict[int, str]) -> _Lists:
    if column not in raw.column_names:
        return _Lists(pa.nulls(0), np.zeros(raw.num_rows + 1, np.int64), np.zeros(raw.num_rows, bool))
    values = one_array(raw[column])
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    if separator:
        texts, bad = to_type(values, "string")
        texts = pc.utf8_trim_whitespace(texts)
        texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
        values = pc.utf8_split_whitespace(texts) if separator == " " else pc.split_pattern(texts, separator)
        what = "text"
    else:
        bad, what = None, "a list"
        if pa.types.is_fixed_size_list(values.type):
            values = values.cast(pa.list_(values.type.value_type))
        if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
            bad = values.is_valid().to_numpy(zero_copy_only=False)
            values = pa.nulls(len(values), pa.list_(pa.null()))
    for row in np.flatnonzero(bad).tolist() if bad is not None else []:
        broken.setdefault(row, f"{column} is not {what}: {str(raw[column][row].as_py())[:80]}")
    sizes = values.value_lengths().fill_null(0).to_numpy().astype(np.int64)
    there = values.is_valid().to_numpy(zero_copy_only=False)
    flat = values.flatten()
    return _Lists(pc.utf8_trim_whitespace(flat) if separator else flat, np.concatenate([[0], np.cumsum(sizes)]), there)


def _aligned(
    raw: pa.Table, items: _Lists, lists: Mapping[str, str], separator: str, broken: dict[int, str]
) -> dict[str, pa.Array]:
    """Event column -> its values in the order of the items; null where a row has no such list."""
    owner, place = places_in_lists(items.ends)
    found = {}
    for name, column in lists.items():
        other = _lists(raw, column, separator, broken)
        for row in np.flatnonzero(items.there & other.there & (items.sizes != other.sizes)).tolist():
            broken.setdefault(row, f"{column} holds {other.sizes[row]} values, {items.sizes[row]} are needed")
        fits = other.there[owner] & (place < other.sizes[owner])
        found[name] = other.values.take(pa.array(np.where(fits, other.ends[owner] + place, 0), mask=~fits))
    return found


def _clicks(shown: Explode, raw: pa.Table, items: _Lists, broken: dict[int, str]) -> Mask | None:
    """Which of the items were clicked, where a column of its own lists them."""
    if shown.clicked is None:
        return None
    clicked = _lists(raw, shown.clicked, shown.separator, broken)
    ids = [_comparable(part.values) for part in (items, clicked)]
    if ids[0].type != ids[1].type:  # numbers in one column, text in the other
        ids = [part.cast(pa.string()) for part in ids]
    codes = one_array(pa.chunked_array(ids)).dictionary_encode()
    number = codes.indices.fill_null(-1).to_numpy().astype(np.int64)
    of_item, of_click = number[: len(ids[0])], number[len(ids[0]) :]
    width = len(codes.dictionary) + 1
    owner = places_in_lists(clicked.ends)[0]
    item_key = places_in_lists(items.ends)[0] * width + of_item + 1
    click_key = owner * width + of_click + 1
    strange = ~np.isin(click_key, item_key) & items.there[owner]
    for value in np.flatnonzero(strange).tolist():
        broken.setdefault(
            int(owner[value]), f"{shown.clicked} holds {clicked.values[value].as_py()}, {shown.items} does not"
        )
    result: Mask = np.isin(item_key, click_key)
    return result


def _comparable(values: pa.Array) -> pa.Array:
    if pa.types.is_integer(values.type) or pa.types.is_null(values.type):
        return values.cast(pa.int64())
    return values.cast(pa.string()) if pa.types.is_large_string(values.type) else values


def _impressions(columns: LogColumns, shown: Explode, raw: pa.Table, items: _Lists, broken: dict[int, str]) -> _Events:
    """An event for each item shown."""
    rows, place = places_in_lists(items.ends)
    beside = {**shown.columns, **({} if shown.labels is None else {columns.label_column: shown.labels})}
    filled: dict[str, Any] = {columns.item: items.values, **_aligned(raw, items, beside, shown.separator, broken)}
    if shown.label_separator:
        filled[columns.item], filled[columns.label_column] = _halves(items.values, shown.label_separator)
    clicks = _clicks(shown, raw, items, broken)
    if clicks is not None:
        filled[columns.label_column] = pa.array(clicks.astype(np.int64))
    if shown.position is not None:
        filled[shown.position] = pa.array(place + 1)
    lists = list_columns(columns)
    others = [name for name in raw.column_names if name not in filled and name not in lists]
    table = raw.select(others).take(pa.array(rows))
    for name, values in filled.items():
        table = table.append_column(name, values)
    return _Events(table, rows)


def _halves(values: pa.Array, separator: str) -> tuple[pa.Array, pa.Array]:
    """What stands before and behind the last separator of each value; null behind where there is none."""
    texts = to_type(values, "string")[0]
    parts = pc.split_pattern(texts, separator, max_splits=1, reverse=True)
    sizes = parts.value_lengths().fill_null(0).to_numpy()
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)[: len(sizes)]
    flat = parts.flatten()
    first = flat.take(pa.array(np.where(sizes > 0, starts, 0), mask=sizes == 0))
    return first, flat.take(pa.array(np.where(sizes > 1, starts + 1, 0), mask=sizes < 2))


def _behaviours(
    columns: LogColumns, collected: CollectedHistory, raw: pa.Table, history: _Lists, broken: dict[int, str]
) -> _Events:
    """A behaviour for each item of a history."""
    rows, place = places_in_lists(history.ends)
    timed = collected.times is not None
    beside = {**collected.columns, **({} if collected.times is None else {columns.time: collected.times})}
    names = [name for name in (columns.user, *(() if timed else (columns.time,))) if name in raw.column_names]
    table = raw.select(names).take(pa.array(rows)).append_column(columns.item, history.values)
    for name, values in _aligned(raw, history, beside, collected.separator, broken).items():
        table = table.append_column(name, values)
    length = history.sizes[rows] * (not timed)
    return _Events(table, rows, (length - place * (not timed), length))
