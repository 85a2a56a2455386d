"""What to write into the schema when a column is not what the schema says: the very line."""

import re
from collections.abc import Iterable

from beam_pipelines.raw_logs.raw_columns import LogName
from twin_tf.core.dataclass_yaml import to_plain
from twin_tf.core.yaml_text import dump_line
from twin_tf.features.schema import Feature, FeatureSchema, IdColumn

_NO_TEXT = re.compile(r"(?P<column>.+) is not text: (?P<value>-?[0-9]+(?:\.0)?|True|False|true|false)", re.DOTALL)
_NO_NUMBER = re.compile(r"(?P<column>.+) is not a (?:whole )?number: (?P<value>.+)", re.DOTALL)
_DATE = re.compile(r"'?[0-9]{4}-[0-9]{2}-[0-9]{2}")
_BOOLEANS = ("true", "false")


def advice(schema: FeatureSchema, log: LogName, reasons: Iterable[str]) -> str:
    """How to mend the schema, where malformed rows are told by the type of a column; else empty.

    Args:
        schema: the schema.
        log: whose rows they are.
        reasons: of the first malformed rows.
    """
    for reason in reasons:
        if found := _NO_TEXT.fullmatch(reason):
            boolean = found["value"].lower() in _BOOLEANS
            line = _line(schema, log, found["column"], "bool" if boolean else "int")
            if line:
                what = "booleans" if boolean else "whole numbers"
                return f"; if column {found['column']!r} holds {what}, write into the schema: {line}"
        elif found := _NO_NUMBER.fullmatch(reason):
            if found["value"].lower() in _BOOLEANS and (line := _line(schema, log, found["column"], "bool")):
                return f"; if column {found['column']!r} holds booleans, write into the schema: {line}"
            told = _line_of_text(schema, log, found["column"], found["value"])
            if told is not None:
                return f"; if column {found['column']!r} holds {told[0]}, write into the schema: {told[1]}"
    return ""


def _line(schema: FeatureSchema, log: LogName, column: str, type_: str) -> str:
    """The feature or id that reads the column as text, with its type."""
    for name, id_column in _ids(schema, log).items():
        if id_column.column == column:
            return f"{name}: {dump_line({**to_plain(id_column), 'type': type_})}" if type_ == "int" else ""
    for feature in _features(schema, log):
        if feature.column == column:
            plain = to_plain(feature)
            shown = {key: plain[key] for key in ("name", "role", "column") if key in plain}
            if shown.get("column") == feature.name:
                del shown["column"]
            encoding = {} if type_ == "bool" else {"encoding": plain["encoding"]}  # a boolean needs none
            return f"- {dump_line({**shown, 'type': type_, **encoding})}"
    return ""


def _line_of_text(schema: FeatureSchema, log: LogName, column: str, value: str) -> tuple[str, str] | None:
    """What the column holds, and the line that reads it, where a number was expected."""
    if log == "events" and column == schema.events.time.column:
        format_ = "iso8601" if _DATE.match(value) else "a format of strptime"
        plain = {**to_plain(schema.events.time), "format": format_}
        return "times as text", f"time: {dump_line(plain)}"
    if log == "events" and column == schema.events.label.column:
        text = value.strip("'")
        plain = {**to_plain(schema.events.label), "values": [text, "..."], "positive": [text]}
        return "labels as text", f"label: {dump_line(plain)}"
    for name, id_column in _ids(schema, log).items():
        if id_column.column == column:
            return "ids that are text", f"{name}: {dump_line({**to_plain(id_column), 'type': 'string'})}"
    return None


def _ids(schema: FeatureSchema, log: LogName) -> dict[str, IdColumn]:
    events = schema.events
    own: dict[str, IdColumn | None] = {"user": events.user, "item": events.item, "request": events.request}
    if log != "events":
        own = {"items": schema.items} if log == "items" else {"users": schema.users}
    return {name: column for name, column in own.items() if column is not None}


def _features(schema: FeatureSchema, log: LogName) -> tuple[Feature, ...]:
    if log == "events":
        return (*schema.stored_cross, *schema.stored_context)
    return schema.inherent if log == "items" else schema.user
