"""Average pooling: no search, the mean of the whole history."""

from twin_tf.core.keras_api import tf
from twin_tf.search.protocol import PoolingSearch, SearchInputs


class AvgPoolingSearch(PoolingSearch):
    """One entry: the mean of all visible behaviours, whatever the target."""

    name = "avg_pooling"

    def assignment_weights(self, inputs: SearchInputs) -> tf.Tensor:
        """See `PoolingSearch`."""
        return tf.ones_like(inputs.count)[..., None]
