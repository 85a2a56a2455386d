"""Columns of raw logs: which a log must have, of which type, and which rows break a rule. All vectorised.

A row breaks a rule if an id, the time or the label is missing, if a value has the wrong type, if the time is negative,
too early or in the future, if the label is none of its values, if a target's weight is missing or no number from 0 on,
or if its split is none of `train`, `valid`, `test`. Every other empty value is sound: it becomes "unknown" later.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines.raw_logs import time_values
from beam_pipelines.raw_logs.label_values import not_allowed
from beam_pipelines.raw_logs.plausible_times import in_the_future, too_early
from beam_pipelines.raw_logs.typed_values import (
    ARROW,
    FLOAT,
    LISTED,
    SPLIT,
    WANTED,
    Mask,
    either,
    one_array,
    to_lists,
    to_type,
    true,
)
from twin_tf.features.event_lists import CollectedHistory, Explode
from twin_tf.features.event_times import LARGEST, TimeColumn, Unit
from twin_tf.features.events import LabelColumn
from twin_tf.features.log_files import CsvFiles
from twin_tf.features.schema import FeatureSchema, ValueType
from twin_tf.records.format import TARGET_SPLITS

LogName = Literal["events", "items", "users"]

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
        csv: how the log's CSV files are written.
        user: the user column of events.
        item: the item column of events.
        explode: the lists of shown items in the log's rows, if any.
        collected_history: the lists of behaviours in the log's rows, if any.
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
    csv: CsvFiles = CsvFiles()
    user: str = ""
    item: str = ""
    explode: Explode | None = None
    collected_history: CollectedHistory | None = None
    format: str | None = None
    timezone: str | None = None
    not_before: int | None = None

    def arrow(self, column: str) -> pa.DataType:
        """The type of a column once it is read; of a time that is text, before it becomes a whole number."""
        type_ = ARROW[self.types[column]]
        return pa.list_(type_) if column in self.separators else type_

    @property
    def label_column(self) -> str:
        """The label's column; empty without one."""
        return "" if self.label is None else self.label.column

    @property
    def time_column(self) -> TimeColumn:
        """The time column as the schema has it, but for what the local clock is."""
        return TimeColumn(self.time, self.unit, format=self.format, timezone=self.timezone)


COLLECTED, BACK, LENGTH = "/collected", "/back", "/length"
"""Columns of typed events where rows hold collected histories: whether an event is out of one, and, where these have no
times, which it is in its list, counted back from 1, and how long that list is; no column of a log is called so."""


def collected_columns(columns: LogColumns) -> list[tuple[str, pa.DataType]]:
    """The columns that the events of a log with collected histories have more than others."""
    if columns.collected_history is None:
        return []
    return [(COLLECTED, pa.bool_()), (BACK, pa.int32()), (LENGTH, pa.int32())]


def empty_table(columns: LogColumns) -> pa.Table:
    """The wanted columns without rows."""
    fields = [(name, pa.int64() if name == columns.time else columns.arrow(name)) for name in columns.types]
    return pa.schema([*fields, *collected_columns(columns)]).empty_table()


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
        return LogColumns(name, types, tuple(types)[:1], separators=schema.multi_valued_columns(), csv=schema.csv)
    if name == "users":
        types = schema.user_columns()
        return LogColumns(name, types, tuple(types)[:1], csv=schema.csv)
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
        csv=schema.csv,
        user=events.user.column,
        item=events.item.column,
        explode=events.explode,
        collected_history=events.collected_history,
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
            values = one_array(raw[column])
            if column == columns.time:
                times, no_time = time_values.to_times(values, columns.time_column)
                typed[column], no_number = to_type(times, "int")
                bad, wanted = either(no_time, no_number), time_values.wanted(columns.time_column)
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
        mark(true(pc.less(times, 0)), lambda row: f"{columns.time} is negative: {times[row]}")
        if latest is not None:
            mark(true(pc.greater(times, latest)), lambda row: in_the_future(time, times[row].as_py(), latest))
        if earliest is not None:
            mark(true(pc.less(times, earliest)), lambda row: too_early(time, times[row].as_py()))
    if columns.label:
        label, labels = columns.label, typed[columns.label.column]
        named = ", ".join(map(str, label.values))
        mark(not_allowed(label, labels), lambda row: f"{label.column} {labels[row]} is none of {named}")
    table = pa.table(typed)
    if columns.weight:
        weights = typed[columns.weight]
        needed = matches(table, columns.targets) & weights.is_null().to_numpy(zero_copy_only=False)
        mark(needed, f"no {columns.weight}, which every target needs")
        bad = true(pc.or_(pc.less(weights, 0.0), pc.greater(weights, LARGEST_WEIGHT)))
        mark(bad, lambda row: f"{columns.weight} is not a finite number of at least 0: {weights[row]}")
    if columns.split:
        names = typed[columns.split]
        bad = matches(table, columns.targets) & ~true(pc.is_in(names, pa.array(TARGET_SPLITS)))
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


def _shown(value: Any) -> str:
    found = value.as_py()
    # A number written as text looks like a number: CSV and JSON, read at once or line by line, must say the same.
    text = found if isinstance(found, str) and re.match(FLOAT, found) else repr(found)
    return text if len(text) <= 80 else f"{text[:77]}..."
