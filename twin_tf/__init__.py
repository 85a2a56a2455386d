"""TWIN and TWIN-V2: click-through-rate models over a user's whole life of behaviours.

Importing this package costs no TensorFlow and changes nothing. Public names are loaded on first use; that selects the
Keras 2 API (`tf_keras`), which tensorflow-recommenders needs, before TensorFlow can latch onto Keras 3.
"""

import importlib
import os
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "TwinAttention": "twin_tf.models.twin_attention",
    "TwinModel": "twin_tf.models.twin",
    "FeatureSchema": "twin_tf.features.schema",
    "load_schema": "twin_tf.features.schema",
    "FeatureEncoder": "twin_tf.features.encoders",
    "Config": "twin_tf.config",
    "load_config": "twin_tf.config",
    "train_model": "twin_tf.training.train",
    "evaluate_run": "twin_tf.evaluation.evaluate",
    "load_run": "twin_tf.runs.run",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'twin_tf' has no attribute {name!r}")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
