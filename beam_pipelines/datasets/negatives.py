"""Negatives for data that holds only what people did: draws are repeated until they avoid what must not be drawn."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def draw_unseen(
    groups: Rows, seen: Rows, width: int, draw: Callable[[Rows, int], Rows], attempts: int
) -> tuple[Rows, Rows]:
    """Draws an item per target that its group (a basket, a user) has not seen.

    Args:
        groups: group of each target, `(targets,)`.
        seen: `group * width + item` of everything seen, sorted.
        width: how many items there are; an item is a whole number below it.
        draw: numbers of the targets without an item yet, and the attempt's number -> an item for each of them.
        attempts: how often to draw at most.

    Returns:
        An item per target, `(targets,)`, and the numbers of the targets that still have none.
    """
    drawn = np.zeros(len(groups), np.int64)
    open_ = np.arange(len(groups))
    for attempt in range(attempts):
        if not len(open_):
            break
        drawn[open_] = draw(open_, attempt)
        key = groups[open_] * width + drawn[open_]
        place = np.minimum(np.searchsorted(seen, key), len(seen) - 1)
        open_ = open_[seen[place] == key]
    return drawn, open_
