"""What a training step cannot do without, and how long this machine needs for that much.

Counted for a batch, whatever the implementation: the multiply-adds of eq. 6 over all visible behaviours, of
projections, of the retrieved behaviours' eq. 6 and 7 and of the mixer, forwards and (but for the search, which has no
gradient) twice backwards; and the bytes of the rows that must be fetched from tables, and of their gradients, which
must be brought back. The floor is their time at the rates of a large matrix product and a large copy, measured in the
same process. Choosing the best 100 of a list is neither a product nor a copy: the library's top-k is timed beside it
and is not part of the floor.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from twin_tf.core.keras_api import tf
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch

FLOAT_BYTES = 4
SQUARE = 2048
COPIED_FLOATS = 32 << 20
REPEATS = 5


def floor_of(model: TwinModel, batch: Batch) -> dict[str, Any]:
    """The floor of a training step.

    Args:
        model: the network.
        batch: what it would learn from.

    Returns:
        `multiply_adds`, `gathered_bytes`, `multiply_adds_per_s`, `copied_bytes_per_s`, `floor_ms`, `top_k_ms`.
    """
    config, schema = model.config, model.schema
    width = config.heads * config.head_size
    inherent = model.item_embedding.width
    cross = sum(feature.dim for feature in schema.cross)
    end, real = batch.targets.end.numpy(), _real(batch)
    seen = np.minimum(end, config.history_length)[real]
    targets, retrieved = int(real.sum()), int(np.minimum(seen, config.top_k).sum())
    items, found = batch.history.item.numpy(), model.score(batch).long_term.retrieved
    chosen = found.valid.numpy() & real[..., None]
    union = _union(found, chosen)
    visibility_of = sum(int(end[user][real[user]].max(initial=0)) for user in range(len(end)))
    visibility_of = min(visibility_of, items.shape[1] * len(items))
    distinct = len(np.unique(items))
    search = int(seen.sum()) * width + distinct * inherent * width
    mixer_widths = [layer.kernel.shape for layer in _dense_layers(model)]
    learned = targets * inherent * width + retrieved * 2 * width + union * (2 * inherent + cross) * width
    learned += targets * (width * width + sum(rows * columns for rows, columns in mixer_widths))
    multiply_adds = search + 3 * learned
    gathered = FLOAT_BYTES * (visibility_of * width + distinct * inherent + 2 * (union + targets) * inherent)
    matmul, copy = multiply_adds_per_s(), copied_bytes_per_s()
    return {
        "multiply_adds": multiply_adds,
        "gathered_bytes": gathered,
        "multiply_adds_per_s": matmul,
        "copied_bytes_per_s": copy,
        "floor_ms": 1e3 * (multiply_adds / matmul + gathered / copy),
        "top_k_ms": _top_k_ms(config.heads * targets, items.shape[1], config.top_k),
    }


def multiply_adds_per_s() -> float:
    """Of a large product in float32."""
    square = tf.random.normal([SQUARE, SQUARE])
    return SQUARE**3 / _seconds(tf.function(lambda: tf.reduce_sum(tf.matmul(square, square)[0])))


def copied_bytes_per_s() -> float:
    """Bytes copied a second, read once and written once, by as many threads as TensorFlow uses."""
    source = tf.random.normal([COPIED_FLOATS])
    return COPIED_FLOATS * FLOAT_BYTES / _seconds(tf.function(lambda: (source + 1.0)[0]))


def _top_k_ms(rows: int, columns: int, top_k: int) -> float:
    scores = tf.random.normal([rows, columns])
    return 1e3 * _seconds(tf.function(lambda: tf.math.top_k(scores, min(top_k, columns)).values[0, 0]))


def _seconds(run: Callable[[], tf.Tensor]) -> float:
    run()
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        float(run())
        taken.append(time.perf_counter() - started)
    return min(taken)


def _real(batch: Batch) -> Any:
    return np.arange(batch.targets.item.shape[1])[None, :] < batch.targets.count.numpy()[:, None]


def _union(found: Any, chosen: Any) -> int:
    """Behaviours that are a retrieved behaviour of any target of their user."""
    position = found.position.numpy()
    return sum(len(np.unique(position[user][chosen[user]])) for user in range(len(position)))


def _dense_layers(model: TwinModel) -> list[Any]:
    return [*model.mixer.dense, model.mixer.logit]
