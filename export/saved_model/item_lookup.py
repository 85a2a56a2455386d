"""From raw item ids to item rows, in the graph: a hash table made of variables, which a refresh rewrites.

A binary search takes twenty steps through a million ids, most of them a cache miss: of a request of 10,000 behaviours
it was the slowest part. Here an id's bucket says where the few ids lie that it may be.
"""

import numpy as np
import numpy.typing as npt

from export.saved_model.served_weights import resizable_variable
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FIRST_KNOWN, UNKNOWN

BUCKETS_PER_ITEM = 2
ATTEMPTS = 16


class ItemLookup(tf.Module):
    """Raw item ids to item rows. An id's bucket is the id modulo the number of buckets.

    Args:
        item_ids: int64 `(items,)` raw ids by item row; rows 0 and 1 are padding and unknown.

    Attributes:
        ids: int64 `(known,)`, by bucket.
        item_rows: int32 `(known,)`, their rows.
        starts: int32 `(buckets + 1,)`, where each bucket begins.
        depth: int32 scalar, how many ids the fullest bucket holds.
    """

    def __init__(self, item_ids: npt.NDArray[np.int64]) -> None:
        super().__init__(name="item_lookup")
        known = item_ids[FIRST_KNOWN:]
        buckets = _buckets(known)
        bucket = known % buckets
        order = np.argsort(bucket, kind="stable")
        sizes = np.bincount(bucket, minlength=buckets)
        self.ids = resizable_variable(known[order])
        self.item_rows = resizable_variable((order + FIRST_KNOWN).astype(np.int32))
        self.starts = resizable_variable(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
        self.depth = tf.Variable(int(sizes.max()), trainable=False, dtype=tf.int32, name="depth")

    def rows(self, ids: tf.Tensor) -> tf.Tensor:
        """int64 `(...)` raw ids -> int32 `(...)` item rows; `UNKNOWN` for an id that is not in the catalogue."""
        known, starts = tf.convert_to_tensor(self.ids), tf.convert_to_tensor(self.starts)
        flat = tf.reshape(ids, [-1])
        bucket = tf.math.floormod(flat, tf.size(starts, tf.int64) - 1)
        # Places behind the bucket do no harm: an id is in one place alone.
        place = tf.gather(starts, bucket)[:, None] + tf.range(self.depth)
        place = tf.minimum(place, tf.size(known) - 1)
        here = tf.equal(tf.gather(known, place), flat[:, None])
        found = tf.reduce_max(tf.where(here, place, -1), axis=1)
        rows = tf.gather(tf.convert_to_tensor(self.item_rows), tf.maximum(found, 0))
        return tf.reshape(tf.where(found >= 0, rows, UNKNOWN), tf.shape(ids))


def _buckets(ids: npt.NDArray[np.int64]) -> int:
    """A number of buckets of which none holds many of the ids, however regular they are: the best of a few."""
    fewest = BUCKETS_PER_ITEM * len(ids) + 1
    return min(
        range(fewest, fewest + 2 * ATTEMPTS, 2), key=lambda buckets: int(np.bincount(ids % buckets).max(initial=0))
    )
