"""Clicks drawn from a logit per id, one role of features at a time, so that the best possible scores are known.

The id sits where its role puts it; all other features are the same for everybody. `relevance` is DARE's second table:
of two behaviours one has an audible id and one a silent one, and the click follows the page of the audible one; the
network adds up items and pages apart, so only the attention can tell whose page counts.
"""

import dataclasses
from typing import Any

import numpy as np
from scipy.special import expit

from twin_tf.config import ModelConfig
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FIRST_KNOWN, FeatureSchema, schema_from_mapping
from twin_tf.layers.embeddings import LARGEST_WHOLE_TABLE
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch, History, Targets
from twin_tf.training.train_step import TrainStep
from twin_tf.training_settings import TrainingConfig

ROLES = ("inherent", "small_cross", "large_cross", "user", "context", "relevance", "auxiliary")
IDS = 400
RECORD_IDS = 100
"""Ids where all targets of a record have the same one: fewer, so that each is in some records."""
TARGETS = 64
NOW = 1_700_000_000
LARGE = LARGEST_WHOLE_TABLE + 1000
LOGIT = 2.0
"""Of an id: this or its opposite, half of the ids each."""


def planted_schema(large: bool) -> FeatureSchema:
    """One feature of each role."""
    rows = LARGE if large else RECORD_IDS

    def feature(name: str, role: str, size: int) -> dict[str, Any]:
        return {"name": name, "role": role, "dim": 8, "encoding": {"kind": "identity", "size": size}}

    return schema_from_mapping(
        {
            "name": "planted",
            "events": {
                "user": {"column": "user"},
                "item": {"column": "item"},
                "time": {"column": "time", "unit": "s"},
                "label": {"column": "label"},
            },
            "items": {"column": "item"},
            "users": {"column": "user"},
            "features": [
                feature("product", "inherent", IDS + 1),
                feature("page", "cross", rows),
                feature("city", "user", IDS),
                feature("place", "context", IDS),
            ],
        }
    )


@dataclasses.dataclass(frozen=True)
class Planted:
    """Records of a role, and what is to be known of each target.

    Attributes:
        batch: all of them.
        logit: float `(records, TARGETS)`, what the labels were drawn from.
    """

    batch: Batch
    logit: np.ndarray


def plant(role: str, records: int, seed: int) -> Planted:
    """Draws records; ids and their logits are the same for every seed."""
    generator = np.random.default_rng(seed)
    value = LOGIT * np.where(np.arange(IDS) % 2 == 0, 1.0, -1.0)
    own = generator.integers(0, RECORD_IDS, (records, 1))
    each = generator.integers(0, IDS, (records, TARGETS))
    one = np.ones((records, 1), int)
    item, page, city, place = np.ones((records, TARGETS), int), one, one, np.ones((records, TARGETS), int)
    history, logit = one, np.broadcast_to(value[own], (records, TARGETS))
    if role in ("inherent", "auxiliary"):
        item, logit = FIRST_KNOWN + each, value[each]
    elif role == "small_cross":
        page = FIRST_KNOWN + own
    elif role == "large_cross":
        page = FIRST_KNOWN + own * (LARGE // RECORD_IDS)
    elif role == "user":
        city = FIRST_KNOWN + own
    elif role == "context":
        place, logit = FIRST_KNOWN + each, value[each]
    else:
        audible = generator.integers(0, RECORD_IDS // 2, (records, 1)) * 2
        silent = generator.integers(0, RECORD_IDS // 2, (records, 1)) * 2 + 1
        pages = generator.integers(0, 2, (records, 2))
        first = generator.integers(0, 2, (records, 1))  # where the audible one is
        history = FIRST_KNOWN + np.where(first == np.arange(2), audible, silent)
        page = FIRST_KNOWN + pages
        item = np.full((records, TARGETS), FIRST_KNOWN + IDS)
        logit = np.broadcast_to(LOGIT * (1 - 2 * np.take_along_axis(pages, first, axis=1)), (records, TARGETS))
    label = generator.random((records, TARGETS)) < expit(logit)
    return Planted(_batch(item, history, page, city, place, label), logit)


def _batch(item: Any, history: Any, page: Any, city: Any, place: Any, label: Any) -> Batch:
    records, length = history.shape

    def whole(values: Any) -> tf.Tensor:
        return tf.constant(values, tf.int32)

    return Batch(
        History(
            item=whole(history),
            time=tf.fill([records, length], tf.constant(NOW - 60, tf.int64)),
            cross={"page": whole(page)},
            length=tf.fill([records], length),
            count=tf.ones([records, length], tf.int32),
        ),
        Targets(
            item=whole(item),
            time=tf.fill([records, 1], tf.constant(NOW, tf.int64)),
            end=tf.fill([records, 1], length),
            context={"place": whole(place)},
            count=tf.fill([records], TARGETS),
        ),
        user={"city": whole(city[:, 0])},
        user_id=tf.range(records, dtype=tf.int64),
        label=tf.constant(label, tf.float32),
        weight=tf.ones([records, TARGETS]),
    )


def make_trainer(role: str, training: TrainingConfig, **changes: Any) -> TrainStep:
    """An untrained network of the shipped defaults, as far as the role leaves them."""
    schema = planted_schema(role == "large_cross")
    config = ModelConfig(
        history_length=8,
        top_k=8,
        short_term_length=0,
        decoupled_embeddings=role == "relevance",
        consistency="auxiliary" if role == "auxiliary" else "shared",
        **changes,
    )
    rows = {feature.name: feature.encoding_or_fail.cardinality() for feature in schema.features}
    features = np.arange(rows["product"], dtype=np.int32)[:, None]
    return TrainStep(TwinModel(schema, config, features, rows, training.seed, training), training)


def train(trainer: TrainStep, planted: Planted) -> None:
    """One pass, with the schedule."""
    size = trainer.config.batch_records
    batches = tf.data.Dataset.from_tensor_slices(planted.batch).batch(size, drop_remainder=True)
    steps = int(batches.cardinality())
    for step, batch in enumerate(batches):
        trainer.prepare_step(step, step / steps, step - 1)
        trainer.step(batch)


def found_logit(trainer: TrainStep, planted: Planted) -> np.ndarray:
    """What the network, or its auxiliary twin where there is one, says: float `(records, TARGETS)`."""
    scored = trainer.model.score(planted.batch)
    logit = scored.logit if scored.auxiliary_logit is None else scored.auxiliary_logit
    return np.asarray(logit.numpy(), np.float64)
