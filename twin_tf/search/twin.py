"""TWIN's own search (CP-GSU): the ESU's metric, merged over the heads. The stages are twins."""

from twin_tf.core.keras_api import tf
from twin_tf.layers.gsu import Retrieved, merge_heads
from twin_tf.search.protocol import SearchInputs, SearchStrategy


class TwinSearch(SearchStrategy):
    """The `top_k` behaviours of highest relevance by the very metric that the ESU attends with.

    With a null key, what lies below it in every head is left out: fewer may remain.
    """

    name = "twin"

    def find(self, inputs: SearchInputs) -> Retrieved:
        """See `SearchStrategy`."""
        return merge_heads(inputs.relevance(), tf.minimum(self.top_k, inputs.width), inputs.floor)
