"""Exports what `bench_serving` measures, in a process of its own: the only one there with TensorFlow's Python.

    python -m benchmarks.serving_models --output DIR --items 1000000

DIR/twin/1      the served network with random weights, as TWIN
DIR/raw_mhta/1  with plain multi-head target attention
DIR/twin_v2/1   with histories of clusters
DIR/parts       what no search can do without, one signature each, at the lengths and candidates of `SIZES`

Weights do not change what a request costs, but for how much the heads' lists overlap: random weights overlap least.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.narrow import narrow_config
from export.saved_model.servable import Servable
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FIRST_KNOWN, FeatureSchema
from twin_tf.models.twin import TwinModel

FIRST_ID = 1_000
"""Raw id of the first item; the others follow."""

HEADS, HEAD_SIZE, RETRIEVED = 4, 32, 100
SIZES = ((1_000, 100), (10_000, 100))
VOCABULARY = 2_000
"""Values of every vocabulary but the item's own."""


def served_schema() -> FeatureSchema:
    """The schema of the simulated video app, the item's embedding 64 wide as in the paper."""
    schema = narrow_config().schema
    assert schema is not None
    item = next(feature for feature in schema.inherent if feature.column == schema.events.item.column)
    wide = tuple(dataclasses.replace(f, dim=64) if f is item else f for f in schema.features)
    return dataclasses.replace(schema, features=wide)


def make_servable(schema: FeatureSchema, items: int, relevance: str) -> Servable:
    """The served network with random weights over a catalogue of `items`."""
    fitted = {f.name: VOCABULARY for f in schema.features if f.encoding_or_fail.fitted}
    sizes = {f.name: fitted.get(f.name) or f.encoding_or_fail.cardinality() for f in schema.features}
    own = next(feature for feature in schema.inherent if feature.column == schema.events.item.column)
    sizes[own.name] = items + FIRST_KNOWN
    generator = np.random.default_rng(1)
    columns = [generator.integers(FIRST_KNOWN, sizes[f.name], items + FIRST_KNOWN) for f in schema.inherent]
    features = np.stack(columns, axis=1).astype(np.int32)
    features[:, schema.inherent.index(own)] = np.arange(items + FIRST_KNOWN)
    settings: dict[str, object] = {
        "heads": HEADS,
        "head_size": HEAD_SIZE,
        "top_k": RETRIEVED,
        "history_length": 10_000,
    }
    settings["relevance"] = relevance
    config = narrow_config([f"model.{name}={value}" for name, value in settings.items()]).model
    model = TwinModel(schema, config, features, sizes, seed=1)
    ids = np.concatenate([[-1, -1], FIRST_ID + np.arange(items)]).astype(np.int64)
    return Servable(model, schema, ids, 1, 1)


class Parts(tf.Module):
    """Gather of the rows, one score product, the library's top-k: each alone, its result cut to one number."""

    def __init__(self, items: int) -> None:
        super().__init__(name="parts")
        width = HEADS * HEAD_SIZE
        self.table = tf.Variable(tf.random.stateless_normal([items, width], [1, 2]), name="table")
        self.operands = {}
        self.served = {"gather": self._concrete(self._gather, tf.TensorSpec([None], tf.int32, name="rows"))}
        for length, candidates in SIZES:
            tag = f"{length}_{candidates}"
            shapes = {"query": [HEADS, candidates, HEAD_SIZE], "key": [HEADS, length, HEAD_SIZE]}
            shapes["score"] = [HEADS * candidates, length]
            for name, shape in shapes.items():
                value = tf.random.stateless_normal(shape, [3, 4])
                self.operands[f"{name}_{tag}"] = tf.Variable(value, name=f"{name}_{tag}")
            self.served[f"scores_{tag}"] = self._concrete(self._scores(tag), tf.TensorSpec([], tf.int32, name="go"))
            self.served[f"top_k_{tag}"] = self._concrete(self._top_k(tag), tf.TensorSpec([], tf.int32, name="go"))

    def _concrete(self, function: Callable[[tf.Tensor], dict[str, tf.Tensor]], spec: tf.TensorSpec) -> Any:
        return tf.function(function).get_concrete_function(spec)

    def _gather(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"done": tf.gather(self.table, rows)[0, :1]}

    def _scores(self, tag: str) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
        def scores(go: tf.Tensor) -> dict[str, tf.Tensor]:
            query = self.operands[f"query_{tag}"] + tf.cast(go, tf.float32)  # not a constant that could be folded
            product = tf.matmul(query, self.operands[f"key_{tag}"], transpose_b=True)
            return {"done": product[0, 0, :1]}

        return scores

    def _top_k(self, tag: str) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
        def top_k(go: tf.Tensor) -> dict[str, tf.Tensor]:
            found = tf.math.top_k(self.operands[f"score_{tag}"], RETRIEVED + 0 * go)
            return {"done": found.values[0, :1]}

        return top_k


def main() -> None:
    """Exports all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--items", type=int, default=1_000_000)
    options = parser.parse_args()
    schema = served_schema()
    for name, relevance in (("twin", "split"), ("raw_mhta", "raw"), ("twin_v2", "split")):
        servable = make_servable(schema.clustered(name == "twin_v2"), options.items, relevance)
        path = options.output / name / "1"
        tf.saved_model.save(servable, str(path), signatures=servable.signatures)
    parts = Parts(options.items)
    tf.saved_model.save(parts, str(options.output / "parts"), signatures=parts.served)


if __name__ == "__main__":
    main()
