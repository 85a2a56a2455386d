"""A matrix applied to the last axis, always as one two-dimensional product."""

from twin_tf.keras_api import tf


def project(rows: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """`rows @ kernel` over the last axis.

    Never a broadcasting `tf.matmul`: on CPUs with oneDNN, TensorFlow 2.20 computes `(B, 1, K, H) @ (H, W)` with B > 1
    wrongly (it reads past the operand) and may crash.

    Args:
        rows: float `(..., H)`.
        kernel: float `(H, W)`.

    Returns:
        float `(..., W)`.
    """
    shape = tf.shape(rows)
    flat = tf.matmul(tf.reshape(rows, [-1, kernel.shape[0]]), kernel)
    result = tf.reshape(flat, tf.concat([shape[:-1], [kernel.shape[1]]], axis=0))
    result.set_shape(rows.shape[:-1].concatenate(kernel.shape[1]))
    return result
