"""The trainer: AdaGrad for the embedding tables, Adam for everything else, in one step."""

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twin_tf.batch import Batch
from twin_tf.config import Config, TrainingConfig
from twin_tf.data import batch_spec, make_dataset
from twin_tf.evaluate import Evaluator
from twin_tf.keras_api import keras, tf, tfrs
from twin_tf.model import TwinModel
from twin_tf.progress import progress_bar
from twin_tf.records import Manifest
from twin_tf.runs import CHECKPOINTS, REPORT, RunInfo, build_model, create_run, save_info, schema_of
from twin_tf.seen_items import save_seen_items
from twin_tf.strict_yaml import ConfigError
from twin_tf.transfer import apply_transfer, plan_transfer

FINAL_RATE = 0.02
"""Where the cosine schedule ends, as a share of the starting rates."""


class Trainer:
    """One model and its two optimisers.

    Args:
        model: to be trained.
        config: rates and schedule.
    """

    def __init__(self, model: TwinModel, config: TrainingConfig) -> None:
        self.model = model
        self.config = config
        self.rate = tf.Variable(1.0, trainable=False, name="rate")
        legacy = keras.optimizers.legacy
        self.optimizer = tfrs.experimental.optimizers.CompositeOptimizer(
            [
                (legacy.Adagrad(self._scaled(config.embedding_learning_rate)), lambda: model.embedding_variables),
                (legacy.Adam(self._scaled(config.dense_learning_rate)), lambda: model.dense_variables),
            ]
        )

        self._step = tf.function(self._train_step, input_signature=[batch_spec(model.schema)])

    def _scaled(self, start: float) -> Callable[[], tf.Tensor]:
        @tf.autograph.experimental.do_not_convert
        def rate() -> tf.Tensor:
            return start * self.rate

        return rate

    def step(self, batch: Batch, progress: float) -> float:
        """One update of all weights.

        Args:
            batch: what to learn from.
            progress: share of the training that is done, 0 to 1; sets the rates.

        Returns:
            The mean binary cross-entropy of the batch before the update.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        if self.config.schedule == "cosine":
            self.rate.assign(max(FINAL_RATE, 0.5 * (1 + math.cos(math.pi * progress))))
        loss = float(self._step(batch))
        if not math.isfinite(loss):
            raise FloatingPointError(
                "the loss is no longer finite; lower training.dense_learning_rate or training.embedding_learning_rate"
            )
        return loss

    def _train_step(self, batch: Batch) -> tf.Tensor:
        variables = [*self.model.embedding_variables, *self.model.dense_variables]
        with tf.GradientTape() as tape:
            loss = self.model.compute_loss(batch, training=True)
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(
            [
                (gradient, variable)
                for gradient, variable in zip(gradients, variables, strict=True)
                if gradient is not None
            ]
        )
        return loss


def train(prepared: str | Path, run: str | Path, config: Config, init_from: str | Path | None = None) -> dict[str, Any]:
    """Trains a model on prepared data.

    Args:
        prepared: directory of `build_examples`.
        run: a new directory for everything that training leaves behind, see `twin_tf.runs`.
        config: its schema section, if any, must be the one that the data were prepared with.
        init_from: an earlier run to start from, see `twin_tf.transfer`.

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
    directory = Path(run)
    config = dataclasses.replace(config, schema=manifest.schema)
    source = Path(manifest.directory).resolve()
    info = RunInfo(manifest.schema_fingerprint, manifest.cardinalities, str(source))
    plan = None if init_from is None else plan_transfer(init_from, manifest, config.model)
    model, _ = build_model(source, config, info)
    make_dataset(manifest, "train", model.window, config.training.batch_records)
    manifest.shard_paths("valid")
    create_run(directory, manifest, config, info)
    trainer = Trainer(model, config.training)
    if plan is not None:
        apply_transfer(plan, model, trainer.optimizer)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=trainer.optimizer)
    manager = tf.train.CheckpointManager(checkpoint, str(directory / CHECKPOINTS), max_to_keep=2)
    writer = tf.summary.create_file_writer(str(directory / "tensorboard"))
    report = _fit(trainer, manifest, config, manager, writer)
    if plan is not None:
        report["init_from"] = {"run": str(init_from), "rows": plan.to_plain()}
    save_seen_items(directory, manifest, init_from)
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
    train_seconds = 0.0
    losses: list[float] = []
    validation: list[dict[str, Any]] = []
    with progress_bar(f"train {config.model.search}", total) as advance, writer.as_default():
        for epoch in range(settings.epochs):
            dataset = make_dataset(
                manifest, "train", model.window, settings.batch_records, shuffle_seed=settings.seed, epoch=epoch
            )
            started, loss_sum, loss_count = time.monotonic(), 0.0, 0
            for batch in dataset:
                loss = trainer.step(batch, done / total)
                count, records = int(tf.reduce_sum(batch.targets.count)), int(tf.shape(batch.targets.count)[0])
                steps, done, targets = steps + 1, done + records, targets + count
                loss_sum, loss_count = loss_sum + loss * count, loss_count + count
                if steps % 50 == 0:
                    tf.summary.scalar("loss", loss, step=steps)
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
