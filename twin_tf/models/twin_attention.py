"""TWIN's attention over a long history as one Keras layer: search by the attention's own metric, then attend.

    alpha = (K_h W^h)(q^T W^q)^T / sqrt(d_k) + (K_c W^c) beta         (TWIN, eq. 6; over all behaviours, no gradient)
    output = Concat_a(Softmax(alpha_a)^T K W^v_a) W^o                 (eq. 7, 8; over the `top_k` best, with gradient)

It needs tensors alone: no schema and no records. The network of `twin_tf.models.twin` is built around the same
`AttentionBlock`, which can do more (a history end for each target, other searches, clusters).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from twin_tf.core.keras_api import keras, tf
from twin_tf.features.schema import FIRST_KNOWN
from twin_tf.layers.cross_features import CrossRows
from twin_tf.layers.esu import TargetAttention
from twin_tf.layers.items import Items
from twin_tf.layers.relevance import Relevance
from twin_tf.models.attention_block import AttentionBlock
from twin_tf.records.batch import History, Targets
from twin_tf.search.twin import TwinSearch

AGE = "age"
"""What the layer calls the cross feature that it makes of ages."""

UNLIMITED = 2**31 - 1


class TwinAttentionOutput(NamedTuple):
    """What the layer found.

    Attributes:
        output: float `(B, C, heads * head_size)`; exactly zero for a user without history.
        indices: int32 `(B, C, K)`, the retrieved behaviours' places in the history, in no particular order; K is
            `top_k`, or less where no history is as long; 0 where fewer were found.
        weights: float `(B, C, heads, K)`, the attention to each of them; zero where fewer were found.
    """

    output: tf.Tensor
    indices: tf.Tensor
    weights: tf.Tensor


@keras.utils.register_keras_serializable("twin_tf")
class TwinAttention(keras.layers.Layer):
    """Attention of targets to the `top_k` most relevant of a user's behaviours.

    Args:
        heads: A.
        head_size: d_k, the width of a projected query, key and value per head.
        top_k: behaviours that are attended to (the paper's 100).
        cross_dims: cross feature (how the user met the item) -> width of its embedding. They bias the relevance.
        cross_rows: cross feature -> rows of an embedding table that the layer shall hold. Those features are given as
            indices, all others as embeddings.
        age_boundaries: ages at which the bucket of a further cross feature changes, rising, in the unit of `ages`;
            empty: no such feature.
        age_dim: width of its embedding.
        init: how W^q and W^h begin: `tied` (one random matrix, so similar items attract from the first step) or
            `independent`.
        init_scale: how many times as large relevance begins.
        seed: of the random starts.

    Call it with tensors:

    * `query`: float `(B, C, H)`, the targets' item embeddings.
    * `items`: float `(B, L, H)`, the behaviours' item embeddings, oldest first; or a table of embeddings `(N, H)` and
      `rows`, int `(B, L)`: then each item of the batch is projected once, however often it occurs.
    * `cross`: cross feature -> float `(B, L, dim)` or, with `cross_rows`, int `(B, L)`.
    * `ages`: whole numbers `(B, L)`, 0 or more, time from behaviour to request; needed with `age_boundaries`.
    * `lengths`: int `(B,)`: behaviours from there on are padding. Or `valid`: bool `(B, L)`, which are real. Neither:
      all are.
    * `keys`: `project_items(items)` computed ahead, as in serving, of the shape of `items` but `heads * head_size`
      wide: then nothing is projected.

    Example:
        >>> layer = TwinAttention(heads=2, head_size=8, top_k=5, cross_dims={"dwell": 4})
        >>> found = layer(tf.ones([3, 2, 16]), tf.ones([3, 50, 16]), cross={"dwell": tf.ones([3, 50, 4])})
        >>> found.output.shape, found.indices.shape, found.weights.shape
        (TensorShape([3, 2, 16]), TensorShape([3, 2, 5]), TensorShape([3, 2, 2, 5]))

    References:
        TWIN, arXiv 2302.02352, sections 4.2 and 4.3.
    """

    def __init__(
        self,
        heads: int = 4,
        head_size: int = 16,
        top_k: int = 100,
        *,
        cross_dims: Mapping[str, int] | None = None,
        cross_rows: Mapping[str, int] | None = None,
        age_boundaries: Sequence[int] = (),
        age_dim: int = 8,
        init: str = "tied",
        init_scale: float = 1.0,
        seed: int = 1,
        name: str = "twin_attention",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        dims, rows = dict(cross_dims or {}), dict(cross_rows or {})
        if AGE in dims:
            raise ValueError(f"cross_dims: {AGE!r} is the layer's own feature; give ages and age_boundaries")
        unknown = sorted(rows.keys() - dims.keys())
        if unknown:
            raise ValueError(f"cross_rows: {', '.join(unknown)} has no width in cross_dims")
        if list(age_boundaries) != sorted(set(age_boundaries)):
            raise ValueError(f"age_boundaries must rise, not {list(age_boundaries)}")
        self.heads, self.head_size, self.top_k = heads, head_size, top_k
        self.cross_dims, self.cross_rows = dims, rows
        self.age_boundaries, self.age_dim = [int(age) for age in age_boundaries], age_dim
        self._init, self._init_scale, self._seed = init, init_scale, seed
        self.block: AttentionBlock | None = None
        self.tables: dict[str, tf.Variable] = {}

    def build(self, input_shape: Any) -> None:
        """Makes the weights; the width of an item's embedding is that of the query."""
        width, dims, seed = int(input_shape[-1]), dict(self.cross_dims), self._seed
        for offset, (feature, rows) in enumerate(self.cross_rows.items()):
            self.tables[feature] = self._table(feature, rows, dims[feature], seed + 700 + offset)
        relative = {}
        if self.age_boundaries:
            relative, dims[AGE] = {AGE: self.age_boundaries}, self.age_dim
            buckets = FIRST_KNOWN + len(self.age_boundaries) + 1
            self.tables[AGE] = self._table(AGE, buckets, self.age_dim, seed + 600)
        relevance = Relevance(
            self.heads, self.head_size, [width], dims, self._init, scale=self._init_scale, bias=True, seed=seed
        )
        attention = TargetAttention(self.heads, self.head_size, width, dims, seed=seed + 500)
        self.block = AttentionBlock(TwinSearch(self.top_k, UNLIMITED), relevance, attention, relative, "block")
        super().build(input_shape)

    def _table(self, feature: str, rows: int, dim: int, seed: int) -> tf.Variable:
        start = keras.initializers.RandomNormal(stddev=0.05, seed=seed)
        return self.add_weight(f"embedding_{feature}", (rows, dim), initializer=start)

    def project_items(self, items: tf.Tensor) -> tf.Tensor:
        """K_h W^h, a function of the item alone: float `(..., H)` -> `(..., heads * head_size)`."""
        if self.block is None:
            self.build(items.shape)
        assert self.block is not None
        return self.block.relevance.project_items(items)

    def call(
        self,
        query: tf.Tensor,
        items: tf.Tensor,
        rows: tf.Tensor | None = None,
        cross: Mapping[str, tf.Tensor] | None = None,
        ages: tf.Tensor | None = None,
        lengths: tf.Tensor | None = None,
        valid: tf.Tensor | None = None,
        keys: tf.Tensor | None = None,
    ) -> TwinAttentionOutput:
        """See the class.

        Raises:
            ValueError: a tensor is missing or of another shape.
        """
        assert self.block is not None
        cross = dict(cross or {})
        self._check(query, items, rows, cross, ages, lengths, valid)
        shape = tf.shape(items if rows is None else rows)
        users, columns = shape[0], shape[1]
        place = tf.reshape(tf.range(users * columns), [users, columns])  # among all behaviours of the batch
        if valid is not None:  # real ones first, in their order: what follows knows lengths alone
            order = tf.argsort(tf.cast(valid, tf.int32), axis=1, direction="DESCENDING", stable=True)
            place = tf.gather(place, order, batch_dims=1)
            lengths = tf.reduce_sum(tf.cast(valid, tf.int32), axis=1)
        elif lengths is None:
            lengths = tf.fill([users], columns)
        lengths = tf.cast(lengths, tf.int32)
        row = place if rows is None else _by_place(tf.cast(rows, tf.int32), place)
        time = tf.zeros_like(place, tf.int64) if ages is None else -_by_place(tf.cast(ages, tf.int64), place)
        history = History(row, time, {}, lengths, tf.ones_like(place))
        nothing = tf.zeros(tf.shape(query)[:2], tf.int32)
        now, count = tf.zeros([users, 1], tf.int64), tf.fill([users], tf.shape(query)[1])
        targets = Targets(nothing, now, lengths[:, None], {}, count)
        found = self.block(self._items(items, row, keys), query, history, self._cross(cross, place), targets)
        index = found.retrieved.position
        if valid is not None:
            index = tf.where(found.retrieved.valid, tf.gather(order, index, batch_dims=1), 0)
        return TwinAttentionOutput(found.output, index, found.weights)

    def _items(self, items: tf.Tensor, row: tf.Tensor, keys: tf.Tensor | None) -> Items:
        """The behaviours' item halves: rows of a table of embeddings, and of one of keys if it is given."""
        flat = tf.reshape(items, [-1, items.shape[-1]])

        def embed(index: tf.Tensor) -> tf.Tensor:
            return tf.gather(flat, index)

        table = None if keys is None else tf.reshape(keys, [-1, keys.shape[-1]])
        return Items(embed, embed, row, table, exact=table is not None)

    def _cross(self, cross: Mapping[str, tf.Tensor], place: tf.Tensor) -> CrossRows:
        tables, indices = {}, {}
        for feature, dim in self.cross_dims.items():
            if feature in self.cross_rows:
                tables[feature] = tf.convert_to_tensor(self.tables[feature])
                indices[feature] = _by_place(tf.cast(cross[feature], tf.int32), place)
            else:
                tables[feature], indices[feature] = tf.reshape(cross[feature], [-1, dim]), place
        if AGE in self.tables:
            tables[AGE] = tf.convert_to_tensor(self.tables[AGE])
        return CrossRows(tables, indices)

    def _check(
        self,
        query: tf.Tensor,
        items: tf.Tensor,
        rows: tf.Tensor | None,
        cross: Mapping[str, tf.Tensor],
        ages: tf.Tensor | None,
        lengths: tf.Tensor | None,
        valid: tf.Tensor | None,
    ) -> None:
        wanted = 3 if rows is None else 2
        if len(items.shape) != wanted:
            what = "(B, L, H)" if rows is None else "(N, H), for rows are given"
            raise ValueError(f"items must be {what}, not of the shape {tuple(items.shape)}")
        if len(query.shape) != 3 or query.shape[-1] != items.shape[-1]:
            raise ValueError(
                f"query must be (B, C, {items.shape[-1]}), as wide as items, not of the shape {tuple(query.shape)}"
            )
        if cross.keys() != self.cross_dims.keys():
            raise ValueError(f"cross must hold {sorted(self.cross_dims)}, not {sorted(cross)}")
        for feature, dim in self.cross_dims.items():
            given, index = cross[feature].shape, feature in self.cross_rows
            if len(given) != (2 if index else 3) or (not index and given[-1] != dim):
                what = "indices (B, L)" if index else f"embeddings (B, L, {dim})"
                raise ValueError(f"cross[{feature!r}] must be {what}, not of the shape {tuple(given)}")
        if bool(self.age_boundaries) != (ages is not None):
            raise ValueError("ages and age_boundaries go together: give both or neither")
        if lengths is not None and valid is not None:
            raise ValueError("give lengths or valid, not both")

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same layer."""
        own = {
            "heads": self.heads, "head_size": self.head_size, "top_k": self.top_k, "cross_dims": self.cross_dims,
            "cross_rows": self.cross_rows, "age_boundaries": self.age_boundaries, "age_dim": self.age_dim,
            "init": self._init, "init_scale": self._init_scale, "seed": self._seed,
        }  # fmt: skip
        return {**super().get_config(), **own}


def _by_place(values: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """`(B, L)` values of the batch's behaviours, those of the given places: `(B, L)`."""
    return tf.gather(tf.reshape(values, [-1]), place)
