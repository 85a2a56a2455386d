"""Matrix products, in float32 or in bfloat16.

With `precision` bfloat16 operands and result are rounded to bfloat16, and the result comes back as float32: weights,
the bias of eq. 6, masks, softmax and sums stay float32 (mixed precision).
"""

from typing import Literal

from twin_tf.core.keras_api import tf
from twin_tf.layers.shapes import dimensions

Precision = Literal["float32", "bfloat16"]


def project(rows: tf.Tensor, kernel: tf.Tensor, precision: Precision = "float32") -> tf.Tensor:
    """`rows @ kernel` over the last axis, always as one two-dimensional product.

    Never a broadcasting `tf.matmul`: on CPUs with oneDNN, TensorFlow 2.20 computes `(B, 1, K, H) @ (H, W)` with B > 1
    wrongly (it reads past the operand) and may crash.

    Args:
        rows: float `(..., H)`.
        kernel: float `(H, W)`.
        precision: of the operands.

    Returns:
        float32 `(..., W)`.
    """
    *shape, _ = dimensions(rows)
    flat = multiply(tf.reshape(rows, [-1, kernel.shape[0]]), kernel, precision)
    result = tf.reshape(flat, [*shape, kernel.shape[1]])
    result.set_shape(rows.shape[:-1].concatenate(kernel.shape[1]))
    return result


def multiply(left: tf.Tensor, right: tf.Tensor, precision: Precision, *, transposed: bool = False) -> tf.Tensor:
    """`left @ right` with the same leading dimensions: `(..., n, k)`, `(..., k, m)` -> float32 `(..., n, m)`.

    Args:
        left: float.
        right: float, `(..., m, k)` if `transposed`.
        precision: of the operands.
        transposed: whether `right` comes by rows of k.
    """
    dtype = tf.dtypes.as_dtype(precision)
    return tf.cast(tf.matmul(tf.cast(left, dtype), tf.cast(right, dtype), transpose_b=transposed), tf.float32)
