"""SIM Soft with pretrained embeddings: the largest inner products of frozen item embeddings.

References:
    Search-based User Interest Modeling, arXiv 2006.05639, section 3.1; TWIN's table calls it SIM Soft.
"""

from twin_tf.config import ModelConfig
from twin_tf.core.keras_api import tf
from twin_tf.search.protocol import ScoredSearch, SearchInputs, Vectors


class SimSoftSearch(ScoredSearch):
    """The `top_k` behaviours whose items' frozen embeddings have the largest inner product with the target's."""

    name = "sim_soft"
    needs_embeddings = True

    @classmethod
    def item_state(cls, vectors: Vectors, config: ModelConfig, seed: int) -> Vectors:
        """The embeddings as they are."""
        return vectors

    def scores(self, inputs: SearchInputs) -> tf.Tensor:
        """See `ScoredSearch`."""
        return tf.matmul(inputs.vectors(inputs.target), inputs.vectors(inputs.behaviour), transpose_b=True)
