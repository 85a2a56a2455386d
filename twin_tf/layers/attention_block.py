"""GSU and ESU around one relevance metric: TWIN's long-term block, and with another search its short-term block."""

from typing import NamedTuple

from twin_tf.batch import History, Targets, latest
from twin_tf.keras_api import keras, tf
from twin_tf.layers.embeddings import CrossEmbedding, gather_rows
from twin_tf.layers.esu import TargetAttention
from twin_tf.layers.gsu import Finalists
from twin_tf.layers.items import Items
from twin_tf.layers.masking import MASKED_SCORE, masked_logsumexp, masked_softmax, visible
from twin_tf.layers.relevance import Relevance
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
        offset = None
        if targets.end.shape[1] == 1 and targets.time.shape[1] == 1:
            # All targets of a user look back from the same moment: what lies outside the window can be cut off first.
            history, offset = latest(history._replace(length=targets.end[:, 0]), self.search.window)
            items = items.take(offset)
            targets = targets._replace(end=history.length[:, None])
        columns = tf.shape(history.item)[1]
        similarity = self.relevance.similarity(
            self.relevance.project_queries(queries), items.projected(self.relevance.project_items)
        )
        similarity += self._behaviour_bias(history)
        finalists = self.search.find(
            SearchInputs(lambda: self._search_scores(similarity, history, targets, columns), targets.end, columns)
        )
        finalists = self._within_sight(finalists, targets.end)
        alpha = self._finalist_scores(similarity, finalists, history, targets)
        valid = finalists.valid[:, None]
        weights = masked_softmax(alpha, valid)
        pooled = self._pool(weights, finalists, items, history, targets)
        evidence = tf.concat([tf.transpose(part, [0, 2, 1]) for part in masked_logsumexp(alpha, valid)], axis=-1)
        if offset is not None:
            found = tf.gather(offset, finalists.position, batch_dims=1)
            finalists = finalists._replace(position=found)
        return Attended(self.attention.combine_heads(pooled), evidence, finalists, alpha)

    def _behaviour_bias(self, history: History) -> tf.Tensor:
        """The part of `(K_c W^c) beta` that belongs to the behaviour alone: float `(B, heads, 1, L)`, or 0."""
        total: tf.Tensor = tf.zeros([], tf.float32)
        if not self.relevance.bias:
            return total
        for feature in self.cross.behaviour_features:
            table = self.relevance.bias_table(feature.name, self.cross.tables[feature.name])
            index = self.cross.behaviour_index(feature, history.cross, history.time)
            total += tf.transpose(gather_rows(table, index), [0, 2, 1])[:, :, None, :]
        return total

    def _search_scores(
        self, similarity: tf.Tensor, history: History, targets: Targets, columns: tf.Tensor
    ) -> tf.Tensor:
        """Eq. 6 for every behaviour, without gradient; `MASKED_SCORE` where it is not in sight."""
        scores = tf.stop_gradient(similarity)
        if self.relevance.bias:
            for feature in self.cross.relative_features:
                table = tf.stop_gradient(self.relevance.bias_table(feature.name, self.cross.tables[feature.name]))
                index = self.cross.relative_index(feature, targets.time[:, :, None], history.time[:, None, :])
                scores += tf.stack([tf.gather(table[:, head], index) for head in range(self.relevance.heads)], axis=1)
        sight = visible(targets.end, columns, self.search.history_length)
        return tf.where(sight[:, None], scores, tf.constant(MASKED_SCORE, scores.dtype))

    def _within_sight(self, finalists: Finalists, end: tf.Tensor) -> Finalists:
        """Whatever a strategy answers, nothing at or after the target's moment counts."""
        return finalists._replace(valid=finalists.valid & (finalists.position < end[..., None]))

    def _finalist_scores(
        self, similarity: tf.Tensor, finalists: Finalists, history: History, targets: Targets
    ) -> tf.Tensor:
        """Eq. 6 of the finalists, with gradient: float `(B, heads, C, K)`."""
        shape = tf.shape(similarity)
        width = tf.shape(finalists.position)[2]
        position = tf.broadcast_to(finalists.position[:, None], [shape[0], shape[1], shape[2], width])
        alpha = tf.gather(similarity, position, batch_dims=3)
        if self.relevance.bias:
            for feature in self.cross.relative_features:
                table = self.relevance.bias_table(feature.name, self.cross.tables[feature.name])
                index = self._relative_index(feature.name, finalists, history, targets)
                alpha += tf.transpose(gather_rows(table, index), [0, 3, 1, 2])
        return alpha

    def _pool(
        self, weights: tf.Tensor, finalists: Finalists, items: Items, history: History, targets: Targets
    ) -> tf.Tensor:
        """Softmax(alpha)^T K W^v: float `(B, C, heads * head_size)`."""
        behaviour_features = self.cross.behaviour_features
        values = items.values(self.attention.project_items)
        if values is not None:
            for feature in behaviour_features:
                table = self.attention.project_cross(feature.name, self.cross.tables[feature.name])
                values += gather_rows(table, self.cross.behaviour_index(feature, history.cross, history.time))
            pooled = self.attention.pool_all(weights, finalists, values)
        else:
            values = items.values_at(self.attention.project_items, finalists.position)
            for feature in behaviour_features:
                table = self.attention.project_cross(feature.name, self.cross.tables[feature.name])
                index = self.cross.behaviour_index(feature, history.cross, history.time)
                values += gather_rows(table, tf.gather(index, finalists.position, batch_dims=1))
            pooled = self.attention.pool_finalists(weights, values)
        for feature in self.cross.relative_features:
            table = self.attention.project_cross(feature.name, self.cross.tables[feature.name])
            index = self._relative_index(feature.name, finalists, history, targets)
            pooled += self.attention.pool_buckets(weights, index, table)
        return pooled

    def _relative_index(self, name: str, finalists: Finalists, history: History, targets: Targets) -> tf.Tensor:
        feature = next(f for f in self.cross.relative_features if f.name == name)
        time = tf.gather(history.time, finalists.position, batch_dims=1)
        return self.cross.relative_index(feature, targets.time[..., None], time)
