"""A planted task that only learned item tables solve: items belong to hidden groups, users like some of the groups.

A user's behaviours are of liked groups, and some of any group. A target is an item that the user has never met; it is
clicked more often if the user likes its group. Nothing but the ids tells the groups, and what a target has in common
with a behaviour must be learned from who clicks what.
"""

from collections.abc import Iterator

import numpy as np

from twin_tf.config import ModelConfig, TrainingConfig
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FIRST_KNOWN, schema_from_mapping
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch, History, Targets
from twin_tf.training.train_step import TrainStep

ITEMS, GROUPS, LIKED, LENGTH, TARGETS = 400, 20, 4, 200, 64
NOISE = 0.3
"""Share of the behaviours that are of any group."""
CLICKS = 0.9
"""Probability of a click if the user likes the group; otherwise it is 1 - CLICKS."""
NOW = 1_700_000_000

SCHEMA = schema_from_mapping(
    {
        "name": "groups",
        "events": {
            "user": {"column": "user"},
            "item": {"column": "item"},
            "time": {"column": "time", "unit": "s"},
            "label": {"column": "label"},
        },
        "items": {"column": "item"},
        "features": [{"name": "product", "role": "inherent", "encoding": {"kind": "identity", "size": ITEMS}}],
    }
)


def group_of(row: np.ndarray) -> np.ndarray:
    """The hidden group of item rows."""
    return (row - FIRST_KNOWN) % GROUPS


def _items(generator: np.random.Generator, group: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Random items of groups; of each group a user meets one half alone, `hidden` or not."""
    half = ITEMS // GROUPS // 2
    return FIRST_KNOWN + group + GROUPS * (generator.integers(0, half, group.shape) + half * hidden)


def make_users(users: int, seed: int) -> Batch:
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


def batches(data: Batch, records: int) -> Iterator[Batch]:
    """The users of a batch, `records` at a time."""
    return iter(tf.data.Dataset.from_tensor_slices(data).batch(records))


def make_trainer(model: ModelConfig, training: TrainingConfig) -> TrainStep:
    """An untrained network for the task."""
    features = np.arange(ITEMS + FIRST_KNOWN, dtype=np.int32)[:, None]
    network = TwinModel(SCHEMA, model, features, {"product": ITEMS + FIRST_KNOWN}, training.seed, training)
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


def group_similarity(trainer: TrainStep) -> tuple[float, float]:
    """Mean cosine of two items' rows: of one group, and of two groups."""
    rows = trainer.model.item_embedding.tables[0].numpy()[FIRST_KNOWN:]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    group = group_of(np.arange(ITEMS) + FIRST_KNOWN)
    same, cosine = group[:, None] == group[None, :], rows @ rows.T
    others = ~np.eye(ITEMS, dtype=bool)
    return float(cosine[same & others].mean()), float(cosine[~same].mean())
