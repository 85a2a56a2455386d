"""The loop: epochs of steps, with evaluations, early stopping and checkpoints between them, killed and resumed at will.

Everything that decides what comes next is in `Progress`, which every checkpoint holds, or is a pure function of the
step. So a resumed run does what the uninterrupted one does.
"""

import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from twin_tf.config import Config
from twin_tf.core.keras_api import tf
from twin_tf.core.progress import Advance, progress_bar
from twin_tf.evaluation.evaluate import Evaluator
from twin_tf.records.batch import Batch
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import make_dataset
from twin_tf.runs.checkpoints import CheckpointStore, DamagedCheckpointError, checkpoint_name
from twin_tf.training.learning_curve import Point, add_point, steps_a_point
from twin_tf.training.movement_sample import MovementSample
from twin_tf.training.parameter_server import PortionTrainer
from twin_tf.training.strategies import Share, distribute, local_batch
from twin_tf.training.train_step import StepStats, TrainStep
from twin_tf.training.training_log import TrainingLog

OVERLAP_STEPS = 97
"""Steps between two measurements of the GSU's overlap; a prime, so that they meet a cached table at every age.

Each epoch ends with one more, before any refresh. The exact top-K are those of the latest `history_length`
behaviours. The batches of a search that sees less hold less, so it is measured at the end of an epoch alone.
"""


@dataclasses.dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epoch: epochs finished.
        epoch_parts: steps done in the current one; rounds of steps where parameter servers are.
        steps: steps done.
        prepared: steps that were done when the learning rates were last set.
        records: records learned from.
        targets: targets learned from.
        loss_sum: loss of the current epoch, summed over its targets.
        weight: of those targets.
        loss: mean of each finished epoch.
        overlaps: shares that the GSU found, measured in the current epoch.
        overlap: mean of each finished epoch; None where none was measured.
        entropies: of the long-term attention, measured in the current epoch with the overlaps.
        entropy: mean of each finished epoch, in nats.
        normalised_entropies: likewise, see `TwinModel.attention_figures`.
        normalised_entropy: mean of each finished epoch.
        curve: points of the learning curve, see `learning_curve`.
        point_loss: loss summed over the targets since the last point.
        point_weight: of those targets.
        valid: one mapping an evaluation: `steps`, and the metrics.
        best: place in `valid` of the highest GAUC.
        stopped_early: patience has run out.
        ended: nothing is left to train.
        train_seconds: without evaluations and checkpoints; of all parts of a resumed run.
    """

    epoch: int = 0
    epoch_parts: int = 0
    steps: int = 0
    prepared: int = -1
    records: int = 0
    targets: int = 0
    loss_sum: float = 0.0
    weight: float = 0.0
    loss: list[float] = dataclasses.field(default_factory=list)
    overlaps: list[float] = dataclasses.field(default_factory=list)
    overlap: list[float | None] = dataclasses.field(default_factory=list)
    entropies: list[float] = dataclasses.field(default_factory=list)
    entropy: list[float | None] = dataclasses.field(default_factory=list)
    normalised_entropies: list[float] = dataclasses.field(default_factory=list)
    normalised_entropy: list[float | None] = dataclasses.field(default_factory=list)
    curve: list[Point] = dataclasses.field(default_factory=list)
    point_loss: float = 0.0
    point_weight: float = 0.0
    valid: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best: int | None = None
    stopped_early: bool = False
    ended: bool = False
    train_seconds: float = 0.0

    @property
    def best_steps(self) -> int | None:
        """Steps done at the best evaluation."""
        return None if self.best is None else int(self.valid[self.best]["steps"])

    def evaluated(self, metrics: dict[str, Any], patience: int | None) -> bool:
        """Takes an evaluation in.

        Returns:
            Whether it is the best so far. One whose GAUC means nothing never is.
        """
        self.valid.append({"steps": self.steps, **metrics})
        gauc, place = metrics["gauc"], len(self.valid) - 1
        if gauc is not None and (self.best is None or gauc > self.valid[self.best]["gauc"]):
            self.best = place
        since = place - (-1 if self.best is None else self.best)
        self.stopped_early = patience is not None and since >= patience
        return self.best == place

    def end_epoch(self) -> None:
        """Closes the current epoch."""
        self.loss.append(self.loss_sum / self.weight if self.weight else 0.0)
        for kept, figures in (
            (self.overlap, self.overlaps),
            (self.entropy, self.entropies),
            (self.normalised_entropy, self.normalised_entropies),
        ):
            kept += [None] * (self.epoch - len(kept))  # epochs that earlier code finished, which did not measure it
            kept.append(_mean(figures))
        self.epoch, self.epoch_parts = self.epoch + 1, 0
        self.loss_sum, self.weight = 0.0, 0.0
        self.overlaps, self.entropies, self.normalised_entropies = [], [], []


class TrainingLoop:
    """A whole training.

    Args:
        trainer: steps the model.
        manifest: of the prepared data.
        config: all settings.
        store: the run's checkpoints, of the trainer's model and optimiser.
        log: for TensorBoard.
        movement: of the model's tables.

    Attributes:
        progress: how far it has come.
        evaluator: of the trainer's model.
    """

    def __init__(
        self,
        trainer: TrainStep,
        manifest: Manifest,
        config: Config,
        store: CheckpointStore,
        log: TrainingLog,
        movement: MovementSample,
    ) -> None:
        self.progress = Progress()
        self._trainer = trainer
        self._manifest = manifest
        self._config = config
        self._store = store
        self._log = log
        self._movement = movement
        self.evaluator = Evaluator(trainer.model)
        self._history_length = config.model.history_length
        self._epoch_records = sum(shard.records for shard in manifest.splits["train"])
        self._steps_a_point = steps_a_point(self._epoch_records // config.training.batch_records)
        self._can_validate = any(shard.records for shard in manifest.splits.get("valid", ()))
        self._portions: PortionTrainer | None = None
        if isinstance(trainer.strategy, tf.distribute.ParameterServerStrategy):
            size = config.training.batch_records
            self._portions = PortionTrainer(
                trainer.strategy,
                trainer.replica_step,
                lambda epoch, share: self._read(epoch, size, share),
                self._epoch_records,
            )
        self._unread: list[StepStats] = []
        self._rates: dict[str, float] = {}
        self._since = 0.0
        self._saved: list[tuple[str, set[str]]] = []

    def run(self, start: Callable[[], None] | None = None) -> str:
        """Trains to the end, from the newest sound checkpoint if there is one.

        Args:
            start: changes the starting weights; called unless there is a checkpoint to go on from.

        Returns:
            Which weights the model has now and `load_run` will load: `best` or `last`.

        Raises:
            FloatingPointError: loss, gradient or weights are not finite; no checkpoint has them.
        """
        state = self._store.restore_newest()
        if state is not None:
            self.progress = Progress(**state)
            self._saved = [self._needed()]
            print(f"resuming after {self.progress.steps:,} steps", file=sys.stderr)
        elif start is not None:
            start()
            if self._trainer.model.projection_cache is not None:
                self._trainer.model.refresh_projections()
        total = self._epoch_records * self._config.training.epochs
        with progress_bar(f"train {self._config.model.search}", total, self.progress.records) as advance:
            while not self.progress.ended:
                self._run_epoch(advance)
        return self._mark_final()

    def _run_epoch(self, advance: Advance) -> None:
        settings, progress = self._config.training, self.progress
        self._since = time.monotonic()
        if settings.redraw_tables and progress.epoch and not progress.epoch_parts:
            self._trainer.redraw_tables()
        self._log.restart()
        for learned in self._rounds() if self._portions is not None else self._steps():
            before = progress.steps
            self._count(learned, advance)
            better = self._due(settings.evaluate_every_steps, before) and self._evaluate()
            if progress.stopped_early:
                break
            if self._due(settings.checkpoint_steps, before) or (better and settings.keeps_best):
                self._save()
        self._add_point()
        if not progress.stopped_early and (not progress.valid or progress.valid[-1]["steps"] != progress.steps):
            self._evaluate()
        with self._aside():
            whole = self._read(progress.epoch, settings.batch_records, window=self._history_length)
            self._measure_attention(next(iter(whole)))
        progress.end_epoch()
        progress.ended = progress.stopped_early or progress.epoch == settings.epochs
        self._save()

    def _steps(self) -> Iterator[StepStats]:
        """The rest of the current epoch, step by step; what is yielded may be on the device still."""
        progress, strategy = self.progress, self._trainer.strategy
        read = functools.partial(self._read, progress.epoch)
        dataset = distribute(strategy, self._config.training.batch_records, read, progress.epoch_parts)
        self._trainer.expect(dataset.element_spec)
        batches = iter(dataset)
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            self._log.wait(time.monotonic() - asked)
            if batch is None:
                return
            if progress.steps % OVERLAP_STEPS == 0 and self._trainer.model.window >= self._history_length:
                self._measure_attention(local_batch(strategy, batch))
            self._prepare_step()
            yield self._trainer.step(batch)

    def _rounds(self) -> Iterator[StepStats]:
        """The rest of the current epoch, as parameter servers and their workers train it."""
        assert self._portions is not None
        rounds = self._portions.rounds(self.progress.epoch, self.progress.epoch_parts)
        while True:
            self._prepare_step()
            learned = next(rounds, None)
            if learned is None:
                return
            yield learned

    def _prepare_step(self) -> None:
        progress = self.progress
        self._rates = self._trainer.prepare_step(progress.steps, self._share_done(), progress.prepared)
        progress.prepared = progress.steps

    def _read(
        self, epoch: int, batch_records: int, share: Share = (0, 1), skip: int = 0, window: int | None = None
    ) -> tf.data.Dataset:
        """Batches of a share of the training records, with as much history as the network sees, or `window`."""
        return make_dataset(
            self._manifest,
            "train",
            self._trainer.model.window if window is None else window,
            batch_records,
            shuffle_seed=self._config.training.seed,
            epoch=epoch,
            share=share,
            skip=skip,
            pool_mb=self._config.training.shuffle_memory_mb,
        )

    def _share_done(self) -> float:
        return self.progress.records / (self._epoch_records * self._config.training.epochs)

    def _measure_attention(self, batch: Batch) -> None:
        progress, measured = self.progress, self._trainer.attention_figures(batch)
        figures = {}
        for name, figure, epoch in (
            (overlap_name(self._config), measured.overlap, progress.overlaps),
            ("attention_entropy", measured.entropy, progress.entropies),
            ("attention_entropy_normalised", measured.normalised_entropy, progress.normalised_entropies),
        ):
            if figure is not None:
                epoch.append(figure)
                figures[name] = figure
        self._log.scalars(progress.steps, figures)

    def _count(self, learned: StepStats, advance: Advance) -> None:
        progress = self.progress
        before = progress.steps
        records, targets = int(learned.records), int(learned.targets)
        progress.steps += int(learned.steps)
        progress.epoch_parts += 1
        progress.records += records
        progress.targets += targets
        self._unread.append(learned)
        self._log.count(targets)
        if self._due(self._steps_a_point, before):
            self._add_point()
        loss = f" loss {progress.loss_sum / progress.weight:.4f}" if progress.weight else ""
        advance(records, f"epoch {progress.epoch + 1}/{self._config.training.epochs}{loss}")

    def _read_losses(self) -> None:
        """Waits for the device, and adds up the losses of the steps not looked at so far."""
        progress = self.progress
        for learned in self._unread:
            loss_sum, weight = float(learned.loss_sum), float(learned.weight)
            progress.loss_sum += loss_sum
            progress.weight += weight
            progress.point_loss += loss_sum
            progress.point_weight += weight
        self._unread.clear()

    def _add_point(self) -> None:
        """Adds a point to the learning curve, here and in TensorBoard, if any step was done since the last one."""
        self._read_losses()
        progress = self.progress
        if not progress.point_weight:
            return
        self._log.training(progress.steps, progress.point_loss / progress.point_weight, self._rates)
        with self._aside():
            moved = self._movement.moved()
        self._log.scalars(progress.steps, {f"tables/{name}/moved": share for name, share in moved.items()})
        point = {"steps": progress.steps, "loss_sum": progress.point_loss, "weight": progress.point_weight}
        progress.curve = add_point(progress.curve, {**point, "moved": moved}, self._steps_a_point)
        progress.point_loss = progress.point_weight = 0.0

    def _due(self, every: int | None, before: int) -> bool:
        return every is not None and self.progress.steps // every > before // every

    def _evaluate(self) -> bool:
        """Scores the valid split; whether the GAUC is the best so far."""
        if not self._can_validate:
            return False
        settings = self._config.training
        with self._aside():
            self._trainer.check_weights()
            found = self.evaluator.run(self._manifest, "valid", settings.batch_records, settings.validation_records)
        metrics = found.metrics.to_plain()
        self._log.validation(self.progress.steps, metrics)
        return self.progress.evaluated(metrics, settings.patience)

    def _save(self) -> None:
        with self._aside():
            self._trainer.check_weights()
            self._log.flush()
            name = self._store.save(self.progress.steps, dataclasses.asdict(self.progress))
            # Two of different steps, each with the best one it knows: the older must do if the newer gets damaged.
            self._saved = [saved for saved in self._saved if saved[0] != name][-1:] + [self._needed()]
            self._store.keep_only(set().union(*(names for _, names in self._saved)))

    def _needed(self) -> tuple[str, set[str]]:
        """The checkpoint of the current step, and all that a run needs to go on from it."""
        name, best = checkpoint_name(self.progress.steps), self.progress.best_steps
        keeps_best = self._config.training.keeps_best and best is not None
        return name, {name, checkpoint_name(best)} if keeps_best and best is not None else {name}

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """What is done within counts as no training time."""
        self._read_losses()
        self.progress.train_seconds += time.monotonic() - self._since
        yield
        self._since = time.monotonic()
        self._log.restart()

    def _mark_final(self) -> str:
        best, steps = self.progress.best_steps, self.progress.steps
        if self._config.training.keeps_best and best is not None:
            try:
                if best != steps:
                    self._store.restore(checkpoint_name(best))
                self._store.mark_final(checkpoint_name(best))
                return "best"
            except DamagedCheckpointError as damage:
                print(f"warning: {damage}; handing on the last weights, not the best", file=sys.stderr)
        self._store.mark_final(checkpoint_name(steps))
        return "last"


def overlap_name(config: Config) -> str:
    """The figure's name: the share of the behaviours with the highest relevance in the ESU that the GSU finds."""
    return f"gsu_overlap@{config.model.top_k}"


def _mean(figures: list[float]) -> float | None:
    return sum(figures) / len(figures) if figures else None
