"""SDIM's sampling as a search: behaviours by the number of hash rounds in which they collide with the target.

The bits of a SimHash signature are cut into rounds of tau bits; a behaviour collides in a round if all its bits are the
target's. Where SDIM averages what collides, here the ESU attends to it, as to every other search's retrieved
behaviours.

References:
    Sampling Is All You Need on Modeling Long-Term User Behaviors for CTR Prediction, arXiv 2205.10249, section 4.
"""

from collections.abc import Mapping
from typing import Any

from twin_tf.config import ModelConfig
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FeatureSchema
from twin_tf.search.eta import random_planes, signs
from twin_tf.search.protocol import ScoredSearch, SearchInputs


class SdimSearch(ScoredSearch):
    """The `top_k` behaviours that collide with the target in most rounds; of equal ones the more recent.

    Args:
        top_k: K.
        history_length: L.
        width: H, of the embeddings.
        bits: m, of all rounds together.
        round_bits: tau, of a round.
        seed: of the hyperplanes.
    """

    name = "sdim"
    uses_random_projection = True

    def __init__(self, top_k: int, history_length: int, width: int, bits: int, round_bits: int, seed: int) -> None:
        super().__init__(top_k, history_length)
        if round_bits < 1 or bits % round_bits:
            raise ConfigError(f"model.searches.sdim.bits {bits} must be a multiple of round_bits {round_bits}")
        self.width, self.bits, self.round_bits, self.seed = width, bits, round_bits, seed
        self.planes = random_planes(width, bits, seed)

    @classmethod
    def arguments(cls, config: ModelConfig, schema: FeatureSchema, width: int, seed: int) -> Mapping[str, Any]:
        """Width, bits and seed."""
        own = config.searches.sdim
        return {"width": width, "bits": own.bits, "round_bits": own.round_bits, "seed": seed}

    def scores(self, inputs: SearchInputs) -> tf.Tensor:
        """See `ScoredSearch`: rounds in which all bits are equal."""
        target, behaviour = (self._codes(inputs.embed(rows)) for rows in (inputs.target, inputs.behaviour))
        return tf.matmul(target, behaviour, transpose_b=True)

    def _codes(self, embeddings: tf.Tensor) -> tf.Tensor:
        """One-hot codes of all rounds side by side, so that a product counts collisions."""
        side = tf.cast(signs(embeddings, self.planes) > 0, tf.int32)
        shape, rounds = tf.shape(side), self.bits // self.round_bits
        by_round = tf.reshape(side, tf.concat([shape[:-1], [rounds, self.round_bits]], axis=0))
        code = tf.reduce_sum(by_round * tf.constant([1 << bit for bit in range(self.round_bits)]), axis=-1)
        one_hot = tf.one_hot(code, 1 << self.round_bits)
        return tf.reshape(one_hot, tf.concat([shape[:-1], [rounds << self.round_bits]], axis=0))

    def get_config(self) -> dict[str, Any]:
        """See `SearchStrategy`."""
        mine = {"width": self.width, "bits": self.bits, "round_bits": self.round_bits, "seed": self.seed}
        return {**super().get_config(), **mine}
