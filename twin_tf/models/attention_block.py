"""GSU and ESU around one relevance metric: TWIN's long-term block, and with another search its short-term block."""

from typing import Any

from twin_tf.config import Stages
from twin_tf.core.keras_api import keras, tf
from twin_tf.features.schema import FIRST_KNOWN
from twin_tf.layers.block_inputs import Attended, Looking
from twin_tf.layers.bucket_bias import climb, merge_steps, spread_steps, stairs
from twin_tf.layers.cross_features import CrossRows
from twin_tf.layers.embeddings import CrossEmbedding
from twin_tf.layers.esu import TargetAttention
from twin_tf.layers.gather_scatter import pick
from twin_tf.layers.gsu import Finalists, unite
from twin_tf.layers.items import Items
from twin_tf.layers.masking import MASKED_SCORE, masked_attention
from twin_tf.layers.pooled_attention import attend_to_made
from twin_tf.layers.relevance import Relevance
from twin_tf.layers.visibility import Sight, in_sight
from twin_tf.records.batch import History, Targets
from twin_tf.search import SearchInputs, SearchStrategy, search_from_config
from twin_tf.search.protocol import LearnedSearch, PoolingSearch


@keras.utils.register_keras_serializable("twin_tf")
class AttentionBlock(keras.layers.Layer):
    """Finds the finalists of every target and attends to them.

    The GSU runs under stop-gradient on the same variables; the ESU computes eq. 6 of the finalists with gradient.

    Args:
        search: the GSU strategy.
        relevance: eq. 6.
        attention: eq. 7 and 8.
        cross: the cross features' embeddings, shared between blocks.
        counted: the stages that add ln n of clusters to the relevance.
    """

    def __init__(
        self,
        search: SearchStrategy,
        relevance: Relevance,
        attention: TargetAttention,
        cross: CrossEmbedding,
        name: str,
        counted: Stages = "both",
    ) -> None:
        super().__init__(name=name)
        self.search = search
        self.search_layer = search.layer  # tracked here: a strategy is no Keras layer
        self.relevance = relevance
        self.attention = attention
        self.cross = cross
        self.counted = counted

    def call(
        self,
        items: Items,
        queries: tf.Tensor,
        history: History,
        cross: CrossRows,
        targets: Targets,
        chosen: Finalists | None = None,
    ) -> Attended:
        """Attends to the finalists.

        Args:
            items: the item halves of `history`.
            queries: the targets' item embeddings, float `(B, C, H)`.
            history: behaviours `(B, L)`.
            cross: their cross features.
            targets: their `end` and `time` are used.
            chosen: finalists that another search chose, places within the history; None searches.
        """
        looking = self._look(self.search, items, queries, history, cross, targets)
        if chosen is not None:
            return self._attend(looking, _within_sight(_in_columns(chosen, looking.sight), looking.sight))
        if isinstance(self.search, PoolingSearch):
            inputs = self._inputs(looking, "search")
            mass = self.search.assignment_weights(inputs) * inputs.count[..., None]
            return attend_to_made(self.relevance, self.attention, looking, mass)
        found = self._attend(looking, *self._find(self.search, looking, "search"))
        if isinstance(self.search, LearnedSearch):
            logit = self.search.auxiliary_logit(self._inputs(looking, "search"))
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
    ) -> Finalists:
        """The finalists that `search` would choose by the metric of a stage, places within the history; see `call`."""
        looking = self._look(search, items, queries, history, cross, targets)
        return _placed(self._find(search, looking, stage)[0], looking.sight)

    def _look(
        self,
        search: SearchStrategy,
        items: Items,
        queries: tf.Tensor,
        history: History,
        cross: CrossRows,
        targets: Targets,
    ) -> Looking:
        sight = in_sight(history, targets, search.window)
        time = sight.pick(history.time)
        cuts = {f.name: self.cross.age_cuts(f, time, targets.time) for f in self.cross.relative_features}
        return Looking(sight, targets.item, self.relevance.project_queries(queries), items, cross, cuts)

    def _find(self, search: SearchStrategy, looking: Looking, stage: Stages) -> tuple[Finalists, tf.Tensor | None]:
        """The finalists by the metric of a stage, and that of every column, `(heads, B, C, W)`, if it was asked for."""
        asked: list[tf.Tensor] = []
        finalists = search.find(self._inputs(looking, stage, asked))
        return _within_sight(finalists, looking.sight), asked[0] if asked else None

    def _inputs(self, looking: Looking, stage: Stages, asked: list[tf.Tensor] | None = None) -> SearchInputs:
        """What a strategy may look at; the relevance, if it asks for it, is put into `asked`."""
        sight, items = looking.sight, looking.items
        kept = [] if asked is None else asked

        def relevance() -> tf.Tensor:
            if not kept:
                kept.append(self._search_scores(looking, stage))
            return kept[0]

        behaviour = items.rows_at(sight.position)
        cross = looking.cross if self._counts(stage) else looking.cross.uncounted()
        log_count = cross.at(sight.position).log_count
        count = tf.ones_like(behaviour, tf.float32) if log_count is None else tf.exp(log_count)
        looked_up = (items.embed_rows, items.features, items.state)
        return SearchInputs(
            relevance, sight.first, sight.stop, sight.width, behaviour, count, looking.target, *looked_up
        )

    def _counts(self, stage: Stages) -> bool:
        return self.counted in ("both", stage)

    def _search_scores(self, looking: Looking, stage: Stages) -> tf.Tensor:
        """Eq. 6 of every column, without gradient; `MASKED_SCORE` where it is not in sight: `(heads, B, C, W)`."""
        sight = looking.sight
        cross = looking.cross if self._counts(stage) else looking.cross.uncounted()
        keys = self.relevance.searched_keys(looking.items, sight.position, cross.at(sight.position))
        first, stop = sight.first[..., None], sight.stop[..., None]
        ends, starts = merge_steps([first, stop, *looking.cuts.values()])
        steps = tf.where((starts >= first) & (starts < stop), 0.0, MASKED_SCORE)[:, :, None]
        for name, cuts in looking.cuts.items():
            steps = self._add_relative(steps, name, stairs(cuts, starts), looking)
        pairs = tf.shape(steps)[:2]
        steps = tf.broadcast_to(steps, tf.concat([pairs, [self.relevance.heads], tf.shape(steps)[3:]], axis=0))
        ends = tf.broadcast_to(ends, tf.concat([pairs, tf.shape(ends)[2:]], axis=0))
        added = spread_steps(steps, ends, tf.shape(sight.position)[1])
        # Added here and nowhere earlier, even where all targets of a user share their moment (serving): summed in
        # another order, two nearly equal behaviours at the border of the finalists would change places.
        return tf.stop_gradient(self.relevance.similarity(looking.queries, keys) + added)

    def _add_relative(self, scores: tf.Tensor, name: str, steps: tf.Tensor, looking: Looking) -> tf.Tensor:
        """`scores`, `(B, C, heads, n)`, and what a relative feature adds on the stairs of its cuts."""
        bias = self.relevance.relative_bias(name, looking.cross.tables[name][FIRST_KNOWN:], looking.queries)
        return scores if bias is None else scores + climb(bias, steps)

    def _attend(self, looking: Looking, finalists: Finalists, searched: tf.Tensor | None = None) -> Attended:
        sight = looking.sight
        union = unite(finalists, tf.shape(sight.position)[1])
        position = tf.gather(sight.position, union.column, batch_dims=1)
        cross = (looking.cross if self._counts("attention") else looking.cross.uncounted()).at(position)
        embedded = looking.items.embed(position)
        climbed = {name: stairs(cuts, finalists.position) for name, cuts in looking.cuts.items()}
        same = looking.cross.log_count is None or self._counts("search") == self._counts("attention")
        if looking.items.exact and searched is not None and same:
            alpha = pick(searched, finalists.position)  # serving: the search has computed just this
        else:
            keys = self.relevance.attended_keys(embedded.relevance, looking.items.projected(position), cross)
            alpha = pick(self.relevance.similarity(looking.queries, keys), union.place)
            for name, steps in climbed.items():
                alpha = self._add_relative(alpha, name, steps, looking)
        weights, total, largest = masked_attention(alpha, finalists.valid[:, :, None])
        values = self.attention.project_items(embedded.value)
        side_by_side = cross.embeddings()
        if side_by_side is not None:
            values += self.attention.project_cross(next(iter(cross.indices)), side_by_side)
        pooled = self.attention.pool(weights, union.place, values)
        for name, steps in climbed.items():
            table = self.attention.project_cross(name, looking.cross.tables[name][FIRST_KNOWN:])
            pooled += self.attention.pool_steps(weights, steps, table)
        output = self.attention.combine_heads(pooled)
        return Attended(output, tf.concat([total, largest], axis=-1), _placed(finalists, sight), alpha)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same layer; `cross` becomes a layer of its own."""
        serialize = keras.layers.serialize
        parts = {name: serialize(getattr(self, name)) for name in ("relevance", "attention", "cross")}
        return {"name": self.name, "search": self.search.get_config(), "counted": self.counted, **parts}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AttentionBlock":
        """The layer of `get_config`."""
        parts = {n: keras.layers.deserialize(config[n]) for n in ("relevance", "attention", "cross")}
        return cls(search_from_config(config["search"]), name=config["name"], counted=config["counted"], **parts)


def _within_sight(finalists: Finalists, sight: Sight) -> Finalists:
    """Whatever a strategy answers, nothing out of a target's sight counts."""
    first, stop = sight.first[..., None], sight.stop[..., None]
    return finalists._replace(valid=finalists.valid & (finalists.position >= first) & (finalists.position < stop))


def _in_columns(finalists: Finalists, sight: Sight) -> Finalists:
    """Places in the history to columns; some column where not valid, for place 0 may have none."""
    column = sight.latest[:, None, None] - 1 - finalists.position
    return finalists._replace(position=tf.clip_by_value(column, 0, tf.shape(sight.position)[1] - 1))


def _placed(finalists: Finalists, sight: Sight) -> Finalists:
    """Columns to places in the history; 0 where not valid."""
    place = sight.latest[:, None, None] - 1 - finalists.position
    return finalists._replace(position=tf.where(finalists.valid, place, 0))
