"""The projection table: K_h W^h of every item, a variable beside the weights it was computed from, and its self-check.

A request's ids are looked up in the graph: sorted raw ids and a binary search, so that the catalogue is data
(variables that a refresh rewrites), not graph.
"""

import numpy as np
import numpy.typing as npt

from twin_tf.keras_api import tf
from twin_tf.model import TwinModel
from twin_tf.schema import FIRST_KNOWN, UNKNOWN

BLOCK = 65_536
TOLERANCE = 1e-4
SAMPLE = 1024
WHOLE_TABLE = -1


class ItemLookup(tf.Module):
    """Raw item ids to item rows and back.

    Args:
        item_ids: int64 `(items,)` raw ids by item row; rows 0 and 1 are padding and unknown.
    """

    def __init__(self, item_ids: npt.NDArray[np.int64]) -> None:
        super().__init__(name="item_lookup")
        known = item_ids[FIRST_KNOWN:]
        order = np.argsort(known, kind="stable")
        self.sorted_ids = tf.Variable(known[order], trainable=False, name="sorted_ids", dtype=tf.int64)
        self.sorted_rows = tf.Variable(
            (order + FIRST_KNOWN).astype(np.int32), trainable=False, name="sorted_rows", dtype=tf.int32
        )

    def rows(self, ids: tf.Tensor) -> tf.Tensor:
        """int64 `(...)` raw ids -> int32 `(...)` item rows; `UNKNOWN` for an id that is not in the catalogue."""
        sorted_ids = tf.convert_to_tensor(self.sorted_ids)
        flat = tf.reshape(ids, [-1])
        place = tf.minimum(tf.searchsorted(sorted_ids, flat), tf.size(sorted_ids) - 1)
        found = tf.equal(tf.gather(sorted_ids, place), flat)
        return tf.reshape(tf.where(found, tf.gather(self.sorted_rows, place), UNKNOWN), tf.shape(ids))


class ProjectionTable(tf.Module):
    """The table and its self-check.

    Args:
        model: trained; its weights are projected now.
    """

    def __init__(self, model: TwinModel) -> None:
        super().__init__(name="projection_table")
        self.table = tf.Variable(model.projection_table(), trainable=False, name="projection_table")

    def disagreement(self, model: TwinModel, probe: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """How far the table is from what the live weights say.

        Args:
            model: the weights in the same directory.
            probe: int32 `(B,)`: `WHOLE_TABLE` (-1) checks every row, anything else seeds a sample of `SAMPLE` rows.

        Returns:
            Largest absolute difference, a float scalar, and the number of rows checked, an int32 scalar.
        """
        rows = tf.shape(self.table)[0]
        whole = tf.reduce_any(tf.equal(probe, WHOLE_TABLE))
        seeds = tf.cast(probe, tf.int64)[:, None] * SAMPLE + tf.range(SAMPLE, dtype=tf.int64)[None, :]
        sample = tf.reshape(tf.math.floormod(seeds * 2_654_435_761, tf.cast(rows, tf.int64)), [-1])
        chosen = tf.cond(whole, lambda: tf.range(rows), lambda: tf.cast(sample, tf.int32))
        checked = tf.size(chosen)

        def block(start: tf.Tensor, worst: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            part = chosen[start : start + BLOCK]
            live = model.project_items(part)
            difference = tf.abs(live - tf.gather(self.table, part))
            broken = tf.reduce_any(tf.math.is_nan(difference))
            largest = tf.where(broken, tf.constant(float("inf")), tf.reduce_max(difference))
            return start + BLOCK, tf.maximum(worst, largest)

        _, worst = tf.while_loop(lambda start, _: start < checked, block, [tf.constant(0), tf.constant(0.0)])
        return worst, checked
