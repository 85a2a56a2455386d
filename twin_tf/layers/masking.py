"""Masks from lengths, and attention that is exactly zero where nothing may be seen."""

from typing import NamedTuple

from twin_tf.core.keras_api import tf

MASKED_SCORE = -1e30
"""Below every real relevance and finite in float32, so that no NaN can arise from it."""


def visible(end: tf.Tensor, columns: tf.Tensor, window: int) -> tf.Tensor:
    """Which behaviours a target may look at: positions `[max(0, end - window), end)`.

    Args:
        end: int `(B, C)`, behaviours before the target.
        columns: L, the width of the history tensor.
        window: how many of the latest behaviours are visible.

    Returns:
        bool `(B, C, L)`.
    """
    position = tf.range(columns)[None, None, :]
    return (position < end[..., None]) & (position >= end[..., None] - window)


class Attention(NamedTuple):
    """What `masked_attention` finds.

    Attributes:
        weights: softmax of the scores, their shape; zero where not valid.
        total: log-sum-exp of the valid scores, without the last axis.
        largest: the largest valid score, without the last axis.
    """

    weights: tf.Tensor
    total: tf.Tensor
    largest: tf.Tensor


def masked_attention(scores: tf.Tensor, valid: tf.Tensor) -> Attention:
    """Softmax, log-sum-exp and maximum over the valid entries of the last axis; rows without one are 0, never NaN.

    Args:
        scores: float `(..., K)`.
        valid: bool, broadcastable to `scores`.
    """
    masked = tf.where(valid, scores, tf.constant(MASKED_SCORE, scores.dtype))
    largest = tf.reduce_max(masked, axis=-1)
    some = largest > MASKED_SCORE / 2
    largest = tf.where(some, largest, 0.0)
    shift = tf.stop_gradient(largest)
    exponent = tf.exp(masked - shift[..., None])  # of what is masked, exactly zero
    total = tf.where(some, tf.reduce_sum(exponent, axis=-1), 1.0)
    return Attention(exponent / total[..., None], tf.where(some, tf.math.log(total) + shift, 0.0), largest)
