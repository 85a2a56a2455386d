"""The tensors of one batch: one user, many targets, in training, evaluation and serving alike.

`B` users (record stretches), `L` behaviours (oldest first), `C` targets. Where all targets of a user share a value, as
in serving, their dimension may be 1 instead of C.
"""

from typing import NamedTuple

from twin_tf.core.keras_api import tf


class History(NamedTuple):
    """Behaviours.

    Attributes:
        item: int32 `(B, L)` item rows.
        time: int64 `(B, L)`, in the unit of the logs.
        cross: cross feature -> int32 `(B, L)` indices: the stored ones in records and requests; in the blocks all that
            belong to the behaviour alone, see `CrossEmbedding.behaviour_indices`.
        length: int32 `(B,)`; positions from `length` on are padding.
        count: int32 `(B, L)`, how many behaviours each stands for: the size of a cluster (TWIN-V2), else 1.
    """

    item: tf.Tensor
    time: tf.Tensor
    cross: dict[str, tf.Tensor]
    length: tf.Tensor
    count: tf.Tensor

    def behaviours_before(self, end: tf.Tensor) -> tf.Tensor:
        """How many behaviours the first `end` entries stand for, clusters with their sizes: int64, shaped as `end`."""
        total = tf.cumsum(tf.cast(self.count, tf.int64), axis=1)
        return tf.gather(tf.pad(total, [[0, 0], [1, 0]]), end, batch_dims=1)


class Targets(NamedTuple):
    """What is to be scored.

    Attributes:
        item: int32 `(B, C)` item rows.
        time: int64 `(B, C)` or `(B, 1)`.
        end: int32 `(B, C)` or `(B, 1)`: how many behaviours precede the target.
        context: stored context or candidate feature -> int32 `(B, C)`, `(B, 1)` or `(1, 1)`.
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
