"""Cross features of some behaviours: tables of embeddings, and which row each behaviour has."""

from collections.abc import Mapping
from typing import NamedTuple

from twin_tf.keras_api import tf


class CrossRows(NamedTuple):
    """What `CrossEmbedding.compact` gives, for all or for some behaviours.

    Attributes:
        tables: feature -> float `(rows, dim)`, those relative to the target included.
        indices: feature that belongs to the behaviour alone -> int32 `(B, n)` rows of its table, in the order of the
            features.
    """

    tables: Mapping[str, tf.Tensor]
    indices: Mapping[str, tf.Tensor]

    def at(self, position: tf.Tensor) -> "CrossRows":
        """The same for the behaviours at int32 `(B, m)` positions."""
        return self._replace(indices={n: tf.gather(v, position, batch_dims=1) for n, v in self.indices.items()})

    def embeddings(self) -> tf.Tensor | None:
        """E_j of the behaviours' own features, side by side: float `(B, n, width)`; None without any."""
        parts = [tf.gather(self.tables[name], index) for name, index in self.indices.items()]
        return tf.concat(parts, axis=-1) if parts else None
