"""Columns of raw logs: which a log must have, of which type, and which rows break a rule. All vectorised.

A row breaks a rule if an id, the time or the label is missing, if a value has the wrong type, if the time is negative,
too early or in the future, if the label is none of its values, if a target's weight is missing or no number from 0 on,
or if its split is none of `train`, `valid`, `test`. Every other empty value is sound: it becomes "unknown" later.

Values have the same meaning in every format. For a whole number: digits, `5.0` (below 2^53, where floats are exact), a
boolean (0 or 1), and the same written as text. For a number: a number, or one written as text. NaN is empty. Text is
text only: a number is not. Of a column with several values a row holds a list, or a text to split; each value follows
these rules, empty and repeated ones are dropped, and a row without any is empty.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines.raw_logs import time_values
from beam_pipelines.raw_logs.label_values import not_allowed
from beam_pipelines.raw_logs.plausible_times import in_the_future, too_early
from twin_tf.features.encoders import owners
from twin_tf.features.event_times import EXACT_FLOATS, LARGEST, TimeColumn, Unit
from twin_tf.features.events import LabelColumn
from twin_tf.features.schema import FeatureSchema, MultiValued, ValueType
from twin_tf.records.format import TARGET_SPLITS

LogName = Literal["events", "items", "users"]
Mask = npt.NDArray[np.bool_]

ARROW: dict[str, pa.DataType] = {"int": pa.int64(), "float": pa.float64(), "string": pa.string()}
_DIGITS = r"^-?[0-9]+$|^-?0[xX][0-9a-fA-F]+$"
_FLOAT = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
WANTED = {"int": "a whole number", "float": "a number", "string": "text"}
LISTED = {"int": "a list of whole numbers", "float": "a list of numbers", "string": "a list of text"}
SPLIT = {"int": "whole numbers in a text", "float": "numbers in a text", "string": "text"}
LARGEST_WEIGHT = float(np.finfo(np.float32).max)  # records hold weights as float32


@dataclasses.dataclass(frozen=True)
class LogColumns:
    """What a log's rows must hold.

    Attributes:
        name: of the log.
        types: column -> type of everything that is read.
        required: columns that must not be empty.
        time: the time column, if any, and its unit.
        label: the label column, if any.
        latest: the latest sound time, in the unit of the log; None: any.
        separators: column of several values -> what stands between them; empty for a column of lists.
        weight: the weight column of targets, if any.
        targets: column -> values; a row that holds one of each is a target.
        split: the column that says which split a target belongs to, if any.
        format: how the time is written, see `event_times.TimeColumn`.
        timezone: of times without a zone, likewise.
        not_before: the earliest sound time, in the unit of the log; None: what `plausible_times` holds for far away.
    """

    name: LogName
    types: Mapping[str, ValueType]
    required: tuple[str, ...]
    time: str = ""
    unit: Unit = "s"
    label: LabelColumn | None = None
    latest: int | None = None
    separators: Mapping[str, str] = dataclasses.field(default_factory=dict)
    weight: str = ""
    targets: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    split: str = ""
    format: str | None = None
    timezone: str | None = None
    not_before: int | None = None

    def arrow(self, column: str) -> pa.DataType:
        """The type of a column once it is read; of a time that is text, before it becomes a whole number."""
        type_ = ARROW[self.types[column]]
        return pa.list_(type_) if column in self.separators else type_

    @property
    def time_column(self) -> TimeColumn:
        """The time column as the schema has it, but for what the local clock is."""
        return TimeColumn(self.time, self.unit, format=self.format, timezone=self.timezone)


def empty_table(columns: LogColumns) -> pa.Table:
    """The wanted columns without rows."""
    types = [(name, pa.int64() if name == columns.time else columns.arrow(name)) for name in columns.types]
    return pa.schema(types).empty_table()


def log_columns(
    schema: FeatureSchema, name: LogName, latest: int | None = None, not_before: int | None = None
) -> LogColumns:
    """The columns of one of the schema's logs.

    Args:
        schema: the feature schema.
        name: which log.
        latest: an event later than that (in the unit of the log) is malformed; None: none is.
        not_before: an event earlier than that is malformed; None: none is.
    """
    if name == "items":
        types = schema.item_columns()
        return LogColumns(name, types, tuple(types)[:1], separators=schema.multi_valued_columns())
    if name == "users":
        types = schema.user_columns()
        return LogColumns(name, types, tuple(types)[:1])
    events = schema.events
    required = [events.user.column, events.item.column, events.time.column]
    required += [events.label.column] if events.label.missing == "malformed" else []
    return LogColumns(
        name,
        schema.event_columns(),
        tuple(required),
        events.time.column,
        events.time.unit,
        events.label,
        latest,
        weight=schema.targets.weight or "",
        targets=schema.targets.where,
        split=schema.split.column or "",
        format=events.time.format,
        timezone=events.time.timezone,
        not_before=not_before,
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
            typed[column] = pa.nulls(raw.num_rows, pa.int64() if column == columns.time else columns.arrow(column))
        else:
            values = _one_array(raw[column])
            if column == columns.time:
                times, no_time = time_values.to_times(values, columns.time_column)
                typed[column], no_number = to_type(times, "int")
                bad, wanted = _either(no_time, no_number), time_values.wanted(columns.time_column)
            elif column in columns.separators:
                typed[column], bad = to_lists(values, type_, columns.separators[column])
                wanted = LISTED[type_] if not columns.separators[column] else SPLIT[type_]
            else:
                typed[column], bad = to_type(values, type_)
                wanted = WANTED[type_]
            if bad is not None:
                mark(bad, lambda row, c=column, w=wanted, v=values: f"{c} is not {_named(w, v[row])}")
        if column in columns.required and typed[column].null_count:
            mark(typed[column].is_null().to_numpy(zero_copy_only=False), f"no {column}")
    if columns.time:
        times = typed[columns.time]
        time, latest, earliest = columns.time_column, columns.latest, columns.not_before
        mark(_true(pc.less(times, 0)), lambda row: f"{columns.time} is negative: {times[row]}")
        if latest is not None:
            mark(_true(pc.greater(times, latest)), lambda row: in_the_future(time, times[row].as_py(), latest))
        if earliest is not None:
            mark(_true(pc.less(times, earliest)), lambda row: too_early(time, times[row].as_py()))
    if columns.label:
        label, labels = columns.label, typed[columns.label.column]
        named = ", ".join(map(str, label.values))
        mark(not_allowed(label, labels), lambda row: f"{label.column} {labels[row]} is none of {named}")
    table = pa.table(typed)
    if columns.weight:
        weights = typed[columns.weight]
        needed = matches(table, columns.targets) & weights.is_null().to_numpy(zero_copy_only=False)
        mark(needed, f"no {columns.weight}, which every target needs")
        bad = _true(pc.or_(pc.less(weights, 0.0), pc.greater(weights, LARGEST_WEIGHT)))
        mark(bad, lambda row: f"{columns.weight} is not a finite number of at least 0: {weights[row]}")
    if columns.split:
        names = typed[columns.split]
        bad = matches(table, columns.targets) & ~_true(pc.is_in(names, pa.array(TARGET_SPLITS)))
        mark(bad, lambda row: f"{columns.split} {_shown(names[row])} is none of {', '.join(TARGET_SPLITS)}")
    return table, broken


def matches(rows: pa.Table, where: Mapping[str, tuple[Any, ...]]) -> Mask:
    """The rows that hold one of the values in every column of a filter."""
    mask = np.ones(rows.num_rows, bool)
    for column, values in where.items():
        kind = rows[column].type
        wanted = [str(v) if pa.types.is_string(kind) else v * 1 for v in values]
        mask &= pc.is_in(rows[column], pa.array(wanted, kind)).to_numpy()
    return mask


def _named(wanted: str, value: Any) -> str:
    """What a value is not, and the value."""
    shown = _shown(value)
    if wanted == WANTED["int"] and re.fullmatch("-?[0-9]+", shown):
        return f"a whole number from {-(1 << 63)} to {LARGEST}: {shown}"
    return f"{wanted}: {shown}"


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


def to_lists(values: pa.Array, type_: ValueType, separator: str) -> tuple[pa.Array, Mask | None]:
    """A column of several values as lists, each value by the rules of `to_type`.

    Args:
        values: lists, or with a separator texts.
        type_: of a value.
        separator: what stands between the values of a text.

    Returns:
        The lists, each value once, null where there is none, and which rows are broken, or None.
    """
    if separator:
        texts, bad_text = to_type(values, "string")
        distinct = texts.dictionary_encode()
        split = MultiValued(separator).split
        lists = pa.array([split(text) for text in distinct.dictionary.to_pylist()], pa.list_(pa.string()))
        found, bad = _typed_lists(lists, type_)
        place = distinct.indices
        bad_parts = None if bad is None else _true(pa.array(bad).take(place))
        return found.take(place), _either(bad_text, bad_parts)
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    if pa.types.is_null(values.type):
        return values.cast(pa.list_(ARROW[type_])), None
    if pa.types.is_fixed_size_list(values.type):
        values = values.cast(pa.list_(values.type.value_type))
    if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type)):
        return pa.nulls(len(values), pa.list_(ARROW[type_])), values.is_valid().to_numpy(zero_copy_only=False)
    return _typed_lists(values, type_)


def _typed_lists(lists: pa.Array, type_: ValueType) -> tuple[pa.Array, Mask | None]:
    owner = owners(lists)
    typed, bad_values = to_type(lists.flatten(), type_)
    codes = typed.dictionary_encode()
    known = codes.is_valid().to_numpy(zero_copy_only=False)
    owner_known, code = owner[known], codes.indices.drop_null().to_numpy().astype(np.int64)
    _, first = np.unique(owner_known * max(1, len(codes.dictionary)) + code, return_index=True)
    first.sort()
    counts = np.bincount(owner_known[first], minlength=len(lists))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    distinct = codes.dictionary.take(pa.array(code[first]))
    found = pa.ListArray.from_arrays(offsets, distinct, mask=pa.array(counts == 0))
    if bad_values is None:
        return found, None
    return found, np.bincount(owner[bad_values], minlength=len(lists)) > 0


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
