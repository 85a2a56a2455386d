"""Which values a request may hold. What the served graph would have to adjust is refused before it is sent.

In the server's batch one refused call fails all that share it, so the graph adjusts wrong values and counts them
(`adjusted`); a caller who can still fix them hears of them here.
"""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from export.contract.tensors import Array
from twin_tf.features.request_names import (
    CANDIDATE_COUNT,
    CANDIDATE_ITEM,
    HISTORY_COUNT,
    HISTORY_ITEM,
    HISTORY_LENGTH,
    HISTORY_TIME,
    PREFIXES,
    REQUEST_TIME,
    of_candidates,
    of_history,
)

if TYPE_CHECKING:
    from twin_tf.features.schema import FeatureSchema

_OWN = (HISTORY_ITEM, HISTORY_TIME, HISTORY_LENGTH, HISTORY_COUNT, CANDIDATE_ITEM, CANDIDATE_COUNT)
_NULL = np.iinfo(np.int64).min  # what NumPy and pandas make of a missing number or time


class UnseenBehavioursWarning(UserWarning):
    """A request's history goes on after its `request_time`: what lies there is not seen, as in training."""


def check_values(arrays: Mapping[str, Array], schema: "FeatureSchema | None") -> None:
    """Checks the values of a request whose shapes are sound.

    Args:
        arrays: by input name, with the batch dimension.
        schema: the model's, if it is known: where ids are text, which is hashed, none is negative.

    Raises:
        ValueError: behaviours that are not in the order of their times, a negative index or hashed id, a missing value
            that became a number, a `history_count` that no cluster has.
    """
    length, width = arrays[HISTORY_LENGTH], arrays[HISTORY_ITEM].shape[1]
    behaviour = np.arange(width) < length[:, None]
    candidate = np.arange(arrays[CANDIDATE_ITEM].shape[1]) < arrays[CANDIDATE_COUNT][:, None]
    hashed = schema is not None and schema.events.item.type != "int"
    real = {HISTORY_ITEM: behaviour, HISTORY_TIME: behaviour, CANDIDATE_ITEM: candidate}
    for name in (HISTORY_ITEM, HISTORY_TIME, CANDIDATE_ITEM, REQUEST_TIME):
        null = (arrays[name] == _NULL) & real.get(name, True)
        _refuse(name, arrays[name], null, "is what a missing value becomes; leave the behaviour or candidate out")
    for name in (HISTORY_ITEM, CANDIDATE_ITEM) if hashed else ():
        negative = (arrays[name] < 0) & real[name]
        _refuse(name, arrays[name], negative, "is negative, and hashed ids are not; send them as text")
    for name, array in arrays.items():
        if name.startswith(PREFIXES) and name not in _OWN:
            negative = (array < 0) & (behaviour if of_history(name) else candidate if of_candidates(name) else True)
            rule = "is negative; indices are those of FeatureEncoder.encode, in which 1 is unknown"
            _refuse(name, array, negative, rule)
    if HISTORY_COUNT in arrays:
        from twin_tf.features.schema import LONGEST_HISTORY  # not at the top: it needs YAML

        count = arrays[HISTORY_COUNT]
        wrong = ((count < 1) | (count > LONGEST_HISTORY)) & behaviour
        _refuse(HISTORY_COUNT, count, wrong, f"is no size of a cluster, which is 1 to {LONGEST_HISTORY}")
    times = arrays[HISTORY_TIME]
    falls = np.zeros_like(behaviour)
    falls[:, 1:] = (times[:, 1:] < times[:, :-1]) & behaviour[:, 1:]
    _refuse(HISTORY_TIME, times, falls, "lies before the behaviour in front of it; send behaviours oldest first")
    _warn_of_unseen(arrays, behaviour)


def behaviours_seen(arrays: Mapping[str, Array]) -> Array:
    """int32 `(B,)`: how many behaviours of each user the model may look at: the real ones before `request_time`."""
    real = np.arange(arrays[HISTORY_ITEM].shape[1]) < arrays[HISTORY_LENGTH][:, None]
    earlier = arrays[HISTORY_TIME] < arrays[REQUEST_TIME][:, None]
    return np.asarray((real & earlier).sum(axis=1, dtype=np.int32))


def latest_behaviours(arrays: Mapping[str, Array], longest: int) -> dict[str, Array]:
    """The request with the latest `longest` behaviours before `request_time`, all that the model looks at.

    Args:
        arrays: by input name; what is not longer stays as it is.
        longest: the schema's `history.max_length`.
    """
    if arrays[HISTORY_ITEM].shape[1] <= longest:
        return dict(arrays)
    end = behaviours_seen(arrays)
    start = np.maximum(0, end - longest)
    place = np.minimum(start[:, None] + np.arange(longest), arrays[HISTORY_ITEM].shape[1] - 1)
    cut = {
        name: np.take_along_axis(array, place, axis=1) if of_history(name) and array.ndim == 2 else array
        for name, array in arrays.items()
    }
    return cut | {HISTORY_LENGTH: (end - start).astype(np.int32)}


def _refuse(name: str, array: Array, wrong: Array, rule: str) -> None:
    """Raises for the first wrong value."""
    found = np.argwhere(wrong)
    if len(found):
        place = ", ".join(map(str, found[0]))
        raise ValueError(f"{name}[{place}] = {array[tuple(found[0])]} {rule}")


def _warn_of_unseen(arrays: Mapping[str, Array], behaviour: Array) -> None:
    if np.any((arrays[HISTORY_TIME] > arrays[REQUEST_TIME][:, None]) & behaviour):
        # The text is always the same: Python keeps every text that it has warned of.
        warnings.warn(
            "request_time lies before behaviours of its user, which the model then does not see (behaviours_seen of "
            "the answer); are both times in the unit of the logs?",
            UnseenBehavioursWarning,
            stacklevel=6,  # who called predict
        )
