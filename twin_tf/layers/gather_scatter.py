"""Between a number for every behaviour of the union and a number for every retrieved behaviour.

Each valid retrieved behaviour has a place of its own in its row, so bringing numbers there needs no sums: TensorFlow's
`SparseToDense` writes them three times as fast as a segment sum adds them. The two directions are each other's
gradients.
"""

import math
from collections.abc import Callable, Sequence

from twin_tf.core.keras_api import tf
from twin_tf.layers.shapes import dimensions

Gradient = Callable[[tf.Tensor], tuple[tf.Tensor, None]]


def gather_retrieved(dense: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """The numbers at the retrieved behaviours' places.

    Args:
        dense: float `(heads, B, C, U)`.
        place: int32 `(B, C, K)` or `(B, 1, K)`, unique in a row but for place U - 1, which is for no retrieved
            behaviour: its numbers may be anything, and no gradient may come back to them.

    Returns:
        float `(B, C, heads, K)`.
    """
    shape = dimensions(dense)

    @tf.custom_gradient
    def picked(flat: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        return tf.gather(flat, index), lambda gradient: (_written(gradient, index, tf.size(dense)), None)

    result = picked(tf.reshape(dense, [-1]), _flat(place, shape))
    result.set_shape([place.shape[0], dense.shape[2], dense.shape[0], place.shape[2]])
    return result


def scatter_weights(values: tf.Tensor, place: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """The retrieved behaviours' numbers at their places, zero elsewhere.

    Args:
        values: float `(B, C, heads, K)`, zero where there is no retrieved behaviour.
        place: as for `pick`.
        width: U.

    Returns:
        float `(heads, B, C, U)`.
    """
    users, targets, heads, _ = dimensions(values)
    shape = [heads, users, targets, width]

    @tf.custom_gradient
    def written(numbers: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        return _written(numbers, index, tf.reduce_prod(shape)), lambda gradient: (tf.gather(gradient, index), None)

    return tf.reshape(written(values, _flat(place, shape)), shape)


def _written(numbers: tf.Tensor, index: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.SparseToDense(
        sparse_indices=tf.reshape(index, [-1]),
        output_shape=tf.reshape(size, [1]),
        sparse_values=tf.reshape(numbers, [-1]),
        default_value=tf.zeros([], numbers.dtype),
        validate_indices=False,
    )


def _flat(place: tf.Tensor, shape: Sequence[int | tf.Tensor]) -> tf.Tensor:
    """Places in rows as places in the flattened `shape`, heads, B, C, U: int32 `(B, C, heads, K)`."""
    *outer, width = shape
    rows = tf.transpose(tf.reshape(tf.range(math.prod(outer)) * width, outer), [1, 2, 0])
    return rows[..., None] + place[:, :, None, :]
