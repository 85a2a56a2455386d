"""The ESU: target attention of the finalists (TWIN, eq. 7 and 8).

    head_a = Softmax(alpha_a)^T K W^v_a,   output = Concat(head_1 .. head_A) W^o

V projects the full, unsplit K = [K_h K_c]: `K W^v = K_h W^v_h + sum_j E_j[index_j] W^v_j`.
"""

from collections.abc import Mapping
from itertools import accumulate

from twin_tf.keras_api import keras, tf
from twin_tf.layers.gsu import Finalists
from twin_tf.layers.projection import project


class TargetAttention(keras.layers.Layer):
    """W^v and W^o of all heads.

    Args:
        heads: A.
        head_size: d_v, the width of a value per head.
        inherent_width: H.
        cross_dims: cross feature -> width of its embedding, in the order of `CrossEmbedding`.
        seed: of the random starts.
    """

    def __init__(
        self, heads: int, head_size: int, inherent_width: int, cross_dims: Mapping[str, int], *, seed: int, name: str
    ) -> None:
        super().__init__(name=name)
        self.heads = heads
        self.head_size = head_size
        width = heads * head_size
        fan_in = inherent_width + sum(cross_dims.values())

        def kernel(label: str, rows: int, offset: int) -> tf.Variable:
            start = keras.initializers.RandomNormal(stddev=float(fan_in) ** -0.5, seed=seed + offset)
            return self.add_weight(label, (rows, width), initializer=start)

        self.cross_offsets = dict(zip(cross_dims, accumulate([0, *cross_dims.values()]), strict=False))
        self.item_kernel = kernel("value_kernel", inherent_width, 0)
        self.cross_kernel = kernel("value_kernel_cross", sum(cross_dims.values()), 1)
        self.output_kernel = self.add_weight(
            "output_kernel", (width, width), initializer=keras.initializers.GlorotUniform(seed=seed + 100)
        )

    def project_items(self, items: tf.Tensor) -> tf.Tensor:
        """K_h W^v_h: float `(..., H)` -> `(..., heads * head_size)`."""
        return project(items, self.item_kernel)

    def project_cross(self, cross: str, embeddings: tf.Tensor) -> tf.Tensor:
        """`sum_j E_j W^v_j` of neighbouring cross features.

        Args:
            cross: the first of them.
            embeddings: float `(..., width)`, their embeddings side by side.

        Returns:
            float `(..., heads * head_size)`.
        """
        first = self.cross_offsets[cross]
        return project(embeddings, self.cross_kernel[first : first + embeddings.shape[-1]])

    def pool_all(self, weights: tf.Tensor, finalists: Finalists, values: tf.Tensor) -> tf.Tensor:
        """Softmax(alpha)^T V from the values of every behaviour: the weights, zero outside the finalists, times V.

        Exactly `pool_finalists`; without a gather of `(B, C, K, width)` rows and its scatter in the backward pass.

        Args:
            weights: float `(B, heads, C, K)`, zero where not valid.
            finalists: positions `(B, C, K)`.
            values: float `(B, L, heads * head_size)`.

        Returns:
            float `(B, C, heads * head_size)`.
        """
        shape, length = tf.shape(weights), tf.shape(values)[1]
        rows = tf.range(shape[0] * shape[1] * shape[2]) * length
        flat = tf.reshape(rows, shape[:3])[..., None] + finalists.position[:, None]
        spread = tf.math.unsorted_segment_sum(
            tf.reshape(weights, [-1]), tf.reshape(flat, [-1]), tf.reduce_prod(shape[:3]) * length
        )
        spread = tf.reshape(spread, [shape[0], shape[1], shape[2], length])
        split = tf.transpose(tf.reshape(values, [shape[0], length, self.heads, self.head_size]), [0, 2, 1, 3])
        return self._concat(tf.matmul(spread, split))

    def pool_finalists(self, weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Softmax(alpha)^T V from the finalists' values alone.

        Args:
            weights: float `(B, heads, C, K)`, zero where not valid.
            values: float `(B, C, K, heads * head_size)`, or `(B, 1, K, ...)` where all targets share the finalists.

        Returns:
            float `(B, C, heads * head_size)`.
        """
        shape = tf.shape(values)
        split = tf.reshape(values, [shape[0], shape[1], shape[2], self.heads, self.head_size])
        if values.shape[1] == 1:  # the same values for all targets: `(B, heads, K, head_size)`
            return self._concat(tf.matmul(weights, tf.transpose(split[:, 0], [0, 2, 1, 3])))
        pooled = tf.matmul(tf.transpose(weights, [0, 2, 1, 3])[..., None, :], tf.transpose(split, [0, 1, 3, 2, 4]))
        return tf.reshape(pooled, [shape[0], shape[1], self.heads * self.head_size])

    def pool_buckets(self, weights: tf.Tensor, index: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
        """The share of a relative cross feature in V: the attention mass of each bucket times the bucket's value.

        Args:
            weights: float `(B, heads, C, K)`.
            index: int32 `(B, C, K)` or `(B, 1, K)` buckets of the finalists.
            table: float `(rows, heads * head_size)`, the buckets' values.

        Returns:
            float `(B, C, heads * head_size)`.
        """
        shape, rows = tf.shape(weights), tf.shape(table)[0]
        chosen = tf.one_hot(index, rows, dtype=weights.dtype)
        chosen = tf.broadcast_to(chosen, [shape[0], shape[2], shape[3], rows])
        mass = tf.matmul(tf.transpose(weights, [0, 2, 1, 3]), chosen)  # (B, C, heads, rows)
        by_head = tf.reshape(tf.transpose(mass, [2, 0, 1, 3]), [self.heads, -1, rows])
        split = tf.transpose(tf.reshape(table, [rows, self.heads, self.head_size]), [1, 0, 2])
        pooled = tf.transpose(tf.matmul(by_head, split), [1, 0, 2])
        return tf.reshape(pooled, [shape[0], shape[2], self.heads * self.head_size])

    def combine_heads(self, pooled: tf.Tensor) -> tf.Tensor:
        """Concat(heads) W^o: float `(B, C, heads * head_size)` -> the same shape."""
        return project(pooled, self.output_kernel)

    def _concat(self, per_head: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(per_head)
        return tf.reshape(tf.transpose(per_head, [0, 2, 1, 3]), [shape[0], shape[2], self.heads * self.head_size])
