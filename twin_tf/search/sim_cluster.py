"""SIM Cluster: the behaviours of the target's own k-means cluster of frozen item embeddings, most recent first.

SIM Cluster+ is the same with ten times the clusters (`model.searches.sim_cluster.clusters`). Both are baselines of
TWIN's table.
"""

import sys
import warnings

import numpy as np

from twin_tf.config import ModelConfig
from twin_tf.core.keras_api import tf
from twin_tf.layers.masking import MASKED_SCORE
from twin_tf.search.protocol import ScoredSearch, SearchInputs, Vectors

NO_CLUSTER = -1.0


class SimClusterSearch(ScoredSearch):
    """The latest `top_k` behaviours with items of the target's cluster."""

    name = "sim_cluster"
    needs_embeddings = True

    @classmethod
    def item_state(cls, vectors: Vectors, config: ModelConfig, seed: int) -> Vectors:
        """The cluster of each item, a column; `NO_CLUSTER` for items whose embedding is zero."""
        from sklearn.cluster import MiniBatchKMeans

        length = np.linalg.norm(vectors, axis=1)
        known = np.flatnonzero(length > 0)
        cluster = np.full((len(vectors), 1), NO_CLUSTER, np.float32)
        if len(known):
            wanted = config.searches.sim_cluster.clusters
            count = min(wanted, len(known))
            if count < wanted:
                print(
                    f"warning: model.searches.sim_cluster.clusters is {wanted:,}, but only {count:,} items have an "
                    "embedding: each is a cluster of its own",
                    file=sys.stderr,
                )
            kmeans = MiniBatchKMeans(count, random_state=seed, n_init=1, batch_size=max(4096, 4 * count), max_iter=20)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # fewer distinct vectors than clusters is no fault
                cluster[known, 0] = kmeans.fit_predict(vectors[known] / length[known, None])
        return cluster

    def scores(self, inputs: SearchInputs) -> tf.Tensor:
        """See `ScoredSearch`."""
        mine, theirs = inputs.vectors(inputs.target), inputs.vectors(inputs.behaviour)[..., 0]
        same = (mine == theirs[:, None, :]) & (mine != NO_CLUSTER)
        return tf.where(same, 0.0, MASKED_SCORE)
