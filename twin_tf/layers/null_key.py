"""Attention that may look at nothing: a key without a value beside those of the behaviours.

    r_0 = w_a * (relevance of the target to itself) + b_a                            for head a
    weight_i = exp(alpha_i) / (exp(r_0) + sum_j exp(alpha_j))

The size of the output then says how much there was to look at. With b_a = -infinity it is the paper's softmax.
"""

from typing import Any

from twin_tf.core.keras_api import keras, tf

START = -4.0
"""b_a at the start: a single irrelevant behaviour (relevance 0) still gets 98 % of the weight."""


@keras.utils.register_keras_serializable("twin_tf")
class NullKey(keras.layers.Layer):
    """w_a and b_a of all heads.

    Args:
        heads: A.
    """

    def __init__(self, heads: int, name: str = "null_key") -> None:
        super().__init__(name=name)
        self.heads = heads
        self.scale = self.add_weight("scale", (heads,), initializer="zeros")
        self.offset = self.add_weight("offset", (heads,), initializer=keras.initializers.Constant(START))

    def call(self, self_relevance: tf.Tensor) -> tf.Tensor:
        """r_0 of every target: float `(B, C, heads)` -> the same shape."""
        return self.scale * self_relevance + self.offset

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same layer."""
        return {"heads": self.heads, "name": self.name}


def attended_share(log_sum: tf.Tensor, null: tf.Tensor) -> tf.Tensor:
    """What the null key leaves to the behaviours: sum_j exp(alpha_j) / (exp(r_0) + sum_j exp(alpha_j)).

    Args:
        log_sum: ln of the first sum, any shape.
        null: r_0, likewise.
    """
    return tf.sigmoid(log_sum - null)
