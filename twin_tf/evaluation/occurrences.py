"""Where values stand in one history: how often a value came before a position, and when last."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer]


class Occurrences:
    """The values of one history, looked up many at a time.

    Args:
        values: `(n,)`, not negative, oldest first.
        sizes: `(n,)`, how many behaviours each entry stands for.

    Example:
        >>> found = Occurrences(np.array([3, 4, 3]), np.array([2, 1, 5]))
        >>> found.count(np.array([3, 3, 9]), np.array([0, 1, 0]), np.array([3, 3, 3])).tolist()
        [7, 5, 0]
        >>> found.last(np.array([3, 3, 9]), np.array([3, 2, 3])).tolist()
        [2, 0, -1]
    """

    def __init__(self, values: Ints, sizes: Ints) -> None:
        self._width = len(values) + 1
        self._order = np.argsort(values, kind="stable")
        self._keys = values[self._order].astype(np.int64) * self._width + self._order
        self._before = np.concatenate([[0], np.cumsum(sizes[self._order], dtype=np.int64)])

    def count(self, wanted: Ints, start: Ints, end: Ints) -> npt.NDArray[np.int64]:
        """How many behaviours with each wanted value `history[start:end]` stands for; `(m,)` each."""
        found: npt.NDArray[np.int64] = self._before[self._place(wanted, end)] - self._before[self._place(wanted, start)]
        return found

    def last(self, wanted: Ints, end: Ints) -> npt.NDArray[np.int64]:
        """The latest position before `end` of each wanted value, -1 if there is none; `(m,)` each."""
        place = self._place(wanted, end)
        there = place > self._place(wanted, np.zeros_like(end))
        return np.where(there, np.append(self._order, -1)[place - 1], -1)

    def _place(self, wanted: Ints, position: Ints) -> npt.NDArray[np.int64]:
        """Among the entries by value and position, the first that is not before the wanted one."""
        return np.searchsorted(self._keys, wanted.astype(np.int64) * self._width + position)
