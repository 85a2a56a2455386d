"""What it adds to the relevance that behaviour and target have the same value of a feature.

    alpha_i += sum_f e_{a,f} [f(behaviour i) = f(target)]                              for head a

Whole numbers are compared, so an item that was never trained has it too. Padding and unknown equal nothing.
"""

from collections.abc import Sequence
from typing import Any

from twin_tf.core.keras_api import keras, tf
from twin_tf.features.schema import FIRST_KNOWN

MOST_FEATURES = 12
"""The layer makes a number for each of the 2^features ways to agree."""


@keras.utils.register_keras_serializable("twin_tf")
class EqualityBias(keras.layers.Layer):
    """e of all heads and inherent features.

    Args:
        heads: A.
        columns: first and one past the last column of each inherent feature, see `FeatureSchema.inherent_slices`.
    """

    def __init__(self, heads: int, columns: Sequence[tuple[int, int]], name: str = "equality_bias") -> None:
        super().__init__(name=name)
        self.heads, self.columns = heads, [(first, stop) for first, stop in columns]
        self.kernel = self.add_weight("kernel", (len(self.columns), heads), initializer="zeros")

    def codes(self, target: tf.Tensor, behaviour: tf.Tensor) -> tf.Tensor:
        """Which features every pair has in common, a bit a feature: int32 `(B, C, n)`.

        Args:
            target: feature indices of the targets' items, int32 `(B, C, columns)`.
            behaviour: likewise of the behaviours' items, `(B, n, columns)`.
        """
        code = tf.zeros_like(behaviour[:, None, :, 0])
        for place, (first, stop) in enumerate(self.columns):
            same = shares_value(target[..., first:stop], behaviour[..., first:stop])
            code += tf.cast(same, tf.int32) * (1 << place)
        return code

    def call(self, codes: tf.Tensor) -> tf.Tensor:
        """What pairs with these features in common gain: int32 of any shape -> float `(heads, *shape)`.

        One look-up for all features: each of the 2^features sums of e is made once.
        """
        features = range(len(self.columns))
        bits = tf.constant([[code >> place & 1 for place in features] for code in range(1 << len(self.columns))])
        sums = tf.matmul(tf.cast(bits, self.kernel.dtype), self.kernel)
        return tf.stack([tf.gather(sums[:, head], codes) for head in range(self.heads)])

    def of_itself(self, target: tf.Tensor) -> tf.Tensor:
        """What a target has in common with itself: int32 `(B, C, columns)` -> float `(B, C, heads)`."""
        known = [tf.reduce_any(target[..., first:stop] >= FIRST_KNOWN, axis=-1) for first, stop in self.columns]
        return tf.tensordot(tf.cast(tf.stack(known, axis=-1), self.kernel.dtype), self.kernel, 1)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same layer."""
        return {"heads": self.heads, "columns": [list(pair) for pair in self.columns], "name": self.name}


def shares_value(target: tf.Tensor, behaviour: tf.Tensor) -> tf.Tensor:
    """Whether a target and a behaviour have a known value in common.

    Args:
        target: indices, int32 `(B, C, values)`.
        behaviour: likewise `(B, n, values)`.

    Returns:
        bool `(B, C, n)`.
    """
    found = None
    for mine in tf.unstack(target, axis=-1):
        for theirs in tf.unstack(behaviour, axis=-1):
            same = (mine[:, :, None] == theirs[:, None, :]) & (mine >= FIRST_KNOWN)[:, :, None]
            found = same if found is None else found | same
    return found
