"""How many of the retrieved behaviours are how relevant: soft counts that the mixer sees (SimTier, K-NRM).

    s_i = alpha_i / (relevance of the target to itself)
    count_k = ln(1 + sum_i exp(-(s_i - mu_k)^2 / (2 sigma^2)))

References:
    SimTier, arXiv 2407.19467 (counts by tier); K-NRM, SIGIR 2017 (kernels with a gradient).
"""

from collections.abc import Sequence

from twin_tf.core.keras_api import tf

SIGMA = 0.1

LEAST_SELF_RELEVANCE = 0.5
"""A target that is hardly relevant to itself is no measure; relevance then counts from this."""


def graded_counts(
    relevance: tf.Tensor, valid: tf.Tensor, self_relevance: tf.Tensor, levels: Sequence[float]
) -> tf.Tensor:
    """Soft counts of the retrieved behaviours around each level.

    Args:
        relevance: float `(B, C, heads, K)` of the retrieved.
        valid: bool `(B, C, K)`.
        self_relevance: float `(B, C, heads)`.
        levels: mu, shares of the self-relevance.

    Returns:
        float `(B, C, heads * levels)`, zero where nothing was retrieved.
    """
    share = relevance / tf.maximum(self_relevance, LEAST_SELF_RELEVANCE)[..., None]
    real = tf.cast(valid, relevance.dtype)[:, :, None]
    counts = [
        tf.math.log1p(tf.reduce_sum(real * tf.exp(-tf.square(share - level) / (2 * SIGMA**2)), axis=-1))
        for level in levels
    ]
    return tf.concat(counts, axis=-1)
