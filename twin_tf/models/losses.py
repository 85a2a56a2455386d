"""What training minimises: binary cross-entropy, each target weighted.

    loss = sum(w * bce) / sum(w),   w = the target's weight in the records * the weight of its class

Numerator and denominator are kept apart: replicas that train on parts of a batch divide the sum of the one by the sum
of the other; a mean of means would be another loss. Metrics know no weights: every target counts once there.
"""

from twin_tf.core.keras_api import keras, tf, tfrs
from twin_tf.training_settings import TrainingConfig


class ClickLoss(tf.Module):
    """The weighted binary cross-entropy of logits, as sums.

    Args:
        config: `label_smoothing` and `class_weights` are used; the plain loss if left out.

    Example:
        >>> total, weights = ClickLoss()(logits, batch.label, batch.weight, batch.targets.count)
        >>> loss = tf.math.divide_no_nan(total, weights)
    """

    def __init__(self, config: TrainingConfig | None = None) -> None:
        super().__init__(name="click_loss")
        config = config or TrainingConfig()
        self.class_weights = config.class_weights
        # SUM, for the default is a mean, which Keras refuses to take under a tf.distribute strategy.
        self._task = tfrs.tasks.Ranking(
            loss=keras.losses.BinaryCrossentropy(
                from_logits=True, label_smoothing=config.label_smoothing, reduction=keras.losses.Reduction.SUM
            )
        )

    def __call__(
        self, logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, count: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The sums over the real targets.

        Args:
            logits: float `(B, C)`.
            labels: float32 `(B, C)`, 0 or 1.
            weights: float32 `(B, C)`, 0 or more.
            count: int32 `(B,)`; targets from `count` on are padding, whatever is written there.

        Returns:
            sum(w * bce) and sum(w), float32 scalars; both 0 without a real target of any weight.
        """
        real = tf.sequence_mask(count, tf.shape(labels)[1])
        labels, logits, weights = (tf.boolean_mask(values, real) for values in (labels, logits, weights))
        if self.class_weights is not None:
            weights *= tf.gather(tf.constant(self.class_weights, tf.float32), tf.cast(labels, tf.int32))
        logits = tf.cast(logits, tf.float32)
        total = self._task(labels=labels[:, None], predictions=logits[:, None], sample_weight=weights)
        return total, tf.reduce_sum(weights)
