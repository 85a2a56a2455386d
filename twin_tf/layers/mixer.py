"""The mixer: all that is known of a target, through feature crosses (if wanted) and dense layers, to one logit."""

from collections.abc import Sequence
from typing import Any

from twin_tf.core.keras_api import keras, tf, tfrs


@keras.utils.register_keras_serializable("twin_tf")
class Mixer(keras.layers.Layer):
    """Stacked dense + ReLU layers under one logit; feature crosses, if any, stand between them and the input.

    A cross computes `x_{i+1} = x_0 * (W x_i + b) + x_i` with `x_0` the mixer's input: products of features, which
    dense layers would have to learn piece by piece.

    Args:
        widths: of the dense layers.
        crosses: how many crosses; the paper has none.
        cross_projection: rank of W (W = U V); None leaves it whole. A quarter of the input's width or less saves work.

    Example:
        >>> Mixer([128, 64], crosses=2)(tf.zeros([8, 64, 200])).shape
        TensorShape([8, 64])

    References:
        [DCN V2](https://arxiv.org/abs/2008.13535), "stacked" structure.
    """

    def __init__(
        self,
        widths: Sequence[int],
        crosses: int = 0,
        cross_projection: int | None = None,
        name: str = "mixer",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.widths = tuple(widths)
        self.cross_projection = cross_projection
        self.crosses = [
            tfrs.layers.dcn.Cross(projection_dim=cross_projection, name=f"cross_{i}") for i in range(crosses)
        ]
        self.dense = [
            keras.layers.Dense(width, activation="relu", name=f"mixer_{i}") for i, width in enumerate(self.widths)
        ]
        self.logit = keras.layers.Dense(1, name="logit")

    def build(self, input_shape: Any) -> None:
        """Makes all weights for an input of shape `(B, C, width)`."""
        width = input_shape[-1]
        for cross in self.crosses:
            cross(tf.zeros([1, 1, width], self.compute_dtype))  # only its first call makes a cross's weights
        for layer in (*self.dense, self.logit):
            layer.build((None, None, width))
            width = layer.units
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Mixes float `(B, C, width)` to logits `(B, C)`."""
        # Never flattened to two dimensions: TensorFlow would fuse product, bias and ReLU, and oneDNN's fused kernel
        # turns NaN into 0, so that a training that has failed would go on.
        mixed = inputs
        for cross in self.crosses:
            mixed = cross(inputs, mixed)
        for layer in (*self.dense, self.logit):
            mixed = layer(mixed)
        return mixed[..., 0]

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same layer."""
        config = {"widths": self.widths, "crosses": len(self.crosses), "cross_projection": self.cross_projection}
        return {**super().get_config(), **config}
