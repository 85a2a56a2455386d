"""Average pooling: no search, the mean of the whole history."""

from twin_tf.keras_api import tf
from twin_tf.search.protocol import MadeSearch, SearchInputs


class AverageSearch(MadeSearch):
    """One entry: the mean of all behaviours in sight, whatever the target."""

    name = "average"

    def weights(self, inputs: SearchInputs) -> tf.Tensor:
        """See `MadeSearch`."""
        seen = inputs.seen()
        pairs = tf.concat([tf.shape(inputs.target), tf.shape(seen)[2:]], axis=0)
        mean = seen / tf.maximum(tf.reduce_sum(seen, axis=-1, keepdims=True), 1.0)
        return tf.broadcast_to(mean, pairs)[:, :, None, :]
