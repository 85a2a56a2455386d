"""GSU and ESU around one relevance metric: TWIN's long-term block, and with another search its short-term block."""

from collections.abc import Mapping
from typing import NamedTuple

from twin_tf.batch import History, Targets
from twin_tf.keras_api import keras, tf
from twin_tf.layers.embeddings import CrossEmbedding
from twin_tf.layers.esu import TargetAttention, flat_places
from twin_tf.layers.gsu import Finalists, unite
from twin_tf.layers.items import Items
from twin_tf.layers.masking import MASKED_SCORE, masked_logsumexp, masked_softmax
from twin_tf.layers.relevance import Relevance
from twin_tf.layers.sight import Sight, in_sight
from twin_tf.layers.steps import merge_steps, spread_steps, steps_passed
from twin_tf.schema import FIRST_KNOWN, Feature
from twin_tf.search.protocol import SearchInputs, SearchStrategy


class Attended(NamedTuple):
    """What a block found out.

    Attributes:
        output: float `(B, C, heads * head_size)`; exactly zero for a user without history.
        evidence: float `(B, C, 2 * heads)`: log-sum-exp and maximum of the finalists' relevance; zero without history.
        finalists: places within the given history.
        relevance: float `(heads, B, C, K)` of the finalists.
    """

    output: tf.Tensor
    evidence: tf.Tensor
    finalists: Finalists
    relevance: tf.Tensor


class AttentionBlock(keras.layers.Layer):
    """Finds the finalists of every target and attends to them.

    The GSU runs under stop-gradient on the same variables; the ESU computes eq. 6 of the finalists with gradient.

    Args:
        search: the GSU strategy.
        relevance: eq. 6.
        attention: eq. 7 and 8.
        cross: the cross features' embeddings, shared between blocks.
    """

    def __init__(
        self, search: SearchStrategy, relevance: Relevance, attention: TargetAttention, cross: CrossEmbedding, name: str
    ) -> None:
        super().__init__(name=name)
        self.search = search
        self.relevance = relevance
        self.attention = attention
        self.cross = cross

    def call(self, items: Items, queries: tf.Tensor, history: History, targets: Targets) -> Attended:
        """Attends to the finalists.

        Args:
            items: the item halves of `history`.
            queries: the targets' item embeddings, float `(B, C, H)`.
            history: behaviours `(B, L)`.
            targets: their `end` and `time` are used.
        """
        sight = in_sight(history, targets, self.search.window)
        time = sight.pick(history.time)
        cuts = {f.name: self.cross.age_cuts(f, time, targets.time) for f in self.cross.relative_features}
        queries = self.relevance.project_queries(queries)
        finalists = self.search.find(
            SearchInputs(
                relevance=lambda: self._search_scores(items, queries, history, sight, cuts),
                first=sight.first,
                stop=sight.stop,
                width=sight.width,
            )
        )
        finalists = _within_sight(finalists, sight)
        union = unite(finalists, tf.shape(sight.position)[1])
        position = tf.gather(sight.position, union.column, batch_dims=1)
        cross = {name: tf.gather(index, position, batch_dims=1) for name, index in history.cross.items()}
        keys, values = items.attended(self.relevance.project_items, self.attention.project_items, position)
        similarity = self.relevance.similarity(queries, self.relevance.by_head(keys), self._behaviour_bias(cross))
        relative = {n: FIRST_KNOWN + steps_passed(c, finalists.position) for n, c in cuts.items()}
        alpha = self._finalist_scores(similarity, union.place, relative)
        weights = masked_softmax(alpha, finalists.valid)
        pooled = self.attention.pool(weights, union.place, self._add_cross_values(values, cross))
        for name, index in relative.items():
            table = self.attention.project_cross(name, self.cross.tables[name])
            pooled += self.attention.pool_buckets(weights, index, table)
        evidence = [tf.transpose(part, [1, 2, 0]) for part in masked_logsumexp(alpha, finalists.valid)]
        place = tf.maximum(sight.latest[:, None, None] - 1 - finalists.position, 0)
        return Attended(
            self.attention.combine_heads(pooled),
            tf.concat(evidence, axis=-1),
            finalists._replace(position=tf.where(finalists.valid, place, 0)),
            alpha,
        )

    def _behaviour_bias(self, cross: Mapping[str, tf.Tensor]) -> tf.Tensor | None:
        """The part of `(K_c W^c) beta` that belongs to the behaviours alone: `(B, n)` indices -> `(B, n, heads)`."""
        if not self.relevance.bias or not self.cross.behaviour_features:
            return None
        return tf.add_n([tf.gather(self._bias_table(f), cross[f.name]) for f in self.cross.behaviour_features])

    def _bias_table(self, feature: Feature) -> tf.Tensor:
        return self.relevance.bias_table(feature.name, self.cross.tables[feature.name])

    def _search_scores(
        self, items: Items, queries: tf.Tensor, history: History, sight: Sight, cuts: Mapping[str, tf.Tensor]
    ) -> tf.Tensor:
        """Eq. 6 of every column, without gradient; `MASKED_SCORE` where it is not in sight: `(heads, B, C, W)`."""
        keys = items.searched(self.relevance.project_items, sight.position, self.relevance.heads)
        bias = self._behaviour_bias({name: sight.pick(index) for name, index in history.cross.items()})
        scores = self.relevance.similarity(queries, keys, bias)
        ends, starts = merge_steps([sight.first[..., None], sight.stop[..., None], *cuts.values()])
        visible = (starts >= sight.first[..., None]) & (starts < sight.stop[..., None])
        steps = tf.where(visible, 0.0, tf.constant(MASKED_SCORE, scores.dtype))[None]
        if self.relevance.bias:
            for feature in self.cross.relative_features:
                index = FIRST_KNOWN + steps_passed(cuts[feature.name], starts)
                steps += tf.transpose(tf.gather(self._bias_table(feature), index), [3, 0, 1, 2])
        steps = tf.broadcast_to(steps, tf.concat([[self.relevance.heads], tf.shape(starts)], axis=0))
        return tf.stop_gradient(scores + spread_steps(steps, ends, tf.shape(sight.position)[1]))

    def _finalist_scores(self, similarity: tf.Tensor, place: tf.Tensor, relative: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Eq. 6 of the finalists, with gradient: float `(heads, B, C, K)`."""
        shape = tf.shape(similarity)
        shape = tf.concat([shape[:3], tf.shape(place)[2:]], axis=0)
        alpha = tf.gather(tf.reshape(similarity, [-1]), flat_places(place, shape, tf.shape(similarity)[3]))
        if self.relevance.bias:
            for feature in self.cross.relative_features:
                alpha += tf.transpose(tf.gather(self._bias_table(feature), relative[feature.name]), [3, 0, 1, 2])
        return alpha

    def _add_cross_values(self, values: tf.Tensor, cross: Mapping[str, tf.Tensor]) -> tf.Tensor:
        embeddings = self.cross.behaviours(cross)
        if embeddings is None:
            return values
        return values + self.attention.project_cross(self.cross.behaviour_features[0].name, embeddings)


def _within_sight(finalists: Finalists, sight: Sight) -> Finalists:
    """Whatever a strategy answers, nothing out of a target's sight counts."""
    first, stop = sight.first[..., None], sight.stop[..., None]
    return finalists._replace(valid=finalists.valid & (finalists.position >= first) & (finalists.position < stop))
