"""Sums over ranges of columns, of many targets at once, without a pass over all columns for each.

A sum over `[first, stop)` is the difference of two sums to the oldest column. Those are kept for every `CELL` columns,
and the columns of the cell that a range begins in are added one by one. From the oldest, since most ranges stop there:
what is taken off is then exactly zero. In float64, so that a range of little mass loses no digits beside one of much.
"""

from twin_tf.core.keras_api import tf
from twin_tf.layers.visibility import CELL


def range_sums(mass: tf.Tensor, values: tf.Tensor, first: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
    """Sums of values by mass.

    Args:
        mass: float `(B, W, M)`; W is a multiple of `CELL`.
        values: float `(B, W, D)`.
        first: int32 `(B, C)`, at most W.
        stop: int32 likewise, at least `first`.

    Returns:
        float `(B, C, M, D)`: sum over `first <= w < stop` of `mass[b, w, m] * values[b, w, d]`.
    """
    shape = tf.shape(mass)
    cells = [shape[0], shape[1] // CELL, CELL]
    weighed = tf.reshape(tf.cast(mass, tf.float64), [*cells, mass.shape[2]])
    valued = tf.reshape(tf.cast(values, tf.float64), [*cells, values.shape[2]])
    of_cells = tf.matmul(weighed, valued, transpose_a=True)
    from_cell = tf.pad(tf.cumsum(of_cells, axis=1, reverse=True), [[0, 0], [0, 1], [0, 0], [0, 0]])

    def to_the_oldest(begin: tf.Tensor) -> tf.Tensor:
        cell = tf.minimum(begin // CELL, cells[1] - 1)
        skipped = tf.range(CELL) < (begin - cell * CELL)[..., None]
        kept = tf.where(skipped[..., None], tf.zeros([], tf.float64), tf.gather(weighed, cell, batch_dims=1))
        part = tf.matmul(kept, tf.gather(valued, cell, batch_dims=1), transpose_a=True)
        return part + tf.gather(from_cell, cell + 1, batch_dims=1)

    return tf.cast(to_the_oldest(first) - to_the_oldest(stop), tf.float32)


def range_masses(mass: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
    """Mass between neighbouring ends.

    Args:
        mass: float `(B, W, M)`.
        ends: int32 `(B, C, n)`, rising, at most W.

    Returns:
        float `(B, C, n - 1, M)`.
    """
    from_column = tf.cumsum(tf.cast(mass, tf.float64), axis=1, reverse=True)
    left = tf.gather(tf.pad(from_column, [[0, 0], [0, 1], [0, 0]]), ends, batch_dims=1)
    return tf.cast(left[:, :, :-1] - left[:, :, 1:], tf.float32)
