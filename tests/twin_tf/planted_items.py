"""Prepared data of logs in which each item has a click logit of its own, and a small network for them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipelines.build_examples import build_examples
from tests.twin_tf.built_once import built_once
from twin_tf.config import Config, config_from_mapping
from twin_tf.core.yaml_text import parse_yaml
from twin_tf.records.format import Manifest

ITEMS, USERS, EVENTS = 1500, 300, 128
SHOWN = 1400
"""Items that are ever shown; the others' rows nothing updates."""

SCHEMA = {
    "name": "planted",
    "events": {
        "user": {"column": "user"},
        "item": {"column": "item"},
        "time": {"column": "time", "unit": "s"},
        "label": {"column": "label"},
    },
    "items": {"column": "item"},
    "history": {"max_length": 8},
    "split": {"train": 0.8, "valid": 0.15},
    "features": [
        {
            "name": "product",
            "role": "inherent",
            "column": "item",
            "type": "int",
            "dim": 8,
            "encoding": {"kind": "vocabulary", "source": "items"},
        },
        {"name": "hour", "role": "cross", "derived": "hour_of_day"},
    ],
}


def planted_config(*overrides: str) -> Config:
    """A network without history to speak of; `section.key=value` changes one setting."""
    plain = {
        "schema": SCHEMA,
        "model": {
            "history_length": 8,
            "top_k": 4,
            "heads": 1,
            "head_size": 8,
            "short_term_length": 0,
            "mixer": [32],
        },
        "training": {"batch_records": 4, "dense_learning_rate": 0.005, "embedding_learning_rate": 0.05},
    }
    for override in overrides:
        place, text = override.split("=")
        section, key = place.split(".")
        plain[section][key] = parse_yaml(text, key)
    return config_from_mapping(plain)


@built_once
def planted_data(root: Path) -> Manifest:
    """Prepared data, in `root/planted`."""
    generator = np.random.default_rng(8)
    shown = generator.integers(0, SHOWN, USERS * EVENTS)
    logit = 3 * generator.choice([-1.0, 1.0], ITEMS)
    events = {
        "user": np.tile(np.arange(USERS), EVENTS),
        "item": shown,
        "time": 1_700_000_000 + 60 * np.arange(USERS * EVENTS),
        "label": (generator.random(len(shown)) < 1 / (1 + np.exp(-logit[shown]))).astype(np.int64),
    }
    (root / "planted-raw").mkdir(parents=True, exist_ok=True)
    logs = {"events": events, "items": {"item": np.arange(ITEMS)}}
    for name, columns in logs.items():
        pq.write_table(pa.table(columns), root / f"planted-raw/{name}.parquet")
    patterns = {name: str(root / f"planted-raw/{name}.parquet") for name in logs}
    schema = planted_config().schema
    assert schema is not None
    return build_examples(schema, **patterns, output=root / "planted", shards=1, progress=False)
