"""The projection table: K_h W^h of every item beside the weights it was computed from, and its self-check."""

import numpy as np
import numpy.typing as npt

from export.contract.signatures import WHOLE_TABLE
from export.saved_model.served_weights import resizable_variable
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.models.twin import TwinModel

BLOCK = 65_536
TOLERANCE = 1e-4
SAMPLE = 1024
_SPREAD = 2_654_435_761


class ProjectionTable(tf.Module):
    """The table and its self-check.

    Args:
        model: trained; its weights are projected now.
        dtype: `float32`, or `float16` or `bfloat16`, which halve the table and round it.
        projections: float32 `(items, heads * head_size)`, where they were computed elsewhere from the same weights.

    Raises:
        ConfigError: a projection that the type cannot hold, or `projections` of another shape.
    """

    def __init__(
        self, model: TwinModel, dtype: str = "float32", projections: npt.NDArray[np.float32] | None = None
    ) -> None:
        super().__init__(name="projection_table")
        self.dtype = tf.dtypes.as_dtype(dtype)
        if projections is not None:
            items = model.item_embedding.item_features.shape[0]
            wanted = (items, model.config.heads * model.config.head_size)
            if projections.shape != wanted:
                raise ConfigError(f"projections have the shape {projections.shape}, the model's are {wanted}")
        exact = model.projection_table() if projections is None else tf.constant(projections, tf.float32)
        self.table = resizable_variable(exact, self.dtype)
        largest = float(tf.reduce_max(tf.abs(exact)))
        limit = float(self.dtype.max)
        if not largest <= limit:
            raise ConfigError(
                f"a projection of {largest:g} does not fit into a {dtype} table, whose largest number is {limit:g}; "
                "set serving.table to bfloat16 or float32"
            )

    def rounded(self, projection: tf.Tensor) -> tf.Tensor:
        """A live float32 projection as the table would hold it, float32 again."""
        return tf.cast(tf.cast(projection, self.dtype), tf.float32)

    def rows(self, rows: tf.Tensor) -> tf.Tensor:
        """Projections of item rows: int `(...)` -> float32 `(..., heads * head_size)`."""
        return tf.cast(tf.gather(self.whole(), rows), tf.float32)

    def whole(self) -> tf.Tensor:
        """The table as a tensor, for every use.

        A gather from the variable itself, even a single one, would have the server copy the table at each later read.
        """
        return tf.convert_to_tensor(self.table)

    def disagreement(self, model: TwinModel, probe: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """How far the table is from what the live weights say, over what its type must round.

        Args:
            model: the weights in the same directory.
            probe: int32 `(B,)`: `WHOLE_TABLE` (-1) checks every row, anything else seeds a sample of `SAMPLE` rows.

        Returns:
            Largest difference, a float scalar, and the number of rows checked, an int32 scalar.
        """
        rows = tf.shape(self.whole())[0]
        whole = tf.reduce_any(tf.equal(probe, WHOLE_TABLE))
        seeds = tf.cast(probe, tf.int64)[:, None] * SAMPLE + tf.range(SAMPLE, dtype=tf.int64)[None, :]
        sample = tf.reshape(tf.math.floormod(seeds * _SPREAD, tf.cast(rows, tf.int64)), [-1])
        chosen = tf.cond(whole, lambda: tf.range(rows), lambda: tf.cast(sample, tf.int32))
        checked = tf.size(chosen)

        def block(start: tf.Tensor, worst: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            part = chosen[start : start + BLOCK]
            held = tf.gather(self.whole(), part)
            difference = tf.abs(model.project_items(part) - tf.cast(held, tf.float32)) - _rounding(held)
            broken = tf.reduce_any(tf.math.is_nan(difference))
            largest = tf.where(broken, tf.constant(float("inf")), tf.reduce_max(difference))
            return start + BLOCK, tf.maximum(worst, largest)

        _, worst = tf.while_loop(lambda start, _: start < checked, block, [tf.constant(0), tf.constant(0.0)])
        return worst, checked


def _rounding(held: tf.Tensor) -> tf.Tensor:
    """How far from a rounded number the exact one may lie: half the way to the next number of its type, float32.

    With it the check of a rounded table is as sharp as that of a float32 one: any number further away by more than the
    tolerance is found.
    """
    if held.dtype == tf.float32:
        return tf.constant(0.0)
    magnitude = tf.abs(held)
    following = tf.bitcast(tf.bitcast(magnitude, tf.int16) + tf.constant(1, tf.int16), held.dtype)
    return 0.5 * (tf.cast(following, tf.float32) - tf.cast(magnitude, tf.float32))
