"""DIN's choice: the latest behaviours, whatever the target."""

from twin_tf.core.keras_api import tf
from twin_tf.layers.gsu import Retrieved
from twin_tf.search.protocol import SearchInputs, SearchStrategy


class DinSearch(SearchStrategy):
    """The latest `top_k` behaviours, most recent first."""

    name = "din"

    @property
    def window(self) -> int:
        """No more than it retrieves."""
        return min(self.top_k, self.history_length)

    def find(self, inputs: SearchInputs) -> Retrieved:
        """See `SearchStrategy`."""
        column = inputs.first[..., None] + tf.range(tf.minimum(self.window, inputs.width))
        valid = column < inputs.stop[..., None]
        return Retrieved(position=tf.where(valid, column, 0), valid=valid)
