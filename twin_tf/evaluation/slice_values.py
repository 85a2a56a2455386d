"""By what an evaluation may be sliced beside what it is always sliced by, and what people call the values."""

from collections.abc import Sequence
from datetime import datetime, timezone

import numpy as np
import numpy.typing as npt

from twin_tf.core.dataclass_yaml import ConfigError, nearest
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.events import TimeColumn
from twin_tf.features.schema import FIRST_KNOWN, PADDING, FeatureSchema

SECONDS_A_DAY = 86_400


def check_slices(schema: FeatureSchema, names: Sequence[str]) -> None:
    """Whether each name is a context, candidate or user feature.

    Raises:
        ConfigError: one is not.
    """
    known = [feature.name for feature in (*schema.of_target, *schema.user)]
    for name in names:
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "the schema has none"
            raise ConfigError(f"--slice {name}: no context, candidate or user feature{nearest(name, known)}; {there}")


def value_name(encoder: FeatureEncoder, name: str, index: int) -> str:
    """What people call an index of a feature."""
    if index < FIRST_KNOWN:
        return "none" if index == PADDING else "unknown"
    feature, place = encoder.schema.feature(name), index - FIRST_KNOWN
    kind = feature.encoding_or_fail.kind
    if kind == "vocabulary" and place < len(encoder.fitted[name]):
        return str(encoder.fitted[name][place])
    if kind == "numeric":
        ends = encoder.boundaries(feature)
        if place == 0 or not ends:
            return f"below {ends[0]:g}" if ends else "any"
        return f"{ends[place - 1]:g} to {ends[place]:g}" if place < len(ends) else f"from {ends[-1]:g}"
    return f"hash {place}" if kind == "hash" else str(place)


def days(time: npt.NDArray[np.int64], column: TimeColumn) -> npt.NDArray[np.int64]:
    """The day of each time, in days since 1970 by the local time of the schema."""
    found: npt.NDArray[np.int64] = column.local_seconds(time) // SECONDS_A_DAY
    return found


def day_name(day: int) -> str:
    """`2026-01-31`."""
    return datetime.fromtimestamp(day * SECONDS_A_DAY, timezone.utc).date().isoformat()
