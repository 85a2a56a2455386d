"""Piecewise constant rows: what a target adds to the relevance of a behaviour, as a function of the column.

Columns run from the newest behaviour to the oldest, so whatever depends on a behaviour's age (its bucket, whether it is
in sight at all) changes at a few columns per target and is constant between them. Those columns are found by binary
search, and the rows are put together from ready-made cells of `CELL` values: no look-up per behaviour and target.
"""

import functools

from twin_tf.keras_api import tf
from twin_tf.layers.sight import CELL


def spread_steps(values: tf.Tensor, ends: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Rows that hold `values[..., s]` in the columns `[ends[..., s - 1], ends[..., s])`.

    Args:
        values: float `(heads, B, C, S)`.
        ends: int32 `(B, C, S - 1)`, not falling, between 0 and `width`.
        width: W, a multiple of `CELL`.

    Returns:
        float `(heads, B, C, W)`.
    """
    shape = tf.shape(values)
    heads, users, targets, steps = shape[0], shape[1], shape[2], shape[3]
    rows, cells, cuts = users * targets, width // CELL, steps - 1
    ends = tf.reshape(ends, [rows, cuts])
    cell = ends // CELL
    inside = tf.reshape(cell[..., None] * CELL + tf.range(CELL), [rows, cuts * CELL])
    mixed_step = tf.reshape(tf.searchsorted(ends, inside, side="right"), [users, targets, cuts * CELL])
    mixed_step = tf.broadcast_to(mixed_step, [heads, users, targets, cuts * CELL])
    mixed = tf.reshape(tf.gather(values, mixed_step, batch_dims=3), [heads, rows, cuts, CELL])
    constant = tf.repeat(tf.reshape(values, [heads, rows, steps, 1]), CELL, axis=3)
    bank = tf.reshape(tf.concat([constant, mixed], axis=2), [-1, CELL])
    place = tf.range(rows)[:, None] * (cells + 1) + cell  # the cell behind the last one collects ends at `width`
    cuts_of_cell = tf.math.unsorted_segment_sum(tf.ones_like(ends), tf.reshape(place, [rows, cuts]), rows * (cells + 1))
    cuts_of_cell = tf.reshape(cuts_of_cell, [rows, cells + 1])
    before = tf.cumsum(cuts_of_cell, axis=1, exclusive=True)
    chosen = tf.where(cuts_of_cell > 0, steps + before, before)[:, :cells]
    base = tf.reshape(tf.range(heads * rows) * (steps + cuts), [heads, rows, 1])
    return tf.reshape(tf.gather(bank, base + chosen), [heads, users, targets, width])


def merge_steps(cuts: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Several features' cuts as one list.

    Args:
        cuts: int32 `(B, C, n)` or `(B, 1, n)` each.

    Returns:
        All cuts in rising order, int32 `(B, C, S - 1)`, and the first column of every step, int32 `(B, C, S)`; C is 1
        where it is for all cuts.
    """
    if any(part.shape[1] != 1 for part in cuts):
        pairs = functools.reduce(tf.broadcast_dynamic_shape, [tf.shape(part)[:2] for part in cuts])
        cuts = [tf.broadcast_to(part, tf.concat([pairs, tf.shape(part)[2:]], axis=0)) for part in cuts]
    ends = tf.sort(tf.concat(cuts, axis=2), axis=2)
    return ends, tf.concat([tf.zeros_like(ends[..., :1]), ends], axis=2)


def steps_passed(cuts: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    """How many cuts lie at or before a column: int32 `(B, C, n)`, `(B, C, K)` -> int32 `(B, C, K)`."""
    return tf.reduce_sum(tf.cast(cuts[:, :, None, :] <= column[..., None], tf.int32), axis=-1)


def age_cuts(time: tf.Tensor, moment: tf.Tensor, boundaries: list[int]) -> tf.Tensor:
    """The first column whose age reaches each boundary.

    Args:
        time: int64 `(B, W)` times of the columns, not rising.
        moment: int64 `(B, C)` times of the targets.
        boundaries: rising, in the unit of the times.

    Returns:
        int32 `(B, C, len(boundaries))`, between 0 and W.
    """
    shape = tf.shape(moment)
    latest = moment[..., None] - tf.constant(boundaries, tf.int64)
    found = tf.searchsorted(-time, tf.reshape(-latest, [shape[0], -1]), side="left")
    return tf.ensure_shape(tf.reshape(found, [shape[0], shape[1], len(boundaries)]), [None, moment.shape[1], None])
