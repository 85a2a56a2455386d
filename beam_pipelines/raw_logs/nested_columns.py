"""Columns inside objects, by the path of their names: `a.b` is the field `b` of the object in column `a`.

A column that is called `a.b` in so many letters comes before a field `b` of `a`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def dotted_names(fields: Iterable[pa.Field], before: str = "") -> Iterator[str]:
    """The names of all columns, those inside objects by their paths."""
    for field in fields:
        name = f"{before}{field.name}"
        yield name
        if pa.types.is_struct(field.type):
            yield from dotted_names(field.type, f"{name}.")


def with_nested(table: pa.Table, names: Iterable[str]) -> pa.Table:
    """The table, and behind its columns those of `names` that lie inside its objects; null where there is no object."""
    for name in names:
        if name in table.column_names:
            continue
        found = _inside(table, name)
        if found is not None:
            table = table.append_column(name, found)
    return table


def _inside(table: pa.Table, name: str) -> pa.ChunkedArray | None:
    first, *path = name.split(".")
    if not path or first not in table.column_names:
        return None
    type_ = table[first].type
    for part in path:
        if not pa.types.is_struct(type_) or type_.get_field_index(part) < 0:
            return None
        type_ = type_.field(part).type
    return pc.struct_field(table[first], path)


def nested_types(types: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
    """Top columns and their types, objects among them, that hold what is wanted: each name as it is, and its path."""
    found = dict(types)
    inside: dict[str, dict[str, pa.DataType]] = {}
    for name, type_ in types.items():
        first, dot, rest = name.partition(".")
        if dot and first not in types:
            inside.setdefault(first, {})[rest] = type_
    for first, fields in inside.items():
        found[first] = pa.struct(list(nested_types(fields).items()))
    return found


def only_wanted(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """What was read by `nested_types` as the wanted columns: of a name and its path whichever holds a value."""
    columns = {}
    for name in types:
        columns[name], inside = table[name], _inside(table, name)
        if inside is not None and columns[name].null_count:
            columns[name] = pc.coalesce(columns[name], inside)
    return pa.table(columns)


def cell_of(row: Mapping[str, Any], name: str) -> Any:
    """The cell of a column in a parsed JSON object; None where there is none.

    Raises:
        ValueError: what should be an object on the way is none.
    """
    if name in row or "." not in name:
        return row.get(name)
    parts = name.split(".")
    cell: Any = row
    for place, part in enumerate(parts):
        if not isinstance(cell, Mapping):
            raise ValueError(f"{'.'.join(parts[:place])} is not an object: {str(cell)[:80]}")
        cell = cell.get(part)
        if cell is None:
            return None
    return cell


def names_in(row: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The names of all cells of a parsed JSON object, those inside objects by their paths."""
    for name, cell in row.items():
        yield f"{before}{name}"
        if isinstance(cell, Mapping):
            yield from names_in(cell, f"{before}{name}.")
