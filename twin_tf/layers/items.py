"""Where a block gets the item halves of its behaviours from: the live weights, or a table of projections.

The GSU looks at every behaviour and needs no gradient: it gathers rows of `table`. The ESU looks at the retrieved alone
and embeds them itself, unless the table is `exact` (serving) and so already holds what the live weights would say.
"""

from collections.abc import Callable
from typing import NamedTuple

from twin_tf.core.keras_api import tf
from twin_tf.layers.embeddings import ItemEmbedding, gather_rows

Projection = Callable[[tf.Tensor], tf.Tensor]
Embed = Callable[[tf.Tensor], tf.Tensor]
"""Item rows, int `(...)`, -> K_h, float `(..., H)`; an `ItemEmbedding`, or a look-up of given embeddings."""


class EmbeddedItems(NamedTuple):
    """Item embeddings float `(B, n, H)`: for eq. 6, and for V. The same tensor unless embeddings are decoupled."""

    relevance: tf.Tensor
    value: tf.Tensor


class Items:
    """The item halves of a batch of histories.

    Args:
        relevance: item rows to the K_h of eq. 6.
        value: item rows to the K_h of V; usually the same layer.
        rows: int32 `(B, L)` item rows.
        table: projections of all items, `(items, heads * head_size)` of any float type; None projects the batch's
            distinct items.
        exact: whether `table` is what the live weights say now, as far as its type can hold it. Both stages then read
            it, so a rounded table moves them alike and they stay twins.
        state: what a search keeps of each item, `(items, n)`, if it does.
    """

    def __init__(
        self,
        relevance: Embed,
        value: Embed,
        rows: tf.Tensor,
        table: tf.Tensor | None = None,
        *,
        exact: bool = False,
        state: tf.Variable | None = None,
    ) -> None:
        self._relevance = relevance
        self._value = value
        self._rows = rows
        self._table = table
        self._state = state
        self.exact = exact and table is not None

    def searched(self, project: Projection, position: tf.Tensor) -> tf.Tensor:
        """K_h W^h of the behaviours at `(B, W)` positions, without gradient: float32 `(B, W, heads * head_size)`."""
        if self._table is not None:
            return self._held(position)
        distinct, index = tf.unique(tf.reshape(self._rows, [-1]))
        table = tf.stop_gradient(project(self._relevance(distinct)))
        index = tf.reshape(index, tf.shape(self._rows))
        return tf.gather(table, tf.gather(index, position, batch_dims=1))

    def projected(self, position: tf.Tensor) -> tf.Tensor | None:
        """K_h W^h of the behaviours at `(B, U)` positions where an exact table holds it: float `(B, U, width)`."""
        return self._held(position) if self.exact else None

    def of_targets(self, project: Projection, rows: tf.Tensor, embedded: tf.Tensor) -> tf.Tensor:
        """K_h W^h of targets, from an exact table or with gradient: float `(B, C, heads * head_size)`.

        Args:
            project: computes it of item embeddings.
            rows: item rows of the targets, int32 `(B, C)`.
            embedded: their item embeddings, float `(B, C, H)`.
        """
        return self._rows_held(rows) if self.exact else project(embedded)

    def _held(self, position: tf.Tensor) -> tf.Tensor:
        return self._rows_held(self.rows_at(position))

    def _rows_held(self, rows: tf.Tensor) -> tf.Tensor:
        """What the table holds; out of range it is the unknown item's row."""
        return tf.cast(gather_rows(self._table, rows), tf.float32)

    def rows_at(self, position: tf.Tensor) -> tf.Tensor:
        """Item rows of the behaviours at `(B, n)` positions."""
        return tf.gather(self._rows, position, batch_dims=1)

    def embed_rows(self, rows: tf.Tensor) -> tf.Tensor:
        """K_h of eq. 6 of item rows, with gradient: float `(..., H)`."""
        return self._relevance(rows)

    def features(self, rows: tf.Tensor) -> tf.Tensor:
        """Feature indices of item rows: int32 `(..., columns)`."""
        if not isinstance(self._relevance, ItemEmbedding):
            raise ValueError("this search looks at the features of items, and only their embeddings are given")
        return gather_rows(self._relevance.item_features, rows)

    def state(self, rows: tf.Tensor) -> tf.Tensor:
        """What the search keeps of items; of those that it does not know, what it keeps of an unknown one."""
        if self._state is None:
            raise ValueError("this search keeps nothing of items")
        return gather_rows(self._state, rows)

    def embed(self, position: tf.Tensor) -> EmbeddedItems:
        """K_h of the behaviours at `(B, n)` positions, with gradient."""
        rows = self.rows_at(position)
        relevance = self._relevance(rows)
        return EmbeddedItems(relevance, relevance if self._value is self._relevance else self._value(rows))
