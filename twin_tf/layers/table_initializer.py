"""Where an embedding table starts: random rows that can be drawn again at any time.

Each row is a pure function of the seed, the table's name and the row's number. So nothing needs to be kept to know
where a trained table started, a resumed run knows it too, and neither other tables nor shards change it.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from twin_tf.core.keras_api import keras, tf

BLOCK_ROWS = 4096
"""Rows that are drawn at a time; another number makes other rows."""


class TableInitializer(keras.initializers.Initializer):
    """Normal numbers with mean 0.

    Args:
        stddev: their standard deviation.
        seed: of the model.
        table: a name that no other table of the model has.

    Example:
        >>> start = TableInitializer(0.05, seed=1, table="item_embedding/video")
        >>> bool(tf.reduce_all(start([9, 4])[5:] == start.rows(5, 9, 4)))
        True
    """

    def __init__(self, stddev: float, seed: int, table: str) -> None:
        self.stddev, self.seed, self.table = float(stddev), seed, table
        digest = hashlib.sha256(f"{seed}/{table}".encode()).digest()
        self._key = int.from_bytes(digest[:8], "big", signed=True)

    def __call__(
        self,
        shape: Sequence[int],
        dtype: tf.DType | None = None,
        partition_shape: Sequence[int] | None = None,
        partition_offset: Sequence[int] | None = None,
        **_: Any,
    ) -> tf.Tensor:
        """The table, or a shard of it: float `(rows, dim)`.

        Args:
            shape: of the whole table.
            dtype: float32 if left out.
            partition_shape: of the shard that a parameter server asks for.
            partition_offset: of its first row.
        """
        rows, dim = partition_shape or shape
        first = partition_offset[0] if partition_offset else 0
        return tf.cast(self.rows(int(first), int(first) + int(rows), int(dim)), dtype or tf.float32)

    def rows(self, first: int, last: int, dim: int) -> tf.Tensor:
        """Rows `first` to `last`, the last left out: float32 `(last - first, dim)`."""
        blocks = range(first // BLOCK_ROWS, -(-last // BLOCK_ROWS))
        drawn = [
            tf.random.stateless_normal([BLOCK_ROWS, dim], [self._key, block], stddev=self.stddev, alg="philox")
            for block in blocks
        ]
        if not drawn:
            return tf.zeros([0, dim])
        skipped = first - blocks[0] * BLOCK_ROWS
        return tf.concat(drawn, axis=0)[skipped : skipped + last - first]

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same initialiser."""
        return {"stddev": self.stddev, "seed": self.seed, "table": self.table}
