"""Toy models of every search strategy, with what some of them need."""

from typing import Any

import numpy as np

from tests.twin_tf.toy import ITEMS, SCHEMA, make_model
from twin_tf.config import ModelConfig
from twin_tf.features.schema import FeatureSchema
from twin_tf.models.twin import TwinModel
from twin_tf.search import STRATEGIES

SETTINGS: dict[str, dict[str, Any]] = {
    "category": {"category": "author"},
    "hash_rounds": {"hash_bits": 12, "hash_round_bits": 3},
    "simhash": {"hash_bits": 12},
    "item_clusters": {"item_clusters": 5},
    "memory": {"memory_slots": 3},
}
"""What a strategy needs beyond its name; one that is not here needs nothing."""


def item_state(search: str, items: int = ITEMS + 2, **settings: Any) -> np.ndarray | None:
    """What a strategy keeps of each item, made of random embeddings; some items have none."""
    vectors = np.random.default_rng(77).normal(size=(items, 6)).astype(np.float32)
    vectors[[0, 1, 7]] = 0
    config = ModelConfig(search=search, **settings)
    return STRATEGIES[search].item_state(vectors, config, seed=3)


def searching(search: str, schema: FeatureSchema = SCHEMA, **changes: Any) -> TwinModel:
    """A toy model with a search strategy."""
    settings = SETTINGS.get(search, {})
    state = item_state(search, **settings)
    return make_model(schema=schema, search=search, item_state=state, **{**settings, **changes})
