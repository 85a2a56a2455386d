"""The GSU's last step: the heads' ranked lists merged into one set of finalists (TWIN, section 4.3).

The walk takes the heads' ranked lists in turn, best first, until `count` unique behaviours are collected: with A
heads the
behaviour i has the key min_a (A * rank_a(i) + a), and the `count` smallest keys win. A per-head top-`count` always
suffices.
"""

from typing import NamedTuple

from twin_tf.keras_api import tf
from twin_tf.layers.masking import MASKED_SCORE


class Finalists(NamedTuple):
    """The behaviours that the GSU hands to the ESU, the same for all heads.

    Attributes:
        position: int32 `(B, C, K)` positions in the history, in the order of the walk; 0 where not valid. C may be 1
            where all targets of a user share them.
        valid: bool `(B, C, K)`.
    """

    position: tf.Tensor
    valid: tf.Tensor


def merge_heads(scores: tf.Tensor, count: int) -> Finalists:
    """The finalists of every target.

    Args:
        scores: float `(B, heads, C, L)`, at most `MASKED_SCORE` where a behaviour may not be seen.
        count: K, how many unique behaviours to collect.

    Returns:
        Finalists `(B, C, min(count, L))`.
    """
    shape = tf.shape(scores)
    batch, heads, targets, length = shape[0], shape[1], shape[2], shape[3]
    kept = tf.minimum(count, length)
    score, position = tf.math.top_k(scores, k=kept)
    walk = heads * kept
    rows = batch * targets
    in_walk_order = [0, 2, 3, 1]
    position = tf.reshape(tf.transpose(position, in_walk_order), [rows, walk])
    seen = tf.reshape(tf.transpose(score, in_walk_order), [rows, walk]) > MASKED_SCORE / 2
    key = tf.zeros_like(position) + tf.range(walk)[None, :]
    flat = tf.reshape(tf.range(rows)[:, None] * length + position, [-1])
    smallest = tf.math.unsorted_segment_min(tf.reshape(key, [-1]), flat, rows * length)
    first = (tf.reshape(tf.gather(smallest, flat), [rows, walk]) == key) & seen
    place = tf.cumsum(tf.cast(first, tf.int32), axis=1) - 1
    wanted = first & (place < kept)
    slot = tf.where(wanted, place, kept)  # slot `kept` collects what is not wanted and is cut off
    target = tf.range(rows)[:, None] * (kept + 1) + slot
    merged = tf.math.unsorted_segment_max(
        tf.reshape(tf.where(wanted, position, -1), [-1]), tf.reshape(target, [-1]), rows * (kept + 1)
    )
    merged = tf.reshape(merged, [batch, targets, kept + 1])[..., :kept]
    return Finalists(position=tf.maximum(merged, 0), valid=merged >= 0)
