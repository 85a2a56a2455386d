"""UBR4CTR's retrieval: BM25 over the user's own behaviours, with the target's inherent features as the query.

A behaviour is a document whose terms are the values of its item's inherent features; how rare a term is, the user's own
behaviours say. UBR4CTR learns which features to ask for; here the query holds all of them.

References:
    User Behavior Retrieval for Click-Through Rate Prediction, arXiv 2005.14171, section 3.2.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from twin_tf.config import ModelConfig
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FIRST_KNOWN, FeatureSchema
from twin_tf.layers.equality_bias import shares_value
from twin_tf.layers.masking import MASKED_SCORE
from twin_tf.search.protocol import ScoredSearch, SearchInputs

K1, B = 1.2, 0.75


class Ubr4ctrSearch(ScoredSearch):
    """The `top_k` behaviours with the highest BM25 scores above zero.

    Args:
        top_k: K.
        history_length: L.
        spans: first and one past the last column of each inherent feature.
    """

    name = "ubr4ctr"

    def __init__(self, top_k: int, history_length: int, spans: Sequence[Sequence[int]]) -> None:
        super().__init__(top_k, history_length)
        self.spans = tuple((span[0], span[1]) for span in spans)

    @classmethod
    def arguments(cls, config: ModelConfig, schema: FeatureSchema, width: int, seed: int) -> Mapping[str, Any]:
        """Where the features are."""
        return {"spans": [(part.start, part.stop) for part in schema.inherent_slices.values()]}

    def scores(self, inputs: SearchInputs) -> tf.Tensor:
        """See `ScoredSearch`.

        Of a term t of the query that n of the N visible documents hold: ln(1 + (N - n + 1/2) / (n + 1/2)), times
        (k1 + 1) / (1 + k1 (1 - b + b length / mean length)), for every term occurs at most once in a document.
        """
        target, behaviour = inputs.features(inputs.target), inputs.features(inputs.behaviour)
        seen = tf.cast(inputs.visible(), tf.float32)
        documents = tf.reduce_sum(seen, axis=-1, keepdims=True)
        length = tf.reduce_sum(tf.cast(behaviour >= FIRST_KNOWN, tf.float32), axis=-1)[:, None, :]
        mean_length = tf.reduce_sum(length * seen, axis=-1, keepdims=True) / tf.maximum(documents, 1.0)
        norm = (K1 + 1.0) / (1.0 + K1 * (1.0 - B + B * length / tf.maximum(mean_length, 1e-6)))
        total = 0.0
        for first, stop in self.spans:
            for column in range(first, stop):
                match = tf.cast(shares_value(target[..., column : column + 1], behaviour[..., first:stop]), tf.float32)
                held = tf.reduce_sum(match * seen, axis=-1, keepdims=True)
                total += match * tf.math.log1p((documents - held + 0.5) / (held + 0.5))
        return tf.where(total > 0.0, total * norm, MASKED_SCORE)

    def get_config(self) -> dict[str, Any]:
        """See `SearchStrategy`."""
        return {**super().get_config(), "spans": [list(span) for span in self.spans]}
