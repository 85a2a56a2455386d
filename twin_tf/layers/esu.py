"""The ESU: target attention of the finalists (TWIN, eq. 7 and 8).

    head_a = Softmax(alpha_a)^T K W^v_a,   output = Concat(head_1 .. head_A) W^o

V projects the full, unsplit K = [K_h K_c]: `K W^v = K_h W^v_h + sum_j E_j[index_j] W^v_j`.
"""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from twin_tf.keras_api import keras, tf
from twin_tf.layers.projection import Precision, project, weigh


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
            weights: float `(heads, B, C, K)`, zero where not valid.
            place: int32 `(B, C, K)` or `(B, 1, K)`: the finalists' places among the U behaviours.
            values: float `(B, U, heads * head_size)`.

        Returns:
            float `(B, C, heads * head_size)`.
        """
        shape, width = tf.shape(weights), tf.shape(values)[1]
        flat = flat_places(place, shape, width)
        spread = tf.math.unsorted_segment_sum(
            tf.reshape(weights, [-1]), tf.reshape(flat, [-1]), tf.reduce_prod(shape[:3]) * width
        )
        spread = tf.reshape(spread, [shape[0], shape[1], shape[2], width])
        split = tf.transpose(tf.reshape(values, [shape[1], width, self.heads, self.head_size]), [2, 0, 3, 1])
        pooled = tf.transpose(weigh(spread, split, self.precision), [1, 2, 0, 3])
        return tf.reshape(pooled, [shape[1], shape[2], self.heads * self.head_size])

    def pool_buckets(self, weights: tf.Tensor, index: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
        """The share of a relative cross feature in V: the attention mass of each bucket times the bucket's value.

        Args:
            weights: float `(heads, B, C, K)`.
            index: int32 `(B, C, K)` or `(B, 1, K)` buckets of the finalists.
            table: float `(rows, heads * head_size)`, the buckets' values.

        Returns:
            float `(B, C, heads * head_size)`.
        """
        shape, rows = tf.shape(weights), tf.shape(table)[0]
        flat = flat_places(index, shape, rows)
        mass = tf.math.unsorted_segment_sum(
            tf.reshape(weights, [-1]), tf.reshape(flat, [-1]), tf.reduce_prod(shape[:3]) * rows
        )
        by_head = tf.reshape(mass, [self.heads, shape[1] * shape[2], rows])
        split = tf.transpose(tf.reshape(table, [rows, self.heads, self.head_size]), [1, 0, 2])
        pooled = tf.transpose(tf.matmul(by_head, split), [1, 0, 2])
        return tf.reshape(pooled, [shape[1], shape[2], self.heads * self.head_size])

    def combine_heads(self, pooled: tf.Tensor) -> tf.Tensor:
        """Concat(heads) W^o: float `(B, C, heads * head_size)` -> the same shape."""
        return project(pooled, self.output_kernel, self.precision)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same layer."""
        return {"name": self.name, **self._settings}


def flat_places(place: tf.Tensor, shape: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Places within rows of `width` as places in the flattened `(heads, B, C, width)`.

    Args:
        place: int32 `(B, C, K)` or `(B, 1, K)`.
        shape: heads, B, C, K.
        width: the width of a row.

    Returns:
        int32 `(heads, B, C, K)`.
    """
    rows = tf.reshape(tf.range(shape[0] * shape[1] * shape[2]) * width, shape[:3])
    return rows[..., None] + place[None]
