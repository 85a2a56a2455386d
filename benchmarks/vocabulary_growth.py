"""Whether a training step's time grows with the vocabulary: two models alike in all but the rows of their tables.

    python -m benchmarks.vocabulary_growth

An item id, a user and a cross feature have 50 thousand rows in one model and 5 million in the other. Both train on the
same batches: the ids of the large model are those of the small one, spread evenly over the larger tables, so each step
touches the same number of distinct rows. The two take turns, step by step, in one process, so that whatever else the
machine does falls on both.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Figure, figure, ratio
from twin_tf.config import ModelConfig
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FIRST_KNOWN, FeatureSchema, schema_from_mapping
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch, History, Targets
from twin_tf.training.train_step import TrainStep
from twin_tf.training_settings import TrainingConfig

FEW, MANY = 50_000, 5_000_000
LIMIT = 1.3
"""The ratio that a step must not exceed."""

WARM_UP = 5
USERS, LENGTH, TARGETS = 8, 1_000, 64


def measure(rows: Sequence[int] = (FEW, MANY), steps: int = 40, dim: int = 16, seed: int = 1) -> dict[int, list[float]]:
    """Times training steps with tables of different sizes.

    Args:
        rows: known rows of the item id's, the user's and the cross feature's table; multiples of the first.
        steps: timed steps of each model.
        dim: width of the item id's embedding.
        seed: of the batches.

    Returns:
        rows -> seconds of each step.
    """
    trainers = {count: _trainer(count, dim) for count in rows}
    generator = np.random.default_rng(seed)
    seconds: dict[int, list[float]] = {count: [] for count in rows}
    for step in range(WARM_UP + steps):
        drawn = _draw(generator, rows[0])
        for count, trainer in trainers.items():
            batch = _batch(drawn, count // rows[0])
            started = time.perf_counter()
            float(trainer.step(batch).loss_sum)
            if step >= WARM_UP:
                seconds[count].append(time.perf_counter() - started)
    return seconds


def figures(steps: int = 40, dim: int = 16) -> list[Figure]:
    """The figures for a report: median seconds of a step with few and with many rows, and their ratio."""
    measured = measure(steps=steps, dim=dim)
    how = f"median training step, {USERS} users x {LENGTH} behaviours x {TARGETS} targets, item id {dim} wide"
    few = figure("step_seconds_50k_rows", "s", f"{how}, 50 thousand rows a table", measured[FEW])
    many = figure("step_seconds_5M_rows", "s", f"{how}, 5 million rows a table", measured[MANY])
    return [few, many, ratio("step_ratio_5M_over_50k_rows", "x", "quotient of the two", many, few)]


def schema(rows: int, dim: int) -> FeatureSchema:
    """An item id, a user and a cross feature of `rows` values each, and a few small features."""
    wide = {"kind": "identity", "size": rows}
    return schema_from_mapping(
        {
            "name": "growth",
            "events": {name: {"column": name} for name in ("user", "item", "time", "label")},
            "items": {"column": "item"},
            "users": {"column": "user"},
            "features": [
                {"name": "video", "role": "inherent", "dim": dim, "encoding": wide},
                {"name": "topic", "role": "inherent", "dim": 16, "encoding": {"kind": "identity", "size": 100}},
                {"name": "place", "role": "cross", "encoding": wide},
                {"name": "hour", "role": "cross", "derived": "hour_of_day"},
                {"name": "member", "role": "user", "encoding": wide},
            ],
        }
    )


def _trainer(rows: int, dim: int) -> TrainStep:
    features = np.stack([np.arange(rows + FIRST_KNOWN), np.arange(rows + FIRST_KNOWN) % 102], axis=1).astype(np.int32)
    chosen = schema(rows, dim)
    cardinalities = {feature.name: feature.encoding_or_fail.cardinality() for feature in chosen.features}
    model = TwinModel(chosen, ModelConfig(history_length=LENGTH), features, cardinalities, seed=1)
    return TrainStep(model, TrainingConfig())


def _draw(generator: np.random.Generator, rows: int) -> dict[str, npt.NDArray[Any]]:
    """The random numbers of one batch; ids below `rows`."""
    return {
        "item": generator.integers(0, rows, (USERS, LENGTH)),
        "place": generator.integers(0, rows, (USERS, LENGTH)),
        "target": generator.integers(0, rows, (USERS, TARGETS)),
        "member": generator.integers(0, rows, USERS),
        "end": generator.integers(LENGTH // 2, LENGTH + 1, (USERS, TARGETS)),
        "label": generator.integers(0, 2, (USERS, TARGETS)),
    }


def _batch(drawn: Mapping[str, npt.NDArray[Any]], spread: int) -> Batch:
    """A batch whose ids lie `spread` rows apart."""

    def known(name: str) -> tf.Tensor:
        return tf.constant(FIRST_KNOWN + drawn[name] * spread, tf.int32)

    times = 1_700_000_000 + 60 * np.arange(LENGTH)
    return Batch(
        history=History(
            item=known("item"),
            time=tf.constant(np.tile(times, (USERS, 1)), tf.int64),
            cross={"place": known("place")},
            length=tf.fill([USERS], LENGTH),
            count=tf.ones([USERS, LENGTH], tf.int32),
        ),
        targets=Targets(
            item=known("target"),
            time=tf.constant(times[drawn["end"] - 1] + 30, tf.int64),
            end=tf.constant(drawn["end"], tf.int32),
            context={},
            count=tf.fill([USERS], TARGETS),
        ),
        user={"member": known("member")},
        user_id=tf.range(USERS, dtype=tf.int64),
        label=tf.constant(drawn["label"], tf.float32),
        weight=tf.ones([USERS, TARGETS]),
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="timed steps of each model")
    parser.add_argument("--dim", type=int, default=16, help="width of the item id's embedding")
    options = parser.parse_args()
    for shown in figures(options.steps, options.dim):
        print(f"{shown.name:<28} {shown.value:>10.4g} {shown.unit:<3} {shown.how}")


if __name__ == "__main__":
    main()
