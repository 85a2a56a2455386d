"""SIM Soft as SIM trains it: inner products of learned projections, learned by predicting clicks beside the network.

    r_i = (W_b e_i) . (W_a e_a),   U = sum_i r_i e_i,   logit = MLP([U, e_a])

The search learns W_a and W_b from the click loss of its own small network on the soft sum U over all behaviours.

References:
    Search-based User Interest Modeling, arXiv 2006.05639, section 3.1, equations 2 and 3.
"""

from collections.abc import Mapping
from typing import Any

from twin_tf.config import ModelConfig
from twin_tf.core.keras_api import keras, tf
from twin_tf.features.schema import FeatureSchema
from twin_tf.layers.projection import project
from twin_tf.search.protocol import LearnedSearch, SearchInputs

HIDDEN = 32
"""Width of the search's own network."""


@keras.utils.register_keras_serializable("twin_tf")
class SoftSearch(keras.layers.Layer):
    """W_a, W_b and the network on the soft sum.

    Args:
        width: H, of the items.
        size: of a projection.
        seed: of the start.
    """

    def __init__(self, width: int, size: int, seed: int, name: str = "soft_search") -> None:
        super().__init__(name=name)
        self._settings = {"width": width, "size": size, "seed": seed}
        start = keras.initializers.RandomNormal(stddev=float(width) ** -0.5, seed=seed)
        # Equal at the start, so that similar items attract from the first step, as in TWIN's own kernels.
        self.target_kernel = self.add_weight("target_kernel", (width, size), initializer=start)
        self.item_kernel = self.add_weight("item_kernel", (width, size), initializer=start)
        glorot = [keras.initializers.GlorotUniform(seed=seed + place) for place in (1, 2)]
        self.hidden = keras.layers.Dense(HIDDEN, "relu", kernel_initializer=glorot[0], name="hidden")
        self.logit = keras.layers.Dense(1, kernel_initializer=glorot[1], name="logit")
        self.hidden.build((None, 2 * width))
        self.logit.build((None, HIDDEN))

    def call(self, target: tf.Tensor, behaviour: tf.Tensor) -> tf.Tensor:
        """r: float `(B, C, H)` and `(B, W, H)` -> `(B, C, W)`."""
        return tf.matmul(project(target, self.target_kernel), project(behaviour, self.item_kernel), transpose_b=True)

    def predict(self, target: tf.Tensor, behaviour: tf.Tensor, seen: tf.Tensor) -> tf.Tensor:
        """The logit on the soft sum over what is seen, by its number: float `(B, C)`."""
        relevance = self(target, behaviour) * seen / tf.maximum(tf.reduce_sum(seen, axis=-1, keepdims=True), 1.0)
        mixed = tf.concat([tf.matmul(relevance, behaviour), target], axis=-1)
        return self.logit(self.hidden(mixed))[..., 0]

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same layer."""
        return {"name": self.name, **self._settings}


class SimSoftLearnedSearch(LearnedSearch):
    """The `top_k` behaviours with the largest r.

    Args:
        top_k: K.
        history_length: L.
        width: H, of the items.
        size: of a projection.
        seed: of the start.
    """

    name = "sim_soft_learned"
    learns = True

    def __init__(self, top_k: int, history_length: int, width: int, size: int, seed: int) -> None:
        super().__init__(top_k, history_length)
        self.width, self.size, self.seed = width, size, seed
        self.layer: SoftSearch = SoftSearch(width, size, seed)

    @classmethod
    def arguments(cls, config: ModelConfig, schema: FeatureSchema, width: int, seed: int) -> Mapping[str, Any]:
        """Width, size and seed."""
        return {"width": width, "size": config.heads * config.head_size, "seed": seed}

    def scores(self, inputs: SearchInputs) -> tf.Tensor:
        """See `ScoredSearch`."""
        return self.layer(inputs.embed(inputs.target), inputs.embed(inputs.behaviour))

    def auxiliary_logit(self, inputs: SearchInputs) -> tf.Tensor:
        """See `LearnedSearch`. Gradients reach the search's own weights alone: embeddings are the network's."""
        target, behaviour = (tf.stop_gradient(inputs.embed(rows)) for rows in (inputs.target, inputs.behaviour))
        seen = tf.cast(inputs.visible(), tf.float32)
        return self.layer.predict(target, behaviour, seen)

    def get_config(self) -> dict[str, Any]:
        """See `SearchStrategy`."""
        return {**super().get_config(), "width": self.width, "size": self.size, "seed": self.seed}
