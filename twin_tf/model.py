"""The CTR network: long-term block, short-term block and other features into a mixer; one sigmoid (TWIN, section 4).

Only `model.search` differs between systems. Training, evaluation and serving call the same `score`; serving hands it
the projection table.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from twin_tf.batch import Batch
from twin_tf.config import ModelConfig
from twin_tf.keras_api import keras, tf, tfrs
from twin_tf.layers.attention_block import Attended, AttentionBlock
from twin_tf.layers.embeddings import CrossEmbedding, FeatureEmbedding, ItemEmbedding, clock_index, table_variables
from twin_tf.layers.esu import TargetAttention
from twin_tf.layers.items import Items, LiveItems, TableItems
from twin_tf.layers.relevance import Relevance
from twin_tf.schema import FeatureSchema
from twin_tf.search import SearchStrategy, make_search
from twin_tf.search.recent import RecentSearch

EVIDENCE_SCALE = 0.3
"""Brings log-sum-exp and maximum, which start at a few units, to the scale of the mixer's other inputs."""


class Scores(NamedTuple):
    """`logit` float `(B, C)`, and what the long-term block found."""

    logit: tf.Tensor
    long_term: Attended


class TwinModel(tfrs.Model):
    """TWIN, or with another `search` one of its baselines.

    Args:
        schema: the feature schema.
        config: the network's settings.
        item_features: int32 `(items, inherent features)`; item row -> feature indices, rows 0 and 1 padding and
            unknown.
        cardinalities: feature name -> rows of its table.
        seed: of the starting weights.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        config: ModelConfig,
        item_features: npt.NDArray[np.int32],
        cardinalities: Mapping[str, int],
        seed: int,
    ) -> None:
        super().__init__(name="twin")
        self.schema = schema
        self.config = config
        keras.utils.set_random_seed(seed)
        norm = config.embedding_scale * config.head_size**0.25
        self.item_embedding = ItemEmbedding(schema.inherent, cardinalities, item_features, norm)
        self.cross_embedding = CrossEmbedding(schema.cross, cardinalities, schema.events.time)
        self.long_term = self._block(
            "long_term", make_search(config.search, config.retrieved, config.history_length), seed
        )
        self.short_term: AttentionBlock | None = None
        if config.short_term_length:
            recent = RecentSearch(config.short_term_length, config.history_length)
            self.short_term = self._block("short_term", recent, seed + 1000)
        self.user_embeddings = {f.name: FeatureEmbedding(f, cardinalities[f.name]) for f in schema.user}
        self.context_embeddings = {f.name: FeatureEmbedding(f, cardinalities[f.name]) for f in schema.context}
        self.mixer = [
            keras.layers.Dense(width, activation="relu", name=f"mixer_{i}") for i, width in enumerate(config.mixer)
        ]
        self.output_layer = keras.layers.Dense(1, name="logit")
        self.task = tfrs.tasks.Ranking(loss=keras.losses.BinaryCrossentropy(from_logits=True, reduction="sum"))
        width = self._mixer_input_width()
        for layer in (*self.mixer, self.output_layer):
            layer.build((None, width))
            width = layer.units

    def _block(self, name: str, search: SearchStrategy, seed: int) -> AttentionBlock:
        config = self.config
        cross_dims = self.cross_embedding.dims
        relevance = Relevance(
            config.heads,
            config.head_size,
            [f.dim for f in self.schema.inherent],
            cross_dims,
            config.projection_start,
            bias=config.bias,
            seed=seed,
            name=f"{name}_relevance",
        )
        attention = TargetAttention(
            config.heads,
            config.head_size,
            self.item_embedding.width,
            cross_dims,
            seed=seed + 500,
            name=f"{name}_attention",
        )
        return AttentionBlock(search, relevance, attention, self.cross_embedding, name)

    def _mixer_input_width(self) -> int:
        blocks = 1 if self.short_term is None else 2
        width = blocks * self.config.heads * self.config.head_size + self.item_embedding.width
        width += sum(f.dim for f in (*self.schema.user, *self.schema.context))
        return width + (2 * self.config.heads + 1 if self.config.evidence else 0)

    @property
    def window(self) -> int:
        """How many of the latest behaviours any part of the network looks at."""
        return max(self.long_term.search.window, self.config.short_term_length)

    @property
    def embedding_variables(self) -> list[tf.Variable]:
        """The embedding tables, which AdaGrad trains."""
        tables = [*self.item_embedding.tables, *self.cross_embedding.tables.values()]
        tables += [e.table for e in (*self.user_embeddings.values(), *self.context_embeddings.values())]
        return [variable for table in tables for variable in table_variables(table)]

    @property
    def dense_variables(self) -> list[tf.Variable]:
        """All other trainable weights, which Adam trains."""
        tables = {variable.ref() for variable in self.embedding_variables}
        return [variable for variable in self.trainable_variables if variable.ref() not in tables]

    def project_items(self, rows: tf.Tensor) -> tf.Tensor:
        """K_h W^h of item rows, the projection table's content: int `(N,)` -> float `(N, heads * head_size)`."""
        return self.long_term.relevance.project_items(self.item_embedding(rows))

    def call(self, batch: Batch, training: bool | None = None) -> tf.Tensor:
        """Logits, float `(B, C)`; padding targets get a logit too, which nobody may read."""
        return self.score(batch).logit

    def score(self, batch: Batch, table: tf.Tensor | None = None) -> Scores:
        """Scores every target of every user.

        Args:
            batch: histories and targets.
            table: projection table, float `(items, heads * head_size)`; None projects with the live weights.
        """
        indices = self.cross_embedding.behaviour_indices(batch.history)
        batch = batch._replace(history=batch.history._replace(cross=indices))
        if table is None:
            distinct, index = tf.unique(
                tf.concat([tf.reshape(batch.history.item, [-1]), tf.reshape(batch.targets.item, [-1])], axis=0)
            )
            embeddings = self.item_embedding(distinct)
            behaviours = tf.size(batch.history.item)
            live = LiveItems(embeddings, tf.reshape(index[:behaviours], tf.shape(batch.history.item)))
            target_items = tf.gather(embeddings, tf.reshape(index[behaviours:], tf.shape(batch.targets.item)))
            return self._score(batch, target_items, live, live)
        long_items = TableItems(table, self.item_embedding, batch.history.item)
        short_items = TableItems(None, self.item_embedding, batch.history.item)
        return self._score(batch, self.item_embedding(batch.targets.item), long_items, short_items)

    def _score(self, batch: Batch, target_items: tf.Tensor, long_items: Items, short_items: Items) -> Scores:
        long_term = self.long_term(long_items, target_items, batch.history, batch.targets)
        parts = [long_term.output, target_items]
        if self.short_term is not None:
            parts.append(self.short_term(short_items, target_items, batch.history, batch.targets).output)
        if self.config.evidence:
            parts += [long_term.evidence * EVIDENCE_SCALE, self._log_length(batch) * EVIDENCE_SCALE]
        parts += [self.user_embeddings[f.name](batch.user[f.name])[:, None, :] for f in self.schema.user]
        parts += [self._context(batch, f.name) for f in self.schema.context]
        pairs = tf.shape(batch.targets.item)
        mixed = tf.concat([tf.broadcast_to(part, [pairs[0], pairs[1], part.shape[-1]]) for part in parts], axis=-1)
        for layer in self.mixer:
            mixed = layer(mixed)
        return Scores(self.output_layer(mixed)[..., 0], long_term)

    def _log_length(self, batch: Batch) -> tf.Tensor:
        """ln(1 + behaviours in sight): float `(B, C, 1)`; without it the evidence cannot tell a share from a count.

        In sight is what the search looks at: readers may have dropped everything older.
        """
        seen = tf.minimum(batch.targets.end, self.window)
        return tf.math.log1p(tf.cast(seen, tf.float32))[..., None]

    def _context(self, batch: Batch, name: str) -> tf.Tensor:
        feature = self.schema.feature(name)
        if feature.derived is None:
            index = batch.targets.context[name]
        else:
            index = clock_index(feature, batch.targets.time, self.schema.events.time)
        return self.context_embeddings[name](index)

    def compute_loss(self, inputs: Batch, training: bool = False) -> tf.Tensor:
        """Mean binary cross-entropy over the real targets of the batch, a scalar; 0 without any."""
        logit = self(inputs, training=training)
        real = tf.sequence_mask(inputs.targets.count, tf.shape(inputs.label)[1])
        labels, logits = tf.boolean_mask(inputs.label, real), tf.boolean_mask(logit, real)
        loss = self.task(labels=labels[:, None], predictions=logits[:, None])
        return tf.math.divide_no_nan(loss, tf.cast(tf.size(labels), tf.float32))
