"""The tensors of one batch: one user, many targets, in training, evaluation and serving alike.

`B` users (record stretches), `L` behaviours (oldest first), `C` targets. Where all targets of a user share a value, as
in serving, their dimension may be 1 instead of C.
"""

from typing import NamedTuple

from twin_tf.keras_api import tf


class History(NamedTuple):
    """Behaviours.

    Attributes:
        item: int32 `(B, L)` item rows.
        time: int64 `(B, L)`, in the unit of the logs.
        cross: stored cross feature -> int32 `(B, L)` indices.
        length: int32 `(B,)`; positions from `length` on are padding.
    """

    item: tf.Tensor
    time: tf.Tensor
    cross: dict[str, tf.Tensor]
    length: tf.Tensor


class Targets(NamedTuple):
    """What is to be scored.

    Attributes:
        item: int32 `(B, C)` item rows.
        time: int64 `(B, C)` or `(B, 1)`.
        end: int32 `(B, C)` or `(B, 1)`: how many behaviours precede the target.
        context: stored context feature -> int32 `(B, C)` or `(B, 1)`.
        count: int32 `(B,)`; targets from `count` on are padding.
    """

    item: tf.Tensor
    time: tf.Tensor
    end: tf.Tensor
    context: dict[str, tf.Tensor]
    count: tf.Tensor


class Batch(NamedTuple):
    """A whole batch; `user` maps user features to int32 `(B,)`; `label` is float32 `(B, C)`, empty in serving."""

    history: History
    targets: Targets
    user: dict[str, tf.Tensor]
    user_id: tf.Tensor
    label: tf.Tensor


def latest(history: History, width: int) -> tuple[History, tf.Tensor]:
    """The history cut to each user's latest `width` behaviours.

    Args:
        history: behaviours `(B, L)`.
        width: how many to keep.

    Returns:
        The cut history `(B, min(width, L))` and the kept positions, int32 of the same shape.
    """
    columns = tf.minimum(width, tf.shape(history.item)[1])
    start = tf.maximum(history.length - columns, 0)
    position = tf.minimum(start[:, None] + tf.range(columns)[None, :], tf.shape(history.item)[1] - 1)
    cut = History(
        item=tf.gather(history.item, position, batch_dims=1),
        time=tf.gather(history.time, position, batch_dims=1),
        cross={name: tf.gather(value, position, batch_dims=1) for name, value in history.cross.items()},
        length=tf.minimum(history.length, columns),
    )
    return cut, position
