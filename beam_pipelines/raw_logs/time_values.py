"""The time column of a log as whole numbers of its unit: numbers, text, timestamps and dates.

What floats have behind the point is cut off: 1700000000.25 seconds are 1700000000. Timestamps with a zone are moments;
text, timestamps and dates without one are what a clock in `events.time.timezone` shows.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from twin_tf.features.event_times import EXACT_FLOATS, ISO8601, PER_SECOND, TimeColumn, parse_times, to_unit
from twin_tf.features.time_zones import utc_offsets

Mask = npt.NDArray[np.bool_]

_FLOAT = r"^[+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+\.?[0-9]*[eE][+-]?[0-9]+)$"
_DAY = 86_400


def wanted(column: TimeColumn) -> str:
    """What a value must be, for messages."""
    if column.format is None:
        return "a whole number"
    return "an ISO 8601 time" if column.format == ISO8601 else f"a time of the format {column.format}"


def to_times(values: pa.Array, column: TimeColumn) -> tuple[pa.Array, Mask | None]:
    """Makes whole numbers of what only a time column may hold.

    Args:
        values: of any type.
        column: the schema's.

    Returns:
        Whole numbers of the column's unit, or `values` where they are to be read as whole numbers like those of any
        other column; and which values are broken, or None.
    """
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    found = values.type
    if pa.types.is_timestamp(found) or pa.types.is_date(found):
        return _timestamps(values, column)
    text = pa.types.is_string(found) or pa.types.is_large_string(found)
    if column.format is not None:
        if text:
            return _formatted(values, column)
        nothing = pa.nulls(len(values), pa.int64())
        return nothing, values.is_valid().to_numpy(zero_copy_only=False)
    if text:
        return _without_fractions(values.cast(pa.string())), None
    if pa.types.is_floating(found):
        floats = values.cast(pa.float64())
        return pc.if_else(pc.less(floats, float(EXACT_FLOATS)), pc.floor(floats), floats), None
    return values, None


def _timestamps(values: pa.Array, column: TimeColumn) -> tuple[pa.Array, Mask | None]:
    known = values.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_date(values.type):
        unit, zone, local = 1, None, values.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
        numbers = local.fill_null(0).to_numpy() * _DAY
    else:
        unit, zone = PER_SECOND[values.type.unit], values.type.tz
        numbers = values.cast(pa.int64()).fill_null(0).to_numpy()
    if zone is None and column.timezone is not None:
        seconds = numbers // unit
        numbers = numbers - (seconds - utc_offsets(column.timezone).to_utc(seconds)) * unit
    times, bad = to_unit(column, numbers, unit)
    return pa.array(times, pa.int64(), mask=~known | bad), bad & known if (bad & known).any() else None


def _formatted(values: pa.Array, column: TimeColumn) -> tuple[pa.Array, Mask | None]:
    """Text of the column's format; each distinct text is read once."""
    distinct = pc.utf8_trim_whitespace(values.cast(pa.string())).dictionary_encode()
    texts = distinct.dictionary.to_pylist()
    times, bad = parse_times(column, texts)
    empty = np.array([not text for text in texts], bool)
    place = distinct.indices
    found = pa.array(times, pa.int64(), mask=bad | empty).take(place)
    broken = pc.fill_null(pa.array(bad & ~empty).take(place), False).to_numpy(zero_copy_only=False)
    return found, broken if broken.any() else None


def _without_fractions(texts: pa.Array) -> pa.Array:
    """Text of numbers, those with a point cut down to whole ones."""
    trimmed = pc.utf8_trim_whitespace(texts)
    fractional = pc.match_substring_regex(trimmed, _FLOAT)
    if not pc.any(fractional).as_py():
        return texts
    floats = pc.if_else(fractional, trimmed, pa.scalar(None, pa.string())).cast(pa.float64())
    whole = pc.less(floats, float(EXACT_FLOATS))
    cut = pc.floor(pc.if_else(whole, floats, pa.scalar(None, pa.float64()))).cast(pa.int64()).cast(pa.string())
    return pc.coalesce(cut, texts)
