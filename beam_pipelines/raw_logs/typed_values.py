"""Values of raw logs in the types of the schema, converted where nothing is lost. All vectorised.

Values have the same meaning in every format. For a whole number: digits, `5.0` (below 2^53, where floats are exact), a
boolean (0 or 1), and the same written as text. For a number: a number, or one written as text. NaN is empty. Text is
text only: a number is not. Of a column with several values a row holds a list, or a text to split; each value follows
these rules, empty and repeated ones are dropped, and a row without any is empty.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from twin_tf.features.encoders import owners
from twin_tf.features.event_times import EXACT_FLOATS
from twin_tf.features.schema import MultiValued, ValueType

Mask = npt.NDArray[np.bool_]

ARROW: dict[str, pa.DataType] = {"int": pa.int64(), "float": pa.float64(), "string": pa.string()}
_DIGITS = r"^-?[0-9]+$|^-?0[xX][0-9a-fA-F]+$"
FLOAT = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
WANTED = {"int": "a whole number", "float": "a number", "string": "text"}
LISTED = {"int": "a list of whole numbers", "float": "a list of numbers", "string": "a list of text"}
SPLIT = {"int": "whole numbers in a text", "float": "numbers in a text", "string": "text"}


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
        return converted, either(bad_text, bad)
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
        bad_parts = None if bad is None else true(pa.array(bad).take(place))
        return found.take(place), either(bad_text, bad_parts)
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
    floats, _ = _whole(only(pc.match_substring_regex(values, FLOAT)).cast(pa.float64()))
    booleans = only(pc.is_in(lower, pa.array(["true", "false"])), pc.equal(lower, "true")).cast(pa.int64())
    converted = pc.coalesce(digits, floats, booleans)
    bad = true(pc.and_(pc.and_(converted.is_null(), values.is_valid()), pc.not_equal(lower, "nan")))
    return converted, bad if bad.any() else None


def _whole(floats: pa.Array) -> tuple[pa.Array, Mask | None]:
    """Whole floats as ints; from 2^53 on a float stands for several whole numbers, so it is broken."""
    exact = pc.and_(pc.equal(floats, pc.floor(floats)), pc.less(pc.abs(floats), float(EXACT_FLOATS)))
    bad = true(pc.invert(exact))
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


def either(first: Mask | None, second: Mask | None) -> Mask | None:
    """Values that one of two masks marks; None marks nothing."""
    if first is None or second is None:
        return second if first is None else first
    return first | second


def one_array(values: pa.ChunkedArray) -> pa.Array:
    """The values of a column in one piece."""
    combined = values.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def true(mask: pa.Array) -> Mask:
    """A mask of Arrow as one of NumPy; a null is not marked."""
    result: Mask = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
    return result
