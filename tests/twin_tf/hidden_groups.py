"""A planted task that only learned item tables solve: items belong to hidden groups, users like some of the groups.

A user's behaviours are of liked groups, and some of any group. A target is an item that the user has never met; it is
clicked more often if the user likes its group. Nothing but the ids tells the groups, and what a target has in common
with a behaviour must be learned from who clicks what. `make_users` makes batches of it, `write_logs` raw logs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from twin_tf.config import ModelConfig
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FIRST_KNOWN, schema_from_mapping
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch, History, Targets
from twin_tf.training.train_step import TrainStep
from twin_tf.training_settings import TrainingConfig

ITEMS, GROUPS, LIKED, LENGTH, TARGETS = 400, 20, 4, 200, 64
NOISE = 0.3
"""Share of the behaviours that are of any group."""
CLICKS = 0.9
"""Probability of a click if the user likes the group; otherwise it is 1 - CLICKS."""
NOW = 1_700_000_000
"""When all histories end, before the first target."""
VALID_FROM, TEST_FROM = NOW + 100_000, NOW + 200_000

SCHEMA = {
    "name": "groups",
    "events": {
        "user": {"column": "user"},
        "item": {"column": "item"},
        "time": {"column": "time", "unit": "s"},
        "label": {"column": "label"},
    },
    "items": {"column": "item"},
    "history": {"where": {"target": [0]}, "max_length": LENGTH},
    "targets": {"where": {"target": [1]}, "per_record": TARGETS},
    "split": {"valid_from": VALID_FROM, "test_from": TEST_FROM},
    "features": [{"name": "product", "role": "inherent", "encoding": {"kind": "identity", "size": ITEMS}}],
}
NETWORK = {"history_length": LENGTH, "top_k": 20, "short_term_length": 0}
"""The sizes of a toy; all other settings of the model are the shipped defaults."""
TRAINING = {"batch_records": 4, "epochs": 2}
SEARCHES = {"TWIN": "twin", "ETA": "eta", "SDIM": "sdim", "DIN": "din"}


class Drawn(NamedTuple):
    """Users.

    Attributes:
        history: int item rows, `(users, LENGTH)`, oldest first.
        target: int item rows, `(users, TARGETS)`.
        label: bool, `(users, TARGETS)`.
    """

    history: np.ndarray
    target: np.ndarray
    label: np.ndarray


def group_of(row: np.ndarray) -> np.ndarray:
    """The hidden group of item rows."""
    return (row - FIRST_KNOWN) % GROUPS


def _items(generator: np.random.Generator, group: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Random items of groups; of each group a user meets one half alone, `hidden` or not."""
    half = ITEMS // GROUPS // 2
    return FIRST_KNOWN + group + GROUPS * (generator.integers(0, half, group.shape) + half * hidden)


def draw_users(users: int, seed: int) -> Drawn:
    """Users with their histories of `LENGTH` behaviours, and `TARGETS` targets each."""
    generator = np.random.default_rng(seed)
    liked = np.argsort(generator.random((users, GROUPS)), axis=1)[:, :LIKED]
    group = np.take_along_axis(liked, generator.integers(0, LIKED, (users, LENGTH)), axis=1)
    noise = generator.random(group.shape) < NOISE
    group = np.where(noise, generator.integers(0, GROUPS, group.shape), group)
    hidden = generator.integers(0, 2, (users, GROUPS))  # which half of a group's items the user's targets are of
    history = _items(generator, group, 1 - np.take_along_axis(hidden, group, axis=1))
    of_liked = generator.random((users, TARGETS)) < 0.5
    place = generator.integers(0, LIKED, (users, TARGETS))
    shown = np.where(
        of_liked, np.take_along_axis(liked, place, axis=1), generator.integers(0, GROUPS, (users, TARGETS))
    )
    target = _items(generator, shown, np.take_along_axis(hidden, shown, axis=1))
    likes = (shown[:, :, None] == liked[:, None, :]).any(axis=2)
    label = generator.random(likes.shape) < np.where(likes, CLICKS, 1 - CLICKS)
    return Drawn(history, target, label)


def make_users(users: int, seed: int) -> Batch:
    """Drawn users as the network reads them."""
    history, target, label = draw_users(users, seed)
    length = history.shape[1]
    return Batch(
        History(
            item=tf.constant(history, tf.int32),
            time=tf.constant(np.tile(NOW - 60 * np.arange(length, 0, -1), (users, 1)), tf.int64),
            cross={},
            length=tf.fill([users], length),
            count=tf.ones([users, length], tf.int32),
        ),
        Targets(
            item=tf.constant(target, tf.int32),
            time=tf.fill([users, 1], tf.constant(NOW, tf.int64)),
            end=tf.fill([users, 1], length),
            context={},
            count=tf.fill([users], TARGETS),
        ),
        user={},
        user_id=tf.range(users, dtype=tf.int64),
        label=tf.constant(label, tf.float32),
        weight=tf.ones(label.shape),
    )


def write_logs(directory: Path, users: dict[str, int]) -> None:
    """Raw logs of training, validation and test users, and `config.yaml` for them, in an existing directory.

    Args:
        directory: gets `events-<split>.parquet`, `items.parquet` and `config.yaml`.
        users: split -> how many; the targets of each split's users come after those of the split before.
    """
    before = 0
    for seed, (split, begin) in enumerate({"train": NOW, "test": TEST_FROM, "valid": VALID_FROM}.items(), 1):
        history, target, label = draw_users(users[split], seed)
        user = before + np.arange(users[split])
        before += users[split]
        minute = np.concatenate([NOW - 60 * np.arange(LENGTH, 0, -1), begin + 60 * np.arange(TARGETS)])
        is_target = np.arange(LENGTH + TARGETS) >= LENGTH
        columns = {
            "user": np.repeat(user, LENGTH + TARGETS),
            "item": np.concatenate([history, target], axis=1).ravel() - FIRST_KNOWN,
            "time": np.tile(minute, users[split]),
            "label": np.concatenate([np.ones_like(history), label], axis=1).ravel(),
            "target": np.tile(is_target.astype(int), users[split]),
        }
        pq.write_table(pa.table(columns), directory / f"events-{split}.parquet")
    ids = np.arange(ITEMS)
    pq.write_table(pa.table({"item": ids, "product": ids}), directory / "items.parquet")
    config = {"schema": SCHEMA, "model": NETWORK, "training": TRAINING}
    (directory / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def batches(data: Batch, records: int) -> Iterator[Batch]:
    """The users of a batch, `records` at a time."""
    return iter(tf.data.Dataset.from_tensor_slices(data).batch(records))


def make_trainer(model: ModelConfig, training: TrainingConfig) -> TrainStep:
    """An untrained network for the task."""
    features = np.arange(ITEMS + FIRST_KNOWN, dtype=np.int32)[:, None]
    schema = schema_from_mapping(SCHEMA)
    network = TwinModel(schema, model, features, {"product": ITEMS + FIRST_KNOWN}, training.seed, training)
    return TrainStep(network, training)


def train(trainer: TrainStep, data: Batch) -> None:
    """All epochs of the trainer's settings, with their schedule."""
    config = trainer.config
    users = int(data.user_id.shape[0])
    steps = -(-users // config.batch_records)
    for epoch in range(config.epochs):
        for step, batch in enumerate(batches(data, config.batch_records), epoch * steps):
            trainer.prepare_step(step, step / (steps * config.epochs), step - 1)
            trainer.step(batch)


def scores(trainer: TrainStep, data: Batch) -> np.ndarray:
    """Probabilities, float `(users, TARGETS)`."""
    predict = tf.function(lambda batch: tf.sigmoid(trainer.model(batch)), reduce_retracing=True, autograph=False)
    return np.concatenate([predict(batch).numpy() for batch in batches(data, 64)])


def group_similarity(model: TwinModel) -> tuple[float, float]:
    """Mean cosine of two items' rows: of one group, and of two groups."""
    rows = model.item_embedding.tables[0].numpy()[FIRST_KNOWN:]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    group = group_of(np.arange(ITEMS) + FIRST_KNOWN)
    same, cosine = group[:, None] == group[None, :], rows @ rows.T
    others = ~np.eye(ITEMS, dtype=bool)
    return float(cosine[same & others].mean()), float(cosine[~same].mean())
