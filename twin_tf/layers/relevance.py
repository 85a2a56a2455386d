"""The one relevance metric of both stages (TWIN, eq. 5 and 6).

    alpha = (K_h W^h)(q^T W^q)^T / sqrt(d_k) + (K_c W^c) beta                                     (6)
    alpha' = alpha + ln n, where a behaviour stands for a cluster of n                            (TWIN-V2)

The item half `K_h W^h` depends on the item alone: `project_items` computes it, a table can hold it. The bias half
shrinks each cross feature to one number: W^c is block diagonal with blocks w_j, so
`(K_c W^c) beta = sum_j beta_j (E_j[index_j] . w_j)`, which `bias_table` folds into one scalar per head and bucket. The
bias stands outside the 1 / sqrt(d_k).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from twin_tf.core.keras_api import keras, tf
from twin_tf.layers.cross_features import CrossRows
from twin_tf.layers.items import Items
from twin_tf.layers.projection import Precision, multiply, project
from twin_tf.layers.shapes import dimensions


class Keys(NamedTuple):
    """What behaviours bring to eq. 6.

    Attributes:
        item: float `(heads, B, n, head_size)`.
        bias: float `(B, n, heads)`, the part of `(K_c W^c) beta` that belongs to the behaviours alone and ln n of
            clusters, or None.
    """

    item: tf.Tensor
    bias: tf.Tensor | None


@keras.utils.register_keras_serializable("twin_tf")
class Relevance(keras.layers.Layer):
    """W^q, W^h, w_j^c and beta of all heads.

    Args:
        heads: A.
        head_size: d_k.
        inherent_dims: widths of the inherent features' embeddings, in order; their sum is H.
        cross_dims: cross feature -> width of its embedding, in order.
        start: how W^q and W^h begin: `per_feature`, `tied` or `independent`, see `starting_kernels`.
        scale: how many times as large the relevance begins.
        bias: whether cross features bias the relevance.
        seed: of the random starts.
        precision: of the products.

    Example:
        >>> relevance = Relevance(4, 16, [16, 8], {"quantity": 8}, "tied", bias=True, seed=1)
        >>> relevance.project_items(tf.ones([3, 24])).shape
        TensorShape([3, 64])

    References:
        TWIN, arXiv 2302.02352, section 4.2.
    """

    def __init__(
        self,
        heads: int,
        head_size: int,
        inherent_dims: Sequence[int],
        cross_dims: Mapping[str, int],
        start: str,
        *,
        scale: float = 1.0,
        bias: bool,
        seed: int,
        precision: Precision = "float32",
        name: str = "relevance",
    ) -> None:
        super().__init__(name=name)
        self._settings = {
            "heads": heads,
            "head_size": head_size,
            "inherent_dims": list(inherent_dims),
            "cross_dims": dict(cross_dims),
            "start": start,
            "scale": scale,
            "bias": bias,
            "seed": seed,
            "precision": precision,
        }
        self.heads = heads
        self.head_size = head_size
        self.precision = precision
        self.bias = bias and bool(cross_dims)
        kernels = starting_kernels(heads, head_size, inherent_dims, start, seed)
        query, item = (np.float32(scale**0.5) * kernel for kernel in kernels)
        self.query_kernel = self.add_weight("query_kernel", query.shape, initializer=keras.initializers.Constant(query))
        self.item_kernel = self.add_weight("item_kernel", item.shape, initializer=keras.initializers.Constant(item))
        self._add_cross_weights(cross_dims if self.bias else {}, seed)

    def _add_cross_weights(self, cross_dims: Mapping[str, int], seed: int) -> None:
        """Makes w_j and beta of the cross features that take part."""
        self.cross_names = tuple(cross_dims)
        self.cross_kernels = {
            cross: self.add_weight(
                f"cross_kernel_{cross}",
                (dim, self.heads),
                initializer=keras.initializers.RandomNormal(stddev=0.3, seed=seed + 1 + position),
            )
            for position, (cross, dim) in enumerate(cross_dims.items())
        }
        if cross_dims:
            self.beta = self.add_weight("beta", (len(cross_dims),), initializer=keras.initializers.Constant(0.3))

    def project_items(self, items: tf.Tensor) -> tf.Tensor:
        """K_h W^h of all heads: float `(..., H)` -> `(..., heads * head_size)`. A function of the item alone."""
        return project(items, self.item_kernel, self.precision)

    def project_queries(self, items: tf.Tensor) -> tf.Tensor:
        """q^T W^q of all heads: float `(..., H)` -> `(..., heads * head_size)`."""
        return project(items, self.query_kernel, self.precision)

    def gsu_keys(self, items: Items, position: tf.Tensor, cross: CrossRows) -> Keys:
        """The keys of the behaviours at `(B, W)` positions for the GSU: gathered from a table of projections."""
        return Keys(self.by_head(items.searched(self.project_items, position)), self.behaviour_bias(cross))

    def esu_keys(self, embeddings: tf.Tensor, projected: tf.Tensor | None, cross: CrossRows) -> Keys:
        """The keys of the retrieved behaviours for the ESU.

        Args:
            embeddings: their item embeddings, float `(B, U, H)`.
            projected: what `project_items` makes of them, where a table already holds it.
            cross: their cross features.
        """
        rows = self.project_items(embeddings) if projected is None else projected
        return Keys(self.by_head(rows), self.behaviour_bias(cross))

    def similarity(self, queries: tf.Tensor, keys: Keys) -> tf.Tensor:
        """Eq. 6 for every pair, as far as it does not depend on the target's moment.

        In float32 the bias rides along as one more column of the keys, so it costs no pass over the result.

        Args:
            queries: float `(B, C, heads * head_size)` from `project_queries`.
            keys: of the behaviours.

        Returns:
            float `(heads, B, C, n)`.
        """
        scaled, item = self.scaled(queries), keys.item
        bias = None if keys.bias is None else tf.transpose(keys.bias, [2, 0, 1])
        if bias is not None and self.precision == "float32":
            scaled = tf.concat([scaled, tf.ones_like(scaled[..., :1])], axis=-1)
            item = tf.concat([item, bias[..., None]], axis=-1)
        product = multiply(scaled, item, self.precision, transposed=True)
        return product if bias is None or self.precision == "float32" else product + bias[:, :, None, :]

    def self_relevance(self, queries: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Eq. 6 of a target as a behaviour before itself, without cross features.

        Args:
            queries: its q^T W^q, float `(B, C, heads * head_size)`.
            items: its K_h W^h, likewise.

        Returns:
            float `(B, C, heads)`.
        """
        product = self.scaled(queries) * self.by_head(items)
        return tf.transpose(tf.reduce_sum(product, axis=-1), [1, 2, 0])

    def behaviour_bias(self, cross: CrossRows) -> tf.Tensor | None:
        """What belongs to the behaviours alone, items apart: their part of `(K_c W^c) beta`, and ln n of clusters.

        Returns:
            float `(B, n, heads)`, or None if it is zero throughout.
        """
        bias = self._cross_bias(cross)
        if cross.log_count is None:
            return bias
        with_cluster_size = cross.log_count[..., None]
        return tf.repeat(with_cluster_size, self.heads, axis=-1) if bias is None else bias + with_cluster_size

    def _cross_bias(self, cross: CrossRows) -> tf.Tensor | None:
        """The part of `(K_c W^c) beta` that belongs to the behaviours alone: float `(B, n, heads)`."""
        if not self.bias or not cross.indices:
            return None
        return tf.add_n([tf.gather(self.bias_table(n, cross.tables[n]), index) for n, index in cross.indices.items()])

    def relative_bias(self, cross: str, buckets: tf.Tensor, queries: tf.Tensor) -> tf.Tensor | None:
        """What each bucket of a cross feature that is relative to the target adds to eq. 6.

        Args:
            cross: the feature's name.
            buckets: its embeddings E_j, float `(S, dim)`.
            queries: float `(B, C, heads * head_size)`.

        Returns:
            float `(1, 1, heads, S)` or, where it depends on the target, `(B, C, heads, S)`; None if cross features do
            not bias the relevance.
        """
        return tf.transpose(self.bias_table(cross, buckets))[None, None] if self.bias else None

    def bias_table(self, cross: str, embeddings: tf.Tensor) -> tf.Tensor:
        """beta_j (E_j . w_j): a cross feature folded to one scalar per bucket and head.

        Args:
            cross: the feature's name.
            embeddings: its table E_j, float `(rows, dim)`.

        Returns:
            float `(rows, heads)`.
        """
        return tf.matmul(embeddings, self.cross_kernels[cross]) * self.beta[self.cross_names.index(cross)]

    def scaled(self, queries: tf.Tensor) -> tf.Tensor:
        """Queries over sqrt(d_k), by head: float `(B, C, heads * head_size)` -> `(heads, B, C, head_size)`."""
        return self.by_head(queries * (1.0 / float(np.sqrt(self.head_size))))

    def by_head(self, rows: tf.Tensor) -> tf.Tensor:
        """Float `(B, n, heads * head_size)` -> `(heads, B, n, head_size)`."""
        users, columns, _ = dimensions(rows)
        return tf.transpose(tf.reshape(rows, [users, columns, self.heads, self.head_size]), [2, 0, 1, 3])

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same layer."""
        return {"name": self.name, **self._settings}


def starting_kernels(
    heads: int, head_size: int, inherent_dims: Sequence[int], start: str, seed: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """W^q and W^h at the start.

    `independent` draws two random matrices. `tied` draws one with orthonormal columns per head and uses it twice, so
    relevance starts as an inner product and similar items attract from the first step. `per_feature` does the same with
    head a block at the a-th inherent feature alone (in turn, where there are more heads than features), so that "same
    product", "same category", ... are separate evidence from the first step. In the last two the projection keeps the
    expected squared norm of one feature's embedding.

    Returns:
        Two float32 `(H, heads * head_size)`.
    """
    generator = np.random.default_rng(seed)
    width = sum(inherent_dims)
    if start == "independent":
        query, item = (generator.normal(0.0, 1.0 / np.sqrt(width), (width, heads * head_size)) for _ in range(2))
        return query.astype(np.float32), item.astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(inherent_dims)])
    kernel = np.zeros((width, heads, head_size))
    for head in range(heads):
        if start == "per_feature":
            feature = head % len(inherent_dims)
            rows = slice(offsets[feature], offsets[feature + 1])
            kernel[rows, head] = _isometry(inherent_dims[feature], head_size, generator)
        else:
            kernel[:, head] = _isometry(width, head_size, generator) / np.sqrt(len(inherent_dims))
    flat = kernel.reshape(width, heads * head_size).astype(np.float32)
    return flat, flat.copy()


def _isometry(rows: int, columns: int, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """Keeps the expected squared norm of a random vector: the identity where it fits, else orthonormal columns."""
    if rows <= columns:
        return np.eye(rows, columns)
    orthonormal, _ = np.linalg.qr(generator.normal(size=(rows, columns)))
    return np.asarray(orthonormal * np.sqrt(rows / columns))
