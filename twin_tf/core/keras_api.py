"""The one place that imports Keras and tensorflow-recommenders.

Both must be the Keras 2 API (`tf_keras`): tensorflow-recommenders refuses Keras 3. All model code imports
`keras`, `tf` and `tfrs` from here, so a later change of Keras touches one file.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twin_tf.core.quiet_logs import quiet_tensorflow

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# TensorFlow turns oneDNN on by itself on CPUs with AVX-512 or AMX alone, and its own products are built for AVX: on a
# CPU with AVX2, oneDNN's products and transpositions are two to four times as fast.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import tensorflow as tf
import tf_keras as keras

if tf.keras.layers.Layer is not keras.layers.Layer:
    raise ImportError(
        "twin_tf needs the Keras 2 API, but this process already uses tf.keras as Keras 3; "
        "import twin_tf before tensorflow or set TF_USE_LEGACY_KERAS=1"
    )

import tensorflow_recommenders as tfrs

quiet_tensorflow(Path(tf.__file__).parent)

__all__ = ["graph", "keras", "tf", "tfrs"]


def graph(function: Callable[..., Any], *signature: Any) -> Any:
    """A `tf.function` of ours, of one trace if it has a signature.

    Without AutoGraph, which rewrites the source of every function that a network calls: ours do not branch on tensors
    in Python, and half of the wait for a first step went there.
    """
    return tf.function(function, input_signature=signature or None, reduce_retracing=True, autograph=False)
