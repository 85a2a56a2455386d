"""What the files of a log hold where its rows list what events have as single values."""

import dataclasses

from beam_pipelines.raw_logs.raw_columns import LogColumns
from twin_tf.features.event_lists import CollectedHistory, Explode
from twin_tf.features.schema import ValueType


def list_columns(columns: LogColumns) -> dict[str, ValueType]:
    """Column of the files that holds lists (or texts of several values) -> type of a value."""
    return {
        name: type_
        for section in (columns.explode, columns.collected_history)
        for name, type_ in _of_section(columns, section).items()
    }


def columns_of_file(columns: LogColumns) -> LogColumns:
    """What the files must hold for the events to have what is wanted."""
    if columns.explode is None and columns.collected_history is None:
        return columns
    types, separators = dict(columns.types), dict(columns.separators)
    if columns.explode is not None:
        made = {columns.item, columns.explode.position, *columns.explode.columns}
        made |= {columns.label_column} if columns.explode.labels_items else set()
        types = {name: type_ for name, type_ in types.items() if name not in made}
    for section in (columns.explode, columns.collected_history):
        for name, type_ in _of_section(columns, section).items():
            if section is not None and section.separator:
                types[name] = "string"
            else:
                types[name], separators[name] = type_, ""
    return dataclasses.replace(columns, types=types, separators=separators, explode=None, collected_history=None)


def columns_of_behaviours(columns: LogColumns) -> LogColumns:
    """What a behaviour out of a collected history must hold: it is no target, and has no label of its own."""
    timed = columns.collected_history is not None and columns.collected_history.times is not None
    required = (columns.user, columns.item, *((columns.time,) if timed else ()))
    return dataclasses.replace(columns, required=required, label=None, weight="", split="")


def _of_section(columns: LogColumns, section: Explode | CollectedHistory | None) -> dict[str, ValueType]:
    if section is None:
        return {}
    item = columns.types[columns.item]
    found = {section.items: item, **{column: columns.types[name] for name, column in section.columns.items()}}
    if isinstance(section, CollectedHistory):
        return found if section.times is None else {**found, section.times: columns.types[columns.time]}
    if section.label_separator:
        found[section.items] = "string"
    if section.clicked is not None:
        found[section.clicked] = item
    if section.labels is not None:
        found[section.labels] = columns.types[columns.label_column]
    return found
