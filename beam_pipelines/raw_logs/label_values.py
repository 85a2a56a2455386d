"""The label column of a log: which values it may hold, and which of them are a click."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from twin_tf.features.events import LabelColumn

Mask = npt.NDArray[np.bool_]

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    ">=": pc.greater_equal,
    ">": pc.greater,
    "<=": pc.less_equal,
    "<": pc.less,
}


def clicked(label: LabelColumn, values: pa.Array | pa.ChunkedArray) -> Mask:
    """Which rows are a click.

    Args:
        label: the schema's.
        values: of its column, of the type that the schema says; a null is no click.
    """
    if label.comparison is None:
        mask = pc.is_in(values, pa.array(label.positive, values.type))
    else:
        operator, number = label.comparison
        mask = pc.fill_null(_COMPARE[operator](values, number), False)
    return _numpy(mask)


def not_allowed(label: LabelColumn, values: pa.Array) -> Mask:
    """Which rows hold a value that is none of the label's; a null is not looked at."""
    if label.comparison is not None:
        return np.zeros(len(values), bool)
    return _numpy(pc.and_(values.is_valid(), pc.invert(pc.is_in(values, pa.array(label.values, values.type)))))


def _numpy(mask: pa.Array | pa.ChunkedArray) -> Mask:
    whole = mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask
    found: Mask = whole.to_numpy(zero_copy_only=False)
    return found
