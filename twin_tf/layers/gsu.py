"""The GSU's last step: the heads' ranked lists merged into one set of retrieved behaviours (TWIN, section 4.3).

The walk takes the heads' ranked lists in turn, best first, until `count` unique behaviours are collected: with A heads
the behaviour i has the key min_a (A * rank_a(i) + a), and the `count` smallest keys win. A per-head top-`count` always
suffices. Of equal scores the more recent behaviour ranks first.
"""

from typing import NamedTuple

from twin_tf.core.keras_api import tf
from twin_tf.layers.masking import MASKED_SCORE
from twin_tf.layers.shapes import dimensions

FIRST_LOOK = 0.4
"""Share of the retrieved behaviours that the first look takes from every head's list."""


BLOCK = 16
"""Columns of which a long row is first asked for the largest alone."""

LONG_ROW = 4
"""Blocks for each wanted column from which on a row is long."""


class Retrieved(NamedTuple):
    """The behaviours that the GSU hands to the ESU, the same for all heads.

    Attributes:
        position: int32 `(B, C, K)`: inside a block columns, newest first (`twin_tf.layers.visibility`); outside of it
            places in the history. In the order of the walk; C may be 1 where all targets of a user share them.
        valid: bool `(B, C, K)`.
    """

    position: tf.Tensor
    valid: tf.Tensor


class RetrievedUnion(NamedTuple):
    """The behaviours that are a retrieved behaviour of any target of their user.

    Attributes:
        column: int32 `(B, U)`, rising; where the user has fewer, and always in the last place, the first of them again.
        place: int32 `(B, C, K)`: where each retrieved behaviour is in `column`; U - 1 where not valid, and no valid
        one is there.
    """

    column: tf.Tensor
    place: tf.Tensor


def merge_heads(scores: tf.Tensor, count: tf.Tensor | int, floor: tf.Tensor | None = None) -> Retrieved:
    """The retrieved behaviours of every target.

    The heads' lists overlap little, so the walk rarely goes down to their ends: it first looks at the top
    `FIRST_LOOK` of `count` per head, and only the targets that found too few unique behaviours there look at all.

    Args:
        scores: float `(heads, B, C, W)`, newest first; at most `MASKED_SCORE` where a behaviour may not be seen.
        count: K, how many unique behaviours to collect.
        floor: float `(heads, B, C)`: a head's list ends where its scores are lower; None: it holds all that is visible.

    Returns:
        Retrieved `(B, C, min(count, W))`.
    """
    heads, users, targets, width = dimensions(scores)
    kept = tf.minimum(count, width)
    depth = tf.cast(tf.math.ceil(FIRST_LOOK * tf.cast(kept, tf.float32)), tf.int32)
    scores = tf.reshape(scores, [heads, users * targets, width])
    lowest = tf.fill([heads, users * targets], MASKED_SCORE / 2)
    if floor is not None:
        lowest = tf.maximum(lowest, tf.reshape(floor, [heads, users * targets]))
    merged, exhausted = _round_robin_merge(scores, lowest, depth, kept)
    missing = tf.reduce_any(merged < 0, axis=1) & ~exhausted
    again = tf.cast(tf.where(missing), tf.int32)
    whole, _ = _round_robin_merge(
        tf.gather(scores, again[:, 0], axis=1), tf.gather(lowest, again[:, 0], axis=1), kept, kept
    )
    merged = tf.tensor_scatter_nd_update(merged, again, whole)
    merged = tf.reshape(merged, [users, targets, kept])
    return Retrieved(position=tf.maximum(merged, 0), valid=merged >= 0)


def _round_robin_merge(
    scores: tf.Tensor, lowest: tf.Tensor, depth: tf.Tensor, kept: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The walk over the top `depth` of each head.

    Args:
        scores: float `(heads, rows, W)`.
        lowest: float `(heads, rows)`, what a list must not fall below.
        depth: how far down the lists to go.
        kept: how many unique behaviours to collect.

    Returns:
        int32 `(rows, kept)`, -1 where there are no more; and bool `(rows,)`, whether each list was seen to its end.
    """
    heads, rows, length = dimensions(scores)
    score, position = top_columns(scores, depth)
    walk = heads * depth
    in_walk_order = [1, 2, 0]
    position = tf.reshape(tf.transpose(position, in_walk_order), [rows, walk])
    seen = tf.reshape(tf.transpose(score >= lowest[..., None], in_walk_order), [rows, walk])
    key = tf.where(seen, tf.range(walk)[None, :], walk)  # what is below one head's floor may be above another's
    flat = tf.reshape(tf.range(rows)[:, None] * length + position, [-1])
    smallest = tf.math.unsorted_segment_min(tf.reshape(key, [-1]), flat, rows * length)
    first = (tf.reshape(tf.gather(smallest, flat), [rows, walk]) == key) & seen
    place = tf.cumsum(tf.cast(first, tf.int32), axis=1) - 1
    slot = tf.where(first & (place < kept), place, kept)  # slot `kept` collects what is not wanted and is cut off
    target = tf.range(rows)[:, None] * (kept + 1) + slot
    merged = tf.math.unsorted_segment_max(tf.reshape(position, [-1]), tf.reshape(target, [-1]), rows * (kept + 1))
    exhausted = ~tf.reduce_any(seen[:, walk - heads :], axis=1)
    return tf.maximum(tf.reshape(merged, [rows, kept + 1])[:, :kept], -1), exhausted


def top_columns(scores: tf.Tensor, depth: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What `tf.math.top_k` answers, to the last tie, and faster on long rows.

    Each of the `depth` largest columns lies in one of the `depth` blocks with the largest maxima: any other block's
    columns have at least `depth` columns before them, one of each of these blocks, larger or as large and further
    left. So only those blocks' columns are compared with each other.

    Args:
        scores: float `(heads, rows, W)`.
        depth: how many columns, at most W.

    Returns:
        Scores float and columns int32, `(heads, rows, depth)` each.
    """
    heads, rows, width = dimensions(scores)
    blocks = width // BLOCK

    def of_blocks() -> tuple[tf.Tensor, tf.Tensor]:
        block = tf.reshape(scores, [-1, BLOCK])
        highest = tf.reshape(tf.reduce_max(block, axis=1), [heads * rows, blocks])
        chosen = tf.sort(tf.math.top_k(highest, k=depth).indices, axis=1)
        members = tf.gather(block, tf.range(heads * rows)[:, None] * blocks + chosen)
        score, place = tf.math.top_k(tf.reshape(members, [-1, depth * BLOCK]), k=depth)
        column = tf.gather(chosen, place // BLOCK, batch_dims=1) * BLOCK + place % BLOCK
        whole = [heads, rows, depth]
        return tf.reshape(score, whole), tf.reshape(column, whole)

    def of_all() -> tuple[tf.Tensor, tf.Tensor]:
        found = tf.math.top_k(scores, k=depth)
        return found.values, found.indices

    is_long = (width % BLOCK == 0) & (blocks >= LONG_ROW * depth)
    score, column = tf.cond(tf.convert_to_tensor(is_long), of_blocks, of_all)
    return score, column


def union_of_retrieved(retrieved: Retrieved, width: tf.Tensor) -> RetrievedUnion:
    """The retrieved behaviours of a user's targets as one set: the only behaviours that the ESU needs.

    Args:
        retrieved: columns `(B, C, K)`.
        width: W, the number of columns.
    """
    users = tf.shape(retrieved.position)[0]
    row = tf.range(users)
    flat = row[:, None, None] * width + retrieved.position
    chosen = tf.math.unsorted_segment_max(
        tf.reshape(tf.cast(retrieved.valid, tf.int32), [-1]), tf.reshape(flat, [-1]), users * width
    )
    chosen = tf.maximum(tf.reshape(chosen, [users, width]), 0)
    rank = tf.cumsum(chosen, axis=1)
    size = tf.maximum(tf.reduce_max(rank), 1)
    slot = tf.where(chosen > 0, rank - 1, size)  # slot `size` collects the others
    column = tf.math.unsorted_segment_max(
        tf.tile(tf.range(width), [users]), tf.reshape(row[:, None] * (size + 1) + slot, [-1]), users * (size + 1)
    )
    column = tf.reshape(column, [users, size + 1])
    column = tf.where(tf.range(size + 1) < rank[:, -1:], column, tf.maximum(column[:, :1], 0))
    place = tf.where(retrieved.valid, tf.gather(tf.reshape(rank, [-1]), flat) - 1, size)
    return RetrievedUnion(column, place)


def share_found(found: Retrieved, true: Retrieved, length: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Of the exact top-K of all real targets, the share that was found.

    Args:
        found: places `(B, C, K)` or `(B, 1, K)`.
        true: places `(B, C, K')`.
        length: L, the width of the history tensor.
        count: int32 `(B,)` real targets of each user.

    Returns:
        float scalar; NaN without any behaviour of the exact top-K.
    """
    shape = tf.shape(true.position)
    rows = tf.reshape(tf.range(shape[0] * shape[1]), [shape[0], shape[1], 1]) * length
    flat = tf.reshape(rows + found.position, [-1])
    marked = tf.reshape(tf.cast(tf.broadcast_to(found.valid, tf.shape(rows + found.position)), tf.int32), [-1])
    flags = tf.math.unsorted_segment_max(marked, flat, shape[0] * shape[1] * length)
    wanted = true.valid & tf.sequence_mask(count, shape[1])[..., None]
    hits = wanted & (tf.gather(flags, rows + true.position) > 0)
    return tf.reduce_sum(tf.cast(hits, tf.float32)) / tf.reduce_sum(tf.cast(wanted, tf.float32))
