"""As what the files of a log write a column: files that differ, or lack it, are worth a warning."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.types as is_

from beam_pipelines.raw_logs.raw_columns import LogColumns

_NAMES = ("text", "whole numbers", "numbers", "booleans", "times", "lists", "other values", "")
_UNTYPED = 1 << 7
_SHOWN = 3


def kinds_of(columns: LogColumns, raw: pa.Table, untyped: bool = False) -> dict[str, int]:
    """Column -> a bit for its kind, of the wanted columns that hold any value.

    Args:
        columns: what is wanted.
        raw: a part of a file, as it was read.
        untyped: whether the types of `raw` say nothing of the file: cells of CSV are text.
    """
    found = {}
    for name in columns.types:
        if name in raw.column_names and raw[name].null_count < len(raw):
            found[name] = _UNTYPED if untyped else 1 << _kind(raw[name].type)
    return found


def _kind(type_: pa.DataType) -> int:
    if is_.is_dictionary(type_):
        return _kind(type_.value_type)
    if is_.is_string(type_) or is_.is_large_string(type_) or is_.is_binary(type_) or is_.is_large_binary(type_):
        return 0
    if is_.is_integer(type_):
        return 1
    if is_.is_floating(type_) or is_.is_decimal(type_):
        return 2
    if is_.is_boolean(type_):
        return 3
    if is_.is_timestamp(type_) or is_.is_date(type_):
        return 4
    return 5 if is_.is_list(type_) or is_.is_large_list(type_) or is_.is_fixed_size_list(type_) else 6


def differences(columns: LogColumns, kinds: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A sentence for each column that some files of a log lack, or write as something else.

    Args:
        columns: of the log.
        kinds: path of each file that holds rows -> what `kinds_of` found in it, joined by bits.
    """
    found = []
    for name in columns.types:
        lacking = sorted(path for path, seen in kinds.items() if not seen.get(name))
        if lacking and len(lacking) < len(kinds):
            found.append(
                f"Column {name!r} of the {columns.name} log has no value in {len(lacking):,} of {len(kinds):,} files: "
                f"{_paths(lacking)}."
            )
        if len({seen[name] & (_UNTYPED - 1) for seen in kinds.values() if seen.get(name)} - {0}) < 2:
            continue
        by_kind: dict[str, list[str]] = {}
        for path, seen in kinds.items():
            for bit, kind in enumerate(_NAMES):
                if kind and seen.get(name, 0) & 1 << bit:
                    by_kind.setdefault(kind, []).append(path)
        if len(by_kind) > 1:
            order = sorted(by_kind, key=lambda kind: (-len(by_kind[kind]), kind))
            parts = [f"{kind} in {_paths(sorted(by_kind[kind]))}" for kind in order[1:]]
            found.append(
                f"Column {name!r} of the {columns.name} log holds {order[0]} in {len(by_kind[order[0]]):,} files, but "
                f"{' and '.join(parts)}: the same value may be written in two ways."
            )
    return found


def _paths(paths: list[str]) -> str:
    more = f" and {len(paths) - _SHOWN:,} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more
