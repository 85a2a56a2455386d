"""Id dropout: now and then an item is trained as one whose id nobody knows."""

from typing import NamedTuple

from twin_tf.core.keras_api import tf
from twin_tf.features.schema import PADDING, UNKNOWN

_MIX = 0x5851F42D4C957F2D
"""Odd, with bits all over; a product with it moves low bits up."""


class IdDropout(NamedTuple):
    """Which items of a batch lose their id; the same ones wherever the batch reads them.

    Attributes:
        rate: share of the items.
        seed: int64 scalar, another one for each batch.
    """

    rate: float
    seed: tf.Tensor

    @classmethod
    def of_batch(cls, rate: float, items: tf.Tensor, users: tf.Tensor) -> "IdDropout":
        """Drawn from what the batch holds alone, so that a resumed training draws the same.

        Args:
            rate: share of the items.
            items: int `(B, C)`, the targets' rows.
            users: int64 `(B,)`.
        """
        rows = tf.cast(items, tf.int64)
        order = tf.range(1, tf.size(rows, out_type=tf.int64) + 1)
        return cls(rate, tf.reduce_sum(tf.reshape(rows, [-1]) * order * order) + _mixed(tf.reduce_sum(users)))

    def dropped(self, rows: tf.Tensor) -> tf.Tensor:
        """Whether items lose their id: int `(...)` -> bool `(...)`."""
        number = _mixed(_mixed(tf.cast(rows, tf.int64) + _mixed(self.seed)))
        share = tf.cast(tf.bitwise.bitwise_and(number, (1 << 24) - 1), tf.float32) / float(1 << 24)
        return share < self.rate

    def apply(self, rows: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        """The index of the id's table, `(..., n)`, with the unknown row in place of dropped ones; padding stays."""
        return tf.where(self.dropped(rows)[..., None] & (index != PADDING), UNKNOWN, index)


def _mixed(number: tf.Tensor) -> tf.Tensor:
    """A number whose low bits depend on all bits of the given one, int64."""
    product = number * _MIX
    return tf.bitwise.bitwise_xor(product, tf.bitwise.right_shift(product, 29))
