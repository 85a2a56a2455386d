"""What the targets of a user see: columns, newest first.

Newest first, because recent behaviours tend to be the most relevant and a top-k that meets the best scores early is up
to three times faster than one that meets them last.
"""

from typing import NamedTuple

from twin_tf.core.keras_api import tf
from twin_tf.records.batch import History, Targets

CELL = 16
"""Columns come in multiples of this, see `twin_tf.layers.bucket_bias`."""


class Visibility(NamedTuple):
    """The columns of a batch, and which of them each target sees.

    Column j of a user is the behaviour `latest - 1 - j`, where `latest` is what the user's last target sees. A target
    sees the columns `[first, stop)`; nothing older than the oldest target's window has a column.

    Attributes:
        position: int32 `(B, W)` the column's place in the history; 0 where the history is shorter.
        first: int32 `(B, C)` or `(B, 1)`.
        stop: int32 like `first`.
        latest: int32 `(B,)`.
        width: how many columns any user of the batch needs; W is `width` rounded up to a multiple of `CELL`.
    """

    position: tf.Tensor
    first: tf.Tensor
    stop: tf.Tensor
    latest: tf.Tensor
    width: tf.Tensor

    def gather_retrieved(self, values: tf.Tensor) -> tf.Tensor:
        """`(B, L)` by place in the history -> `(B, W)` by column."""
        return tf.gather(values, self.position, batch_dims=1)


def visibility_of(history: History, targets: Targets, window: int) -> Visibility:
    """The columns that some target sees.

    Args:
        history: behaviours `(B, L)`, oldest first.
        targets: their `end` and `count` are used.
        window: how many of its latest behaviours each target looks at.
    """
    end = tf.clip_by_value(targets.end, 0, history.length[:, None])
    real = tf.sequence_mask(targets.count, tf.shape(end)[1]) if end.shape[1] != 1 else True
    latest = tf.maximum(tf.reduce_max(tf.where(real, end, 0), axis=1), 0)  # without any target the maximum is negative
    end = tf.minimum(end, latest[:, None])
    earliest = tf.reduce_min(tf.where(real, tf.maximum(end - window, 0), latest[:, None]), axis=1)
    width = tf.maximum(tf.reduce_max(latest - earliest), 1)
    padded = (width + CELL - 1) // CELL * CELL
    position = tf.maximum(latest[:, None] - 1 - tf.range(padded)[None, :], 0)
    first = latest[:, None] - end
    stop = first + tf.minimum(end, window)
    # Targets that are padding may end anywhere; a real one never reaches behind the last column.
    return Visibility(position, tf.minimum(first, padded), tf.minimum(stop, padded), latest, width)
