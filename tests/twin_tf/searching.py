"""Toy models of every search strategy, with what some of them need."""

from typing import Any

import numpy as np

from tests.twin_tf.toy import ITEMS, SCHEMA, make_model
from twin_tf.config import ModelConfig
from twin_tf.core.dataclass_yaml import build
from twin_tf.features.schema import FeatureSchema
from twin_tf.models.twin import TwinModel
from twin_tf.search import STRATEGIES
from twin_tf.search_settings import SearchSettings

SETTINGS: dict[str, dict[str, Any]] = {
    "sim_hard": {"category": "author"},
    "sdim": {"bits": 12, "round_bits": 3},
    "eta": {"bits": 12},
    "sim_cluster": {"clusters": 5},
    "mimn": {"slots": 3},
}
"""The settings of each search that has some."""


def settings_of(search: str, **own: Any) -> SearchSettings:
    """Settings of one search, in place of those in `SETTINGS`."""
    found = {**SETTINGS.get(search, {}), **own}
    return build(SearchSettings, {search: found} if found else {}, "searches")


def item_state(search: str, items: int = ITEMS + 2, **own: Any) -> np.ndarray | None:
    """What a strategy keeps of each item, made of random embeddings; some items have none."""
    vectors = np.random.default_rng(77).normal(size=(items, 6)).astype(np.float32)
    vectors[[0, 1, 7]] = 0
    config = ModelConfig(search=search, searches=settings_of(search, **own))
    return STRATEGIES[search].item_state(vectors, config, seed=3)


def searching(search: str, schema: FeatureSchema = SCHEMA, **changes: Any) -> TwinModel:
    """A toy model with a search strategy."""
    settings = {"searches": settings_of(search), **changes}
    return make_model(schema=schema, search=search, item_state=item_state(search), **settings)
