"""What behaviours bring besides their items: rows of the cross features' tables, and how many each stands for."""

from collections.abc import Mapping
from typing import NamedTuple

from twin_tf.core.keras_api import tf


class CrossRows(NamedTuple):
    """What `CrossEmbedding.compact` gives, for all or for some behaviours.

    Attributes:
        tables: feature -> float `(rows, dim)`, those relative to the target included.
        indices: feature that belongs to the behaviour alone -> int32 `(B, n)` rows of its table, in the order of the
            features.
        log_count: float `(B, n)`, ln of how many behaviours each stands for (TWIN-V2), or None where each is one.
    """

    tables: Mapping[str, tf.Tensor]
    indices: Mapping[str, tf.Tensor]
    log_count: tf.Tensor | None = None

    def at(self, position: tf.Tensor) -> "CrossRows":
        """The same for the behaviours at int32 `(B, m)` positions."""
        indices = {n: tf.gather(v, position, batch_dims=1) for n, v in self.indices.items()}
        count = self.log_count
        return CrossRows(self.tables, indices, None if count is None else tf.gather(count, position, batch_dims=1))

    def without_cluster_size(self) -> "CrossRows":
        """The same, as if each behaviour stood for itself alone."""
        return self._replace(log_count=None)

    def embeddings(self) -> tf.Tensor | None:
        """E_j of the behaviours' own features, side by side: float `(B, n, width)`; None without any."""
        parts = [tf.gather(self.tables[name], index) for name, index in self.indices.items()]
        return tf.concat(parts, axis=-1) if parts else None
