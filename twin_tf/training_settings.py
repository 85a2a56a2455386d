"""The settings of the trainer: section `training` of a configuration."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from twin_tf.core.dataclass_yaml import ConfigError


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The trainer.

    `preset: paper` in this section stands for the settings of `PRESETS`; a file's own keys win over its preset.

    Attributes:
        epochs: passes over the training records.
        batch_records: records (users' stretches, each with up to `schema.targets.per_record` targets) in a batch.
        embedding_learning_rate: AdaGrad's rate for the embedding tables (paper: 0.05).
        table_gradient: what AdaGrad squares. `sum` is the gradient of the loss summed over the targets of a step, so a
            row learns from its own targets as if they were alone. `mean` divides by all targets of the step: the
            accumulators' start of 0.1 then outweighs the gradient, and rows hardly move. Dense weights have the mean.
        relevance_learning_rate: AdaGrad's rate for the tables of `model.decoupled_embeddings`; 0 leaves them at their
            random start; null: `embedding_learning_rate`.
        dense_learning_rate: Adam's rate for everything else (paper: 5e-6 on a warm model; 1e-3 suits public data).
        redraw_tables: put every table back to its start before each epoch but the first; dense weights stay. Rows then
            meet every target once, so several epochs overfit them no more than one does.
        id_dropout: share of the items of a batch whose own id is trained as unknown, so that the network learns what to
            do with new items: from their other features and the unknown row.
        schedule: `cosine` lets both rates fall to 2 % over the run; `constant` keeps them.
        warmup_steps: both rates rise from zero over as many steps.
        clip_norm: gradients of the mean loss whose global norm, over all weights, is larger are scaled down to it; null
            leaves them.
        projections: `live` projects the items of every batch with the live weights; `cached` lets the GSU read a table
            of all items' projections, as old as its last refresh (the paper's).
        refresh_steps: `cached` alone: steps from one refresh of the table to the next.
        validation_records: how many records of the valid split an evaluation scores.
        evaluate_every_steps: evaluate after as many steps too, not only after each epoch; null: epochs alone.
        patience: stop early after as many evaluations in a row without a better GAUC; null never stops.
        keep: the weights that the run hands on: `best` of all evaluations by GAUC, or `last`; null is `best` with
            patience, `last` without.
        checkpoint_steps: steps from one checkpoint to the next, the most that a killed run does again.
        deterministic: the same command gives the same bits on the same kind of machine (CPU), killed and resumed or
            not. Off, sums may be added in another order each time.
        label_smoothing: s moves the labels 0 and 1 to s/2 and 1 - s/2; metrics see the labels as they are.
        class_weights: how much a target without and with a click counts in the loss, on top of its weight in the
            records; null counts both 1.
        allow_one_class: train although every target of the train split has the same label.
        seed: of every random choice (start, shuffling).
        shuffle_memory_mb: records are shuffled in pools that take at most so much memory, without the behaviours that
            no target of a record sees; at least one batch. Another size gives another order.
        item_embeddings: directory of `twin-tf item-embeddings`, for searches by frozen item embeddings.
    """

    epochs: int = 1
    batch_records: int = 8
    embedding_learning_rate: float = 0.05
    relevance_learning_rate: float | None = None
    dense_learning_rate: float = 1e-3
    table_gradient: Literal["sum", "mean"] = "sum"
    redraw_tables: bool = False
    id_dropout: float = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 0
    clip_norm: float | None = None
    projections: Literal["live", "cached"] = "live"
    refresh_steps: int = 1000
    validation_records: int = 10_000
    evaluate_every_steps: int | None = None
    patience: int | None = None
    keep: Literal["best", "last"] | None = None
    checkpoint_steps: int = 1000
    deterministic: bool = True
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None
    allow_one_class: bool = False
    seed: int = 1
    shuffle_memory_mb: int = 512
    item_embeddings: str | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_records < 1:
            raise ConfigError(f"epochs {self.epochs} and batch_records {self.batch_records} must be at least 1")
        for name in ("embedding_learning_rate", "dense_learning_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} must be a positive number, not {value}")
        if self.relevance_learning_rate is not None and not 0 <= self.relevance_learning_rate < float("inf"):
            raise ConfigError(f"relevance_learning_rate must be 0 or more, not {self.relevance_learning_rate}")
        for name in (
            "refresh_steps", "validation_records", "evaluate_every_steps", "patience", "checkpoint_steps",
            "shuffle_memory_mb",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")
        if self.warmup_steps < 0:
            raise ConfigError(f"warmup_steps must not be negative, not {self.warmup_steps}")
        if not 0 <= self.id_dropout < 1:
            raise ConfigError(f"id_dropout must be at least 0 and less than 1, not {self.id_dropout}")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be at least 0 and less than 1, not {self.label_smoothing}")
        if self.class_weights is not None and not _class_weights(self.class_weights):
            raise ConfigError(
                "class_weights must be the weights of targets without and with a click, two numbers from 0 on and not "
                f"both 0, not {list(self.class_weights)}"
            )

    @property
    def keeps_best(self) -> bool:
        """Whether the run hands on the best weights of all evaluations, not the last."""
        return self.keep == "best" or (self.keep is None and self.patience is not None)


def _class_weights(weights: tuple[float, ...]) -> bool:
    return len(weights) == 2 and all(0 <= weight < float("inf") for weight in weights) and any(weights)


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {  # TWIN, section 5.1; 128 records of up to 64 targets are its batch of 8,192
        "embedding_learning_rate": 0.05,
        "dense_learning_rate": 5e-6,
        "batch_records": 128,
        "schedule": "constant",
    }
}
"""`training.preset` -> what it sets."""
