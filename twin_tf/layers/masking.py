"""Masks from lengths, and a softmax that is exactly zero where nothing may be seen."""

from twin_tf.keras_api import tf

MASKED_SCORE = -1e30
"""Below every real relevance and finite in float32, so that no NaN can arise from it."""


def visible(end: tf.Tensor, columns: tf.Tensor, window: int) -> tf.Tensor:
    """Which behaviours a target may look at: positions `[max(0, end - window), end)`.

    Args:
        end: int `(B, C)`, behaviours before the target.
        columns: L, the width of the history tensor.
        window: how many of the latest behaviours are in sight.

    Returns:
        bool `(B, C, L)`.
    """
    position = tf.range(columns)[None, None, :]
    return (position < end[..., None]) & (position >= end[..., None] - window)


def masked_softmax(scores: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Softmax over the last axis of the valid entries; rows without one are exactly zero, never NaN.

    Args:
        scores: float `(..., K)`.
        valid: bool, broadcastable to `scores`.

    Returns:
        float of the shape of `scores`; zero where not valid.
    """
    masked = tf.where(valid, scores, tf.constant(MASKED_SCORE, scores.dtype))
    largest = tf.stop_gradient(tf.reduce_max(masked, axis=-1, keepdims=True))
    exponent = tf.where(valid, tf.exp(masked - largest), tf.zeros([], scores.dtype))
    return tf.math.divide_no_nan(exponent, tf.reduce_sum(exponent, axis=-1, keepdims=True))


def masked_logsumexp(scores: tf.Tensor, valid: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Log-sum-exp and maximum over the valid entries of the last axis; 0 for rows without one.

    Args:
        scores: float `(..., K)`.
        valid: bool, broadcastable to `scores`.

    Returns:
        Two floats `(...)`.
    """
    masked = tf.where(valid, scores, tf.constant(MASKED_SCORE, scores.dtype))
    largest = tf.reduce_max(masked, axis=-1)
    some = largest > MASKED_SCORE / 2
    largest = tf.where(some, largest, tf.zeros([], scores.dtype))
    shift = tf.stop_gradient(largest)
    exponent = tf.where(valid, tf.exp(masked - shift[..., None]), tf.zeros([], scores.dtype))
    total = tf.where(some, tf.reduce_sum(exponent, axis=-1), tf.ones([], scores.dtype))
    return tf.where(some, tf.math.log(total) + shift, tf.zeros([], scores.dtype)), largest
