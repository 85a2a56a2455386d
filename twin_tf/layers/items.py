"""Where a block gets its behaviours' item halves from: the live weights, or the projection table.

Both answer the same two questions, so the block is one piece of code. `LiveItems` embeds and projects every distinct
item of
a batch once and gathers; `TableItems` gathers ready-made rows of the projection table and projects V for the
finalists alone.
"""

from collections.abc import Callable
from typing import Protocol

from twin_tf.batch import slice_rows
from twin_tf.keras_api import tf
from twin_tf.layers.embeddings import ItemEmbedding, gather_rows

Projection = Callable[[tf.Tensor], tf.Tensor]


class Items(Protocol):
    """The item halves of a batch of histories."""

    def projected(self, project: Projection) -> tf.Tensor:
        """K_h W^h for every behaviour: float `(B, L, heads * head_size)`."""
        ...

    def values(self, project: Projection) -> tf.Tensor | None:
        """K_h W^v for every behaviour, `(B, L, width)`; None where they must be asked for by position."""
        ...

    def values_at(self, project: Projection, position: tf.Tensor) -> tf.Tensor:
        """K_h W^v of single behaviours: int `(B, C, K)` positions -> `(B, C, K, width)`."""
        ...

    def slice(self, start: tf.Tensor, width: tf.Tensor) -> "Items":
        """The same source for `width` behaviours of each user from int `(B,)` `start` on."""
        ...


class LiveItems:
    """From the live weights: each distinct item of the batch is embedded and projected once.

    Args:
        embeddings: float `(distinct, H)`.
        index: int `(B, L)`: behaviour -> row of `embeddings`.
    """

    def __init__(self, embeddings: tf.Tensor, index: tf.Tensor) -> None:
        self._embeddings = embeddings
        self._index = index

    def projected(self, project: Projection) -> tf.Tensor:
        """See `Items`."""
        return tf.gather(project(self._embeddings), self._index)

    def values(self, project: Projection) -> tf.Tensor | None:
        """See `Items`."""
        return tf.gather(project(self._embeddings), self._index)

    def values_at(self, project: Projection, position: tf.Tensor) -> tf.Tensor:
        """See `Items`."""
        return tf.gather(project(self._embeddings), tf.gather(self._index, position, batch_dims=1))

    def slice(self, start: tf.Tensor, width: tf.Tensor) -> "LiveItems":
        """See `Items`."""
        return LiveItems(self._embeddings, slice_rows(self._index, start, width))


class TableItems:
    """From the projection table.

    Args:
        table: float `(items, heads * head_size)`, or None for a block that has none (its few rows are projected live).
        embedding: the item embedding, for V of the finalists.
        rows: int32 `(B, L)` item rows.
    """

    def __init__(self, table: tf.Tensor | None, embedding: ItemEmbedding, rows: tf.Tensor) -> None:
        self._table = table
        self._embedding = embedding
        self._rows = rows

    def projected(self, project: Projection) -> tf.Tensor:
        """See `Items`."""
        if self._table is None:
            return project(self._embedding(self._rows))
        return gather_rows(self._table, self._rows)

    def values(self, project: Projection) -> tf.Tensor | None:
        """See `Items`."""
        return None

    def values_at(self, project: Projection, position: tf.Tensor) -> tf.Tensor:
        """See `Items`."""
        return project(self._embedding(tf.gather(self._rows, position, batch_dims=1)))

    def slice(self, start: tf.Tensor, width: tf.Tensor) -> "TableItems":
        """See `Items`."""
        return TableItems(self._table, self._embedding, slice_rows(self._rows, start, width))
