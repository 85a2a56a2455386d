"""The trainer: AdaGrad for the embedding tables, Adam for everything else, in one step."""

import dataclasses
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twin_tf.batch import Batch
from twin_tf.config import Config, TrainingConfig
from twin_tf.data import batch_spec, make_dataset
from twin_tf.evaluate import Evaluator
from twin_tf.keras_api import keras, tf, tfrs
from twin_tf.model import TwinModel
from twin_tf.parameter_server import PortionTrainer
from twin_tf.progress import progress_bar
from twin_tf.records import Manifest
from twin_tf.runs import CHECKPOINTS, REPORT, RunInfo, build_model, create_run, save_info, schema_of
from twin_tf.strategies import Learned, Share, distribute, is_chief
from twin_tf.strict_yaml import ConfigError

FINAL_RATE = 0.02
"""Where the cosine schedule ends, as a share of the starting rates."""


class Trainer:
    """One model and its two optimisers.

    Args:
        model: to be trained, made in the strategy's scope.
        config: rates and schedule.
        strategy: where; one replica on this machine if left out.
    """

    def __init__(
        self, model: TwinModel, config: TrainingConfig, strategy: tf.distribute.Strategy | None = None
    ) -> None:
        self.model = model
        self.config = config
        self.strategy = tf.distribute.get_strategy() if strategy is None else strategy
        legacy = keras.optimizers.legacy
        with self.strategy.scope():
            self.rate = tf.Variable(1.0, trainable=False, name="rate")
            self.optimizer = tfrs.experimental.optimizers.CompositeOptimizer(
                [
                    (legacy.Adagrad(self._scaled(config.embedding_learning_rate)), lambda: model.embedding_variables),
                    (legacy.Adam(self._scaled(config.dense_learning_rate)), lambda: model.dense_variables),
                ]
            )
        self._step = tf.function(self.global_step, input_signature=[batch_spec(model.schema)])
        self._distributed_step: Callable[[Batch], Learned] | None = None

    def _scaled(self, start: float) -> Callable[[], tf.Tensor]:
        @tf.autograph.experimental.do_not_convert
        def rate() -> tf.Tensor:
            return start * self.rate

        return rate

    def set_progress(self, progress: float) -> None:
        """Sets the rates; `progress` is the share of the training that is done, 0 to 1."""
        if self.config.schedule == "cosine":
            self.rate.assign(max(FINAL_RATE, 0.5 * (1 + math.cos(math.pi * progress))))

    def step(self, batch: Batch) -> Learned:
        """One update of all weights from one batch, by one replica."""
        return self._step(batch)

    def epochs(
        self, records_: int, read: Callable[[int, int, Share], tf.data.Dataset]
    ) -> Callable[[int], Iterator[Learned]]:
        """How an epoch is run under the strategy.

        Args:
            records_: of an epoch.
            read: (epoch, records in a batch, `(i, n)`) -> batches of the i-th of n shares.

        Returns:
            epoch -> what is learned, step by step or portion by portion.
        """
        size = self.config.batch_records
        if isinstance(self.strategy, tf.distribute.ParameterServerStrategy):
            portions = PortionTrainer(
                self.strategy, self.replica_step, lambda epoch, share: read(epoch, size, share), records_
            )
            return portions.run

        def run(epoch: int) -> Iterator[Learned]:
            dataset = distribute(self.strategy, size, lambda part, share: read(epoch, part, share))
            if self._distributed_step is None:
                self._distributed_step = tf.function(self.global_step, input_signature=[dataset.element_spec])
            for batch in dataset:
                yield self._distributed_step(batch)

        return run

    def global_step(self, batch: Batch) -> Learned:
        """One update from the replicas' batches; a graph."""
        learned = self.strategy.run(self.replica_step, args=(batch,))
        loss_sum, targets, records = (
            self.strategy.reduce(tf.distribute.ReduceOp.SUM, part, axis=None) for part in learned[:3]
        )
        return Learned(loss_sum, targets, records, tf.constant(1))

    def replica_step(self, batch: Batch) -> Learned:
        """A replica's part of a step; the gradients of all are added."""
        variables = [*self.model.embedding_variables, *self.model.dense_variables]
        count = tf.reduce_sum(batch.targets.count)
        everywhere = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, count)
        with tf.GradientTape() as tape:
            loss_sum = self.model.compute_loss(batch, training=True) * tf.cast(count, tf.float32)
            loss = tf.math.divide_no_nan(loss_sum, tf.cast(everywhere, tf.float32))
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(
            [
                (gradient, variable)
                for gradient, variable in zip(gradients, variables, strict=True)
                if gradient is not None
            ]
        )
        return Learned(loss_sum, count, tf.shape(batch.targets.count)[0], tf.constant(1))


def train(
    prepared: str | Path, run: str | Path, config: Config, strategy: tf.distribute.Strategy | None = None
) -> dict[str, Any]:
    """Trains a model on prepared data.

    Args:
        prepared: directory of `build_examples`.
        run: a new directory for everything that training leaves behind, see `twin_tf.runs`.
        config: its schema section, if any, must be the one that the data were prepared with.
        strategy: of `strategies.make_strategy`; one replica on this machine if left out. Of several processes, the
            chief alone writes `run`.

    Returns:
        What `report.json` holds: seconds, examples per second, losses, metrics on the valid split after each epoch.

    Raises:
        ConfigError: bad prepared data, an existing run directory, a schema that differs from the data's, or settings
            that make no model; no run directory is left behind.
        FloatingPointError: the loss is not finite; nothing can be exported from the run.
    """
    manifest = Manifest.load(prepared)
    if config.schema is not None and config.schema.fingerprint != manifest.schema_fingerprint:
        raise ConfigError(f"{prepared} was prepared with another schema than the configuration holds; preprocess again")
    strategy = tf.distribute.get_strategy() if strategy is None else strategy
    if not is_chief(strategy):  # it writes all the same, since writing takes part in what the workers do together
        with tempfile.TemporaryDirectory(prefix="twin-not-chief-") as elsewhere:
            return _train(manifest, Path(elsewhere), config, strategy)
    return _train(manifest, Path(run), config, strategy)


def _train(manifest: Manifest, directory: Path, config: Config, strategy: tf.distribute.Strategy) -> dict[str, Any]:
    config = dataclasses.replace(config, schema=manifest.schema)
    source = Path(manifest.directory).resolve()
    info = RunInfo(manifest.schema_fingerprint, manifest.cardinalities, str(source))
    with strategy.scope():
        model, _ = build_model(source, config, info)
    make_dataset(manifest, "train", model.window, config.training.batch_records)
    manifest.shard_paths("valid")
    create_run(directory, manifest, config, info)
    trainer = Trainer(model, config.training, strategy)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=trainer.optimizer)
    manager = tf.train.CheckpointManager(checkpoint, str(directory / CHECKPOINTS), max_to_keep=2)
    writer = tf.summary.create_file_writer(str(directory / "tensorboard"))
    report = _fit(trainer, manifest, config, manager, writer)
    save_info(directory, dataclasses.replace(info, weights_version=int(time.time()), steps=report["steps"]))
    (directory / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def _fit(
    trainer: Trainer,
    manifest: Manifest,
    config: Config,
    manager: tf.train.CheckpointManager,
    writer: tf.summary.SummaryWriter,
) -> dict[str, Any]:
    settings, model = config.training, trainer.model
    total = sum(shard.records for shard in manifest.splits["train"]) * settings.epochs
    evaluator = Evaluator(model)
    steps = done = targets = 0

    def read(epoch: int, batch_records: int, share: Share) -> tf.data.Dataset:
        return make_dataset(
            manifest, "train", model.window, batch_records, shuffle_seed=settings.seed, epoch=epoch, share=share
        )

    run_epoch = trainer.epochs(total // settings.epochs, read)
    train_seconds = 0.0
    losses: list[float] = []
    validation: list[dict[str, Any]] = []
    with progress_bar(f"train {config.model.search}", total) as advance, writer.as_default():
        for epoch in range(settings.epochs):
            started, loss_sum, loss_count = time.monotonic(), 0.0, 0
            trainer.set_progress(done / total)
            for learned in run_epoch(epoch):
                count, records = int(learned.targets), int(learned.records)
                steps, done, targets = steps + int(learned.steps), done + records, targets + count
                loss_sum, loss_count = loss_sum + float(learned.loss_sum), loss_count + count
                if not math.isfinite(loss_sum):
                    raise FloatingPointError(
                        "the loss is no longer finite; lower training.dense_learning_rate or "
                        "training.embedding_learning_rate"
                    )
                trainer.set_progress(done / total)
                if steps // 50 > (steps - int(learned.steps)) // 50:
                    tf.summary.scalar("loss", float(learned.loss_sum) / max(count, 1), step=steps)
                advance(records, f"epoch {epoch + 1}/{settings.epochs} loss {loss_sum / loss_count:.4f}")
            train_seconds += time.monotonic() - started
            losses.append(loss_sum / loss_count)
            manager.save()
            if any(shard.records for shard in manifest.splits.get("valid", ())):
                limit = settings.validation_records
                metrics = evaluator.run(manifest, "valid", settings.batch_records, limit).metrics
                validation.append(metrics.to_plain())
                tf.summary.scalar("valid/auc", metrics.auc, step=steps)
                tf.summary.scalar("valid/gauc", metrics.gauc, step=steps)
    return {
        "search": config.model.search,
        "evidence": config.model.evidence,
        "schema": schema_of(config).name,
        "epochs": settings.epochs,
        "steps": steps,
        "targets": targets,
        "train_seconds": train_seconds,
        "examples_per_s": targets / train_seconds,
        "loss": losses,
        "valid": validation,
    }
