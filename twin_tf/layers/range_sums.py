"""Sums over ranges of columns, of many targets at once, without a pass over all columns for each.

A sum over `[first, stop)` is the difference of two sums to the oldest column. Those are kept for every `CELL` columns,
and the columns of the cell that a range begins in are added one by one. From the oldest, since most ranges stop there:
what is taken off is then exactly zero, and a target with little history loses no digits to a user with much.
"""

from twin_tf.keras_api import tf
from twin_tf.layers.sight import CELL


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
    weighed = tf.reshape(mass, [*cells, mass.shape[2]])
    valued = tf.reshape(values, [*cells, values.shape[2]])
    of_cells = tf.matmul(weighed, valued, transpose_a=True)
    from_cell = tf.pad(tf.cumsum(of_cells, axis=1, reverse=True), [[0, 0], [0, 1], [0, 0], [0, 0]])

    def to_the_oldest(begin: tf.Tensor) -> tf.Tensor:
        cell = tf.minimum(begin // CELL, cells[1] - 1)
        skipped = tf.range(CELL) < (begin - cell * CELL)[..., None]
        kept = tf.where(skipped[..., None], 0.0, tf.gather(weighed, cell, batch_dims=1))
        part = tf.matmul(kept, tf.gather(valued, cell, batch_dims=1), transpose_a=True)
        return part + tf.gather(from_cell, cell + 1, batch_dims=1)

    return to_the_oldest(first) - to_the_oldest(stop)


def mass_from(mass: tf.Tensor, begin: tf.Tensor) -> tf.Tensor:
    """Mass of the columns from `begin` to the oldest.

    Args:
        mass: float `(B, W, M)`.
        begin: int32 `(B, C, n)`, at most W.

    Returns:
        float `(B, C, n, M)`.
    """
    return tf.gather(tf.pad(tf.cumsum(mass, axis=1, reverse=True), [[0, 0], [0, 1], [0, 0]]), begin, batch_dims=1)
