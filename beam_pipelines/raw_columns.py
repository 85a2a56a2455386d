"""Columns of raw logs: which a log must have, of which type, and which rows break a rule. All vectorised.

A row breaks a rule if an id, the time or the label is missing, if a value has the wrong type, if the time is negative
or if the label is none of its values. Every other empty value is sound: it becomes "unknown" later.
"""

import dataclasses
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
    """

    name: LogName
    types: Mapping[str, ValueType]
    required: tuple[str, ...]
    time: str = ""
    unit: Literal["s", "ms"] = "s"
    label: str = ""
    label_values: tuple[int, ...] = ()


def log_columns(schema: FeatureSchema, name: LogName, latest: int | None = None) -> LogColumns:
    """The columns of one of the schema's logs."""
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
    if columns.label:
        labels = typed[columns.label]
        allowed = pc.is_in(labels, pa.array(columns.label_values, pa.int64()))
        named = ", ".join(map(str, columns.label_values))
        mark(
            _true(pc.and_(labels.is_valid(), pc.invert(allowed))),
            lambda row: f"{columns.label} {labels[row]} is none of {named}",
        )
    return pa.table(typed), broken


def to_type(values: pa.Array, type_: ValueType) -> tuple[pa.Array, Mask | None]:
    """Converts where nothing is lost: whole floats to ints, numbers written as text to numbers; never numbers to text.

    Returns:
        The converted array (null where it was null or empty text or broken), and which values are broken, or None.
    """
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    wanted = ARROW[type_]
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        values, bad_text = _castable(values, pa.string())
        converted, bad = to_type(values, type_)
        return converted, _either(bad_text, bad)
    if is_text:
        values = values.cast(pa.string())
        if type_ != "string":
            values = pc.utf8_trim_whitespace(values)
        empty = pc.equal(values, "")
        if pc.any(empty).as_py():
            values = pc.if_else(empty, pa.scalar(None, pa.string()), values)
        if type_ == "string":
            return values, None
        converted, bad = _castable(values, wanted)
        return (converted, bad) if bad is None or type_ == "float" else _whole_floats(values, converted, bad)
    if values.type == wanted or pa.types.is_null(values.type):
        return values.cast(wanted), None
    numeric = pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type)
    if type_ == "string" or not (numeric or (pa.types.is_boolean(values.type) and type_ == "int")):
        return pa.nulls(len(values), wanted), values.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_floating(values.type) and type_ == "int":  # pandas turns ints with gaps into floats and NaN
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    return _castable(values, wanted)


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


def _whole_floats(values: pa.Array, converted: pa.Array, bad: Mask) -> tuple[pa.Array, Mask | None]:
    """Second chance for ints: text such as `5.0`."""
    floats, _ = _castable(values.filter(pa.array(bad)), pa.float64())
    whole, not_whole = _castable(floats, pa.int64())
    still = whole.is_null().to_numpy(zero_copy_only=False) if not_whole is None else not_whole | _true(whole.is_null())
    still_bad = bad.copy()
    still_bad[bad] = still
    return pc.replace_with_mask(converted, pa.array(bad), whole), still_bad if still_bad.any() else None


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
    text = repr(value.as_py())
    return text if len(text) <= 80 else f"{text[:77]}..."
