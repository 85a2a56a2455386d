"""The ESU over entries that a search made of the whole history (average pooling, memory).

An entry is a weighted mean of behaviours. K and V are linear, so the entry's are the means of theirs: eq. 6 to 8 apply
to it as to a behaviour.
"""

from collections.abc import Iterator

from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FIRST_KNOWN
from twin_tf.layers.block_inputs import AttentionOutput, BlockInputs
from twin_tf.layers.esu import TargetAttention
from twin_tf.layers.gsu import Retrieved
from twin_tf.layers.masking import masked_attention
from twin_tf.layers.null_key import attended_share
from twin_tf.layers.range_sums import range_masses, range_sums
from twin_tf.layers.relevance import Relevance

LEAST_MASS = 1e-9
"""An entry with less is empty."""


def attend_to_entries(
    relevance: Relevance, attention: TargetAttention, block: BlockInputs, mass: tf.Tensor
) -> AttentionOutput:
    """Attends to made entries; no behaviour in particular is a retrieved behaviour.

    Args:
        relevance: eq. 6.
        attention: eq. 7 and 8.
        block: the targets and their history.
        mass: how much of each column goes into each entry, float `(B, W, M)`.
    """
    visibility = block.visibility
    real = tf.range(tf.shape(mass)[1]) < visibility.latest[:, None]  # columns behind the history's start are padding
    mass = tf.where(real[..., None], mass, 0.0)
    total = range_masses(mass, tf.stack([visibility.first, visibility.stop], axis=-1))[:, :, 0]
    scale = 1.0 / tf.maximum(total, LEAST_MASS)

    embedded = block.items.embed(visibility.position)
    own = block.cross.at(visibility.position)
    parts = [embedded.relevance, *(tf.gather(own.tables[name], index) for name, index in own.indices.items())]
    if embedded.value is not embedded.relevance:
        parts.append(embedded.value)
    means = range_sums(mass, tf.concat(parts, axis=-1), visibility.first, visibility.stop) * scale[..., None]
    items, *mixed = tf.split(means, [part.shape[-1] for part in parts], axis=-1)

    keys = relevance.project_items(items)
    values = attention.project_items(items if len(mixed) == len(own.indices) else mixed[-1])
    bias = tf.zeros([1, 1, 1, relevance.heads])
    for name, cross in (*zip(own.indices, mixed, strict=False), *_relative(block, mass, scale)):
        values += attention.project_cross(name, cross)
        if relevance.bias:
            flat = relevance.bias_table(name, tf.reshape(cross, [-1, cross.shape[-1]]))
            bias += tf.reshape(flat, tf.concat([tf.shape(cross)[:3], [relevance.heads]], axis=0))

    heads = [relevance.heads, relevance.head_size]
    keys = tf.reshape(keys, tf.concat([tf.shape(keys)[:3], heads], axis=0))
    values = tf.reshape(values, tf.concat([tf.shape(values)[:3], heads], axis=0))
    queries = tf.transpose(relevance.scaled(block.queries), [1, 2, 0, 3])[:, :, None]
    alpha = tf.reduce_sum(keys * queries, axis=-1) + bias
    alpha = tf.transpose(alpha, [0, 1, 3, 2])
    shares, log_sum, largest = masked_attention(alpha, (total > LEAST_MASS)[:, :, None])
    if block.null is not None:
        shares *= attended_share(log_sum, block.null)[..., None]
    pooled = tf.reduce_sum(tf.transpose(shares, [0, 1, 3, 2])[..., None] * values, axis=2)
    shape = tf.shape(alpha)
    output = attention.combine_heads(tf.reshape(pooled, [shape[0], shape[1], heads[0] * heads[1]]))
    nothing = tf.zeros([shape[0], shape[1], shape[3]], tf.int32)
    return AttentionOutput(
        output,
        tf.concat([log_sum, largest], axis=-1),
        Retrieved(nothing, tf.zeros_like(nothing, tf.bool)),
        alpha,
        shares,
        block.self_relevance,
    )


def _relative(block: BlockInputs, mass: tf.Tensor, scale: tf.Tensor) -> Iterator[tuple[str, tf.Tensor]]:
    """Each feature that is relative to the target, and its mean embedding in every entry: float `(B, C, M, dim)`."""
    first, stop = block.visibility.first[..., None], block.visibility.stop[..., None]
    for name, boundaries in block.boundaries.items():
        # Targets may see the same behaviours, their moment, both or neither.
        within = tf.minimum(tf.maximum(boundaries, first), stop)
        ends = tf.concat([first + 0 * within[..., :1], within, stop + 0 * within[..., :1]], axis=-1)
        shares = tf.transpose(range_masses(mass, ends), [0, 1, 3, 2]) * scale[..., None]
        table, shape = block.cross.tables[name][FIRST_KNOWN:], tf.shape(shares)
        mean = tf.matmul(tf.reshape(shares, [shape[0] * shape[1] * shape[2], shape[3]]), table)
        yield name, tf.reshape(mean, [shape[0], shape[1], shape[2], table.shape[-1]])
