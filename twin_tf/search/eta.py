"""ETA: the smallest Hamming distances between SimHash signatures of the live item embeddings.

Bit i of a signature says on which side of a fixed random hyperplane the embedding lies.

References:
    End-to-End User Behavior Retrieval in Click-Through Rate Prediction Model, arXiv 2108.04468, section 3.3.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from twin_tf.config import ModelConfig
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FeatureSchema
from twin_tf.layers.projection import project
from twin_tf.search.protocol import ScoredSearch, SearchInputs, Vectors


class EtaSearch(ScoredSearch):
    """The `top_k` behaviours whose signatures differ from the target's in the fewest bits.

    Args:
        top_k: K.
        history_length: L.
        width: H, of the embeddings.
        bits: m, of a signature.
        seed: of the hyperplanes.
    """

    name = "eta"
    uses_random_projection = True

    def __init__(self, top_k: int, history_length: int, width: int, bits: int, seed: int) -> None:
        super().__init__(top_k, history_length)
        self.width, self.bits, self.seed = width, bits, seed
        self.planes = random_planes(width, bits, seed)

    @classmethod
    def arguments(cls, config: ModelConfig, schema: FeatureSchema, width: int, seed: int) -> Mapping[str, Any]:
        """Width, bits and seed."""
        return {"width": width, "bits": config.searches.eta.bits, "seed": seed}

    def scores(self, inputs: SearchInputs) -> tf.Tensor:
        """See `ScoredSearch`: equal bits minus different ones."""
        target, behaviour = (signs(inputs.embed(rows), self.planes) for rows in (inputs.target, inputs.behaviour))
        return tf.matmul(target, behaviour, transpose_b=True)

    def get_config(self) -> dict[str, Any]:
        """See `SearchStrategy`."""
        return {**super().get_config(), "width": self.width, "bits": self.bits, "seed": self.seed}


def random_planes(width: int, bits: int, seed: int) -> Vectors:
    """Normals of random hyperplanes: float32 `(width, bits)`."""
    return np.random.default_rng(seed).normal(size=(width, bits)).astype(np.float32)


def signs(embeddings: tf.Tensor, planes: Vectors) -> tf.Tensor:
    """The side of each hyperplane: float `(..., width)` -> `(..., bits)`, 1 or -1."""
    return tf.where(project(embeddings, tf.constant(planes)) > 0, 1.0, -1.0)
