"""Small schemas, models and batches for the model's tests."""

import dataclasses

import numpy as np

from twin_tf.config import ModelConfig
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FeatureSchema, schema_from_mapping
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch, History, Targets
from twin_tf.training_settings import TrainingConfig

ITEMS = 40
DAY = 86_400
NOW = 1_700_000_000


def _age(name: str, dim: int, boundaries: list[float]) -> dict:
    encoding = {"kind": "numeric", "boundaries": boundaries}
    return {"name": name, "role": "cross", "dim": dim, "derived": "age", "encoding": encoding}


CROSS = {
    "play_time": {"name": "play_time", "role": "cross", "dim": 3, "encoding": {"kind": "identity", "size": 5}},
    "page_position": {"name": "page_position", "role": "cross", "dim": 1, "encoding": {"kind": "identity", "size": 3}},
    "age": _age("age", 5, [DAY, 7 * DAY, 30 * DAY]),
    "weekday": {"name": "weekday", "role": "cross", "dim": 2, "derived": "day_of_week"},
    "daytime": {"name": "daytime", "role": "cross", "dim": 4, "derived": "hour_of_day"},
    "recency": _age("recency", 2, [-0.5, 0, 0.25, 3600.5, DAY, 20 * DAY + 0.001]),
}
"""Every kind of cross feature: stored, derived from the behaviour's time, relative to the target."""


def make_schema(
    cross=("play_time", "age", "weekday"), unit: str = "s", utc_offset_hours: float = 0.0, clustered: bool = False
) -> FeatureSchema:
    """The toy schema with some of `CROSS`, in the given order."""
    return schema_from_mapping(
        {
            "name": "toy",
            "events": {
                "user": {"column": "user"},
                "item": {"column": "item"},
                "time": {"column": "time", "unit": unit, "utc_offset_hours": utc_offset_hours},
                "label": {"column": "label"},
            },
            "items": {"column": "item"},
            "users": {"column": "user"},
            "history": {"clustered": clustered},
            "features": [
                {
                    "name": "video",
                    "role": "inherent",
                    "column": "item",
                    "dim": 6,
                    "encoding": {"kind": "identity", "size": ITEMS},
                },
                {"name": "author", "role": "inherent", "dim": 4, "encoding": {"kind": "identity", "size": 9}},
                *[CROSS[name] for name in cross],
                {"name": "sex", "role": "user", "dim": 2, "encoding": {"kind": "identity", "size": 2}},
                {"name": "page", "role": "context", "dim": 2, "encoding": {"kind": "identity", "size": 4}},
                {"name": "hour", "role": "context", "dim": 2, "derived": "hour_of_day"},
            ],
        }
    )


SCHEMA = make_schema()

CONFIG = ModelConfig(
    heads=3, head_size=4, top_k=8, history_length=50, short_term_length=5, mixer=(8,), relevance_statistics=True
)


def make_model(
    seed: int = 1, training: TrainingConfig | None = None, schema: FeatureSchema = SCHEMA, item_state=None, **changes
) -> TwinModel:
    generator = np.random.default_rng(99)
    features = np.stack([np.arange(ITEMS + 2), generator.integers(2, 11, ITEMS + 2)], axis=1).astype(np.int32)
    features[:2] = [[0, 0], [1, 1]]
    cardinalities = {f.name: f.encoding_or_fail.cardinality() for f in schema.features}
    model = TwinModel(
        schema, dataclasses.replace(CONFIG, **changes), features, cardinalities, seed, training, item_state
    )
    # Large cross embeddings: a bias that is lost or misplaced cannot hide in rounding.
    for table in model.cross_embedding.tables.values():
        table.assign(tf.constant(generator.normal(0, 2, table.shape).astype(np.float32)))
    return model


def make_batch(
    generator, lengths, targets_per_user=3, columns=None, shared_moment=False, schema: FeatureSchema = SCHEMA
) -> Batch:
    unit = schema.events.time.per_second
    users, columns = len(lengths), columns or max(1, *lengths)
    count = np.full(users, targets_per_user, np.int32)
    length = np.array(lengths, np.int32)
    shape = (users, columns)
    if shared_moment:
        end, time = length[:, None], np.full((users, 1), NOW * unit)
    else:
        end = np.minimum(generator.integers(0, columns + 1, (users, targets_per_user)), length[:, None])
        end[:, 0] = length
        time = NOW * unit + generator.integers(0, 9 * DAY * unit, (users, targets_per_user))
    width = end.shape[1]
    history = History(
        item=tf.constant(generator.integers(1, ITEMS + 2, shape), tf.int32),
        time=tf.constant(np.sort(NOW * unit - generator.integers(1, 60 * DAY * unit, shape), axis=1), tf.int64),
        cross={f.name: tf.constant(generator.integers(1, 7, shape), tf.int32) for f in schema.stored_cross},
        length=tf.constant(length),
        count=tf.constant(generator.integers(1, 30, shape) if schema.history.clustered else np.ones(shape), tf.int32),
    )
    targets = Targets(
        item=tf.constant(generator.integers(1, ITEMS + 2, (users, targets_per_user)), tf.int32),
        time=tf.constant(time, tf.int64),
        end=tf.constant(end, tf.int32),
        context={"page": tf.constant(generator.integers(1, 6, (users, width)), tf.int32)},
        count=tf.constant(count),
    )
    return Batch(
        history,
        targets,
        user={"sex": tf.constant(generator.integers(1, 4, users), tf.int32)},
        user_id=tf.constant(np.arange(users), tf.int64),
        label=tf.constant(generator.integers(0, 2, (users, targets_per_user)), tf.float32),
        weight=tf.ones([users, targets_per_user]),
    )


def pad(batch: Batch, behaviours: int, targets: int, garbage: int = 7) -> Batch:
    """The same batch with columns of garbage behind the real ones."""

    def wide(tensor, columns):
        return tensor if tensor.shape[1] == 1 else tf.pad(tensor, [[0, 0], [0, columns]], constant_values=garbage)

    history, shown = batch.history, batch.targets
    return batch._replace(
        history=history._replace(
            item=tf.pad(history.item, [[0, 0], [0, behaviours]], constant_values=garbage),
            time=tf.pad(history.time, [[0, 0], [0, behaviours]], constant_values=garbage),
            count=tf.pad(history.count, [[0, 0], [0, behaviours]], constant_values=garbage),
            cross={
                n: tf.pad(v, [[0, 0], [0, behaviours]], constant_values=garbage % 5) for n, v in history.cross.items()
            },
        ),
        targets=shown._replace(
            item=tf.pad(shown.item, [[0, 0], [0, targets]], constant_values=garbage),
            time=wide(shown.time, targets),
            end=wide(shown.end, targets),
            context={name: wide(value, targets) for name, value in shown.context.items()},
        ),
        label=tf.pad(batch.label, [[0, 0], [0, targets]]),
        weight=tf.pad(batch.weight, [[0, 0], [0, targets]]),
    )


def take_users(batch: Batch, users) -> Batch:
    return tf.nest.map_structure(lambda tensor: tf.gather(tensor, users), batch)
