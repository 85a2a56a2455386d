"""One model, its two optimisers, and the step that trains it: AdaGrad for the embedding tables, Adam for all else.

Dense weights get the gradient of the mean loss of a target. Tables get that of the sum (`training.table_gradient`):
AdaGrad's accumulators start at .1, which suits the gradient of one target of a row; of a mean over hundreds it is
nothing, and the row would stay where it started. So a row's update does not depend on who else is in the batch.

Knows nothing of files, epochs or runs, so that a benchmark or a notebook can step it:

    >>> trainer = TrainStep(model, config.training)
    >>> for batch in make_dataset(manifest, "train", model.window, config.training.batch_records):
    ...     loss = trainer.step(batch).loss
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from twin_tf.core.keras_api import graph, keras, tf, tfrs
from twin_tf.layers.embeddings import table_variables
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch
from twin_tf.records.input_pipeline import batch_spec
from twin_tf.training.table_rows import Table, TableRows, named_tables
from twin_tf.training_settings import TrainingConfig

FINAL_RATE = 0.02
"""Where the cosine schedule ends, as a share of the starting rates."""

_NOT_FINITE = "is no longer finite"

Gradient = Any
"""A tensor, or `tf.IndexedSlices` where only some rows of a table have one."""


class StepStats(NamedTuple):
    """What one or more steps learned from, scalars each.

    Attributes:
        loss_sum: weighted binary cross-entropy before the update, summed over the targets; without an auxiliary twin's.
        weight: sum of the targets' weights.
        targets: how many.
        records: that held them.
        steps: updates.
    """

    loss_sum: tf.Tensor
    weight: tf.Tensor
    targets: tf.Tensor
    records: tf.Tensor
    steps: tf.Tensor

    @property
    def loss(self) -> float:
        """Mean loss of a target."""
        return float(self.loss_sum) / float(self.weight) if float(self.weight) else 0.0


class AttentionFigures(NamedTuple):
    """How the long-term attention of a batch does, see `TwinModel.attention_figures`; None without history.

    Attributes:
        overlap: of the behaviours that are most relevant to the ESU, the share that the GSU finds.
        entropy: in nats.
        normalised_entropy: of what each target retrieved, from 0 to 1.
    """

    overlap: float | None
    entropy: float | None
    normalised_entropy: float | None


class TrainStep:
    """One model and its two optimisers.

    Both update only the rows of a table that the batch has read.

    Args:
        model: to be trained, made in the strategy's scope.
        config: rates, schedule, clipping.
        strategy: where; one replica on this machine if left out.
    """

    def __init__(
        self, model: TwinModel, config: TrainingConfig, strategy: tf.distribute.Strategy | None = None
    ) -> None:
        self.model = model
        self.config = config
        self.strategy = tf.distribute.get_strategy() if strategy is None else strategy
        legacy = keras.optimizers.legacy
        tables, dense = model.embedding_variables, model.dense_variables
        self._tables = {table.ref() for table in tables}
        self._variables = [*tables, *dense]
        with self.strategy.scope():
            if config.projections == "cached":
                model.cache_projections()
            self._scale = tf.Variable(1.0, trainable=False, name="rate_scale")
            adagrad = legacy.Adagrad(self._scaled(config.embedding_learning_rate))
            adam = legacy.Adam(self._scaled(config.dense_learning_rate))
            pairs = [(adagrad, tables), (adam, dense)]
            if config.relevance_learning_rate is not None:
                apart = {table.ref() for table in model.relevance_variables}
                pairs[0] = (adagrad, [table for table in tables if table.ref() not in apart])
                pairs.append((legacy.Adagrad(self._scaled(config.relevance_learning_rate)), model.relevance_variables))
            for optimizer, variables in pairs:
                optimizer._create_all_weights(variables)  # now, not in the first step: a checkpoint finds them all
            self.optimizer = tfrs.experimental.optimizers.CompositeOptimizer(
                [(optimizer, functools.partial(list, variables)) for optimizer, variables in pairs]
            )
            self._adagrad = {table.ref(): one for one, variables in pairs if one is not adam for table in variables}
        self._spec = batch_spec(model.schema)
        self._step = graph(self.global_step, self._spec)

    def _scaled(self, start: float) -> Callable[[], tf.Tensor]:
        @tf.autograph.experimental.do_not_convert
        def rate() -> tf.Tensor:
            return start * self._scale

        return rate

    def set_rates(self, steps: int, progress: float) -> dict[str, float]:
        """Sets both learning rates; a pure function of its arguments.

        Args:
            steps: steps done, for the warm-up.
            progress: share of the training that is done, 0 to 1, for the schedule.

        Returns:
            The rates, by whose they are.
        """
        scale = 1.0
        if self.config.schedule == "cosine":
            scale = max(FINAL_RATE, 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))
        if steps < self.config.warmup_steps:
            scale *= (steps + 1) / self.config.warmup_steps
        self._scale.assign(scale)
        relevance = self.config.relevance_learning_rate
        return {
            "embedding": scale * self.config.embedding_learning_rate,
            "dense": scale * self.config.dense_learning_rate,
            **({} if relevance is None else {"relevance": scale * relevance}),
        }

    def expect(self, spec: Batch) -> None:
        """Makes `step` take batches of several replicas: `spec` is a distributed dataset's `element_spec`."""
        if spec != self._spec:
            self._spec = spec
            self._step = graph(self.global_step, spec)

    def step(self, batch: Batch) -> StepStats:
        """One update of all weights; the rates are those of `set_rates`, before it the starting ones.

        Raises:
            FloatingPointError: the loss or its gradient is not finite; no weight has been changed.
        """
        with finite_or_stop():
            return self._step(batch)

    def prepare_step(self, steps: int, progress: float, before: int = -1) -> dict[str, float]:
        """What comes before a step: the learning rates, and every so often a fresh table of projections.

        A pure function of weights and arguments, so that a resumed run does the same.

        Args:
            steps: steps done.
            progress: share of the training that is done, 0 to 1.
            before: steps that were done at the call before this one; -1 if this is the first.

        Returns:
            The rates, by whose they are.
        """
        every = self.config.refresh_steps
        if self.config.projections == "cached" and steps // every > before // every:
            self.model.refresh_projections()
        return self.set_rates(steps, progress)

    def redraw_tables(self) -> None:
        """Puts every embedding table and its accumulators back to their start; dense weights stay."""
        for table in named_tables(self.model):
            self.table_rows(table).reset()
        if self.model.projection_cache is not None:
            self.model.refresh_projections()

    def table_rows(self, table: Table) -> TableRows:
        """The rows of a table of the model, and their accumulators."""
        return TableRows(table, self.strategy, self._adagrad[table_variables(table.variable)[0].ref()])

    def attention_figures(self, batch: Batch) -> AttentionFigures:
        """How the long-term attention of a batch does. Without a graph: building one takes longer than running it."""
        figures = (float(figure) for figure in self.model.attention_figures(batch))
        return AttentionFigures(*(None if math.isnan(figure) else figure for figure in figures))

    def global_step(self, batch: Batch) -> StepStats:
        """One update from the replicas' batches; a graph."""
        learned = self.strategy.run(self.replica_step, args=(batch,))
        sums = (self.strategy.reduce(tf.distribute.ReduceOp.SUM, part, axis=None) for part in learned)
        return StepStats(*sums)._replace(steps=tf.constant(1))

    def replica_step(self, batch: Batch) -> StepStats:
        """A replica's part of a step: the loss is the mean over the targets of all replicas, gradients are added.

        Clipping looks at the gradient of the mean; only then tables go over to that of the sum. A worker of a parameter
        server cluster knows its own batch alone: it adds up the targets of that.
        """
        context, add = tf.distribute.get_replica_context(), tf.distribute.ReduceOp.SUM
        several = self.strategy.num_replicas_in_sync > 1
        with tf.GradientTape() as tape:
            sums = self.model.loss_sums(batch, training=True)
            everywhere = context.all_reduce(add, sums.weight) if several else sums.weight
            loss = tf.math.divide_no_nan(sums.total, everywhere)
        found = zip(tape.gradient(loss, self._variables), self._variables, strict=True)
        pairs = [(gradient, variable) for gradient, variable in found if gradient is not None]
        gradients = [gradient for gradient, _ in pairs]
        if several:
            gradients = context.all_reduce(add, gradients)
        variables = [variable for _, variable in pairs]
        gradients = self._checked(loss, gradients)
        if self.config.table_gradient == "sum":
            in_tables = [variable.ref() in self._tables for variable in variables]
            gradients = [_scaled(g, everywhere) if is_in else g for g, is_in in zip(gradients, in_tables, strict=True)]
        self.optimizer.apply_gradients(
            list(zip(gradients, variables, strict=True)),
            experimental_aggregate_gradients=not several,  # a parameter server knows no other way
        )
        targets = tf.reduce_sum(batch.targets.count)
        return StepStats(sums.own, sums.weight, targets, tf.shape(batch.targets.count)[0], tf.constant(1))

    def _checked(self, loss: tf.Tensor, gradients: Sequence[Gradient]) -> list[Gradient]:
        """The gradients, clipped; they exist only once loss and norm are known to be finite, so no update comes first.

        The norm counts a row that the batch has read several times once, with the sum of its gradients.
        """
        if self.config.clip_norm is not None:
            gradients = [_summed_rows(gradient) for gradient in gradients]
        norm = tf.linalg.global_norm(gradients)
        with tf.control_dependencies([tf.debugging.check_numerics(loss, f"the loss {_NOT_FINITE}")]):
            checked = tf.debugging.check_numerics(norm, f"the gradient {_NOT_FINITE}")
        if self.config.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.config.clip_norm, use_norm=norm)
        with tf.control_dependencies([checked]):
            return [tf.identity(gradient) for gradient in gradients]

    def check_weights(self) -> None:
        """Looks at every trained weight: the last update has had no loss after it that would tell.

        Raises:
            FloatingPointError: one is not finite.
        """
        if not all(bool(tf.reduce_all(tf.math.is_finite(variable))) for variable in self._variables):
            raise FloatingPointError(_advice("a weight"))


@contextlib.contextmanager
def finite_or_stop() -> Iterator[None]:
    """Names what a step's check has found.

    Raises:
        FloatingPointError: in place of the error that TensorFlow raises when the check fails.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        for what in ("the loss", "the gradient"):
            if f"{what} {_NOT_FINITE}" in error.message:
                raise FloatingPointError(_advice(what)) from error
        raise


def _advice(what: str) -> str:
    return (
        f"{what} {_NOT_FINITE}; lower training.dense_learning_rate or training.embedding_learning_rate, or set "
        "training.clip_norm"
    )


def _scaled(gradient: Gradient, factor: tf.Tensor) -> Gradient:
    """The gradient times a scalar; what is sparse stays so."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)
    return gradient * factor


def _summed_rows(gradient: Gradient) -> Gradient:
    """The same gradient with each row of a table once."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, place = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, place, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)
