"""Relevance of plain multi-head target attention: what TWIN splits, unsplit. An ablation of the paper's figure 6.

    alpha = (K W^h)(q^T W^q)^T / sqrt(d_k),   K = [K_h K_c]

Every behaviour is projected as a whole, so nothing can be computed ahead: the cost that the paper's split removes. Only
features relative to the target would need a projection per target and behaviour; here each of their buckets is
projected once, which is the same number.
"""

from collections.abc import Mapping
from itertools import accumulate

from twin_tf.core.keras_api import keras, tf
from twin_tf.layers.cross_features import CrossRows
from twin_tf.layers.items import Items
from twin_tf.layers.projection import multiply, project
from twin_tf.layers.relevance import Keys, Relevance


@keras.utils.register_keras_serializable("twin_tf")
class RawRelevance(Relevance):
    """`Relevance` without the split; the same arguments, `bias` says whether cross features take part."""

    def _add_cross_weights(self, cross_dims: Mapping[str, int], seed: int) -> None:
        """Makes the rows of W^h that belong to the cross features."""
        self.offsets = dict(zip(cross_dims, accumulate([0, *cross_dims.values()]), strict=False))
        if cross_dims:
            width = sum(cross_dims.values())
            start = keras.initializers.RandomNormal(stddev=float(width) ** -0.5, seed=seed + 1)
            self.cross_kernel = self.add_weight("cross_kernel", (width, self.heads * self.head_size), initializer=start)

    def gsu_keys(self, items: Items, position: tf.Tensor, cross: CrossRows) -> Keys:
        """See `Relevance`; every behaviour is embedded and projected."""
        return self.esu_keys(items.embed(position).relevance, None, cross)

    def esu_keys(self, embeddings: tf.Tensor, projected: tf.Tensor | None, cross: CrossRows) -> Keys:
        """See `Relevance`; `projected`, the item half alone, is of no use."""
        rows = self.project_items(embeddings)
        side_by_side = cross.embeddings() if self.bias else None
        if side_by_side is not None:
            kernel = self._kernel(next(iter(cross.indices)), side_by_side.shape[-1])
            rows += project(side_by_side, kernel, self.precision)
        return Keys(self.by_head(rows), self.behaviour_bias(cross))

    def _cross_bias(self, cross: CrossRows) -> tf.Tensor | None:
        """See `Relevance`; here cross features are part of the projected rows."""
        return None

    def relative_bias(self, cross: str, buckets: tf.Tensor, queries: tf.Tensor) -> tf.Tensor | None:
        """See `Relevance`; here it depends on the target: the query times each bucket's projection."""
        if not self.bias:
            return None
        rows = project(buckets, self._kernel(cross, buckets.shape[-1]), self.precision)
        keys = tf.transpose(tf.reshape(rows, [-1, self.heads, self.head_size]), [1, 2, 0])
        scaled = self.scaled(queries)
        shape = tf.shape(scaled)
        each = multiply(tf.reshape(scaled, [self.heads, -1, self.head_size]), keys, self.precision)
        return tf.transpose(tf.reshape(each, tf.concat([shape[:3], [-1]], axis=0)), [1, 2, 0, 3])

    def _kernel(self, first: str, width: int) -> tf.Tensor:
        """Rows of W^h for neighbouring cross features of `width` columns, the first of them named."""
        return self.cross_kernel[self.offsets[first] : self.offsets[first] + width]
