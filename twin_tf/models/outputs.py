"""What the network gives for a batch."""

from typing import NamedTuple

from twin_tf.core.keras_api import tf
from twin_tf.layers.block_inputs import AttentionOutput
from twin_tf.records.batch import Batch

LEAST_WEIGHT = 1e-30
"""A smaller weight of the attention adds nothing to its entropy."""


class Scores(NamedTuple):
    """What a batch scores.

    Attributes:
        logit: float `(B, C)`.
        long_term: what the long-term block found.
        auxiliary_logit: float `(B, C)` of the auxiliary twin, or of a search that learns by its own; else None.
    """

    logit: tf.Tensor
    long_term: AttentionOutput
    auxiliary_logit: tf.Tensor | None = None


class LossSums(NamedTuple):
    """The parts of a batch's loss, float scalars.

    Attributes:
        own: numerator of the network's own loss, see `ClickLoss`.
        weight: its denominator.
        auxiliary: numerator of the auxiliary twin's or the search's own loss; 0 where there is none.
    """

    own: tf.Tensor
    weight: tf.Tensor
    auxiliary: tf.Tensor

    @property
    def total(self) -> tf.Tensor:
        """What training minimises, times `weight`: only what is retrieved passes between the two networks."""
        return self.own + self.auxiliary


def entropies(attended: AttentionOutput, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
    """Of the attention, in nats and normalised, two scalars; see `TwinModel.attention_figures`."""
    logarithm = tf.math.log(tf.maximum(attended.weights, LEAST_WEIGHT))
    entropy = -tf.reduce_mean(tf.reduce_sum(attended.weights * logarithm, axis=-1), axis=-1)
    real = tf.sequence_mask(batch.targets.count, tf.shape(entropy)[1])
    found = tf.math.count_nonzero(attended.retrieved.valid, axis=2, dtype=tf.int32)
    normalised = entropy / tf.math.log(tf.cast(tf.maximum(found, 2), tf.float32))
    several = tf.boolean_mask(normalised, real & (found >= 2))
    return tf.reduce_mean(tf.boolean_mask(entropy, real & (found >= 1))), tf.reduce_mean(several)
