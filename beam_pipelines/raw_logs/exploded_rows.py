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
from beam_pipelines.raw_logs.raw_columns import (
    BACK,
    COLLECTED,
    LENGTH,
    LogColumns,
    Mask,
    collected_columns,
    conform,
    one_array,
    to_type,
)
from twin_tf.features.encoders import places_in_lists

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
    if columns.explode is None and columns.collected_history is None:
        return _typed(columns, raw, every, None)
    broken: dict[int, str] = {}
    plain, rows = raw, every
    parts: list[TypedRows] = []
    if columns.collected_history is not None:
        history = _lists(raw, columns.collected_history.items, columns.collected_history.separator, broken)
        extra = _aligned(raw, history, _history_lists(columns), columns.collected_history.separator, broken)
    if columns.explode is not None:
        items = _lists(raw, columns.explode.items, columns.explode.separator, broken)
        beside = _aligned(raw, items, _shown_lists(columns), columns.explode.separator, broken)
        clicks = _clicks(columns, raw, items, broken)
        empty = ~items.there
        if columns.collected_history is not None:
            empty &= ~history.there
        none = f"no {columns.explode.items}" + (
            "" if columns.collected_history is None else f" and no {columns.collected_history.items}"
        )
        for row in np.flatnonzero(empty).tolist():
            broken.setdefault(row, none)
        plain, rows = _shown(columns, raw, items, beside, clicks)
    elif columns.collected_history is not None:
        item = columns.item
        there = pc.is_valid(raw[item]).to_numpy() if item in raw.column_names else np.zeros(len(every), bool)
        rows = np.flatnonzero(there | ~history.there)
        plain = raw.take(pa.array(rows))
    sound = np.ones(raw.num_rows, bool)
    sound[list(broken)] = False
    keep = sound[rows]
    parts.append(_typed(columns, plain.filter(pa.array(keep)), rows[keep], "events"))
    if columns.collected_history is not None:
        behaviours, rows, places = _collected(columns, raw, history, extra)
        keep = sound[rows]
        places = [place[keep] for place in places]
        behaviours = behaviours.filter(pa.array(keep))
        parts.append(_typed(columns_of_behaviours(columns), behaviours, rows[keep], "collected", places))
    dead: list[tuple[int, str, str | None]] = [(row, why, None) for row, why in broken.items()]
    dead += [letter for part in parts for letter in part.dead]
    there = [name for name in list_columns(columns) if name in raw.column_names]
    filled = {name: len(raw) - raw[name].null_count for name in there}
    return TypedRows(
        pa.concat_tables([part.table for part in parts]),
        np.concatenate([part.rows for part in parts]),
        dead,
        filled,
    )


def row_text(table: pa.Table, row: int) -> str:
    """A row as a dead letter's payload."""
    return json.dumps(table.slice(row, 1).to_pylist()[0], default=str, ensure_ascii=False)


def _typed(
    columns: LogColumns, raw: pa.Table, rows: Ints, kind: str | None, places: list[Ints] | None = None
) -> TypedRows:
    """Events as the columns want them; `kind` and `places` are of logs with lists alone."""
    typed, broken = conform(columns, raw)
    dead = [(int(rows[row]), why, row_text(raw, row) if kind else None) for row, why in broken.items()]
    if collected_columns(columns):
        back, length = places or [np.zeros(len(rows), np.int64)] * 2
        typed = typed.append_column(COLLECTED, pa.array(np.full(len(rows), kind == "collected")))
        typed = typed.append_column(BACK, pa.array(back.astype(np.int32)))
        typed = typed.append_column(LENGTH, pa.array(length.astype(np.int32)))
    keep = np.ones(len(rows), bool)
    keep[list(broken)] = False
    return TypedRows(typed if keep.all() else typed.filter(pa.array(keep)), rows[keep], dead)


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


def _shown_lists(columns: LogColumns) -> dict[str, str]:
    assert columns.explode is not None
    labels = {} if columns.explode.labels is None else {columns.label: columns.explode.labels}
    return {**columns.explode.columns, **labels}


def _history_lists(columns: LogColumns) -> dict[str, str]:
    assert columns.collected_history is not None
    times = columns.collected_history.times
    return {**columns.collected_history.columns, **({} if times is None else {columns.time: times})}


def _clicks(columns: LogColumns, raw: pa.Table, items: _Lists, broken: dict[int, str]) -> Mask | None:
    """Which of the items were clicked, where a column of its own lists them."""
    assert columns.explode is not None
    column = columns.explode.clicked
    if column is None:
        return None
    clicked = _lists(raw, column, columns.explode.separator, broken)
    ids = [_comparable(part.values) for part in (items, clicked)]
    codes = pa.chunked_array(ids).combine_chunks().dictionary_encode() if ids[0].type == ids[1].type else None
    if codes is None:  # text against numbers: no value is the same
        names = [value for part in ids for value in map(str, part.to_pylist())]
        codes = pa.array(names, pa.string()).dictionary_encode()
    codes = one_array(codes) if isinstance(codes, pa.ChunkedArray) else codes
    number = codes.indices.fill_null(-1).to_numpy().astype(np.int64)
    shown, chosen = number[: len(ids[0])], number[len(ids[0]) :]
    width = len(codes.dictionary) + 1
    shown_key = places_in_lists(items.ends)[0] * width + shown + 1
    owner = places_in_lists(clicked.ends)[0]
    chosen_key = owner * width + chosen + 1
    strange = ~np.isin(chosen_key, shown_key) & items.there[owner]
    for value in np.flatnonzero(strange).tolist():
        broken.setdefault(
            int(owner[value]), f"{column} holds {clicked.values[value].as_py()}, {columns.explode.items} does not"
        )
    result: Mask = np.isin(shown_key, chosen_key)
    return result


def _comparable(values: pa.Array) -> pa.Array:
    if pa.types.is_integer(values.type) or pa.types.is_null(values.type):
        return values.cast(pa.int64())
    return values.cast(pa.string()) if pa.types.is_large_string(values.type) else values


def _shown(
    columns: LogColumns, raw: pa.Table, items: _Lists, beside: dict[str, pa.Array], clicks: Mask | None
) -> tuple[pa.Table, Ints]:
    """An event for each item shown, not typed yet, and the row of each."""
    assert columns.explode is not None
    rows, place = places_in_lists(items.ends)
    filled: dict[str, Any] = {columns.item: items.values, **beside}
    if columns.explode.label_separator:
        filled[columns.item], filled[columns.label] = _halves(items.values, columns.explode.label_separator)
    if clicks is not None:
        filled[columns.label] = pa.array(clicks.astype(np.int64))
    if columns.explode.position is not None:
        filled[columns.explode.position] = pa.array(place + 1)
    lists = list_columns(columns)
    others = [name for name in raw.column_names if name not in filled and name not in lists]
    table = raw.select(others).take(pa.array(rows))
    for name, values in filled.items():
        table = table.append_column(name, values)
    return table, rows


def _halves(values: pa.Array, separator: str) -> tuple[pa.Array, pa.Array]:
    """What stands before and behind the last separator of each value; null behind where there is none."""
    texts = to_type(values, "string")[0]
    parts = pc.split_pattern(texts, separator, max_splits=1, reverse=True)
    sizes = parts.value_lengths().fill_null(0).to_numpy()
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)[: len(sizes)]
    flat = parts.flatten()
    first = flat.take(pa.array(np.where(sizes > 0, starts, 0), mask=sizes == 0))
    return first, flat.take(pa.array(np.where(sizes > 1, starts + 1, 0), mask=sizes < 2))


def _collected(
    columns: LogColumns, raw: pa.Table, history: _Lists, extra: dict[str, pa.Array]
) -> tuple[pa.Table, Ints, list[Ints]]:
    """A behaviour for each item of a history, not typed yet; its row, and `BACK` and `LENGTH` of each."""
    assert columns.collected_history is not None
    rows, place = places_in_lists(history.ends)
    names = [columns.user] if columns.collected_history.times is not None else [columns.user, columns.time]
    table = raw.select([name for name in names if name in raw.column_names]).take(pa.array(rows))
    table = table.append_column(columns.item, history.values)
    for name, values in extra.items():
        table = table.append_column(name, values)
    length = history.sizes[rows]
    untimed = np.int64(columns.collected_history.times is None)
    return table, rows, [(length - place) * untimed, length * untimed]
