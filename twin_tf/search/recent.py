"""DIN's choice: the latest behaviours, whatever the target."""

from twin_tf.keras_api import tf
from twin_tf.layers.gsu import Finalists
from twin_tf.search.protocol import SearchInputs, SearchStrategy


class RecentSearch(SearchStrategy):
    """The latest `retrieved` behaviours, most recent first."""

    @property
    def window(self) -> int:
        """No more than it retrieves."""
        return min(self.retrieved, self.history_length)

    def find(self, inputs: SearchInputs) -> Finalists:
        """See `SearchStrategy`."""
        back = tf.range(tf.minimum(self.window, inputs.columns))
        position = inputs.end[..., None] - 1 - back
        return Finalists(position=tf.maximum(position, 0), valid=position >= 0)
