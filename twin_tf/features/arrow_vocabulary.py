"""Vocabularies as Arrow arrays: what the pipelines look values up in, however many there are.

A dictionary of Python texts takes some 150 bytes a value in every process. An Arrow array of texts takes its bytes and
four more, and can be mapped from a file. It has no index; the values that are looked up get one instead, and the
vocabulary is read past them once, 10^7 texts in about a second.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from twin_tf.features.feature import FIRST_KNOWN, UNKNOWN

_READ_ROWS = 1 << 22


def texts(values: pa.Array) -> pa.Array:
    """Values as a vocabulary writes them."""
    if pa.types.is_floating(values.type):
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    return values.cast(pa.string())


def distinct(values: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """The values as one dictionary array."""
    plain = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(plain, pa.ChunkedArray):  # combining several dictionaries may give one chunk or none
        plain = plain.unify_dictionaries().chunk(0) if plain.num_chunks else pa.array([], plain.type)
    return plain if pa.types.is_dictionary(plain.type) else plain.dictionary_encode()


def rows_in(vocabulary: pa.ChunkedArray, values: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int32]:
    """The row of each value.

    Args:
        vocabulary: distinct texts in the order of their rows, the first in `FIRST_KNOWN`.
        values: `(n,)` of any type, a dictionary array too; a dictionary holds each value once.

    Returns:
        `(n,)`; `UNKNOWN` for null and for what the vocabulary lacks.
    """
    encoded = distinct(values)
    rows = np.full(len(encoded.dictionary) + 1, UNKNOWN, np.int32)
    wanted = texts(encoded.dictionary)
    for start in range(0, len(vocabulary) if len(wanted) else 0, _READ_ROWS):
        found = pc.index_in(vocabulary.slice(start, _READ_ROWS), value_set=wanted, skip_nulls=True)
        known = np.flatnonzero(found.is_valid().to_numpy())
        rows[found.drop_null().to_numpy()] = FIRST_KNOWN + start + known
    return rows[encoded.indices.fill_null(len(wanted)).to_numpy()]
