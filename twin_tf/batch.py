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
        cross: cross feature -> int32 `(B, L)` indices: the stored ones in records and requests; in the blocks all that
            belong to the behaviour alone, see `CrossEmbedding.behaviour_indices`.
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
    """A whole batch.

    Attributes:
        history: behaviours.
        targets: what is to be scored.
        user: user feature -> int32 `(B,)` indices.
        user_id: int64 `(B,)` raw ids.
        label: float32 `(B, C)`, 0 or 1; empty in serving.
        weight: float32 `(B, C)`, how much a target counts in the loss; 1 if the schema weighs none; empty in serving.
    """

    history: History
    targets: Targets
    user: dict[str, tf.Tensor]
    user_id: tf.Tensor
    label: tf.Tensor
    weight: tf.Tensor


def in_sight(history: History, targets: Targets, window: int) -> tuple[History, tf.Tensor]:
    """The history without what no target can see: neither older than the oldest target's window, nor after the last.

    Exact, and worth it where a stretch's targets lie close together or, as in serving, share one moment.

    Args:
        history: behaviours `(B, L)`.
        targets: their `end` and `count` are used.
        window: how many of its latest behaviours each target looks at.

    Returns:
        The cut history `(B, W)`, and for each user the number of behaviours cut off at the front, int32 `(B,)`.
    """
    real = tf.sequence_mask(targets.count, tf.shape(targets.end)[1]) if targets.end.shape[1] != 1 else True
    earliest = tf.reduce_min(tf.where(real, targets.end, history.length[:, None]), axis=1)
    latest = tf.reduce_max(tf.where(real, targets.end, 0), axis=1)
    start = tf.clip_by_value(earliest - window, 0, latest)
    length = latest - start
    columns = tf.shape(history.item)[1]
    width = tf.minimum(tf.maximum(tf.reduce_max(length), 1), columns)
    cut = History(
        item=slice_rows(history.item, start, width),
        time=slice_rows(history.time, start, width),
        cross={name: slice_rows(value, start, width) for name, value in history.cross.items()},
        length=length,
    )
    return cut, start


def slice_rows(values: tf.Tensor, start: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """`width` columns of each row from `start` on; past the end the last column repeats.

    Args:
        values: `(B, L)`.
        start: int `(B,)`.
        width: int scalar.

    Returns:
        `(B, width)`.
    """
    position = tf.minimum(start[:, None] + tf.range(width)[None, :], tf.shape(values)[1] - 1)
    return tf.gather(values, position, batch_dims=1)
