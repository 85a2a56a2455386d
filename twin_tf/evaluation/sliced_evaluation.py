"""Metrics of a split and of its slices, from targets that come batch by batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from twin_tf.evaluation.metrics import Metrics, MetricsAccumulator
from twin_tf.evaluation.predictions import Predictions
from twin_tf.evaluation.slice_values import day_name, days
from twin_tf.evaluation.slices import Row, slice_rows
from twin_tf.features.events import TimeColumn

LENGTH_EDGES = (0, 50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 102400)
HISTORY, ITEM, USER, DAY = "history length", "item", "user", "day"
"""What every evaluation is sliced by; items and users are `known` from training or `new`."""


class Scored(NamedTuple):
    """Some targets of a split, `(n,)` each.

    Attributes:
        user: int64 raw user ids.
        item: int32 item rows.
        label: float32.
        probability: float32.
        history_end: int64, behaviours that the target sees before the window cuts them, clusters with their sizes.
        time: int64, in the unit of the logs.
        context: int32 `(n, slices)`, the indices of the features that are sliced by.
        request: int64 ids of requests, 0 for none; empty where the data have none.
    """

    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int32]
    label: npt.NDArray[np.float32]
    probability: npt.NDArray[np.float32]
    history_end: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    context: npt.NDArray[np.int32]
    request: npt.NDArray[np.int64] = np.zeros(0, np.int64)


class Evaluation:
    """Metrics of all targets and of slices.

    It holds about 18 bytes a target, 4 more for each feature sliced by, and 8 more where the data have ids of requests.

    Args:
        seen: bool by item row, which items the model was trained on; later rows are new. None if nobody knows.
        users: int64, rising: users with targets in the training part; others are new. None if nobody knows.
    """

    def __init__(self, seen: npt.NDArray[np.bool_] | None = None, users: npt.NDArray[np.int64] | None = None) -> None:
        self._seen = seen
        self._users = users
        self._targets = MetricsAccumulator()
        self._parts: list[tuple[npt.NDArray[Any], ...]] = []

    def update(self, scored: Scored) -> None:
        """Adds targets."""
        self._targets.update(scored.label, scored.probability, scored.user)
        length = (np.searchsorted(LENGTH_EDGES, scored.history_end, side="right") - 1).astype(np.int8)
        known_user = np.zeros(0, bool) if self._users is None else _among(self._users, scored.user)
        known_item = self._known(scored.item)
        self._parts.append((scored.time, length, known_item, known_user, scored.context, scored.request))

    def _known(self, item: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        if self._seen is None:
            return np.zeros(0, bool)
        inside = item < len(self._seen)
        return inside & self._seen[np.where(inside, item, 0)]

    @property
    def metrics(self) -> Metrics:
        """Over all targets; computed anew at every call."""
        return self._targets.result()

    @property
    def predictions(self) -> Predictions:
        """All targets with their scores, in the order in which they came."""
        return Predictions(*self._targets.targets())

    @property
    def time(self) -> npt.NDArray[np.int64]:
        """When each target was shown, `(n,)` in the same order."""
        return np.concatenate([part[0] for part in self._parts])

    @property
    def request(self) -> npt.NDArray[np.int64]:
        """In which request each target was shown, likewise, 0 for none; empty where the data have no ids."""
        return np.concatenate([part[5] for part in self._parts])

    def slices(
        self, column: TimeColumn, context: dict[str, Callable[[int], str]] | None = None
    ) -> dict[str, list[Row]]:
        """Metrics with intervals by slice.

        Args:
            column: of the times.
            context: feature sliced by -> what its values are called, in the order of `Scored.context`.

        Returns:
            Name of the slicing -> rows of `value` and metrics: `history length` (with the class's ends, `from` and
            `to`), `item` and `user` where it is known which are new, `day`, and those of `context`.
        """

        def new(code: int) -> str:
            return "new" if code else "known"

        codes: dict[str, tuple[npt.NDArray[Any], Callable[[int], str]]] = {HISTORY: (self._column(1), length_name)}
        codes |= {} if self._seen is None else {ITEM: (1 - self._column(2), new)}
        codes |= {} if self._users is None else {USER: (1 - self._column(3), new)}
        codes[DAY] = (days(self.time, column), day_name)
        for place, (name, naming) in enumerate((context or {}).items()):
            codes[name] = (np.concatenate([part[4][:, place] for part in self._parts]), naming)
        predictions = self.predictions
        found = {}
        for name, (code, naming) in codes.items():
            ends = dict(enumerate(zip(LENGTH_EDGES, (*LENGTH_EDGES[1:], None), strict=True))) if name == HISTORY else {}
            found[name] = [
                {"value": naming(value), **dict(zip(("from", "to"), ends.get(value, ()), strict=False)), **row}
                for value, row in slice_rows(predictions, code)
            ]
        return found

    def _column(self, number: int) -> npt.NDArray[Any]:
        return np.concatenate([part[number] for part in self._parts]).astype(np.int64)


def length_name(number: int) -> str:
    """A class of history length, `50 to 99`."""
    low = LENGTH_EDGES[number]
    return f"{low:,}+" if number + 1 == len(LENGTH_EDGES) else f"{low:,} to {LENGTH_EDGES[number + 1] - 1:,}"


def _among(rising: npt.NDArray[np.int64], values: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    if not len(rising):
        return np.zeros(len(values), bool)
    place = np.minimum(np.searchsorted(rising, values), len(rising) - 1)
    found: npt.NDArray[np.bool_] = rising[place] == values
    return found
