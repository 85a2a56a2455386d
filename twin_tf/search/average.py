"""Average pooling: no search, the mean of the whole history."""

from twin_tf.core.keras_api import tf
from twin_tf.search.protocol import MadeSearch, SearchInputs


class AverageSearch(MadeSearch):
    """One entry: the mean of all visible behaviours, whatever the target."""

    name = "average"

    def shares(self, inputs: SearchInputs) -> tf.Tensor:
        """See `MadeSearch`."""
        return tf.ones_like(inputs.count)[..., None]
