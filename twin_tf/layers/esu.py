"""The ESU: target attention of the retrieved behaviours (TWIN, eq. 7 and 8).

    head_a = Softmax(alpha_a)^T K W^v_a,   output = Concat(head_1 .. head_A) W^o

V projects the full, unsplit K = [K_h K_c]: `K W^v = K_h W^v_h + sum_j E_j[index_j] W^v_j`.
"""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from twin_tf.core.keras_api import keras, tf
from twin_tf.layers.bucket_bias import bucket_deltas, mass_per_bucket
from twin_tf.layers.gather_scatter import scatter_weights
from twin_tf.layers.projection import Precision, multiply, project
from twin_tf.layers.shapes import dimensions


@keras.utils.register_keras_serializable("twin_tf")
class TargetAttention(keras.layers.Layer):
    """W^v and W^o of all heads.

    Args:
        heads: A.
        head_size: d_v, the width of a value per head.
        inherent_width: H.
        cross_dims: cross feature -> width of its embedding, in the order of `CrossEmbedding`.
        seed: of the random starts.
        precision: of the products.

    Example:
        >>> attention = TargetAttention(4, 16, 24, {"quantity": 8}, seed=1)
        >>> attention.project_items(tf.ones([3, 24])).shape
        TensorShape([3, 64])

    References:
        TWIN, arXiv 2302.02352, section 4.2.
    """

    def __init__(
        self,
        heads: int,
        head_size: int,
        inherent_width: int,
        cross_dims: Mapping[str, int],
        *,
        seed: int,
        precision: Precision = "float32",
        name: str = "attention",
    ) -> None:
        super().__init__(name=name)
        self._settings = {
            "heads": heads,
            "head_size": head_size,
            "inherent_width": inherent_width,
            "cross_dims": dict(cross_dims),
            "seed": seed,
            "precision": precision,
        }
        self.precision = precision
        self.heads = heads
        self.head_size = head_size
        width = heads * head_size
        fan_in = inherent_width + sum(cross_dims.values())

        def kernel(label: str, rows: int, offset: int) -> tf.Variable:
            start = keras.initializers.RandomNormal(stddev=float(fan_in) ** -0.5, seed=seed + offset)
            return self.add_weight(label, (rows, width), initializer=start)

        self.cross_offsets = dict(zip(cross_dims, accumulate([0, *cross_dims.values()]), strict=False))
        self.item_kernel = kernel("value_kernel", inherent_width, 0)
        if cross_dims:
            self.cross_kernel = kernel("value_kernel_cross", sum(cross_dims.values()), 1)
        self.output_kernel = self.add_weight(
            "output_kernel", (width, width), initializer=keras.initializers.GlorotUniform(seed=seed + 100)
        )

    def project_items(self, items: tf.Tensor) -> tf.Tensor:
        """K_h W^v_h: float `(..., H)` -> `(..., heads * head_size)`."""
        return project(items, self.item_kernel, self.precision)

    def project_cross(self, cross: str, embeddings: tf.Tensor) -> tf.Tensor:
        """`sum_j E_j W^v_j` of neighbouring cross features.

        Args:
            cross: the first of them.
            embeddings: float `(..., width)`, their embeddings side by side.

        Returns:
            float `(..., heads * head_size)`.
        """
        first = self.cross_offsets[cross]
        return project(embeddings, self.cross_kernel[first : first + embeddings.shape[-1]], self.precision)

    def pool(self, weights: tf.Tensor, place: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Softmax(alpha)^T V: the weights, spread over the behaviours that any target attends to, times their values.

        The product is dense and no row of V is copied per target: neither forwards nor, as a scatter, backwards.

        Args:
            weights: float `(B, C, heads, K)`, zero where not valid.
            place: int32 `(B, C, K)` or `(B, 1, K)`: the retrieved' places among the U behaviours, see `places.pick`.
            values: float `(B, U, heads * head_size)`.

        Returns:
            float `(B, C, heads * head_size)`.
        """
        users, targets, *_ = dimensions(weights)
        width = dimensions(values)[1]
        split = tf.transpose(tf.reshape(values, [users, width, self.heads, self.head_size]), [2, 0, 1, 3])
        pooled = tf.transpose(multiply(scatter_weights(weights, place, width), split, self.precision), [1, 2, 0, 3])
        return tf.reshape(pooled, [users, targets, self.heads * self.head_size])

    def pool_steps(self, weights: tf.Tensor, cumulative_one_hot: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
        """The share of a relative cross feature in V: the attention mass of each bucket times the bucket's value.

        Args:
            weights: float `(B, C, heads, K)`.
            cumulative_one_hot: float `(B, C, S, K)` of `cumulative_one_hot`, of the retrieved.
            table: float `(S, heads * head_size)`, the values of the buckets in the order of the steps.

        Returns:
            float `(B, C, heads * head_size)`.
        """
        (users, targets, *_), (steps, _) = dimensions(weights), dimensions(table)
        mass = tf.reshape(
            tf.transpose(mass_per_bucket(weights, cumulative_one_hot), [2, 0, 1, 3]),
            [self.heads, users * targets, steps],
        )
        rise = bucket_deltas(tf.transpose(tf.reshape(table, [steps, self.heads, self.head_size]), [1, 2, 0]))
        pooled = tf.matmul(mass, rise, transpose_b=True)
        return tf.reshape(tf.transpose(pooled, [1, 0, 2]), [users, targets, self.heads * self.head_size])

    def combine_heads(self, pooled: tf.Tensor) -> tf.Tensor:
        """Concat(heads) W^o: float `(B, C, heads * head_size)` -> the same shape."""
        return project(pooled, self.output_kernel, self.precision)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same layer."""
        return {"name": self.name, **self._settings}
