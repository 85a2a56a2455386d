"""Training a run from prepared data: made, resumed, finished."""

import dataclasses
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twin_tf.config import Config
from twin_tf.core.buckets import is_url
from twin_tf.core.code_version import code_digest, commit
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.files import write_json, write_whole
from twin_tf.core.keras_api import tf
from twin_tf.core.mirrors import WorkingCopy, at_hand, original
from twin_tf.evaluation.yardsticks import compute_yardsticks
from twin_tf.records.corrupt_records import corrupt_records_named
from twin_tf.records.format import SPLITS, Manifest
from twin_tf.records.input_pipeline import make_dataset
from twin_tf.records.seen_items import save_seen_items
from twin_tf.runs.bucket_run import run_to_train
from twin_tf.runs.checkpoints import CheckpointStore
from twin_tf.runs.run import (
    CHECKPOINTS,
    REPORT,
    RunInfo,
    build_model,
    copied_files,
    keep_search_state,
    own_files,
    save_info,
    schema_of,
)
from twin_tf.runs.run_lock import claimed_run
from twin_tf.training.findings import findings
from twin_tf.training.learning_curve import CURVE, curve_csv, curve_rows
from twin_tf.training.loop import TrainingLoop, overlap_name
from twin_tf.training.movement_sample import MovementSample
from twin_tf.training.strategies import is_chief, lost_processes_named
from twin_tf.training.table_movement import measure_tables
from twin_tf.training.table_report import worthless_tables
from twin_tf.training.train_step import TrainStep
from twin_tf.training.training_log import TrainingLog
from twin_tf.training.warm_start import EarlierWeights, Transfer, apply_transfer, plan_transfer


def train_model(
    prepared: str | Path,
    run: str | Path,
    config: Config,
    *,
    strategy: tf.distribute.Strategy | None = None,
    init_from: str | Path | None = None,
    verify: bool = True,
) -> dict[str, Any]:
    """Trains a model on prepared data; called again after it was killed, it goes on where the last checkpoint is.

    Args:
        prepared: directory of `build_examples`, local or in a bucket.
        run: a directory for everything that training leaves behind, see `twin_tf.runs.run`: a new one, or that of an
            unfinished run of the same settings and data; local or in a bucket, see `twin_tf.runs.bucket_run`.
        config: its schema section, if any, must be the one that the data were prepared with.
        strategy: where to train, of `strategies.make_strategy`; one replica on this machine if left out. Of several
            processes the chief alone writes `run`.
        init_from: an earlier run to start from, see `twin_tf.training.warm_start`.
        verify: compare the files of the data and of `init_from` that hold no records with their SHA-256; records are
            always checked.

    Returns:
        What `report.json` holds: seconds, examples per second, losses, overlap and entropy of each epoch, the metrics
        of each evaluation on the valid split, `curve`: the learning curve, `kept`: which weights the run hands on,
        `tables`: how far each embedding table has moved and what it is worth, see `twin_tf.training.table_movement`,
        `yardsticks`: what needs no network on the same validation records, see `twin_tf.evaluation.yardsticks`, and
        `findings`: sentences for people. `run_page.write_run_page` makes a page of it.

    Raises:
        ConfigError: bad prepared data, a run directory that holds anything else or is in use, a schema that differs
            from the data's, or settings that make no model; no run directory is left behind.
        ConnectionError: another process of the cluster has gone.
        FloatingPointError: loss, gradient or weights are not finite; nothing can be exported from the run.
    """
    manifest = Manifest.load(prepared, verify=verify)
    manifest.check_schema(config.schema)
    _check_labels(manifest, config)
    _check_validation(manifest, config)
    if config.training.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = tf.distribute.get_strategy() if strategy is None else strategy
    config = dataclasses.replace(config, schema=manifest.schema)
    source = manifest.origin or str(Path(manifest.directory).resolve())
    digest = manifest.sha256
    if config.training.redraw_tables and init_from is not None:
        raise ConfigError("training.redraw_tables would forget what the tables of the earlier run have learned")
    earlier = None if init_from is None else at_hand(init_from)
    plan = None if earlier is None else plan_transfer(earlier, manifest, config.model, verify)
    info = RunInfo(
        manifest.schema_fingerprint,
        manifest.cardinalities,
        source,
        manifest_sha256=digest,
        init_from=None if earlier is None else _recorded(earlier),
        trained_until=manifest.split.train_until,
        commit=commit(),
        code=(code_digest(__name__),),
        files=copied_files(manifest),
        label_of_all=manifest.label_of_all,
    )
    if is_chief(strategy):
        with run_to_train(run) as (directory, send):
            return _train(manifest, directory, config, info, strategy, plan, earlier, send)
    # It writes all the same, to where nobody looks: some of what is written takes part in what all workers do together.
    with tempfile.TemporaryDirectory(prefix="twin-not-chief-") as elsewhere:
        resumes = WorkingCopy(run).directory if is_url(run) else Path(run)
        return _train(manifest, Path(elsewhere), config, info, strategy, plan, earlier, resumes=resumes)


def _recorded(run: Path) -> str:
    """How a run is called in `run.json`: by its URL, or by its whole path."""
    place = original(run)
    return str(place.resolve() if isinstance(place, Path) else place)


def _train(
    manifest: Manifest,
    directory: Path,
    config: Config,
    info: RunInfo,
    strategy: tf.distribute.Strategy,
    plan: Transfer | None,
    before: Path | None,
    send: Callable[[], None] = lambda: None,
    resumes: Path | None = None,
) -> dict[str, Any]:
    """Trains into a run directory; from the checkpoints of another run, `resumes`, if it has any."""
    with strategy.scope():
        model, _ = build_model(Path(manifest.directory), config, info)
    make_dataset(manifest, "train", model.window, config.training.batch_records)
    manifest.shard_paths("valid")
    with (
        claimed_run(directory, manifest, config, info) as begun,
        lost_processes_named(),
        corrupt_records_named(manifest),
    ):
        if resumes is not None and (resumes / CHECKPOINTS).is_dir():
            shutil.copytree(resumes / CHECKPOINTS, directory / CHECKPOINTS)
        keep_search_state(directory, model)
        send()
        trainer = TrainStep(model, config.training, strategy)
        checkpoint = tf.train.Checkpoint(model=model, optimizer=trainer.optimizer)
        log = TrainingLog(directory / "tensorboard")
        movement = MovementSample(trainer, None if plan is None else EarlierWeights(plan, model, trainer.optimizer))
        store = CheckpointStore(directory / CHECKPOINTS, checkpoint, send)
        fit = TrainingLoop(trainer, manifest, config, store, log, movement)
        try:
            kept = fit.run(None if plan is None else lambda: apply_transfer(plan, model, trainer.optimizer))
            report = _report(config, manifest, fit, kept)
            if is_chief(strategy):
                earlier = None if plan is None else EarlierWeights(plan, model, trainer.optimizer)
                tables = measure_tables(trainer, manifest, fit.evaluator, fit.progress.records, earlier)
                report["tables"] = tables
                report["yardsticks"] = _yardsticks(manifest, config)
                report["findings"] = findings(report)
                log.tables(report["kept"]["steps"], tables)
                for sentence in worthless_tables(tables):
                    print(f"warning: {sentence}", file=sys.stderr)
        finally:
            log.flush()
        if plan is not None:
            report["init_from"] = {"run": info.init_from, "rows": plan.to_plain()}
        save_seen_items(directory, manifest, before)
        write_json(directory / REPORT, report)
        write_whole(directory / CURVE, curve_csv(report["curve"], report["valid"]))
        save_info(
            directory,
            dataclasses.replace(
                begun,
                prepared=info.prepared,
                weights_version=int(time.time()),
                steps=report["kept"]["steps"],
                files={**info.files, **own_files(directory)},
            ),
        )
    return report


def _yardsticks(manifest: Manifest, config: Config) -> dict[str, Any]:
    """The cheap yardsticks on the validation records that the model was evaluated on; none without such."""
    if not any(shard.targets for shard in manifest.splits.get("valid", ())):
        return {}
    found = compute_yardsticks(manifest, "valid", limit=config.training.validation_records)
    return {key: yardstick.to_plain() for key, yardstick in found.items()}


def _check_labels(manifest: Manifest, config: Config) -> None:
    label = manifest.label_of_all
    if label is not None and not config.training.allow_one_class:
        raise ConfigError(
            f"every target of the train split of {manifest.place} {'is a click' if label else 'is no click'}, and "
            "a model learns nothing from one class: look at events.label and targets.where of the schema, "
            f"{'draw others by targets.negatives, ' if label else ''}or set training.allow_one_class: true"
        )


def _check_validation(manifest: Manifest, config: Config) -> None:
    settings = config.training
    needed = settings.keeps_best or settings.patience is not None or settings.evaluate_every_steps is not None
    if needed and not any(shard.records for shard in manifest.splits.get("valid", ())):
        raise ConfigError(
            "training.patience, evaluate_every_steps and keep: best need a valid split, and that of "
            f"{manifest.place} has no records; leave them out, or change the split times"
        )


def _report(config: Config, manifest: Manifest, fit: TrainingLoop, kept: str) -> dict[str, Any]:
    progress = fit.progress
    longest = max((shard.longest for name in SPLITS for shard in manifest.splits.get(name, ())), default=0)
    valid = progress.valid[progress.best] if kept == "best" and progress.best is not None else None
    if kept == "last" and progress.valid and progress.valid[-1]["steps"] == progress.steps:
        valid = progress.valid[-1]
    return {
        "search": config.model.search,
        "relevance_statistics": config.model.relevance_statistics,
        "schema": schema_of(config).name,
        "epochs": len(progress.loss),
        "steps": progress.steps,
        "targets": progress.targets,
        "train_seconds": progress.train_seconds,
        "examples_per_s": progress.targets / progress.train_seconds,
        "loss": progress.loss,
        overlap_name(config): progress.overlap,
        "attention_entropy": progress.entropy,
        "attention_entropy_normalised": progress.normalised_entropy,
        "top_k": config.model.top_k,
        "longest_history": min(longest, config.model.history_length),
        "curve": curve_rows(progress.curve),
        "valid": progress.valid,
        "stopped_early": progress.stopped_early,
        "kept": {"which": kept, "steps": valid["steps"] if valid else progress.steps, "valid": valid},
    }
