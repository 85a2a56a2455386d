"""The ESU over entries that a search made of the whole history (average pooling, memory).

An entry is a weighted mean of behaviours. K and V are linear, so the entry's are the means of theirs: eq. 6 to 8 apply
to it as to a behaviour.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from twin_tf.keras_api import tf
from twin_tf.layers.gsu import Finalists
from twin_tf.layers.looking import Attended, Looking
from twin_tf.layers.masking import masked_attention
from twin_tf.schema import FIRST_KNOWN

if TYPE_CHECKING:
    from twin_tf.layers.attention_block import AttentionBlock


def attend_to_made(block: "AttentionBlock", looking: Looking, weights: tf.Tensor) -> Attended:
    """Attends to made entries; no behaviour in particular is a finalist.

    Args:
        block: whose relevance and attention.
        looking: the targets and their history.
        weights: how much of each column is in each entry, float `(B, C, M, W)`, see `MadeSearch.weights`.
    """
    relevance, attention = block.relevance, block.attention
    shape = tf.shape(weights)
    users, targets, entries = shape[0], shape[1], shape[2]
    by_user = tf.reshape(weights, [users, targets * entries, shape[3]])
    embedded = looking.items.embed(looking.sight.position)
    items = tf.matmul(by_user, embedded.relevance)
    same = embedded.value is embedded.relevance
    keys = relevance.project_items(items)
    values = attention.project_items(items if same else tf.matmul(by_user, embedded.value))
    own = looking.cross.at(looking.sight.position)
    bias = tf.zeros([users, targets * entries, relevance.heads])
    mixed = [(name, tf.matmul(by_user, tf.gather(own.tables[name], index))) for name, index in own.indices.items()]
    for name, cross in (*mixed, *_relative(looking, weights)):
        values += attention.project_cross(name, cross)
        if relevance.bias:
            flat = relevance.bias_table(name, tf.reshape(cross, [-1, cross.shape[-1]]))
            bias += tf.reshape(flat, tf.shape(bias))
    split = [users, targets, entries, relevance.heads, relevance.head_size]
    queries = tf.transpose(relevance.scaled(looking.queries), [1, 2, 0, 3])[:, :, None]
    alpha = tf.reduce_sum(tf.reshape(keys, split) * queries, axis=-1) + tf.reshape(bias, split[:4])
    alpha = tf.transpose(alpha, [0, 1, 3, 2])
    valid = tf.reduce_sum(weights, axis=-1) > 0.5
    shares, total, largest = masked_attention(alpha, valid[:, :, None])
    pooled = tf.reduce_sum(tf.transpose(shares, [0, 1, 3, 2])[..., None] * tf.reshape(values, split), axis=2)
    output = attention.combine_heads(tf.reshape(pooled, [users, targets, relevance.heads * relevance.head_size]))
    nobody = Finalists(tf.zeros([users, targets, entries], tf.int32), tf.zeros([users, targets, entries], tf.bool))
    return Attended(output, tf.concat([total, largest], axis=-1), nobody, alpha)


def _relative(looking: Looking, weights: tf.Tensor) -> Iterator[tuple[str, tf.Tensor]]:
    """Each feature that is relative to the target, and its mean embedding in every entry: float `(B, C * M, dim)`."""
    shape = tf.shape(weights)
    before = tf.pad(tf.cumsum(weights, axis=-1), [[0, 0], [0, 0], [0, 0], [1, 0]])
    for name, cuts in looking.cuts.items():
        wanted = tf.concat([shape[:3], tf.shape(cuts)[2:]], axis=0)
        reached = tf.gather(before, tf.broadcast_to(cuts[:, :, None, :], wanted), batch_dims=3)
        ends = tf.concat([tf.zeros_like(before[..., :1]), reached, before[..., -1:]], axis=-1)
        table = looking.cross.tables[name][FIRST_KNOWN:]
        steps = tf.shape(table)[0]  # not -1: of no target at all, TensorFlow could not tell
        mass = tf.reshape(ends[..., 1:] - ends[..., :-1], [shape[0] * shape[1] * shape[2], steps])
        yield name, tf.reshape(tf.matmul(mass, table), [shape[0], shape[1] * shape[2], table.shape[-1]])
