"""A small schema with a feature of each role, and what is said of one that is wrong."""

import copy
from typing import Any

import pytest

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.schema import schema_from_mapping

VOCABULARY = {"kind": "vocabulary"}

PLAIN: dict[str, Any] = {
    "name": "app",
    "events": {
        "user": {"column": "user_id"},
        "item": {"column": "item_id", "type": "string"},
        "time": {"column": "ts", "unit": "ms"},
        "label": {"column": "click"},
    },
    "items": {"column": "id", "type": "string"},
    "users": {"column": "uid"},
    "history": {"where": {"click": [1], "surface": ["feed", "search"]}, "max_length": 50},
    "targets": {"where": {"sampled": [1]}, "per_record": 8},
    "features": [
        {"name": "item_key", "role": "inherent", "column": "id", "dim": 4, "encoding": {"kind": "hash", "buckets": 10}},
        {"name": "topic", "role": "inherent", "encoding": {"kind": "vocabulary", "source": "items"}},
        {"name": "played", "role": "cross", "column": "seconds", "encoding": {"kind": "numeric", "quantiles": 4}},
        {
            "name": "age",
            "role": "cross",
            "derived": "age",
            "encoding": {"kind": "numeric", "boundaries": [60, 3600]},
        },
        {"name": "hour", "role": "cross", "derived": "hour_of_day"},
        {"name": "group", "role": "user", "encoding": {"kind": "vocabulary", "min_count": 2}},
        {"name": "slot", "role": "context", "encoding": {"kind": "identity", "size": 3}},
        {"name": "weekday", "role": "context", "derived": "day_of_week"},
    ],
}


def changed(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(PLAIN) | changes


def sentence_of(data: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        schema_from_mapping(data)
    return str(caught.value)
