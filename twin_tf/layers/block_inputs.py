"""What passes between the steps of an attention block."""

from collections.abc import Mapping
from typing import NamedTuple

from twin_tf.core.keras_api import tf
from twin_tf.layers.cross_features import CrossRows
from twin_tf.layers.gsu import Retrieved
from twin_tf.layers.items import Items
from twin_tf.layers.visibility import Visibility


class AttentionOutput(NamedTuple):
    """What a block found out.

    Attributes:
        output: float `(B, C, heads * head_size)`; exactly zero for a user without history.
        relevance_statistics: float `(B, C, 2 * heads)`: log-sum-exp and maximum of the retrieved behaviours' relevance;
            zero without history.
        retrieved: places within the given history.
        relevance: float `(B, C, heads, K)` of the retrieved.
        weights: softmax of `relevance`, the same shape; zero where there is no retrieved behaviour. A null key takes
            its share away.
        self_relevance: float `(B, C, heads)` of the targets, where the block needs it.
        auxiliary_logit: float `(B, C)`, what the search itself predicts, if it learns by that.
    """

    output: tf.Tensor
    relevance_statistics: tf.Tensor
    retrieved: Retrieved
    relevance: tf.Tensor
    weights: tf.Tensor
    self_relevance: tf.Tensor | None = None
    auxiliary_logit: tf.Tensor | None = None


class BlockInputs(NamedTuple):
    """Targets and what they attend to, as all steps of a block need it.

    Attributes:
        visibility: the columns that each target sees.
        target: item rows of the targets, int32 `(B, C)`.
        queries: float `(B, C, heads * head_size)`.
        items: the item halves of the history.
        cross: its cross features, by place in the history.
        self_relevance: float `(B, C, heads)`, see `AttentionOutput`.
        null: float `(B, C, heads)`, the null key's relevance r_0, or None.
        boundaries: relative cross feature -> int32 `(B, C, boundaries)`, the columns where its bucket changes.
    """

    visibility: Visibility
    target: tf.Tensor
    queries: tf.Tensor
    items: Items
    cross: CrossRows
    boundaries: Mapping[str, tf.Tensor]
    self_relevance: tf.Tensor | None = None
    null: tf.Tensor | None = None
