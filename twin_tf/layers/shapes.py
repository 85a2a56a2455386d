"""Sizes of tensors whose dimensions are partly free."""

from twin_tf.core.keras_api import tf


def dimensions(tensor: tf.Tensor) -> list[int | tf.Tensor]:
    """The size of every dimension: a number where it is fixed, else a scalar of the graph.

    All free ones are unpacked by one operation; each index into `tf.shape(tensor)` would be a slice of four.

    Args:
        tensor: of known rank.

    Returns:
        `rank` sizes, ints and int32 scalars.
    """
    fixed: list[int | None] = tensor.shape.as_list()
    if None not in fixed:
        return [int(size or 0) for size in fixed]
    free = tf.unstack(tf.shape(tensor), num=len(fixed))
    return [free[axis] if size is None else size for axis, size in enumerate(fixed)]
