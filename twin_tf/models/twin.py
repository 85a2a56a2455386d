"""The CTR network: long-term block, short-term block and other features into a mixer; one sigmoid (TWIN, section 4).

Only `model.search` differs between systems. Training, evaluation and serving call the same `score`; serving hands it
the projection table.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from twin_tf.config import ModelConfig
from twin_tf.core.dataclass_yaml import ConfigError, build, to_plain
from twin_tf.core.keras_api import keras, tf, tfrs
from twin_tf.features.schema import FeatureSchema, schema_from_mapping
from twin_tf.layers.block_inputs import AttentionOutput
from twin_tf.layers.cross_features import CrossRows
from twin_tf.layers.embeddings import CrossEmbedding, FeatureEmbedding, ItemEmbedding, clock_index, table_variables
from twin_tf.layers.equality_bias import MOST_FEATURES, EqualityBias
from twin_tf.layers.esu import TargetAttention
from twin_tf.layers.graded_counts import graded_counts
from twin_tf.layers.gsu import Retrieved, share_found
from twin_tf.layers.id_dropout import IdDropout
from twin_tf.layers.items import Items
from twin_tf.layers.mixer import Mixer
from twin_tf.layers.null_key import NullKey
from twin_tf.layers.relevance import Relevance
from twin_tf.layers.shapes import dimensions
from twin_tf.layers.unsplit_relevance import RawRelevance
from twin_tf.models.attention_block import AttentionBlock
from twin_tf.models.losses import ClickLoss
from twin_tf.models.outputs import LossSums, Scores, entropies
from twin_tf.records.batch import Batch
from twin_tf.search import SearchStrategy, make_search
from twin_tf.search.din import DinSearch
from twin_tf.search.protocol import PoolingSearch, Vectors
from twin_tf.search.twin import TwinSearch
from twin_tf.training_settings import TrainingConfig

STATISTICS_SCALE = 0.3
"""Brings the relevance statistics, whose numbers start at a few units, to the scale of the mixer's other inputs."""


PROJECTION_BLOCK = 65_536
"""Items that are projected at a time when a whole table of projections is computed."""


@keras.utils.register_keras_serializable("twin_tf")
class TwinModel(tfrs.Model):
    """TWIN, or with another `search` one of its baselines.

    Args:
        schema: the feature schema.
        config: the network's settings.
        item_features: int32 `(items, columns)`; item row -> feature indices, see `data.load_item_features`.
        cardinalities: feature name -> rows of its table.
        seed: of the starting weights.
        training: what the loss is; the plain one if left out.
        item_state: float32 `(items, n)`, what `config.search` keeps of each item, if it does.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        config: ModelConfig,
        item_features: npt.NDArray[np.int32],
        cardinalities: Mapping[str, int],
        seed: int,
        training: TrainingConfig | None = None,
        item_state: Vectors | None = None,
    ) -> None:
        super().__init__(name="twin")
        self.schema = schema
        self.config = config
        self._cardinalities, self._seed, self._training = dict(cardinalities), seed, training
        if training is not None and training.id_dropout and not schema.item_ids:
            raise ConfigError("training.id_dropout needs an inherent feature of the item's id, and the schema has none")
        keras.utils.set_random_seed(seed)
        norm = config.embedding_scale * config.head_size**0.25
        self.item_embedding = ItemEmbedding(schema.inherent, cardinalities, item_features, norm, seed)
        self.relevance_embedding = self.item_embedding
        if config.decoupled_embeddings:
            narrow = [dataclasses.replace(f, dim=min(f.dim, config.decoupled_dim)) for f in schema.inherent]
            self.relevance_embedding = ItemEmbedding(
                narrow, cardinalities, item_features, norm, seed, name="relevance_embedding"
            )
        self.item_state = None if item_state is None else tf.Variable(item_state, trainable=False, name="item_state")
        self.cross_embedding = CrossEmbedding(schema.cross, cardinalities, schema.events.time, seed)
        search = make_search(config, schema, self.relevance_embedding.width, seed + 2000)
        if isinstance(search, PoolingSearch) and config.relevance != "split":
            raise ConfigError(
                f"model.search: {config.search} pools the history into entries and needs model.relevance: split"
            )
        if isinstance(search, PoolingSearch) and (config.equality_bias or config.graded_counts):
            raise ConfigError(
                f"model.search: {config.search} pools behaviours into entries, which equal no target and are not "
                "counted: leave out model.equality_bias and model.graded_counts"
            )
        if config.equality_bias and len(schema.inherent) > MOST_FEATURES:
            raise ConfigError(
                f"model.equality_bias takes at most {MOST_FEATURES} inherent features, and the schema has "
                f"{len(schema.inherent)}"
            )
        self.long_term = self._block("long_term", search, seed, beyond_paper=True)
        self.short_term: AttentionBlock | None = None
        if config.short_term_length:
            latest = DinSearch(config.short_term_length, config.history_length)
            self.short_term = self._block("short_term", latest, seed + 1000)
        self.user_embeddings = {f.name: FeatureEmbedding(f, cardinalities[f.name], seed) for f in schema.user}
        self.context_embeddings = {f.name: FeatureEmbedding(f, cardinalities[f.name], seed) for f in schema.of_target}
        policy = "mixed_bfloat16" if config.precision == "bfloat16" else None
        self.mixer = Mixer(config.mixer, config.crosses, config.cross_projection, dtype=policy)
        self.mixer.build((None, None, self._mixer_input_width()))
        self.click_loss = ClickLoss(training)
        self.projection_cache: tf.Variable | None = None
        self.auxiliary: TwinModel | None = None
        if config.consistency == "auxiliary":
            alone = dataclasses.replace(config, consistency="shared")
            self.auxiliary = TwinModel(schema, alone, item_features, cardinalities, seed + 5000, item_state=item_state)

    def _block(self, name: str, search: SearchStrategy, seed: int, *, beyond_paper: bool = False) -> AttentionBlock:
        """An attention block; `beyond_paper`: with the null key and the equality bias that `config` asks for."""
        config = self.config
        cross_dims = self.cross_embedding.dims
        relevance = (RawRelevance if config.relevance == "raw" else Relevance)(
            config.heads,
            config.head_size,
            [f.dim for f in self.relevance_embedding.features],
            cross_dims,
            config.projection_init,
            scale=config.relevance_init_scale,
            bias=config.bias,
            seed=seed,
            precision=config.precision,
            name=f"{name}_relevance",
        )
        attention = TargetAttention(
            config.heads,
            config.head_size,
            self.item_embedding.width,
            cross_dims,
            seed=seed + 500,
            precision=config.precision,
            name=f"{name}_attention",
        )
        null_key = equality_bias = None
        if beyond_paper and config.null_key:
            null_key = NullKey(config.heads, name=f"{name}_null_key")
        if beyond_paper and config.equality_bias:
            columns = [(part.start, part.stop) for part in self.schema.inherent_slices.values()]
            equality_bias = EqualityBias(config.heads, columns, name=f"{name}_equality_bias")
        return AttentionBlock(
            search,
            relevance,
            attention,
            self.cross_embedding.relative_boundaries,
            name,
            config.cluster_size_bias,
            null_key,
            equality_bias,
        )

    def _mixer_input_width(self) -> int:
        blocks = 1 if self.short_term is None else 2
        width = blocks * self.config.heads * self.config.head_size + self.item_embedding.width
        width += sum(f.dim for f in (*self.schema.user, *self.schema.of_target))
        width += self.config.heads * len(self.config.graded_counts)
        return width + (3 * self.config.heads + 1 if self.config.relevance_statistics else 0)

    @property
    def window(self) -> int:
        """How many of the latest behaviours any part of the network looks at."""
        return max(self.long_term.search.window, self.config.short_term_length)

    @property
    def embedding_variables(self) -> list[tf.Variable]:
        """The embedding tables, which AdaGrad trains."""
        tables = [*self.item_embedding.tables, *self.cross_embedding.tables.values()]
        if self.relevance_embedding is not self.item_embedding:
            tables += self.relevance_embedding.tables
        tables += [e.table for e in (*self.user_embeddings.values(), *self.context_embeddings.values())]
        mine = [variable for table in tables for variable in table_variables(table)]
        return mine + (self.auxiliary.embedding_variables if self.auxiliary is not None else [])

    @property
    def relevance_variables(self) -> list[tf.Variable]:
        """Those of them that serve the relevance alone (`decoupled_embeddings`)."""
        apart = self.relevance_embedding is not self.item_embedding
        mine = [variable for table in self.relevance_embedding.tables if apart for variable in table_variables(table)]
        return mine + (self.auxiliary.relevance_variables if self.auxiliary is not None else [])

    @property
    def dense_variables(self) -> list[tf.Variable]:
        """All other trainable weights, which Adam trains."""
        tables = {variable.ref() for variable in self.embedding_variables}
        return [variable for variable in self.trainable_variables if variable.ref() not in tables]

    def project_items(self, rows: tf.Tensor) -> tf.Tensor:
        """K_h W^h of item rows, the projection table's content: int `(N,)` -> float `(N, heads * head_size)`."""
        if self.auxiliary is not None:
            return self.auxiliary.project_items(rows)
        return self.long_term.relevance.project_items(self.relevance_embedding(rows))

    def project_features(self, index: tf.Tensor) -> tf.Tensor:
        """`project_items` of items given by their features, in the catalogue or not.

        Args:
            index: int32 `(N, columns)`, as rows of `data.load_item_features`.
        """
        if self.auxiliary is not None:
            return self.auxiliary.project_features(index)
        return self.long_term.relevance.project_items(self.relevance_embedding.embed_features(index))

    def projection_table(self) -> tf.Tensor:
        """`project_items` of every item: float `(items, heads * head_size)`."""
        rows = self.item_embedding.item_features.shape[0]
        starts = range(0, rows, PROJECTION_BLOCK)
        blocks = [self.project_items(tf.range(start, min(start + PROJECTION_BLOCK, rows))) for start in starts]
        return tf.concat(blocks, axis=0)

    def cache_projections(self) -> None:
        """From now on the GSU searches a table of projections while training, as it does online, not the live weights.

        The table is as old as the last `refresh_projections`; the paper's is up to 15 minutes old.
        """
        self.projection_cache = tf.Variable(self.projection_table(), trainable=False, name="projection_cache")

    def refresh_projections(self) -> None:
        """Brings the table of `cache_projections` up to date."""
        if self.projection_cache is None:
            raise ValueError("there is no table to refresh: call cache_projections first")
        self.projection_cache.assign(self.projection_table())

    def call(self, batch: Batch, training: bool | None = None) -> tf.Tensor:
        """Logits, float `(B, C)`; padding targets get a logit too, which nobody may read."""
        return self.score(batch).logit

    def score(self, batch: Batch, table: tf.Tensor | None = None, *, exact: bool = True) -> Scores:
        """Scores every target of every user.

        Args:
            batch: histories and targets.
            table: projection table, `(items, heads * head_size)` of any float type; None projects with live weights.
            exact: whether the table was computed from the weights as they are; an old one serves the search alone.
        """
        auxiliary = self.auxiliary.score(batch, table, exact=exact) if self.auxiliary is not None else None
        cross, items, queries = self._looked_up(batch, table if auxiliary is None else None, exact)
        chosen = None if auxiliary is None else auxiliary.long_term.retrieved
        long_term = self.long_term(items, queries, batch.history, cross, batch.targets, chosen)
        target_items = self.item_embedding(batch.targets.item)
        parts = [long_term.output, target_items]
        if self.short_term is not None:
            live = Items(self.relevance_embedding, self.item_embedding, batch.history.item)
            parts.append(self.short_term(live, queries, batch.history, cross, batch.targets).output)
        if self.config.relevance_statistics:
            parts += [STATISTICS_SCALE * part for part in self._relevance_statistics(long_term, items, queries, batch)]
        if self.config.graded_counts:
            own = self._self_relevance(long_term, items, queries, batch)
            found, levels = long_term.retrieved, self.config.graded_counts
            parts.append(STATISTICS_SCALE * graded_counts(long_term.relevance, found.valid, own, levels))
        parts += [self.user_embeddings[f.name](batch.user[f.name])[:, None, :] for f in self.schema.user]
        parts += [self._context(batch, f.name) for f in self.schema.of_target]
        pairs = dimensions(batch.targets.item)
        mixed = tf.concat([tf.broadcast_to(part, [*pairs, part.shape[-1]]) for part in parts], axis=-1)
        logit = tf.cast(self.mixer(mixed), tf.float32)
        return Scores(logit, long_term, long_term.auxiliary_logit if auxiliary is None else auxiliary.logit)

    def _looked_up(self, batch: Batch, table: tf.Tensor | None, exact: bool) -> tuple[CrossRows, Items, tf.Tensor]:
        """The history's cross features and item halves, and the targets' K_h of eq. 6."""
        cross = self.cross_embedding.compact(self.cross_embedding.behaviour_indices(batch.history))
        if self.schema.history.clustered:
            cross = cross._replace(log_count=tf.math.log(tf.cast(tf.maximum(batch.history.count, 1), tf.float32)))
        items = Items(
            self.relevance_embedding, self.item_embedding, batch.history.item, table, exact=exact, state=self.item_state
        )
        return cross, items, self.relevance_embedding(batch.targets.item)

    def gsu_overlap(self, batch: Batch) -> tf.Tensor:
        """Consistency: of the exact top-K by the ESU's own metric, the share that the GSU found, a scalar.

        1 with fresh parameters; less with an old table (`cache_projections`), an auxiliary twin or another search.
        NaN if no target of the batch has any history, or if the search chooses no behaviours at all.
        """
        return self.attention_figures(batch)[0]

    def attention_figures(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """`gsu_overlap`, and the entropy of the long-term attention in nats and normalised, three scalars.

        The entropy is the mean over targets with history and over heads; ln K where all K retrieved behaviours have
        equal weight, 0 where one has all. It falls as relevance sharpens: the norms of rows grow, and relevance with
        their square. Normalised it is the mean of entropy / ln n over the targets of which n >= 2 behaviours were
        retrieved: from 0 to 1, whatever the lengths of the histories. NaN if no target of the batch counts.
        """
        attended = self.score(batch, self.projection_cache, exact=False).long_term
        return self._overlap(attended.retrieved, batch), *entropies(attended, batch)

    def _overlap(self, found: Retrieved, batch: Batch) -> tf.Tensor:
        if isinstance(self.long_term.search, PoolingSearch):
            return tf.constant(float("nan"))
        cross, items, queries = self._looked_up(batch, None, True)
        best = TwinSearch(self.config.top_k, self.config.history_length)
        true = self.long_term.find(best, items, queries, batch.history, cross, batch.targets)
        return share_found(found, true, tf.shape(batch.history.item)[1], batch.targets.count)

    def _relevance_statistics(
        self, long_term: AttentionOutput, items: Items, queries: tf.Tensor, batch: Batch
    ) -> list[tf.Tensor]:
        """How much relevance there was: floats `(B, C, n)`.

        Log-sum-exp and maximum of the retrieved behaviours' relevance count from the target's own, what it would have
        as a behaviour before itself: then a maximum of 0 is "this very item" and a log-sum-exp of ln 5 five such
        behaviours, of popular items and rare ones alike, whose embeddings differ in length.
        """
        own = self._self_relevance(long_term, items, queries, batch)
        return [long_term.relevance_statistics - tf.concat([own, own], axis=-1), own, self._log_length(batch)]

    def _self_relevance(self, long_term: AttentionOutput, items: Items, queries: tf.Tensor, batch: Batch) -> tf.Tensor:
        """The block's own, if it has needed it; float `(B, C, heads)`."""
        if long_term.self_relevance is not None:
            return long_term.self_relevance
        return self.long_term.self_relevance(items, queries, batch.targets)

    def _log_length(self, batch: Batch) -> tf.Tensor:
        """ln(1 + visible behaviours): float `(B, C, 1)`; without it the statistics cannot tell a share from a count.

        Visible is what the search looks at, clusters with their sizes: readers may have dropped everything older.
        """
        end = tf.clip_by_value(batch.targets.end, 0, batch.history.length[:, None])  # padding may end anywhere
        seen = tf.minimum(end, self.window)
        if self.schema.history.clustered:
            seen = batch.history.behaviours_before(end) - batch.history.behaviours_before(end - seen)
        return tf.math.log1p(tf.cast(seen, tf.float32))[..., None]

    def _context(self, batch: Batch, name: str) -> tf.Tensor:
        feature = self.schema.feature(name)
        if feature.derived is None:
            index = batch.targets.context[name]
        else:
            index = clock_index(feature, batch.targets.time, self.schema.events.time)
        return self.context_embeddings[name](index)

    def compute_loss(self, inputs: Batch, training: bool = False) -> tf.Tensor:
        """Weighted mean of the binary cross-entropy over the real targets of the batch, a scalar."""
        sums = self.loss_sums(inputs, training)
        return tf.math.divide_no_nan(sums.total, sums.weight)

    def loss_sums(self, inputs: Batch, training: bool = False) -> LossSums:
        """The loss's numerators and denominator; what is trained in parts divides their sums."""
        rate = self._training.id_dropout if training and self._training is not None else 0.0
        dropout = IdDropout.of_batch(rate, inputs.targets.item, inputs.user_id)
        with self._dropping(dropout) if rate else contextlib.nullcontext():
            scores = self.score(inputs, self.projection_cache if training else None, exact=False)
        own, weight = self.click_loss(scores.logit, inputs.label, inputs.weight, inputs.targets.count)
        auxiliary = tf.zeros_like(own)
        if scores.auxiliary_logit is not None:
            auxiliary, _ = self.click_loss(scores.auxiliary_logit, inputs.label, inputs.weight, inputs.targets.count)
        return LossSums(own, weight, auxiliary)

    @contextlib.contextmanager
    def _dropping(self, dropout: IdDropout) -> Iterator[None]:
        """Within it, all parts of the network take the same items' ids for unknown."""
        with contextlib.ExitStack() as stack:
            for model in (self, self.auxiliary):
                layers = [] if model is None else [model.item_embedding, model.relevance_embedding]
                for layer in {id(layer): layer for layer in layers}.values():
                    stack.enter_context(layer.dropping(self.schema.item_ids, dropout))
            yield

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same model; of the catalogue its shape alone, for its content is a variable."""
        return {
            "schema": self.schema.to_plain(),
            "config": to_plain(self.config, defaults=True),
            "item_features": list(self.item_embedding.item_features.shape),
            "cardinalities": dict(self._cardinalities),
            "seed": self._seed,
            "training": to_plain(self._training, defaults=True) if self._training is not None else None,
            "item_state": None if self.item_state is None else list(self.item_state.shape),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "TwinModel":
        """The model of `get_config`, with an empty catalogue until weights are loaded."""
        del custom_objects
        training = config["training"]
        return cls(
            schema_from_mapping(config["schema"]),
            build(ModelConfig, config["config"], "model"),
            np.zeros(config["item_features"], np.int32),
            config["cardinalities"],
            config["seed"],
            build(TrainingConfig, training, "training") if training is not None else None,
            None if config["item_state"] is None else np.zeros(config["item_state"], np.float32),
        )
