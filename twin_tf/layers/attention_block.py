"""GSU and ESU around one relevance metric: TWIN's long-term block, and with another search its short-term block."""

from collections.abc import Mapping
from typing import NamedTuple

from twin_tf.batch import History, Targets, in_sight
from twin_tf.keras_api import keras, tf
from twin_tf.layers.embeddings import CrossEmbedding
from twin_tf.layers.esu import TargetAttention
from twin_tf.layers.gsu import Finalists
from twin_tf.layers.items import Items
from twin_tf.layers.masking import MASKED_SCORE, masked_logsumexp, masked_softmax, visible
from twin_tf.layers.relevance import Relevance
from twin_tf.schema import Feature
from twin_tf.search.protocol import SearchInputs, SearchStrategy


class Attended(NamedTuple):
    """What a block found out.

    Attributes:
        output: float `(B, C, heads * head_size)`; exactly zero for a user without history.
        evidence: float `(B, C, 2 * heads)`: log-sum-exp and maximum of the finalists' relevance; zero without history.
        finalists: positions within the given history.
        relevance: float `(B, heads, C, K)` of the finalists.
    """

    output: tf.Tensor
    evidence: tf.Tensor
    finalists: Finalists
    relevance: tf.Tensor


class AttentionBlock(keras.layers.Layer):
    """Finds the finalists of every target and attends to them.

    The GSU runs under stop-gradient on the same variables; the ESU's relevance of the finalists carries the gradient.

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
        targets = targets._replace(end=tf.minimum(targets.end, history.length[:, None]))
        history, start = in_sight(history, targets, self.search.window)
        items = items.slice(start, tf.shape(history.item)[1])
        targets = targets._replace(end=tf.clip_by_value(targets.end - start[:, None], 0, history.length[:, None]))
        similarity = self.relevance.similarity(
            self.relevance.project_queries(queries), items.projected(self.relevance.project_items)
        )
        similarity += self._behaviour_bias(history)
        finalists = self.search.find(
            SearchInputs(
                relevance=lambda: self._search_scores(similarity, history, targets),
                end=targets.end,
                columns=tf.shape(history.item)[1],
            )
        )
        finalists = self._within_sight(finalists, targets.end)
        relative = self._relative_indices(finalists, history, targets)
        alpha = self._finalist_scores(similarity, finalists, relative)
        valid = finalists.valid[:, None]
        weights = masked_softmax(alpha, valid)
        pooled = self._pool(weights, finalists, items, history, relative)
        evidence = tf.concat([tf.transpose(part, [0, 2, 1]) for part in masked_logsumexp(alpha, valid)], axis=-1)
        finalists = finalists._replace(position=finalists.position + start[:, None, None])
        return Attended(self.attention.combine_heads(pooled), evidence, finalists, alpha)

    def _behaviour_bias(self, history: History) -> tf.Tensor:
        """The part of `(K_c W^c) beta` that belongs to the behaviour alone: float `(B, heads, 1, L)`, or 0."""
        total: tf.Tensor = tf.zeros([], tf.float32)
        if self.relevance.bias:
            for feature in self.cross.behaviour_features:
                total += tf.gather(self._bias_table(feature), history.cross[feature.name])
            total = tf.transpose(total, [0, 2, 1])[:, :, None, :] if self.cross.behaviour_features else total
        return total

    def _bias_table(self, feature: Feature) -> tf.Tensor:
        return self.relevance.bias_table(feature.name, self.cross.tables[feature.name])

    def _search_scores(self, similarity: tf.Tensor, history: History, targets: Targets) -> tf.Tensor:
        """Eq. 6 for every behaviour, without gradient; `MASKED_SCORE` where it is not in sight."""
        scores = tf.stop_gradient(similarity)
        if self.relevance.bias:
            for feature in self.cross.relative_features:
                table = tf.stop_gradient(self._bias_table(feature))
                index = self.cross.relative_index(feature, targets.time[:, :, None], history.time[:, None, :])
                scores += tf.stack([tf.gather(table[:, head], index) for head in range(self.relevance.heads)], axis=1)
        sight = visible(targets.end, tf.shape(history.item)[1], self.search.history_length)
        return tf.where(sight[:, None], scores, tf.constant(MASKED_SCORE, scores.dtype))

    def _within_sight(self, finalists: Finalists, end: tf.Tensor) -> Finalists:
        """Whatever a strategy answers, nothing at or after the target's moment counts."""
        return finalists._replace(valid=finalists.valid & (finalists.position < end[..., None]))

    def _relative_indices(self, finalists: Finalists, history: History, targets: Targets) -> list[tf.Tensor]:
        """Indices of the finalists' relative features, int32 `(B, C, K)` each."""
        if not self.cross.relative_features:
            return []
        time = tf.gather(history.time, finalists.position, batch_dims=1)
        return [self.cross.relative_index(f, targets.time[..., None], time) for f in self.cross.relative_features]

    def _finalist_scores(self, similarity: tf.Tensor, finalists: Finalists, relative: list[tf.Tensor]) -> tf.Tensor:
        """Eq. 6 of the finalists, with gradient: float `(B, heads, C, K)`."""
        shape = tf.shape(similarity)
        width = tf.shape(finalists.position)[2]
        position = tf.zeros([shape[0], shape[1], shape[2], width], tf.int32) + finalists.position[:, None]
        alpha = tf.gather(similarity, position, batch_dims=3)
        if self.relevance.bias:
            for feature, index in zip(self.cross.relative_features, relative, strict=True):
                alpha += tf.transpose(tf.gather(self._bias_table(feature), index), [0, 3, 1, 2])
        return alpha

    def _pool(
        self, weights: tf.Tensor, finalists: Finalists, items: Items, history: History, relative: list[tf.Tensor]
    ) -> tf.Tensor:
        """Softmax(alpha)^T K W^v: float `(B, C, heads * head_size)`."""
        values = items.values(self.attention.project_items)
        if values is not None:
            values = self._add_cross_values(values, history.cross)
            pooled = self.attention.pool_all(weights, finalists, values)
        else:
            values = items.values_at(self.attention.project_items, finalists.position)
            chosen = {n: tf.gather(v, finalists.position, batch_dims=1) for n, v in history.cross.items()}
            pooled = self.attention.pool_finalists(weights, self._add_cross_values(values, chosen))
        for feature, index in zip(self.cross.relative_features, relative, strict=True):
            table = self.attention.project_cross(feature.name, self.cross.tables[feature.name])
            pooled += self.attention.pool_buckets(weights, index, table)
        return pooled

    def _add_cross_values(self, values: tf.Tensor, indices: Mapping[str, tf.Tensor]) -> tf.Tensor:
        embeddings = self.cross.behaviours(indices)
        if embeddings is None:
            return values
        return values + self.attention.project_cross(self.cross.behaviour_features[0].name, embeddings)
