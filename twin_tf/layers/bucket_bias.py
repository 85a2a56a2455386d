"""Piecewise constant rows: what a target adds to the relevance of a behaviour, as a function of the column.

Columns run from the newest behaviour to the oldest, so whatever depends on a behaviour's age (its bucket, whether it is
visible at all) changes at a few columns per target and is constant between them. Those columns are found by binary
search, and the rows are put together from ready-made cells of `CELL` values: no look-up per behaviour and target.
"""

import functools
from collections.abc import Sequence

from twin_tf.core.keras_api import tf
from twin_tf.layers.shapes import dimensions
from twin_tf.layers.visibility import CELL


def broadcast_bias(values: tf.Tensor, ends: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Rows that hold `values[..., s]` in the columns `[ends[..., s - 1], ends[..., s])`.

    Args:
        values: float `(B, C, heads, S)`.
        ends: int32 `(B, C, S - 1)`, not falling, between 0 and `width`.
        width: W, a multiple of `CELL`.

    Returns:
        float `(heads, B, C, W)`.
    """
    users, targets, heads, steps = dimensions(values)
    rows, cells, cuts = users * targets, width // CELL, steps - 1
    ends = tf.reshape(ends, [rows, cuts])
    cell = ends // CELL
    inside = tf.reshape(cell[..., None] * CELL + tf.range(CELL), [rows, cuts * CELL])
    mixed_step = tf.range(rows)[:, None] * steps + tf.searchsorted(ends, inside, side="right")
    by_step = tf.transpose(tf.reshape(values, [rows, heads, steps]), [0, 2, 1])  # all heads at a look
    mixed = tf.gather(tf.reshape(by_step, [rows * steps, heads]), mixed_step)
    mixed = tf.reshape(tf.transpose(mixed, [2, 0, 1]), [heads, rows, cuts, CELL])
    constant = tf.repeat(tf.transpose(by_step, [2, 0, 1])[..., None], CELL, axis=3)
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


def cumulative_one_hot(cuts: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    """Which columns lie on which step or behind it: 1 where they do, else 0.

    Times the differences of a piecewise constant row (`bucket_deltas`), a product over S gives the row's values in the
    columns; times weights, a product over the columns gives the weight on or behind every step. So neither needs a
    look-up per column, nor its gradient a scatter.

    Args:
        cuts: int32 `(B, C, S - 1)` or `(B, 1, S - 1)`, the first columns of all steps but the first, not falling.
        column: int32 `(B, C, K)` or `(B, 1, K)`, not negative.

    Returns:
        float `(B, C, S, K)`.
    """
    first = tf.concat([tf.zeros_like(cuts[..., :1]), cuts], axis=2)
    return tf.cast(first[..., None] <= column[:, :, None, :], tf.float32)


def bucket_deltas(values: tf.Tensor) -> tf.Tensor:
    """By how much the values of steps rise from one to the next, along the last axis; the first one from zero."""
    return tf.concat([values[..., :1], values[..., 1:] - values[..., :-1]], axis=-1)


def lookup_bias(values: tf.Tensor, cumulative_one_hot: tf.Tensor) -> tf.Tensor:
    """The values of steps in columns.

    Args:
        values: float `(B, C, heads, S)`; B and C, or C alone, may be 1.
        cumulative_one_hot: float `(B, C, S, K)`; C may be 1.

    Returns:
        float `(B, C, heads, K)`; C is 1 where it is for both.
    """
    return _product(bucket_deltas(values), cumulative_one_hot)


def mass_per_bucket(weights: tf.Tensor, cumulative_one_hot: tf.Tensor) -> tf.Tensor:
    """The weight on every step or behind it.

    Args:
        weights: float `(B, C, heads, K)` of columns.
        cumulative_one_hot: float `(B, C, S, K)`; C may be 1.

    Returns:
        float `(B, C, heads, S)`.
    """
    return _product(weights, cumulative_one_hot, transposed=True)


def _product(left: tf.Tensor, right: tf.Tensor, *, transposed: bool = False) -> tf.Tensor:
    """A product for every user and target. What they share is spread out before: see `projection.project`."""
    pairs = tf.broadcast_dynamic_shape(tf.shape(left)[:2], tf.shape(right)[:2])
    left_of_all, right_of_all = (
        tf.broadcast_to(part, tf.concat([pairs, tf.shape(part)[2:]], axis=0)) for part in (left, right)
    )
    result = tf.matmul(left_of_all, right_of_all, transpose_b=transposed)
    result.set_shape([None, 1 if left.shape[1] == right.shape[1] == 1 else None, None, None])
    return result


def age_boundaries(time: tf.Tensor, request_time: tf.Tensor, boundaries: Sequence[int]) -> tf.Tensor:
    """The first column whose age reaches each boundary.

    Args:
        time: int64 `(B, W)` times of the columns, not rising.
        request_time: int64 `(B, C)` times of the targets.
        boundaries: rising, in the unit of the times.

    Returns:
        int32 `(B, C, len(boundaries))`, between 0 and W.
    """
    users, targets = dimensions(request_time)
    latest = request_time[..., None] - tf.constant(boundaries, tf.int64)
    found = tf.searchsorted(-time, tf.reshape(-latest, [users, -1]), side="left")
    return tf.ensure_shape(tf.reshape(found, [users, targets, len(boundaries)]), [None, request_time.shape[1], None])
