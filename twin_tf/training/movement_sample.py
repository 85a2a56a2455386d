"""How far embedding tables have moved while they are trained, by some of their rows: cheap enough for every point.

What `table_movement` measures at the end looks at every row. Here up to `SAMPLED_ROWS` of each table are fixed before
the first step, with where they started, and only they are read again.
"""

import numpy as np
import numpy.typing as npt

from twin_tf.features.schema import UNKNOWN
from twin_tf.layers.table_initializer import BLOCK_ROWS
from twin_tf.training.table_rows import named_tables
from twin_tf.training.train_step import TrainStep
from twin_tf.training.warm_start import EarlierWeights

SAMPLED_ROWS = 2_000
SAMPLED_BLOCKS = 64
"""A start is drawn in blocks; no more of them than this are drawn of a table."""


class MovementSample:
    """Some rows of every table, and where they started; the same rows whenever it is made.

    Args:
        trainer: of the model.
        earlier: what the tables start from, if not from random rows.
    """

    def __init__(self, trainer: TrainStep, earlier: EarlierWeights | None = None) -> None:
        self._tables = []
        for table in named_tables(trainer.model):
            rows = trainer.table_rows(table)
            sampled = sampled_rows(rows.rows)
            if earlier is None:
                parts = []
                for block in np.unique(sampled // BLOCK_ROWS).tolist():
                    first, last = block * BLOCK_ROWS, min((block + 1) * BLOCK_ROWS, rows.rows)
                    parts.append(rows.start(first, last)[sampled[sampled // BLOCK_ROWS == block] - first])
                start = np.concatenate(parts)
            else:
                start = earlier.table(table.variable, rows.start(0, rows.rows))[sampled]
            self._tables.append((table.name, rows, sampled, start))

    def moved(self) -> dict[str, float]:
        """Name of the table -> median L2 distance of its changed rows from their start.

        It is a share of their mean L2 norm at the start; 0 while no sampled row has changed.
        """
        return {name: median_movement(rows.at(sampled), start) for name, rows, sampled, start in self._tables}


def median_movement(now: npt.NDArray[np.float32], start: npt.NDArray[np.float32]) -> float:
    """Median L2 distance of the rows that changed, `(n, dim)` each, as a share of their mean norm at the start."""
    changed = (now != start).any(axis=1)
    if not changed.any():
        return 0.0
    norm = float(np.linalg.norm(start[changed], axis=1).mean())
    way = now[changed].astype(np.float64) - start[changed]  # squares of what diverges are beyond float32
    return float(np.median(np.linalg.norm(way, axis=1))) / norm if norm else 0.0


def sampled_rows(rows: int) -> npt.NDArray[np.int64]:
    """Which rows of a table of so many are looked at: rising, spread evenly, never padding."""
    blocks = -(-rows // BLOCK_ROWS)
    chosen = np.unique(np.linspace(0, blocks - 1, min(blocks, SAMPLED_BLOCKS)).astype(np.int64))
    every = np.concatenate([np.arange(b * BLOCK_ROWS, min((b + 1) * BLOCK_ROWS, rows)) for b in chosen.tolist()])
    known = every[every >= UNKNOWN]
    return known[:: max(1, -(-len(known) // SAMPLED_ROWS))]
