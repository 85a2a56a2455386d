"""Keras layers. `TwinAttention` is the whole of TWIN's attention, for any Keras model.

It is made of these layers and a search, so it lies above both, in `twin_tf.models`, and is loaded on first use.
"""

from typing import Any

__all__ = ["TwinAttention"]


def __getattr__(name: str) -> Any:
    if name != "TwinAttention":
        raise AttributeError(f"module 'twin_tf.layers' has no attribute {name!r}")
    from twin_tf import TwinAttention

    return TwinAttention
