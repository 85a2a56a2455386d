"""Columns of raw logs: which a log must have, of which type, and which rows break a rule. All vectorised.

A row breaks a rule if an id, the time or the label is missing, if a value has the wrong type, if the time is negative
or in the future, or if the label is none of its values. Every other empty value is sound: it becomes "unknown" later.

Values have the same meaning in every format. For a whole number: digits, `5.0` (below 2^53, where floats are exact), a
boolean (0 or 1), and the same written as text. For a number: a number, or one written as text. NaN is empty. Text is
text only: a number is not.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from twin_tf.schema import FeatureSchema, ValueType

LogName = Literal["events", "items", "users"]
Mask = npt.NDArray[np.bool_]

ARROW: dict[str, pa.DataType] = {"int": pa.int64(), "float": pa.float64(), "string": pa.string()}
EXACT_FLOATS = 1 << 53
_EARLIEST_SANE = 10**8  # 1973 in seconds: an earlier time is a counter, not a date
_DIGITS = r"^-?[0-9]+$|^-?0[xX][0-9a-fA-F]+$"
_FLOAT = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
WANTED = {"int": "a whole number", "float": "a number", "string": "text"}


@dataclasses.dataclass(frozen=True)
class LogColumns:
    """What a log's rows must hold.

    Attributes:
        name: of the log.
        types: column -> type of everything that is read.
        required: columns that must not be empty.
        time: the time column, if any, and its unit.
        label: the label column, if any.
        label_values: the values it may take.
        latest: the latest sound time, in the unit of the log; None: any.
    """

    name: LogName
    types: Mapping[str, ValueType]
    required: tuple[str, ...]
    time: str = ""
    unit: Literal["s", "ms"] = "s"
    label: str = ""
    label_values: tuple[int, ...] = ()
    latest: int | None = None


def empty_table(columns: LogColumns) -> pa.Table:
    """The wanted columns without rows."""
    return pa.schema([(name, ARROW[type_]) for name, type_ in columns.types.items()]).empty_table()


def log_columns(schema: FeatureSchema, name: LogName, latest: int | None = None) -> LogColumns:
    """The columns of one of the schema's logs.

    Args:
        schema: the feature schema.
        name: which log.
        latest: an event later than that (in the unit of the log) is malformed; None: none is.
    """
    if name == "items":
        types = schema.item_columns()
        return LogColumns(name, types, tuple(types)[:1])
    if name == "users":
        types = schema.user_columns()
        return LogColumns(name, types, tuple(types)[:1])
    events = schema.events
    required = (events.user.column, events.item.column, events.time.column, events.label.column)
    return LogColumns(
        name,
        schema.event_columns(),
        required,
        events.time.column,
        events.time.unit,
        events.label.column,
        events.label.values,
        latest,
    )


def conform(columns: LogColumns, raw: pa.Table) -> tuple[pa.Table, dict[int, str]]:
    """Gives every column its type and finds the rows that break a rule.

    Args:
        columns: what is wanted.
        raw: a chunk of the log, any types; a column that it lacks counts as empty.

    Returns:
        The typed table (all rows, only the wanted columns) and broken row -> its first reason.
    """
    typed: dict[str, pa.Array] = {}
    broken: dict[int, str] = {}

    def mark(bad: Mask, reason: Any) -> None:
        for row in np.flatnonzero(bad).tolist():
            broken.setdefault(row, reason(row) if callable(reason) else reason)

    for column, type_ in columns.types.items():
        if column not in raw.column_names:
            typed[column] = pa.nulls(raw.num_rows, ARROW[type_])
        else:
            values = _one_array(raw[column])
            if column == columns.time and pa.types.is_timestamp(values.type):
                values = values.cast(pa.timestamp(columns.unit), safe=False).cast(pa.int64())
            typed[column], bad = to_type(values, type_)
            if bad is not None:
                mark(bad, lambda row, c=column, t=type_, v=values: f"{c} is not {WANTED[t]}: {_shown(v[row])}")
        if column in columns.required and typed[column].null_count:
            mark(typed[column].is_null().to_numpy(zero_copy_only=False), f"no {column}")
    if columns.time:
        times = typed[columns.time]
        mark(_true(pc.less(times, 0)), lambda row: f"{columns.time} is negative: {times[row]}")
        if columns.latest is not None:
            mark(_true(pc.greater(times, columns.latest)), lambda row: _in_the_future(columns, times[row].as_py()))
    if columns.label:
        labels = typed[columns.label]
        allowed = pc.is_in(labels, pa.array(columns.label_values, pa.int64()))
        named = ", ".join(map(str, columns.label_values))
        mark(
            _true(pc.and_(labels.is_valid(), pc.invert(allowed))),
            lambda row: f"{columns.label} {labels[row]} is none of {named}",
        )
    return pa.table(typed), broken


def _in_the_future(columns: LogColumns, time: int) -> str:
    reason = f"{columns.time} is in the future: {time}"
    if columns.unit == "s" and _EARLIEST_SANE <= time // 1000 <= (columns.latest or 0):
        return f"{reason}; the log seems to be in milliseconds (schema.events.time.unit: ms)"
    return reason


def to_type(values: pa.Array, type_: ValueType) -> tuple[pa.Array, Mask | None]:
    """Converts where nothing is lost, by the rules at the top of this module.

    Returns:
        The converted array (null where it was empty or broken), and which values are broken, or None.
    """
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    wanted, found = ARROW[type_], values.type
    if pa.types.is_binary(found) or pa.types.is_large_binary(found) or pa.types.is_fixed_size_binary(found):
        values, bad_text = _castable(values.cast(pa.binary()), pa.string())
        converted, bad = to_type(values, type_)
        return converted, _either(bad_text, bad)
    if pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found):
        return _from_text(values.cast(pa.string()), type_)
    if pa.types.is_null(found):
        return values.cast(wanted), None
    numeric = pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_decimal(found)
    if type_ == "string" or not (numeric or (pa.types.is_boolean(found) and type_ == "int")):
        return pa.nulls(len(values), wanted), values.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_floating(found):
        floats = _without_nan(values.cast(pa.float64()))
        return _whole(floats) if type_ == "int" else (floats, None)
    return (values, None) if found == wanted else _castable(values, wanted)


def _from_text(values: pa.Array, type_: ValueType) -> tuple[pa.Array, Mask | None]:
    if type_ != "string":
        values = pc.utf8_trim_whitespace(values)
    empty = pc.equal(values, "")
    if pc.any(empty).as_py():
        values = pc.if_else(empty, pa.scalar(None, pa.string()), values)
    if type_ == "string":
        return values, None
    if type_ == "float":
        converted, bad = _castable(values, pa.float64())
        return _without_nan(converted), bad
    try:
        return values.cast(pa.int64()), None
    except pa.ArrowInvalid:
        return _odd_whole_numbers(values)


def _odd_whole_numbers(values: pa.Array) -> tuple[pa.Array, Mask | None]:
    """Text that is not all digits: `5.0`, `true`, `nan` are sound too."""

    def only(mask: Any, kept: Any = values) -> pa.Array:
        return pc.if_else(mask, kept, pa.scalar(None, kept.type))

    lower = pc.utf8_lower(values)
    digits, _ = _castable(only(pc.match_substring_regex(values, _DIGITS)), pa.int64())
    floats, _ = _whole(only(pc.match_substring_regex(values, _FLOAT)).cast(pa.float64()))
    booleans = only(pc.is_in(lower, pa.array(["true", "false"])), pc.equal(lower, "true")).cast(pa.int64())
    converted = pc.coalesce(digits, floats, booleans)
    bad = _true(pc.and_(pc.and_(converted.is_null(), values.is_valid()), pc.not_equal(lower, "nan")))
    return converted, bad if bad.any() else None


def _whole(floats: pa.Array) -> tuple[pa.Array, Mask | None]:
    """Whole floats as ints; from 2^53 on a float stands for several whole numbers, so it is broken."""
    exact = pc.and_(pc.equal(floats, pc.floor(floats)), pc.less(pc.abs(floats), float(EXACT_FLOATS)))
    bad = _true(pc.invert(exact))
    if bad.any():
        floats = pc.if_else(exact, floats, pa.scalar(None, floats.type))
    return floats.cast(pa.int64()), bad if bad.any() else None


def _without_nan(values: pa.Array) -> pa.Array:
    nan = pc.is_nan(values)
    return pc.if_else(nan, pa.scalar(None, values.type), values) if pc.any(nan).as_py() else values


def _castable(values: pa.Array, wanted: pa.DataType) -> tuple[pa.Array, Mask | None]:
    """Casts; where Arrow refuses, halves until each value it refuses stands alone."""
    try:
        return values.cast(wanted), None
    except pa.ArrowInvalid:
        if len(values) == 1:
            return pa.nulls(1, wanted), np.ones(1, bool)
    middle = len(values) // 2
    halves = [_castable(half, wanted) for half in (values[:middle], values[middle:])]
    bad = [np.zeros(len(half), bool) if mask is None else mask for half, mask in halves]
    return pa.concat_arrays([half for half, _ in halves]), np.concatenate(bad)


def _either(first: Mask | None, second: Mask | None) -> Mask | None:
    if first is None or second is None:
        return second if first is None else first
    return first | second


def _one_array(values: pa.ChunkedArray) -> pa.Array:
    combined = values.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _true(mask: pa.Array) -> Mask:
    result: Mask = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
    return result


def _shown(value: Any) -> str:
    found = value.as_py()
    # A number written as text looks like a number: CSV and JSON, read at once or line by line, must say the same.
    text = found if isinstance(found, str) and re.match(_FLOAT, found) else repr(found)
    return text if len(text) <= 80 else f"{text[:77]}..."
