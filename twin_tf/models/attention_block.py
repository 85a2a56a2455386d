"""GSU and ESU around one relevance metric: TWIN's long-term block, and with another search its short-term block."""

from collections.abc import Mapping, Sequence
from typing import Any

from twin_tf.config import Stages
from twin_tf.core.keras_api import keras, tf
from twin_tf.features.schema import FIRST_KNOWN
from twin_tf.layers.block_inputs import AttentionOutput, BlockInputs
from twin_tf.layers.bucket_bias import age_boundaries, broadcast_bias, cumulative_one_hot, lookup_bias, merge_steps
from twin_tf.layers.cross_features import CrossRows
from twin_tf.layers.equality_bias import EqualityBias
from twin_tf.layers.esu import TargetAttention
from twin_tf.layers.gather_scatter import gather_retrieved
from twin_tf.layers.gsu import Retrieved, union_of_retrieved
from twin_tf.layers.items import Items
from twin_tf.layers.masking import MASKED_SCORE, masked_attention
from twin_tf.layers.null_key import NullKey, attended_share
from twin_tf.layers.pooled_attention import attend_to_entries
from twin_tf.layers.relevance import Relevance
from twin_tf.layers.visibility import Visibility, visibility_of
from twin_tf.records.batch import History, Targets
from twin_tf.search import SearchInputs, SearchStrategy, search_from_config
from twin_tf.search.protocol import LearnedSearch, PoolingSearch


@keras.utils.register_keras_serializable("twin_tf")
class AttentionBlock(keras.layers.Layer):
    """Retrieves behaviours for every target and attends to them.

    The GSU runs under stop-gradient on the same variables; the ESU computes eq. 6 of the retrieved behaviours with
    gradient.

    Args:
        search: the GSU strategy.
        relevance: eq. 6.
        attention: eq. 7 and 8.
        relative: cross feature that is relative to the target -> the ages at which its bucket changes.
        cluster_size_bias: the stages that add ln n of clusters to the relevance.
        null_key: lets the attention look at nothing, and the search leave out what is less relevant than that.
        equality_bias: what equal values of a feature add to the relevance, in both stages.
    """

    def __init__(
        self,
        search: SearchStrategy,
        relevance: Relevance,
        attention: TargetAttention,
        relative: Mapping[str, Sequence[int]],
        name: str,
        cluster_size_bias: Stages = "both",
        null_key: NullKey | None = None,
        equality_bias: EqualityBias | None = None,
    ) -> None:
        super().__init__(name=name)
        self.search = search
        self.search_layer = search.layer  # tracked here: a strategy is no Keras layer
        self.relevance = relevance
        self.attention = attention
        self.relative = {feature: tuple(boundaries) for feature, boundaries in relative.items()}
        self.cluster_size_bias = cluster_size_bias
        self.null_key = null_key
        self.equality_bias = equality_bias

    def call(
        self,
        items: Items,
        queries: tf.Tensor,
        history: History,
        cross: CrossRows,
        targets: Targets,
        chosen: Retrieved | None = None,
    ) -> AttentionOutput:
        """Attends to what is retrieved.

        Args:
            items: the item halves of `history`.
            queries: the targets' item embeddings, float `(B, C, H)`.
            history: behaviours `(B, L)`.
            cross: their cross features.
            targets: their `end` and `time` are used.
            chosen: what another search retrieved, places within the history; None searches.
        """
        block = self._look(self.search, items, queries, history, cross, targets)
        if chosen is not None:
            return self._attend(block, _within_visibility(_in_columns(chosen, block.visibility), block.visibility))
        if isinstance(self.search, PoolingSearch):
            inputs = self._inputs(block, "search")
            mass = self.search.assignment_weights(inputs) * inputs.count[..., None]
            return attend_to_entries(self.relevance, self.attention, block, mass)
        found = self._attend(block, *self._find(self.search, block, "search"))
        if isinstance(self.search, LearnedSearch):
            logit = self.search.auxiliary_logit(self._inputs(block, "search"))
            return found._replace(auxiliary_logit=logit)
        return found

    def find(
        self,
        search: SearchStrategy,
        items: Items,
        queries: tf.Tensor,
        history: History,
        cross: CrossRows,
        targets: Targets,
        stage: Stages = "attention",
    ) -> Retrieved:
        """What `search` retrieves by the metric of a stage, as places within the history; see `call`."""
        block = self._look(search, items, queries, history, cross, targets)
        return _placed(self._find(search, block, stage)[0], block.visibility)

    def _look(
        self,
        search: SearchStrategy,
        items: Items,
        queries: tf.Tensor,
        history: History,
        cross: CrossRows,
        targets: Targets,
    ) -> BlockInputs:
        visibility = visibility_of(history, targets, search.window)
        time = visibility.gather_retrieved(history.time)
        boundaries = {name: age_boundaries(time, targets.time, ages) for name, ages in self.relative.items()}
        block = BlockInputs(visibility, targets.item, self.relevance.project_queries(queries), items, cross, boundaries)
        if self.null_key is None:
            return block
        own = self.self_relevance(items, queries, targets)
        return block._replace(self_relevance=own, null=self.null_key(own))

    def self_relevance(self, items: Items, queries: tf.Tensor, targets: Targets) -> tf.Tensor:
        """The relevance that each target would have as a behaviour before itself, cross features apart.

        Args:
            items: where the targets' item halves come from.
            queries: their item embeddings, float `(B, C, H)`.
            targets: their `item` is used.

        Returns:
            float `(B, C, heads)`.
        """
        keys = items.of_targets(self.relevance.project_items, targets.item, queries)
        own = self.relevance.self_relevance(self.relevance.project_queries(queries), keys)
        if self.equality_bias is None:
            return own
        return own + self.equality_bias.of_itself(items.features(targets.item))

    def _find(self, search: SearchStrategy, block: BlockInputs, stage: Stages) -> tuple[Retrieved, tf.Tensor | None]:
        """What a stage's metric retrieves, and that of every column, `(heads, B, C, W)`, if it was asked for."""
        asked: list[tf.Tensor] = []
        retrieved = search.find(self._inputs(block, stage, asked))
        return _within_visibility(retrieved, block.visibility), asked[0] if asked else None

    def _inputs(self, block: BlockInputs, stage: Stages, asked: list[tf.Tensor] | None = None) -> SearchInputs:
        """What a strategy may look at; the relevance, if it asks for it, is put into `asked`."""
        visibility, items = block.visibility, block.items
        kept = [] if asked is None else asked

        def relevance() -> tf.Tensor:
            if not kept:
                kept.append(self._search_scores(block, stage))
            return kept[0]

        behaviour = items.rows_at(visibility.position)
        cross = block.cross if self._counts(stage) else block.cross.without_cluster_size()
        log_count = cross.at(visibility.position).log_count
        count = tf.ones_like(behaviour, tf.float32) if log_count is None else tf.exp(log_count)
        looked_up = (items.embed_rows, items.features, items.state)
        columns = (visibility.first, visibility.stop, visibility.width)
        floor = None if block.null is None else tf.transpose(tf.stop_gradient(block.null), [2, 0, 1])
        return SearchInputs(relevance, *columns, behaviour, count, block.target, *looked_up, floor)

    def _codes(self, block: BlockInputs, position: tf.Tensor) -> tf.Tensor:
        """Which features targets and behaviours at `(B, n)` positions have in common, see `EqualityBias`."""
        assert self.equality_bias is not None
        features = block.items.features
        return self.equality_bias.codes(features(block.target), features(block.items.rows_at(position)))

    def _counts(self, stage: Stages) -> bool:
        return self.cluster_size_bias in ("both", stage)

    def _search_scores(self, block: BlockInputs, stage: Stages) -> tf.Tensor:
        """Eq. 6 of every column, without gradient; `MASKED_SCORE` where it is not visible: `(heads, B, C, W)`."""
        visibility = block.visibility
        cross = block.cross if self._counts(stage) else block.cross.without_cluster_size()
        keys = self.relevance.gsu_keys(block.items, visibility.position, cross.at(visibility.position))
        first, stop = visibility.first[..., None], visibility.stop[..., None]
        ends, starts = merge_steps([first, stop, *block.boundaries.values()])
        steps = tf.where((starts >= first) & (starts < stop), 0.0, MASKED_SCORE)[:, :, None]
        for name, boundaries in block.boundaries.items():
            steps = self._add_relative(steps, name, cumulative_one_hot(boundaries, starts), block)
        pairs = tf.shape(steps)[:2]
        steps = tf.broadcast_to(steps, tf.concat([pairs, [self.relevance.heads], tf.shape(steps)[3:]], axis=0))
        ends = tf.broadcast_to(ends, tf.concat([pairs, tf.shape(ends)[2:]], axis=0))
        added = broadcast_bias(steps, ends, tf.shape(visibility.position)[1])
        # Added here and nowhere earlier, even where all targets of a user share their moment (serving): summed in
        # another order, two nearly equal behaviours at the border of the retrieved behaviours would change places.
        scores = self.relevance.similarity(block.queries, keys) + added
        if self.equality_bias is not None:
            scores += self.equality_bias(self._codes(block, visibility.position))
        return tf.stop_gradient(scores)

    def _add_relative(self, scores: tf.Tensor, name: str, steps: tf.Tensor, block: BlockInputs) -> tf.Tensor:
        """`scores`, `(B, C, heads, n)`, and what a relative feature adds on the stairs of its boundaries."""
        bias = self.relevance.relative_bias(name, block.cross.tables[name][FIRST_KNOWN:], block.queries)
        return scores if bias is None else scores + lookup_bias(bias, steps)

    def _attend(self, block: BlockInputs, retrieved: Retrieved, searched: tf.Tensor | None = None) -> AttentionOutput:
        visibility = block.visibility
        union = union_of_retrieved(retrieved, tf.shape(visibility.position)[1])
        position = tf.gather(visibility.position, union.column, batch_dims=1)
        cross = (block.cross if self._counts("attention") else block.cross.without_cluster_size()).at(position)
        embedded = block.items.embed(position)
        buckets = {
            name: cumulative_one_hot(boundaries, retrieved.position) for name, boundaries in block.boundaries.items()
        }
        same = block.cross.log_count is None or self._counts("search") == self._counts("attention")
        if block.items.exact and searched is not None and same:
            alpha = gather_retrieved(searched, retrieved.position)  # serving: the search has computed just this
        else:
            keys = self.relevance.esu_keys(embedded.relevance, block.items.projected(position), cross)
            alpha = gather_retrieved(self.relevance.similarity(block.queries, keys), union.place)
            for name, steps in buckets.items():
                alpha = self._add_relative(alpha, name, steps, block)
            if self.equality_bias is not None:
                codes = gather_retrieved(self._codes(block, position)[None], union.place)[:, :, 0]
                alpha += tf.transpose(self.equality_bias(codes), [1, 2, 0, 3])
        weights, total, largest = masked_attention(alpha, retrieved.valid[:, :, None])
        if block.null is not None:
            weights *= attended_share(total, block.null)[..., None]
        values = self.attention.project_items(embedded.value)
        side_by_side = cross.embeddings()
        if side_by_side is not None:
            values += self.attention.project_cross(next(iter(cross.indices)), side_by_side)
        pooled = self.attention.pool(weights, union.place, values)
        for name, steps in buckets.items():
            table = self.attention.project_cross(name, block.cross.tables[name][FIRST_KNOWN:])
            pooled += self.attention.pool_steps(weights, steps, table)
        output = self.attention.combine_heads(pooled)
        return AttentionOutput(
            output,
            tf.concat([total, largest], axis=-1),
            _placed(retrieved, visibility),
            alpha,
            weights,
            block.self_relevance,
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same layer."""
        parts = {name: keras.layers.serialize(getattr(self, name)) for name in ("relevance", "attention")}
        parts |= {
            name: None if getattr(self, name) is None else keras.layers.serialize(getattr(self, name))
            for name in ("null_key", "equality_bias")
        }
        own = {
            "search": self.search.get_config(),
            "relative": dict(self.relative),
            "cluster_size_bias": self.cluster_size_bias,
        }
        return {"name": self.name, **own, **parts}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AttentionBlock":
        """The layer of `get_config`."""
        names = ("relevance", "attention", "null_key", "equality_bias")
        parts: dict[str, Any] = {
            name: None if config[name] is None else keras.layers.deserialize(config[name]) for name in names
        }
        own = {name: config[name] for name in ("name", "relative", "cluster_size_bias")}
        return cls(search_from_config(config["search"]), **own, **parts)


def _within_visibility(retrieved: Retrieved, visibility: Visibility) -> Retrieved:
    """Whatever a strategy answers, nothing that a target cannot see counts."""
    first, stop = visibility.first[..., None], visibility.stop[..., None]
    return retrieved._replace(valid=retrieved.valid & (retrieved.position >= first) & (retrieved.position < stop))


def _in_columns(retrieved: Retrieved, visibility: Visibility) -> Retrieved:
    """Places in the history to columns; some column where not valid, for place 0 may have none."""
    column = visibility.latest[:, None, None] - 1 - retrieved.position
    return retrieved._replace(position=tf.clip_by_value(column, 0, tf.shape(visibility.position)[1] - 1))


def _placed(retrieved: Retrieved, visibility: Visibility) -> Retrieved:
    """Columns to places in the history; 0 where not valid."""
    place = visibility.latest[:, None, None] - 1 - retrieved.position
    return retrieved._replace(position=tf.where(retrieved.valid, place, 0))
